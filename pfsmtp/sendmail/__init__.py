"""sendmail(8): hands the mail of this machine's programs to the outbound server.

It takes what programs say to sendmail(8), speaks SMTP to the server on loopback, and ends with an
exit status of sysexits.h. It keeps nothing: when it ends with 0 the server has the message on disk,
and else nobody has been sent it and stderr says why.

Programs run `pfsmtp-sendmail` or `pfsmtp sendmail`, which are compiled (ext/front.c) and hand what
they were given to the server, where `roles.submission` does what is to be done. Only where that is
not to be had is it done here, in the process of whoever sends. He waits for Python to start then,
and for no more: this room imports built-in modules and its own, and no other, least of all
`socket`, `re`, `typing` and `dataclasses`. A test holds that.

command      from the command line to the exit status
options      the command line, as sendmail(8) has it
user         who runs it
addresses    lists of addresses in fields and arguments
message      a message of a program made one that the server takes
preparation  from all of these to what is submitted
submit       the dialogue with the server
site         where the server is, and which domain is ours
request      what the compiled front and the server say to each other
failure      why it cannot be done, with its exit status
"""
