"""The protocol without sockets, files, clocks or threads (RFC 5321).

address      mailboxes and paths, and their text forms
command      a command line read apart
path         the door to the compiled reader of what MAIL and RCPT name
data         the octets between 354 and the final dot, and BDAT chunks
reply        what the server says
status       enhanced status codes (RFC 3463)
errors       the peer erred; a delivery failed for now or for good
extension    the parameters of MAIL and RCPT
envelope     reverse-path, recipients and how the message came
transaction  from MAIL to the final dot
ports        what the dialogue asks of the world: who may send, where mail goes
session      the state of a dialogue
handlers     one function a command, in RFC order
server       the server's side of the dialogue, driven by octets
wire         the door to the compiled octet loops
client       the client's side of the dialogue, driven by octets: a room of its own
outcome      what became of a recipient
"""
