"""Messages that have broken mail servers, for every test that sends some and reads them back.

`taken` gives those that are stored octet for octet, `refused` those that a server has to refuse at
their true end, each as a name and the octets of the message: lines with CRLF (unless the point is
that they lack it), dots not doubled. `on_the_wire` doubles them. All are the same in every run.

Messages of the world are from Debian's libpython3.11-testsuite, where it is installed.
"""

from __future__ import annotations

import random
from base64 import encodebytes
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

Sample = tuple[str, bytes]

DEBIAN = Path("/usr/lib")
DEBIAN_PATTERN = "python3*/test/test_email/data/msg_*.txt"

LONGEST_LINE = 65536
"""Octets of the longest line that is taken."""
BUFFERS = (4096, 16384, 65536, 1024 * 1024)
"""Sizes at which servers cut their input; something happens astride each."""

HEADER = b"From: ann@x.example\r\nTo: bob@y.example\r\nSubject: corpus\r\n"
TEXT = b"The quick brown fox jumps over the lazy dog.\r\n"


def taken() -> Iterator[Sample]:
    """Every message that is stored as it was sent."""
    return chain(shapes(), dots(), octets(), lines(), sizes(), headers(), mime(), debian())


def on_the_wire(message: bytes) -> bytes:
    """What follows the 354 for this message: dots at the start of lines doubled, and the end."""
    stuffed = message.replace(b"\r\n.", b"\r\n..")
    if message.startswith(b"."):
        stuffed = b"." + stuffed
    if stuffed and not stuffed.endswith(b"\r\n"):
        stuffed += b"\r\n"
    return stuffed + b".\r\n"


def shapes() -> Iterator[Sample]:
    """Where the header ends, or whether there is one."""
    yield "nothing at all", b""
    yield "an empty line", b"\r\n"
    yield "ten empty lines", b"\r\n" * 10
    yield "a header alone", HEADER
    yield "a header and an empty text", HEADER + b"\r\n"
    yield "a text without header", TEXT
    yield "a text behind an empty line", b"\r\n" + TEXT
    yield "a header and a text without empty line", HEADER + TEXT
    yield (
        "a mailbox's From line",
        b"From ann Tue Nov 24 03:50:00 2026\r\n" + HEADER + b"\r\n" + TEXT,
    )
    yield "From lines in the text", HEADER + b"\r\nFrom here\r\n>From there\r\n\r\nFrom\r\n"
    yield "commands in the text", HEADER + b"\r\nRSET\r\nMAIL FROM:<a@b>\r\nDATA\r\n354\r\nQUIT\r\n"
    yield "white space at the ends of lines", HEADER + b"\r\n a \t \r\n\t\r\n \r\n"


def dots() -> Iterator[Sample]:
    """Dots where they mean something."""
    top = HEADER + b"\r\n"
    yield "a dot alone", b".\r\n"
    yield "a dot line first", top + b".\r\n" + TEXT
    yield "a dot line last", top + TEXT + b".\r\n"
    yield "two dots alone", top + b"..\r\n"
    yield "ten thousand dot lines", top + b".\r\n" * 10_000
    yield "a line of 60000 dots", top + 60_000 * b"." + b"\r\n"
    yield "lines of growing dots", top + b"".join(n * b"." + b"\r\n" for n in range(200))
    yield "dots before everything", top + b"".join(b"." + TEXT for _ in range(500))
    yield "a dot and a space", top + b". \r\n.\t\r\n. .\r\n"
    yield "a dot in a header", b".A: 1\r\nB: 2\r\n .folded\r\n\r\n" + TEXT


def octets() -> Iterator[Sample]:
    """Octets that are no ASCII text."""
    top = HEADER + b"Content-Type: text/plain\r\n\r\n"
    every = bytes(octet for octet in range(1, 256) if octet not in b"\r\n")
    yield "UTF-8", top + "Gr\u00fc\u00dfe \u65e5\u672c\u8a9e \U0001f600\r\n".encode()
    yield "Latin-1", top + "Gr\u00fc\u00dfe\r\n".encode("latin-1")
    yield "every octet but NUL, CR and LF", top + every + b"\r\n"
    yield "each octet on a line", top + b"".join(bytes((octet,)) + b"\r\n" for octet in every)
    yield "what others take for line ends", top + b"a\x0bb\x0cc\x85d\xe2\x80\xa8e\xc2\x85f\r\n"
    yield "those before dots", top + b"a\x0b.\x0c.\x85.\xe2\x80\xa8.\xc2\x85.\r\n"
    yield "escape sequences", top + b"\x1b[31mred\x1b[0m \x07 \x7f\r\n"
    noise = random.Random(1).randbytes(200_000)
    for octet in (b"\0", b"\r", b"\n"):
        noise = noise.replace(octet, b"x")
    cut = (noise[at : at + 997] for at in range(0, len(noise), 997))
    yield "noise", top + b"".join(line + b"\r\n" for line in cut)


