"""Who may send to whom: the answers of the inbound and of the outbound server.

Both answer at RCPT, with words for the person who will read the bounce; whose an address is, is
never said. Nothing here blocks: whatever is looked up is in memory.
"""

from __future__ import annotations

from collections.abc import Iterable

from pfsmtp.policy.limits import ClientLimits
from pfsmtp.policy.users import UserMap
from pfsmtp.smtp.address import Mailbox
from pfsmtp.smtp.domain import literal_address, parse_address
from pfsmtp.smtp.ports import Peer
from pfsmtp.smtp.reply import After, Reply

_NO_SUCH_USER = Reply(
    550, "There is no such user here; look for a typing error in the address", (1, 1)
)
_NOT_OURS = Reply(550, "This server does not take mail for that domain", (7, 1))
_NOT_OUR_ADDRESS = Reply(550, "This server does not have that address", (7, 1))

_THIS_MACHINE_ONLY = Reply(
    554, "This server takes mail from its own machine only", (7, 1), After.CLOSE
)
_NO_DOMAIN = Reply(553, "The recipient's address needs a domain", (1, 3))
_NO_POSTMASTER = Reply(550, "No postmaster is configured on this server", (1, 1))


class InboundAccess:
    """Takes mail from anyone for local users, and for nobody else."""

    def __init__(
        self,
        users: UserMap,
        own_addresses: Iterable[str] = (),
        *,
        limits: ClientLimits | None = None,
    ) -> None:
        """Own addresses are literals that count as local, besides the one a client came to.

        With `limits`, a client that asks for too many unknown users is told to go.
        """
        self._users = users
        self._own_addresses = frozenset(parse_address(address) for address in own_addresses)
        self._limits = limits

    def sender(self, peer: Peer, reverse_path: Mailbox | None) -> Reply | None:
        return None

    def recipient(self, peer: Peer, reverse_path: Mailbox | None, mailbox: Mailbox) -> Reply | None:
        if mailbox.is_literal and not self._is_ours(mailbox, peer):
            return _NOT_OUR_ADDRESS
        if self._users.login(mailbox) is not None:
            return None
        if mailbox.domain and not (
            mailbox.is_literal or self._users.is_local_domain(mailbox.domain)
        ):
            return _NOT_OURS
        too_many = self._limits.failed(peer.address) if self._limits else None
        return too_many or _NO_SUCH_USER

    def _is_ours(self, mailbox: Mailbox, peer: Peer) -> bool:
        try:
            address = literal_address(mailbox.domain)
        except ValueError:
            return False
        return address in self._own_addresses or address == parse_address(peer.local_address)


class LoopbackAccess:
    """Takes mail from this machine for anyone; that it listens on loopback alone is not trusted.

    `<postmaster>` has no domain to be sent to. It is let in when the configuration says who that
    is, and the queue puts that address in its place.
    """

    def __init__(self, postmaster: Mailbox | None) -> None:
        self._postmaster = postmaster

    def sender(self, peer: Peer, reverse_path: Mailbox | None) -> Reply | None:
        return None if peer.loopback else _THIS_MACHINE_ONLY

    def recipient(self, peer: Peer, reverse_path: Mailbox | None, mailbox: Mailbox) -> Reply | None:
        if not peer.loopback:
            return _THIS_MACHINE_ONLY
        if mailbox.domain:
            return None
        # RFC 5321 §4.5.1: postmaster is the one local-part that needs no domain.
        if mailbox.local_part.lower() != "postmaster":
            return _NO_DOMAIN
        return None if self._postmaster else _NO_POSTMASTER
