"""A Maildir store over real directories, with a clock that stands still until a test moves it.

Relays that a test has made are closed behind it.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from pfsmtp.delivery.maildir import MaildirStore
from pfsmtp.smtp.address import Mailbox
from pfsmtp.smtp.envelope import Envelope, Origin, Recipient
from pfsmtp.smtp.ports import Receipt
from tests.delivery.relaying import Relaying

ORIGIN = Origin(
    client="192.0.2.1", hello="client.example", protocol="ESMTP", hostname="mx.example.org"
)
SENDER = Mailbox("sender", "example.net")
ALICE, BOB, CAROL = "alice@example.org", "bob@example.org", "carol@example.org"

MESSAGE = b"Subject: x\n\nbody\n"
LARGE = b"Subject: large\n\n" + os.urandom(3 << 20).replace(b"\r", b"").replace(b"\0", b"")
"""Does not fit into memory, as an intake sees it."""


@dataclass(slots=True)
class Clock:
    """Wall clock and monotonic clock, which stand still."""

    wall: float = field(default_factory=time.time)
    monotonic: float = 1000.0

    def pass_by(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds


@dataclass(slots=True)
class Post:
    """A store whose users are all local-parts but `nobody`; `alias-of-x` is another name of x."""

    base: Path
    clock: Clock
    store: MaildirStore

    def envelope(self, *recipients: str, sender: Mailbox | None = SENDER) -> Envelope:
        mailboxes = [Mailbox(*each.rsplit("@", 1)) for each in recipients]
        return Envelope(sender, tuple(Recipient(mailbox) for mailbox in mailboxes))

    def send(self, *recipients: str, message: bytes = MESSAGE) -> Receipt:
        intake = self.store.begin(self.envelope(*recipients), ORIGIN)
        for start in range(0, len(message), 50_000):
            intake.write(message[start : start + 50_000])
        return intake.commit()

    def maildir(self, login: str) -> Path:
        return self.base / login

    def new(self, login: str) -> list[bytes]:
        """What is in this login's `new/`, in the order of the names."""
        return [file.read_bytes() for file in sorted((self.base / login / "new").iterdir())]

    def counts(self, *logins: str) -> list[int]:
        """How many files are in the `new/` of each of these."""
        return [len(self.new(login)) for login in logins]

    def everything(self) -> list[Path]:
        """Every file there is, staged or shown."""
        return sorted(path for path in self.base.rglob("*") if not path.is_dir())


def login_of(mailbox: Mailbox) -> str | None:
    local = mailbox.local_part.lower()
    return None if local == "nobody" else local.removeprefix("alias-of-")


MakePost = Callable[..., Post]


@pytest.fixture
def make_post(tmp_path: Path) -> MakePost:
    def make(
        base: Path = tmp_path / "mail",
        *,
        below: str = "{login}",
        sync: Literal["files", "filesystem"] = "files",
    ) -> Post:
        clock = Clock()
        store = MaildirStore(
            f"{base}/{below}",
            login_of,
            hostname="mx.example.org",
            numbers=itertools.count(1).__next__,
            sync=sync,
            clock=lambda: clock.wall,
            monotonic=lambda: clock.monotonic,
        )
        return Post(base, clock, store)

    return make


@pytest.fixture
def post(make_post: MakePost) -> Post:
    return make_post()


@pytest.fixture(autouse=True)
def close_relays() -> Iterator[None]:
    yield
    while Relaying.made:
        Relaying.made.pop().relay.close()
