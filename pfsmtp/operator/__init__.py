"""`pfsmtp -c FILE queue …`: lets the operator of the outbound server see and steer what waits.

    pfsmtp -c FILE queue list                     what waits, and why
    pfsmtp -c FILE queue show ID                  all of one message
    pfsmtp -c FILE queue summary                  how much waits for which destination
    pfsmtp -c FILE queue retry|hold|release|delete|bounce ID …

It works in a process of its own, whether or not the server runs. Looking opens nothing for
writing; it is enough to be allowed to read. What becomes of a message is left to the queue.

command    from the command line to the exit status
arguments  the command line
viewing    list, show and summary
steering   what changes messages
listing    the table of messages
details    all of one message
summary    the table of destinations
record     the same as objects, for programs
prospect   when a message is tried next and given up, as far as can be seen
reason     why a message waits, as far as its own attempts tell
output     where answers go
text       what is safe for a terminal, and fits
trouble    errors that say what to do
"""
