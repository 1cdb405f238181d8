"""`pfsmtp -c FILE crashtest`: kills the server again and again, and counts what its 250s are worth.

The server of the given configuration runs on directories of its own, beside the real ones and so
on the same disk, and on ports of loopback. Clients send it numbered messages while its processes
are killed, any of them at any moment. In the end every message is accounted for.

command     from the command line to the exit status
arguments   the command line
trial       the run: start, send, kill, let settle, stop, account
inbound       … for the inbound server, whose mail is looked for in Maildirs
outbound      … for the outbound server, whose mail goes to a remote host
site        the directory it works in, and the ports
settings    the configuration changed for it
writing     a configuration as a file
schedule    what is killed when
program     the processes of a server: started, killed, stopped
launch        … and not outliving the test
message     numbered messages, and how to tell that one is whole
workload    what the clients send
client      one client's connections
dialogue      … and what is said on them
ledger      what was sent, and what was answered
maildirs    what arrives in Maildirs, looked at all the time
remote      what arrives at a remote host, and reports of what does not
sink        a remote host of its own
journal     what the server's log says went wrong
account     what has become of every message
report      the line while it runs, and the verdict
"""
