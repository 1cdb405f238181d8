"""Which hosts take mail for a domain: the DNS as mail uses it (RFC 5321 §5).

| module | duty |
| --- | --- |
| `route` | the addresses to try for a domain, in order: the door to this room |
| `exchangers` | MX records, and the rules about them |
| `hosts` | addresses of hosts, families in turn |
| `ourselves` | what must not be delivered to |
| `cache` | answers kept for their TTL, one query for all who wait |
| `lookup` | one name and type: CNAMEs followed, TTL found |
| `exchange` | one question to the name servers: UDP, TCP, EDNS, one server after the other |
| `servers` | which name servers to ask |

Only the deliverer needs this room: importing it brings in dnspython, which takes 35 ms.
"""

from pfsmtp.resolver.hosts import Destination
from pfsmtp.resolver.ourselves import Ourselves
from pfsmtp.resolver.route import Resolver, Route
from pfsmtp.resolver.servers import NameServer

__all__ = ["Destination", "NameServer", "Ourselves", "Resolver", "Route"]
