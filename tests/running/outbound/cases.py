"""What other mail servers do to us, as a table: each row is one message to one domain.

A row says what the mail hosts of the domain do, the most preferred first, and what is then to
become of each recipient. `test_other_side` runs all rows at the same time.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tests.delivery.hosts import EXTENSIONS, Behaviour, Talk
from tests.running.outbound.post import MESSAGE

NOT_NOW = b"450 4.2.0 not now\r\n"
NEVER = b"550 5.7.1 never\r\n"
STORED = b"250 2.0.0 stored\r\n"

EIGHT_BIT = "Subject: hello\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n\u00fc\r\n".encode()
SIGNED = b"DKIM-Signature: v=1; a=rsa-sha256; b=x\r\n" + EIGHT_BIT
LONG_LINE = MESSAGE + b"x" * 2000 + b"\r\n"


@dataclass(frozen=True, slots=True)
class Does:
    """A mail host: polite but for its replies. `certificate` is one of `test_other_side`."""

    replies: Mapping[str, Behaviour] = field(default_factory=dict)
    extensions: Sequence[str] = EXTENSIONS
    certificate: str = ""  # under STARTTLS; "" it is not offered


POLITE = Does()
NOBODY = None
"""Nobody listens there."""
HOLE = "black hole"
"""It does not answer."""

Mail = Does | None | str


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of a recipient: `delivered`, `deferred` or `failed`, and what is known of it."""

    kind: str
    said: str  # a part of what is said of it
    status: str = ""
    host: int = 1  # who decided
    tls: str = ""  # a part of what is known of the encryption; "" it went in clear


def delivered(*, host: int = 1, tls: str = "", said: str = "250") -> Fate:
    return Fate("delivered", said, "2.0.0", host, tls)


def deferred(said: str, status: str = "4.4.2", *, host: int = 1, tls: str = "") -> Fate:
    return Fate("deferred", said, status, host, tls)


def failed(said: str, status: str = "5.7.1", *, host: int = 1) -> Fate:
    return Fate("failed", said, status, host)


@dataclass(frozen=True, slots=True)
class Case:
    """A row: the fate of bob, and of others if there are any."""

    name: str
    hosts: Sequence[Mail]
    fate: Fate
    connections: tuple[int, ...] = (1,)  # to each of the hosts
    others: Mapping[str, Fate] = field(default_factory=dict)
    message: bytes = MESSAGE
    options: tuple[str, ...] = ()


def cases() -> Iterator[Case]:
    yield from of_connections()
    yield from of_replies()
    yield from of_refusals()
    yield from of_the_final_dot()
    yield from of_encryption()
    yield from of_abilities()
    yield from of_further_hosts()


def of_connections() -> Iterator[Case]:
    """It is not there, or does not speak."""
    refused = deferred("could not be reached (connection refused)", "4.4.1")
    yield Case("nobody listens", [NOBODY], refused, (0,))
    yield Case("black hole", [HOLE], deferred("did not answer", "4.4.1"), (0,))
    yield _opening("silent", Talk.hang, deferred("did not answer in time at connection"))
    yield _opening("closes", Talk.close, deferred("closed the connection at connection"))
    yield _opening("resets", Talk.reset, deferred("broke the connection"))
    yield _opening("one octet now and then", _drip, deferred("did not answer in time"))
    yield _opening("421 at once", b"421 4.3.2 later\r\n", deferred("421 4.3.2 later", "4.3.2"))
    yield _opening("554 at once", b"554 5.7.1 no mail here\r\n", failed("554 5.7.1 no mail"))


def of_replies() -> Iterator[Case]:
    """What it says is no SMTP."""
    yield _opening("garbage", b"SSH-2.0-OpenSSH_9.2\r\n", _nonsense("what is no reply"))
    yield _opening("HTTP", b"HTTP/1.1 400 Bad Request\r\n", _nonsense("what is no reply"))
    yield _opening("bare LF", b"220 mx.example.org\n", deferred("", "4.5.0"))
    yield _opening("250 for a banner", b"250 hello\r\n", _nonsense("does not fit"))
    yield _opening("an extra reply", b"220 hello\r\n250 hello\r\n", _nonsense("nobody asked for"))
    yield _ehlo("an endless reply", _endless, _nonsense("more than 256 lines"))
    yield _ehlo("a line of 100 KB", _long, _nonsense("more than 4096 octets"))
    yield _ehlo("a code that changes", b"250-a\r\n220 b\r\n", _nonsense("whose code changes"))
    yield _ehlo("a code of two digits", b"25 a\r\n", _nonsense("what is no reply"))
    yield _ehlo("EHLO is refused", b"502 5.5.1 what?\r\n", delivered())
    yield _ehlo("EHLO not now", b"451 4.3.0 later\r\n", deferred("451 4.3.0 later", "4.3.0"))
    neither = {"EHLO": b"502 5.5.1 what?\r\n", "HELO": b"550 5.7.1 not you\r\n"}
    yield Case("EHLO and HELO are refused", [Does(neither)], failed("550 5.7.1 not you"))
    yield Case("354 to MAIL", [Does({"MAIL": b"354 go\r\n"})], _nonsense("does not fit"))
    hostile = b"450 4.2.0 \x1b[31mred \xe2\x80\xaelater\x07\xff\r\n"
    cleaned = deferred("450 4.2.0 [31mred later", "4.2.0")
    yield Case("control characters", [Does({"RCPT": hostile})], cleaned)


