"""What is fuzzed: functions of octets that end, or raise AssertionError where something is wrong.

data       message data in pieces, against the reference
commands   command lines in pieces, against the reference
path       paths in MAIL and RCPT, against the reference
server     the server's dialogue: all it says is replies, and cutting it changes nothing
client     the client's dialogue: it ends, and every recipient has an outcome

The first octets say how the rest is cut into pieces. `fuzzing` drives them by coverage; the corpus
that it has found is played by test_corpus.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TypeVar

from pfsmtp.config import Limits, Octets
from pfsmtp.delivery.relay.content import OctetsContent
from pfsmtp.smtp.address import Mailbox
from pfsmtp.smtp.client import Client, TLSPolicy
from pfsmtp.smtp.client.conversation import (
    Dialogue,
    Exchange,
    HostFailure,
    LinkLost,
    StartTLS,
    TLSFailed,
)
from pfsmtp.smtp.client.transaction import Remote
from pfsmtp.smtp.envelope import Encryption, Envelope, Recipient
from pfsmtp.smtp.path import PathSyntaxError, parse_path
from pfsmtp.smtp.server import Need
from pfsmtp.smtp.wire import (
    BareLineFeed,
    Decoder,
    Input,
    LineTooLong,
    dot_stuff,
)
from tests.smtp import reference
from tests.smtp.fakes import FakeStore, make_dialogue

_CUTS = 4
"""Octets that say where to cut."""
_LIMIT = 64
_LIMITS = Limits(message_size=Octets(2000), recipients=3, messages=5, errors_close=8)
_REPLIES = re.compile(rb"(?:[2-5][0-9]{2}[ -][ -~\x80-\xff]*\r\n)*")
_TLS = Encryption("TLSv1.3", "TLS_AES_256_GCM_SHA384")
_CUT_MATTERS = (b"554 5.5.1", b"421 4.7.0")
"""Replies to what came at once that should have waited."""

T = TypeVar("T")


def fuzz_data(octets: bytes) -> None:
    sent = octets[_CUTS + 1 :]
    keep_cr = bool(octets[:1] and octets[0] & 1)
    source, decoder, decoded = Input(), Decoder(keep_cr=keep_cr), b""
    for piece in _pieces(octets[1 : _CUTS + 1], sent):
        source.feed(piece)
        decoded += source.data(decoder)
    expected = reference.decode(sent, keep_cr=keep_cr)
    assert (decoder.ended, len(source)) == (expected.ended, len(expected.rest))
    if expected.ended:
        assert (decoder.bare_cr or decoder.bare_lf, decoder.nul) == (expected.bare, expected.nul)
        if not expected.bare:
            assert (decoded, decoder.size) == (expected.octets, expected.size)
            lines = decoded.removesuffix(b"\r\n" if keep_cr else b"\n")
            stuffed, _ = dot_stuff(decoded, True)
            assert not keep_cr or stuffed == reference.dot_stuff(decoded)
            assert lines.isascii() is not decoder.eight_bit


def fuzz_commands(octets: bytes) -> None:
    sent = octets[_CUTS:]
    source, found = Input(), list[bytes | str]()
    for piece in _pieces(octets[:_CUTS], sent):
        source.feed(piece)
        while True:
            try:
                line = source.command(_LIMIT)
            except LineTooLong:
                found.append("too long")
                continue
            except BareLineFeed:
                found.append("bare")
                assert len(source) == 0
                break
            if line is None:
                break
            verb, argument = line
            assert verb == verb.upper() or len(verb) > 16
            found.append(verb + b" " + argument)
        if found[-1:] == ["bare"]:
            break
    expected = [_read_apart(line) for line in reference.commands(sent, limit=_LIMIT)]
    assert found == expected
    assert len(source) <= max(len(sent), _LIMIT)


def _read_apart(line: bytes | str) -> bytes | str:
    if isinstance(line, str):
        return line
    parts = re.fullmatch(rb"([^ \t]*)[ \t]*(.*?)[ \t]*", line, re.DOTALL)
    assert parts is not None
    verb = parts[1].upper() if len(parts[1]) <= 16 else parts[1]
    return verb + b" " + parts[2]


def fuzz_path(octets: bytes) -> None:
    for argument in (octets, b"TO:<" + octets):
        try:
            found = parse_path(argument, b"TO:")
        except PathSyntaxError:
            found = None
        assert found == reference.path(argument, b"TO:")


def fuzz_server(octets: bytes) -> None:
    said = octets[_CUTS:]
    whole, stored, _ = _serve([said])
    cut, stored_cut, _ = _serve(_pieces(octets[:_CUTS], said))
    assert _REPLIES.fullmatch(whole), whole
    assert _REPLIES.fullmatch(cut), cut
    if b"\x16" not in said and not any(reply in whole + cut for reply in _CUT_MATTERS):
        assert (whole, stored) == (cut, stored_cut)


def _serve(pieces: Iterator[bytes] | list[bytes]) -> tuple[bytes, list[bytes], bool]:
    """What the server says, what it stores, and whether it closed."""
    store = FakeStore()
    dialogue = make_dialogue(store, limits=_LIMITS, dsn=True)
    dialogue.start()
    closed = False
    output = dialogue.take_output()
    for piece in pieces:
        if closed:
            break
        dialogue.input.feed(piece)
        while True:
            need = dialogue.advance()
            output += dialogue.take_output()
            if need is Need.TLS:
                dialogue.secured(_TLS)
            if need is not Need.SEND:
                closed = need is Need.CLOSE
                break
    dialogue.close()
    assert store.open == 0, "something is left of a message"
    return output, [message.octets for message in store.messages], closed


def fuzz_client(octets: bytes) -> None:
    """The octets are what a server says, whenever the client listens; then it hangs up."""
    pieces = _pieces(octets[:_CUTS], octets[_CUTS:])
    client = Client(Remote("mx", "192.0.2.1"), "us.example.org", dot_stuff=dot_stuff)
    try:
        _listen(client.greet(TLSPolicy.PREFERRED), pieces)
    except (HostFailure, TLSFailed):
        return
    recipients = [Recipient(Mailbox(name, "example.org")) for name in ("a", "b", "c")]
    envelope = Envelope(Mailbox("sender", "example.net"), tuple(recipients))
    while client.is_usable():
        result = _listen(
            client.transact(envelope, recipients, content=OctetsContent(b".a\r\nb\r\n")), pieces
        )
        assert len(result.outcomes) == len(recipients)
        assert all(outcome.text.isprintable() for outcome in result.outcomes if not outcome.command)
        if result.failure is not None:
            assert not client.is_usable()


def _listen(dialogue: Dialogue[T], pieces: Iterator[bytes]) -> T:
    """Do what the client wants; it is told what comes next, and then that the host has gone."""
    try:
        step = next(dialogue)
        while True:
            if not isinstance(step, Exchange):
                assert isinstance(step, StartTLS) or step.octets
                step = dialogue.send(b"")
                continue
            heard = next(pieces, b"")
            step = dialogue.send(heard) if heard else dialogue.throw(LinkLost("has gone"))
    except StopIteration as end:
        result: T = end.value
        return result


def _pieces(cuts: bytes, octets: bytes) -> Iterator[bytes]:
    """Cut `octets` into pieces of the sizes that `cuts` gives, again and again; 0 is all."""
    at = 0
    while at < len(octets):
        for cut in cuts or b"\0":
            end = at + cut if cut else len(octets)
            if octets[at:end]:
                yield octets[at:end]
            at = end


def name_of(target: str) -> str:
    """What the program that fuzzes it is called, in the directory where it runs."""
    return f"./fuzz-{target}"


TARGETS: dict[str, Callable[[bytes], None]] = {
    "data": fuzz_data,
    "commands": fuzz_commands,
    "path": fuzz_path,
    "server": fuzz_server,
    "client": fuzz_client,
}
