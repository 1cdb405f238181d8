"""`pfsmtp sendmail`: hands the mail of this machine's programs to the outbound server.

It takes what programs say to sendmail(8), speaks SMTP to the server on loopback, and ends with an
exit status of sysexits.h. It keeps nothing: when it ends with 0 the server has the message on disk,
and else nobody has been sent it and stderr says why.

A program may run it a thousand times, so it starts in little more time than Python itself: it
imports built-in modules and its own, and no other, least of all `socket`, `re`, `typing` and
`dataclasses`. A test holds that. It uses no other room, and only `cli` knows it.

command    from the command line to the exit status
options    the command line, as sendmail(8) has it
addresses  lists of addresses in fields and arguments
message    a message of a program made one that the server takes
submit     the dialogue with the server
site       where the server is, and which domain is ours
failure    why it cannot be done, with its exit status
"""
