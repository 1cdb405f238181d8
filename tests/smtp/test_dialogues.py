"""Dialogues in script files: what the client says, what the server answers, what is stored.

    # a comment
    @dsn                     options: dsn, no-tls, under-tls, limits NAME=VALUE
    S 220 *                  the next line of the server; * stands for anything
    C MAIL FROM:<a@b>        a line of the client's, CRLF behind it; \\xNN and \\r \\n are octets
    c text                   the same without the CRLF
    X                        the server closes
    > alice@example.org      a message was stored for these recipients, with this content:
    | Subject: a

Each is run three times: line by line, octet by octet, and with all that the client says between two
answers in one piece.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from pfsmtp.config import Limits
from pfsmtp.smtp.envelope import Encryption
from pfsmtp.smtp.server import Dialogue, Need
from tests.smtp.fakes import FakeStore, make_dialogue

SCRIPTS = sorted((Path(__file__).parent / "dialogues").glob("*.txt"))


def _as_given(kind: type, value: object) -> object:
    return kind(value)


def _octets(text: str) -> bytes:
    def escape(match: re.Match[str]) -> str:
        named = {"r": "\r", "n": "\n", "\\": "\\"}
        return named.get(match[1]) or chr(int(match[1][1:], 16))

    replaced = re.sub(r"\\(x[0-9a-f]{2}|r|n|\\)", lambda match: escape(match), text)
    # \xNN is an octet, everything else is UTF-8
    return b"".join(
        bytes([ord(char)]) if 0x7F < ord(char) < 0x100 and "\\x" in text else char.encode()
        for char in replaced
    )


class Player:
    """Plays the client's side of a script."""

    def __init__(self, text: str) -> None:
        self.lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        self.store = FakeStore()
        self.dialogue = self._make()
        self.closed = False
        self.heard = b""
        self.dialogue.start()
        self._listen()

    def _make(self) -> Dialogue:
        options = [line[1:] for line in self.lines if line.startswith("@")]
        values = dict(
            option.removeprefix("limits ").split("=")
            for option in options
            if option.startswith("limits ")
        )
        limits = msgspec.convert(
            {name: int(value) for name, value in values.items()}, Limits, dec_hook=_as_given
        )
        dialogue = make_dialogue(
            self.store, limits=limits, dsn="dsn" in options, tls="no-tls" not in options
        )
        if "under-tls" in options:
            dialogue.session.peer.encryption = Encryption("TLSv1.3", "TLS_AES_256_GCM_SHA384")
        return dialogue

    def _listen(self) -> None:
        self.heard += self.dialogue.take_output()

    def say(self, octets: bytes) -> None:
        if self.closed:
            return
        self.dialogue.input.feed(octets)
        while True:
            need = self.dialogue.advance()
            self._listen()
            if need is Need.TLS:
                self.dialogue.secured(Encryption("TLSv1.3", "TLS_AES_256_GCM_SHA384"))
            if need is Need.CLOSE:
                self.closed = True
                self.dialogue.close()
            if need is not Need.SEND:
                return

    def hear(self, pattern: str) -> None:
        line, end, self.heard = self.heard.partition(b"\r\n")
        assert end, f"expected {pattern!r}, heard {line!r}"
        assert fnmatch.fnmatchcase(line.decode(), pattern.replace("[", "[[]")), (
            f"expected {pattern!r}, heard {line!r}"
        )

    def play(self, pieces: Callable[[bytes], Iterator[bytes]], *, gather: bool = False) -> None:
        said = b""
        stored = 0
        content: list[str] | None = None
        for line in [*self.lines, "end"]:
            kind, _, rest = line.partition(" ")
            if kind in "cC" and not line.startswith("end"):
                said += _octets(rest) + (b"\r\n" if kind == "C" else b"")
                if gather:
                    continue
            if said:
                for piece in pieces(said):
                    self.say(piece)
                said = b""
            if content is not None and kind != "|":
                self._check(stored - 1, content)
                content = None
            if kind == "S":
                self.hear(rest)
            elif kind == "X":
                assert self.closed
            elif kind == ">":
                message = self.store.messages[stored]
                assert [str(r.mailbox) for r in message.envelope.recipients] == rest.split(", ")
                stored += 1
                content = []
            elif kind == "|":
                assert content is not None
                content.append(rest)
        assert self.heard == b""
        assert len(self.store.messages) == stored
        if not self.closed:
            self.dialogue.close()
        assert self.store.open == 0

    def _check(self, index: int, content: list[str]) -> None:
        octets = b"".join(_octets(line) + b"\n" for line in content)
        assert self.store.messages[index].octets == octets


def _whole(octets: bytes) -> Iterator[bytes]:
    yield octets


def _one_by_one(octets: bytes) -> Iterator[bytes]:
    for octet in octets:
        yield bytes([octet])


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_dialogue_line_by_line(path: Path) -> None:
    Player(path.read_text()).play(_whole)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_dialogue_one_octet_at_a_time(path: Path) -> None:
    Player(path.read_text()).play(_one_by_one)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_dialogue_pipelined(path: Path) -> None:
    text = path.read_text()
    if "\n@interactive" in text:
        pytest.skip("octets before an answer mean something else in this one")
    Player(text).play(_whole, gather=True)