def of_refusals() -> Iterator[Case]:
    """4yz and 5yz at each stage; 421 at any; recipient by recipient."""
    for command in ("MAIL", "RCPT", "DATA", "."):
        stage = command if command != "." else "the final dot"
        not_now, never = deferred("450 4.2.0 not now", "4.2.0"), failed("550 5.7.1 never")
        yield Case(f"4yz at {stage}", [Does({command: NOT_NOW})], not_now)
        yield Case(f"5yz at {stage}", [Does({command: NEVER})], never)
        going = Does({command: b"421 4.3.2 going down\r\n"})
        yield Case(f"421 at {stage}", [going], deferred("421 4.3.2 going down", "4.3.2"))
        gone = Does({command: Talk.reset})
        yield Case(f"reset at {stage}", [gone], deferred("broke the connection"))
    mixed = {"RCPT TO:<carol": NEVER, "RCPT TO:<dave": NOT_NOW}
    others = {"carol": failed("550 5.7.1 never"), "dave": deferred("450 4.2.0 not now", "4.2.0")}
    yield Case("each recipient another", [Does(mixed)], delivered(), others=others)
    all_failed = {"RCPT": NEVER, "DATA": b"354 go\r\n"}
    yield Case("354 after all RCPT failed", [Does(all_failed)], failed("550 5.7.1 never"))
    in_turn = {"carol": delivered(), "dave": delivered()}
    limited = Does(extensions=[*EXTENSIONS, "LIMITS RCPTMAX=1"])
    yield Case("one recipient at a time", [limited], delivered(), others=in_turn)
    yield Case("452 for the second RCPT", [_one_at_a_time()], delivered(), others=in_turn)


def of_the_final_dot() -> Iterator[Case]:
    """Whether it was taken is not known, or known late."""
    yield Case("250 after all other times are over", [Does({".": _late})], delivered())
    silent = Does({".": Talk.hang})
    yield Case("silent after the final dot", [silent], deferred("did not answer in time"))
    closes = Does({".": Talk.close})
    closed = deferred("closed the connection")
    yield Case("closes after the final dot", [closes], closed)
    yield Case("uncertain, so no second host", [closes, POLITE], closed, (1, 0))


def of_encryption() -> Iterator[Case]:
    """TLS where it can be had (RFC 7435)."""
    for certificate in ("self-signed", "expired", "for another name", "of an unknown authority"):
        tls = f"certificate {certificate}"
        yield Case(f"certificate {certificate}", [_showing(certificate)], delivered(tls=tls))
    yield Case("TLS 1.0", [_showing("old")], delivered(tls="TLSv1 "))
    yield Case("no cipher in common", [_showing("unusable")], delivered(), (2,))
    for name, broken in {
        "garbage for a handshake": _garbage,
        "closes at the handshake": _go_and(Talk.close),
        "resets at the handshake": _go_and(Talk.reset),
        "silent at the handshake": _go_and(Talk.hang),
        "a reply in clear behind the 220": _clear,
    }.items():
        yield Case(name, [_offering(broken)], delivered(), (2,))
    yield Case("454 to STARTTLS", [_offering(b"454 4.7.0 not now\r\n")], delivered())
    yield Case("502 to STARTTLS", [_offering(b"502 5.5.1 what?\r\n")], delivered())
    small_in_clear = Does({"EHLO": _small_in_clear}, certificate="self-signed")
    yield Case("a limit in clear is forgotten", [small_in_clear], delivered(tls="TLSv1.3"))
    demanding = Does({"MAIL": b"530 5.7.0 encrypt first\r\n"})
    yield Case("wants TLS and offers none", [demanding], failed("530 5.7.0", "5.7.0"))


