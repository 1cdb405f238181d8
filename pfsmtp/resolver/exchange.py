"""One question to the name servers, until one of them gives an answer that can be believed.

What it does: asks over UDP with EDNS (RFC 6891), over TCP when the answer is truncated, without
EDNS when the server does not know it; goes from server to server and asks the silent ones again,
longer each time.  Every wait ends by the deadline.

What it leaves to others: what the answer means, and remembering it.

How it fails: `Unanswered`, with a reason fit for the sender of a message.  SERVFAIL, REFUSED,
silence, garbage and answers of servers that are not responsible (lame) all end there: none of them
says anything about the name.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype

from pfsmtp.resolver.servers import NameServer, Servers

_PAYLOAD = 1232  # no fragments on any path: https://dnsflagday.net/2020
_TRIES = (1.5, 3.0, 5.5)  # seconds each server has, round by round
_NO_EDNS = frozenset({dns.rcode.FORMERR, dns.rcode.NOTIMP, dns.rcode.BADVERS})


class Question(NamedTuple):
    """What is asked: hashable, and the same whatever the case of the name."""

    name: dns.name.Name
    rdtype: dns.rdatatype.RdataType


class Unanswered(Exception):
    """No server gave an answer that can be believed; the name may or may not exist."""


class Exchange:
    """Asks name servers; safe to share between threads."""

    def __init__(
        self, servers: Servers, clock: Callable[[], float], *, tries: Sequence[float] = _TRIES
    ) -> None:
        self._servers = servers
        self._clock = clock
        self._tries = tries
        self._preferred: NameServer | None = None  # the one that answered last

    def ask(self, question: Question, deadline: float) -> dns.message.QueryMessage:
        """Return an answer with NOERROR or NXDOMAIN; `deadline` is in the clock's seconds."""
        reason = "timeout"
        useless: set[NameServer] = set()
        for seconds in self._tries:
            for server in self._in_order():
                if server in useless:
                    continue
                left = min(seconds, deadline - self._clock())
                if left <= 0:
                    raise Unanswered(reason)
                try:
                    reply = self._ask_server(server, question, left)
                    _check(reply)
                except dns.exception.Timeout:
                    continue  # it may be slow or the packet lost: asked again in the next round
                except _Useless as failure:
                    reason = str(failure)
                    useless.add(server)
                    continue
                self._preferred = server
                return reply
        raise Unanswered(reason)

    def _in_order(self) -> Iterator[NameServer]:
        """The one that answered last, then the others: a dead first server costs only once."""
        servers = self._servers()
        preferred = self._preferred
        if preferred in servers and preferred is not None:
            yield preferred
        yield from (server for server in servers if server != preferred)

    def _ask_server(
        self, server: NameServer, question: Question, seconds: float
    ) -> dns.message.QueryMessage:
        end = self._clock() + seconds
        query = dns.message.make_query(*question, use_edns=0, payload=_PAYLOAD)
        reply = self._send(server, query, end)
        if reply.rcode() in _NO_EDNS:
            # RFC 6891 §6.2.2, §7: a server of before EDNS is asked as it was then.
            query = dns.message.make_query(*question, use_edns=False)
            reply = self._send(server, query, end)
        return reply

    def _send(
        self, server: NameServer, query: dns.message.QueryMessage, end: float
    ) -> dns.message.QueryMessage:
        try:
            try:
                reply = _send_udp(server, query, self._left(end))
            except dns.message.Truncated:
                # RFC 7766 §5: what came is not used, the whole is fetched over TCP.
                reply = dns.query.tcp(query, server.host, self._left(end), server.port)
        except dns.exception.Timeout:
            raise
        except (dns.exception.DNSException, ValueError) as failure:
            raise _Useless("malformed answer") from failure
        except EOFError as failure:
            raise _Useless("connection closed") from failure
        except OSError as failure:
            if failure.errno == errno.ETIMEDOUT:
                raise dns.exception.Timeout from failure
            raise _Useless("name server unreachable") from failure
        if not isinstance(reply, dns.message.QueryMessage):
            raise _Useless("malformed answer")
        return reply

    def _left(self, end: float) -> float:
        left = end - self._clock()
        if left <= 0:
            raise dns.exception.Timeout
        return left


class _Useless(Exception):
    """A server need not be asked this question again."""


def _send_udp(
    server: NameServer, query: dns.message.Message, seconds: float
) -> dns.message.Message:
    """Ask over a connected socket, so that a port nobody listens on is known at once.

    Whatever is not the answer (another id, another question, garbage) is passed over, so that
    whoever guesses at answers (RFC 5452 §4) can neither give one nor stop the right one.
    """
    with socket.socket(server.family, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect(server.socket_address)
        return dns.query.udp(
            query,
            server.host,
            seconds,
            server.port,
            sock=sock,
            ignore_unexpected=True,
            ignore_errors=True,
            raise_on_truncation=True,
        )


def _check(reply: dns.message.QueryMessage) -> None:
    """Raise _Useless unless the server may say what it says."""
    rcode = reply.rcode()
    if rcode not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        raise _Useless(dns.rcode.to_text(rcode))
    if reply.answer:
        return
    # RFC 2308 §2.2, RFC 1912 §2.8: "there is none" counts from the zone's own server or from one
    # that has asked it; a referral in its place comes from a server that is not responsible.
    if not reply.flags & (dns.flags.AA | dns.flags.RA) or _is_referral(reply):
        raise _Useless("name server not responsible")


def _is_referral(reply: dns.message.QueryMessage) -> bool:
    if reply.flags & dns.flags.AA or reply.rcode() == dns.rcode.NXDOMAIN:
        return False
    types = {rrset.rdtype for rrset in reply.authority}
    return dns.rdatatype.NS in types and dns.rdatatype.SOA not in types
