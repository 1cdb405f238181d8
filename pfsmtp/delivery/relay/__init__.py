"""On to other hosts, from the top:

relay       what the deliverer calls; what all attempts of a process share
attempt     one message on its way: which host, and what became of whom
form        what a host can take of it
way         to the mail exchangers, or to a smart host
gate        how much may be under way to a destination
search      connecting to the first address that answers
backoff     leaving alone what fails
pool        connections that wait for the next message
connection  one connection, driven through the client's dialogue
content     the octets of a message
"""

from pfsmtp.delivery.relay.relay import Relay, Report

__all__ = ["Relay", "Report"]