def lines() -> Iterator[Sample]:
    """Lines of every length."""
    top = HEADER + b"\r\n"
    for length in (0, 1, 76, 997, 998, 999, 1000, 2048, 4096, 32_768, LONGEST_LINE):
        yield f"a line of {length} octets", top + length * b"x" + b"\r\n" + TEXT
    yield "lines of growing length", top + b"".join(n * b"x" + b"\r\n" for n in range(600))
    yield "100,000 short lines", top + 100_000 * b"x\r\n"


def sizes() -> Iterator[Sample]:
    """Messages whose last line end, or a dot line, lies astride the end of a buffer."""
    for buffer in BUFFERS:
        for size in range(buffer - 3, buffer + 4):
            yield f"{size} octets", _filled(HEADER + b"\r\n", size - 2) + b"\r\n"
            yield (
                f"a dot line at octet {size}",
                _filled(HEADER + b"\r\n", size) + b"\r\n.\r\n.x\r\n",
            )
    yield "three megabytes", HEADER + b"\r\n" + TEXT * (3 * 1024 * 1024 // len(TEXT))


def _filled(start: bytes, size: int) -> bytes:
    """`start`, made `size` octets long with lines of text, the last of which has no end."""
    start += TEXT * ((size - len(start)) // len(TEXT))
    return start + (size - len(start)) * b"x"


def headers() -> Iterator[Sample]:
    """Headers as hostile and broken programs write them."""
    rest = b"\r\n" + TEXT
    yield "folded fields", b"Subject: a\r\n b\r\n\tc\r\n  \td\r\n" + HEADER + rest
    yield "folded with an almost empty line", b"Subject: a\r\n \r\n b\r\n" + HEADER + rest
    yield "a fold first of all", b" folded: onto nothing\r\n" + HEADER + rest
    yield "fields without space or value", b"A:1\r\nB:\r\nC :x\r\nD\t:\t\r\n:\r\n" + HEADER + rest
    yield "the same field again and again", b"Subject: x\r\n" * 500 + rest
    yield (
        "trace fields of others",
        (
            b"Return-Path: <eve@evil.example>\r\nDelivered-To: eve@evil.example\r\n"
            + b"Received: from a by b with SMTP id 1; Tue, 24 Nov 2026 03:50:00 +0000\r\n" * 30
            + HEADER
            + rest
        ),
    )
    yield "a field of 60,000 octets", b"X: " + 60_000 * b"x" + b"\r\n" + HEADER + rest
    yield "a header of 200,000 octets", HEADER + b"X: " + b"x\r\n " * 50_000 + b"\r\n" + rest
    yield "10,000 recipients", HEADER + b"To: " + b"a@x.example,\r\n " * 10_000 + b"b@x\r\n" + rest
    yield (
        "a header in UTF-8",
        "Subject: Gr\u00fc\u00dfe\r\nX-\u00fc: 1\r\n".encode() + HEADER + rest,
    )
    yield "a header in Latin-1", "Subject: Gr\u00fc\u00dfe\r\n".encode("latin-1") + HEADER + rest
    yield "bad encoded words", b"Subject: =?utf-8?b?####?= =?x?y?z?= =?\r\n" + HEADER + rest
    yield "bad dates and addresses", b"Date: never\r\nFrom: <<>>(\r\nTo: ;:,@\r\n" + rest
    yield "a line that is no field", b"Subject: x\r\nno field\r\nTo: bob@y.example\r\n" + rest


def mime() -> Iterator[Sample]:
    """Bodies of parts."""
    plain = b"Content-Type: text/plain\r\n\r\n" + TEXT
    yield "a multipart", _multipart("a", plain, plain)
    nested = plain
    for depth in range(60):
        nested = _multipart(f"level-{depth}", plain, nested)
    yield "sixty multiparts in each other", nested
    forwarded = HEADER + b"\r\n" + TEXT
    for _ in range(40):
        forwarded = HEADER + b"Content-Type: message/rfc822\r\n\r\n" + forwarded
    yield "forty messages in each other", forwarded
    yield "a thousand parts", _multipart("x", *(1000 * (plain,)))
    yield "boundaries of dots", _multipart("...", plain, b"\r\n.\r\n--....\r\n")
    yield "boundaries that look alike", _multipart("a", b"\r\n--aa\r\n-- a\r\n--a \r\nx--a\r\n")
    yield "a multipart that does not end", _multipart("a", plain).rpartition(b"--a--")[0]
    yield "a multipart without boundary", HEADER + b"Content-Type: multipart/mixed\r\n\r\n--\r\n"
    picture = random.Random(2).randbytes(100_000)
    encoded = encodebytes(picture).replace(b"\n", b"\r\n")
    attachment = b"Content-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\n" + encoded
    yield "an attachment in base64", _multipart("a", plain, attachment)
    yield (
        "quoted-printable with dots",
        (
            HEADER
            + b"Content-Transfer-Encoding: quoted-printable\r\n\r\n=\r\n.=\r\n=2E\r\n.\r\n=3D=\r\n"
        ),
    )
    yield (
        "signed",
        _multipart(
            "s",
            b"Content-Type: text/plain\r\n\r\nas it is  \r\n-- \r\n",
            b"Content-Type: application/pgp-signature\r\n\r\n-----BEGIN PGP SIGNATURE-----\r\n",
            kind='signed; protocol="application/pgp-signature"',
        ),
    )
    yield (
        "binary labelled as such",
        (HEADER + b"Content-Transfer-Encoding: binary\r\n\r\n" + bytes(range(128, 256)) + b"\r\n"),
    )


def _multipart(boundary: str, *parts: bytes, kind: str = "mixed") -> bytes:
    """A message of these parts, each with its own header, between a preamble and an epilogue."""
    delimiter = f"--{boundary}".encode("ascii")
    header = f'Content-Type: multipart/{kind}; boundary="{boundary}"\r\n\r\n'.encode("ascii")
    body = b"".join(delimiter + b"\r\n" + part + b"\r\n" for part in parts)
    return HEADER + header + b"preamble\r\n" + body + delimiter + b"--\r\nepilogue\r\n"


def debian() -> Iterator[Sample]:
    """Messages of the world, their lines ended with CRLF."""
    for path in sorted(DEBIAN.glob(DEBIAN_PATTERN)):
        message = path.read_bytes().replace(b"\r\n", b"\n")
        if not message.endswith(b"\n"):
            message += b"\n"
        yield f"{path.parts[-5]} {path.name}", message.replace(b"\n", b"\r\n")


def refused() -> Iterator[Sample]:
    """Every message that is refused at its true end, after all of it has been read."""
    top = HEADER + b"\r\n"
    for name, bare in (("CR", b"\r"), ("LF", b"\n"), ("NUL", b"\0")):
        yield f"a bare {name} alone", bare + b"\r\n"
        yield f"a bare {name} in the header", bare + HEADER + b"\r\n" + TEXT
        yield f"a bare {name} in the text", top + b"a" + bare + b"b\r\n" + TEXT
        yield f"a bare {name} before a line end", top + b"a" + bare + b"\r\n" + TEXT
        yield f"a bare {name} after a line end", top + TEXT + bare + TEXT
        yield f"a bare {name} around a dot", top + b"a" + bare + b"." + bare + b"b\r\n"
        yield f"a bare {name} before a dot line", top + b"a" + bare + b".\r\nMAIL FROM:<>\r\n"
        yield f"a bare {name} in a large message", top + TEXT * 40_000 + bare + TEXT * 40_000
        for buffer in BUFFERS:
            yield f"a bare {name} at octet {buffer}", _filled(top, buffer - 1) + bare + TEXT
    for length in (LONGEST_LINE + 1, 1024 * 1024):
        yield f"a line of {length} octets", top + length * b"x" + b"\r\n" + TEXT
        yield f"a header line of {length} octets", b"X: " + (length - 3) * b"x" + b"\r\n" + top
