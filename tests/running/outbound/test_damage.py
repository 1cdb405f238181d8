"""O7: what is damaged in the queue is set aside and logged; it stops nothing, and is never sent."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from tests.delivery.hosts import Host
from tests.running.outbound.internet import Internet, outbound
from tests.running.outbound.post import spool, submit, views
from tests.running.program import Program, eventually

Damage = Callable[[bytearray, int], None]

MEDIUM = b"0123456789abcdef\r\n" * 500
"""So much that it is in another file than small ones."""

LARGE = b"0123456789abcdef 0123456789abcdef\r\n" * 300_000
"""So much that it is not with the other messages."""


def flip_an_octet(file: bytearray, at: int) -> None:
    file[at] ^= 1


def lose_a_page(file: bytearray, at: int) -> None:
    start = at - at % 4096
    file[start : start + 4096] = bytes(4096)


def cut_off(file: bytearray, at: int) -> None:
    del file[at:]


def lose_all(file: bytearray, at: int) -> None:
    file.clear()


DAMAGES: dict[str, tuple[bytes, Damage]] = {
    "flipped": (b"", flip_an_octet),
    "flipped in a large one": (LARGE, flip_an_octet),
    "a page of a large one lost": (LARGE, lose_a_page),
    "the end of a large one lost": (LARGE, cut_off),
    "a large one emptied": (LARGE, lose_all),
}


def damage(queue: Path, marker: bytes, how: Damage) -> None:
    """Damage the one file that holds the text."""
    (path,) = (
        each for each in queue.glob("**/*") if each.is_file() and marker in each.read_bytes()
    )
    file = bytearray(path.read_bytes())
    how(file, file.index(marker))
    path.write_bytes(file)


@contextmanager
def trying_again(internet: Internet, directory: Path) -> Iterator[Program]:
    """A server that soon tries again what could not be delivered."""
    with (
        internet.name_server(directory) as names,
        outbound(
            directory / "out",
            internet,
            names,
            schedule={"retries": ["1 s"]},
            relay={"back_off": "100 ms"},
        ) as server,
    ):
        yield server


def test_o7_what_is_damaged_is_set_aside_and_the_rest_is_delivered(tmp_path: Path) -> None:
    internet = Internet()
    address = internet.address()
    domain = internet.domain("away", address)
    markers = {name: f"<{name}>".encode() for name in DAMAGES}
    with ExitStack() as stack:
        server = stack.enter_context(trying_again(internet, tmp_path))
        for name, (text, _) in DAMAGES.items():
            submit(server, f"bob@{domain}", message=text + markers[name] + b"\r\n" + text)
        submit(server, f"carol@{domain}")
        assert len(views(server)) == len(DAMAGES) + 1
        assert server.stop() == 0
        queue = server.directory / "queue"
        for name, (_, how) in DAMAGES.items():
            damage(queue, markers[name], how)
        (queue / "slots" / "4k" / "foreign").write_bytes(b"not ours")
        host = stack.enter_context(Host(address=address, port=internet.port))
        server.start()
        eventually(lambda: views(server) == [])
        reasons = [
            event["reason"] for event in server.await_event("queue-damaged", count=len(DAMAGES))
        ]
        assert len(reasons) == len(DAMAGES)
        assert len(server.events("queue-file-foreign")) == 1
        with closing(spool(server)) as aside:
            assert len(aside.damaged()) >= len(DAMAGES) + 1
        (stored,) = host.stored
        assert b"carol@" in stored.recipients[0]
        assert server.events("failed") == server.events("notice-queued") == []


def test_o7_file_that_was_cut_short_is_mended_and_the_rest_is_delivered(tmp_path: Path) -> None:
    """By a deliverer, which is confined in what it may do to a file."""
    internet = Internet()
    address = internet.address()
    domain = internet.domain("away", address)
    with ExitStack() as stack:
        server = stack.enter_context(trying_again(internet, tmp_path))
        submit(server, f"bob@{domain}")
        submit(server, f"carol@{domain}", message=MEDIUM)
        assert server.stop() == 0
        slots = server.directory / "queue" / "slots"
        lengths = {path: path.stat().st_size for path in (slots / "4k").iterdir()}
        for path in lengths:
            os.truncate(path, 1000)
        host = stack.enter_context(Host(address=address, port=internet.port))
        server.start()
        server.await_event("queue-file-short", count=len(lengths))
        assert {path: path.stat().st_size for path in lengths} == lengths
        submit(server, f"dave@{domain}")
        eventually(lambda: len(host.stored) == 2)
        eventually(lambda: views(server) == [])
        assert server.events("queue-trouble") == []
