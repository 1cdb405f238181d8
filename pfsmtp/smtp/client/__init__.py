"""The client's side of the dialogue, driven by octets.

client        the dialogue, from the greeting to QUIT
transaction   its part from MAIL to the final dot
conversation  commands out, replies in, and what ends that
request       the command lines a client sends
remote        what another server says: replies, and what it offers
"""

from pfsmtp.smtp.client.client import Client, Credentials, TLSPolicy

__all__ = ["Client", "Credentials", "TLSPolicy"]