def of_abilities() -> Iterator[Case]:
    """What it does not take."""
    small = Does(extensions=["PIPELINING", "SIZE 100"])
    yield Case("SIZE too small", [small], failed("takes messages of 100 octets", "5.3.4"))
    old = Does(extensions=["PIPELINING"])
    yield Case("8-bit, for a 7-bit host", [old], delivered(), message=EIGHT_BIT)
    signed = failed("signed", "5.6.3")
    yield Case("8-bit and signed, for a 7-bit host", [old], signed, message=SIGNED)
    yield Case("lines too long", [POLITE], delivered(), message=LONG_LINE)
    utf8 = ("SMTPUTF8", "BODY=8BITMIME")
    international = "Subject: \u00fc\r\n\r\n\u00fc\r\n".encode()
    needs = failed("needs SMTPUTF8", "5.6.7")
    yield Case("no SMTPUTF8", [old], needs, message=international, options=utf8)
    yield Case("SMTPUTF8 said, not needed", [old], delivered(), options=utf8)
    yield Case("no PIPELINING", [Does(extensions=["8BITMIME"])], delivered())


def of_further_hosts() -> Iterator[Case]:
    """RFC 5321 §5.1: who fails is followed by the next, and a 5yz is final."""
    second = delivered(host=2)
    yield Case("first nobody", [NOBODY, POLITE], second, (0, 1))
    yield Case("first a black hole", [HOLE, POLITE], second, (0, 1))
    yield Case("first silent", [Does({"BANNER": Talk.hang}), POLITE], second, (1, 1))
    yield Case("first 421", [Does({"BANNER": b"421 4.3.2 no\r\n"}), POLITE], second, (1, 1))
    yield Case("first 554", [Does({"BANNER": b"554 5.3.2 no\r\n"}), POLITE], second, (1, 1))
    yield Case("first 4yz at RCPT", [Does({"RCPT": NOT_NOW}), POLITE], second, (1, 1))
    yield Case("first 4yz at the final dot", [Does({".": NOT_NOW}), POLITE], second, (1, 1))
    never = failed("550 5.7.1 never")
    yield Case("first 5yz at RCPT", [Does({"RCPT": NEVER}), POLITE], never, (1, 0))
    yield Case("first 5yz at the final dot", [Does({".": NEVER}), POLITE], never, (1, 0))
    mixed = Does({"RCPT TO:<carol": NEVER, "RCPT TO:<dave": NOT_NOW})
    others = {"carol": never, "dave": second}
    yield Case("first mixed", [mixed, POLITE], delivered(), (1, 1), others)
    yield Case("all 4yz", [Does({"RCPT": NOT_NOW})] * 2, _not_now(host=2), (1, 1))


def _opening(name: str, behaviour: Behaviour, fate: Fate) -> Case:
    return Case(name, [Does({"BANNER": behaviour})], fate)


def _ehlo(name: str, behaviour: Behaviour, fate: Fate) -> Case:
    return Case(name, [Does({"EHLO": behaviour})], fate)


def _nonsense(said: str) -> Fate:
    return deferred(said, "4.5.0")


def _not_now(*, host: int) -> Fate:
    return deferred("450 4.2.0 not now", "4.2.0", host=host)


def _showing(certificate: str) -> Does:
    return Does(certificate=certificate)


def _offering(behaviour: Behaviour) -> Does:
    return Does({"STARTTLS": behaviour}, [*EXTENSIONS, "STARTTLS"])


def _one_at_a_time() -> Does:
    """Takes one recipient, refuses the next as too many, and so on."""
    asked: list[int] = []

    def answer(talk: Talk) -> None:
        asked.append(1)
        talk.say(b"452 4.5.3 too many\r\n" if len(asked) == 2 else b"250 2.1.5 ok\r\n")

    return Does({"RCPT": answer, "DATA": b"354 go\r\n", ".": STORED}, ["8BITMIME"])


def _drip(talk: Talk) -> None:
    talk.drip(b"220 mx.example.org\r\n", 0.3)


def _endless(talk: Talk) -> None:
    while True:
        talk.say(b"250-more\r\n" * 100)


def _long(talk: Talk) -> None:
    talk.say(b"250-" + b"x" * 100_000 + b"\r\n250 ok\r\n")


def _late(talk: Talk) -> None:
    talk.wait(2.5)
    talk.say(STORED)


def _garbage(talk: Talk) -> None:
    talk.say(b"220 go\r\n")
    talk.sock.recv(1)
    talk.say(b"this is no handshake\r\n")
    talk.hang()


def _clear(talk: Talk) -> None:
    """RFC 3207 §5: what comes before the handshake is not said under TLS."""
    talk.say(b"220 go\r\n250 ok\r\n")
    talk.hang()


def _go_and(end: Callable[[Talk], None]) -> Behaviour:
    def go(talk: Talk) -> None:
        talk.say(b"220 go\r\n")
        end(talk)

    return go


def _small_in_clear(talk: Talk) -> None:
    if isinstance(talk.sock, ssl.SSLSocket):
        talk.say(b"250 mx.example.org\r\n")
    else:
        talk.say(b"250-mx.example.org\r\n250-SIZE 1\r\n250 STARTTLS\r\n")
