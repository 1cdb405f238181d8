"""Stand-ins for what the dialogue asks of the world."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pfsmtp.config import Limits
from pfsmtp.log import Log
from pfsmtp.smtp.address import Mailbox
from pfsmtp.smtp.envelope import Envelope, Origin
from pfsmtp.smtp.errors import DeliveryFailure
from pfsmtp.smtp.ports import Peer, Receipt
from pfsmtp.smtp.reply import Reply
from pfsmtp.smtp.server import Dialogue
from pfsmtp.smtp.session import Server, Session

NO_LOG = Log(Path("/dev/null"))


@dataclass
class StoredMessage:
    envelope: Envelope
    origin: Origin
    octets: bytes


@dataclass
class FakeStore:
    """Keeps messages in memory; fails where a test tells it to."""

    line_end: bytes = b"\n"
    messages: list[StoredMessage] = field(default_factory=list)
    begin_fails: DeliveryFailure | None = None
    write_fails: DeliveryFailure | None = None
    commit_fails: DeliveryFailure | None = None
    free: int = 1 << 40
    open: int = 0

    def begin(self, envelope: Envelope, origin: Origin) -> FakeIntake:
        if self.begin_fails:
            raise self.begin_fails
        self.open += 1
        return FakeIntake(self, envelope, origin)

    def room_for(self, size: int) -> bool:
        return size <= self.free


class FakeIntake:
    def __init__(self, store: FakeStore, envelope: Envelope, origin: Origin) -> None:
        self.id = f"id{len(store.messages) + 1}"
        self._store = store
        self._message = StoredMessage(envelope, origin, b"")
        self._ended = False

    def write(self, octets: bytes) -> None:
        assert not self._ended
        if self._store.write_fails:
            raise self._store.write_fails
        self._message.octets += octets

    def commit(self) -> Receipt:
        self._end()
        if self._store.commit_fails:
            raise self._store.commit_fails
        self._store.messages.append(self._message)
        return Receipt(self.id)

    def abort(self) -> None:
        self._end()

    def _end(self) -> None:
        assert not self._ended, "an intake ends once"
        self._ended = True
        self._store.open -= 1


class FakeAccess:
    """alice and bob at example.org are here; nobody@ is refused as sender."""

    def sender(self, peer: Peer, reverse_path: Mailbox | None) -> Reply | None:
        if reverse_path is not None and reverse_path.local_part == "nobody":
            return Reply(550, "Not from you", (7, 1))
        return None

    def recipient(self, peer: Peer, reverse_path: Mailbox | None, mailbox: Mailbox) -> Reply | None:
        if mailbox.domain.lower() not in ("example.org", "", "bücher.example"):
            return Reply(550, "Not here", (7, 1))
        if mailbox.local_part.lower() not in ("alice", "bob", "postmaster", "a b", "älice"):
            return Reply(550, "No such user", (1, 1))
        return None


def make_dialogue(
    store: FakeStore | None = None,
    *,
    limits: Limits | None = None,
    tls: bool = True,
    dsn: bool = False,
) -> Dialogue:
    server = Server(
        hostname="mx.example.org",
        limits=limits or Limits(),
        access=FakeAccess(),
        store=store or FakeStore(),
        log=NO_LOG,
        clock=lambda: 0.0,
        tls=tls,
        dsn=dsn,
    )
    return Dialogue(Session(server, Peer("192.0.2.1", 4321, "192.0.2.25"), server.log))
