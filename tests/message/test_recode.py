"""Re-encoded messages, read back by Python's email package: the same content in other octets."""

from __future__ import annotations

import base64
import email
import email.message
import email.policy
import hashlib
import quopri
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pfsmtp.message.recode import (
    has_long_lines,
    needs_recoding,
    needs_smtputf8,
    recode,
    require_smtputf8,
)
from pfsmtp.smtp.address import Mailbox
from pfsmtp.smtp.envelope import Envelope, Recipient
from pfsmtp.smtp.errors import PermanentFailure
from tests.needs import lacking

LONG = b"word " * 400


def crlf(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode()


def leaves(message: email.message.Message) -> Iterator[tuple[str, bytes]]:
    """Type and decoded content of everything that holds content."""
    for part in message.walk():
        if not part.is_multipart():
            content = part.get_payload(decode=True)
            assert isinstance(content, bytes)
            yield part.get_content_type(), content


def contents(octets: bytes) -> list[tuple[str, bytes]]:
    return list(leaves(email.message_from_bytes(octets, policy=email.policy.compat32)))


def assert_same(before: bytes, after: bytes, *, seven_bit: bool = True) -> None:
    """What is read from both is the same, and the second is fit to be sent."""
    assert contents(after) == contents(before)
    assert not has_long_lines(after)
    assert after.isascii() or not seven_bit
    assert after.count(b"\n") == after.count(b"\r") == after.count(b"\r\n")


TEXT = crlf(
    """\
From: a@x.example
Subject: Grüße
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

A few words of this text are not ASCII: häufig genug.
Space at the end \t
.
From here
= equals
"""
)

MIXED = crlf(
    """\
Subject: parts
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="=_ (1)"
Content-Transfer-Encoding: 8bit

Preamble
--=_ (1)
Content-Type: multipart/alternative; boundary=inner

--inner
Content-Type: text/plain

plain and ASCII: =
--inner
Content-Type: text/html; charset=utf-8
Content-Transfer-Encoding: 8bit

<p>nicht nur ASCII in diesem Teil: ä</p>
--inner--

--=_ (1)
Content-Type: message/rfc822
Content-Transfer-Encoding: 8bit

From: b@x.example
Subject: attached
Content-Type: text/plain; charset=utf-8

attached text with one umlaut: ü

--=_ (1)
Content-Type: image/gif
Content-Transfer-Encoding: base64

R0lGODlhAQABAAAAADs=
--=_ (1)--
Epilogue
"""
)

SIGNED = crlf(
    """\
Subject: signed
Content-Type: multipart/signed; boundary=s; micalg=pgp-sha256;
 protocol="application/pgp-signature"

--s
Content-Type: text/plain; charset=utf-8

signed téxt
--s
Content-Type: application/pgp-signature

-----BEGIN PGP SIGNATURE-----
--s--
"""
)


@pytest.mark.parametrize("message", [b"", b"\r\n", b"Subject: x\r\n\r\nbody\r\n", b"\r\n.\r\n"])
@pytest.mark.parametrize("seven_bit", [True, False])
def test_message_that_needs_nothing_is_the_same_octets(message: bytes, seven_bit: bool) -> None:
    assert recode(message, seven_bit=seven_bit) is message


@pytest.mark.parametrize("message", [TEXT, MIXED, SIGNED])
def test_8bit_message_is_left_to_a_host_that_takes_it(message: bytes) -> None:
    assert recode(message, seven_bit=False) is message


def test_rfc2045_6_7_text_becomes_quoted_printable() -> None:
    recoded = recode(TEXT, seven_bit=True)
    assert_same(TEXT, recoded)
    assert b"h=C3=A4ufig" in recoded
    assert recoded.count(b"Content-Transfer-Encoding: quoted-printable\r\n") == 1
    assert b"8bit" not in recoded
    assert max(map(len, recoded.split(b"\r\n"))) <= 76


def test_text_that_is_hardly_ascii_becomes_base64() -> None:
    message = crlf("Content-Type: text/plain; charset=utf-8\n\n") + "Привет, мир\r\n".encode() * 50
    recoded = recode(message, seven_bit=True)
    assert_same(message, recoded)
    assert b"Content-Transfer-Encoding: base64\r\n" in recoded


def test_rfc2045_6_8_other_content_becomes_base64() -> None:
    message = b"Content-Type: application/zip\r\n\r\n" + bytes(range(256)) * 20
    recoded = recode(message, seven_bit=True)
    assert_same(message, recoded)


def test_parts_are_encoded_each_for_itself() -> None:
    recoded = recode(MIXED, seven_bit=True)
    assert_same(MIXED, recoded)
    assert recoded.count(b"quoted-printable") == 2
    assert b"\r\n\r\nplain and ASCII: =\r\n--inner\r\n" in recoded
    assert b"Preamble\r\n" in recoded
    assert recoded.endswith(b"--=_ (1)--\r\nEpilogue\r\n")


def test_rfc2045_6_4_what_holds_parts_is_called_7bit() -> None:
    message = email.message_from_bytes(recode(MIXED, seven_bit=True))
    assert message["Content-Transfer-Encoding"] == "7bit"
    attached = message.get_payload(1)
    assert isinstance(attached, email.message.Message)
    assert attached["Content-Transfer-Encoding"] == "7bit"


def test_rfc2046_5_1_1_text_around_the_parts_becomes_ascii() -> None:
    message = MIXED.replace(b"Preamble", "Vorwört".encode()).replace(b"Epilogue", b"\xff")
    recoded = recode(message, seven_bit=True)
    assert_same(message, recoded)
    assert b"\r\nVorw??rt\r\n--=_ (1)\r\n" in recoded
    assert recoded.endswith(b"--=_ (1)--\r\n?\r\n")


def test_multipart_of_unknown_encoding_is_called_8bit() -> None:
    message = MIXED.replace(b"8bit", b"\xe9", 1).replace(b"plain and ASCII", LONG)
    recoded = email.message_from_bytes(recode(message, seven_bit=False))
    assert recoded["Content-Transfer-Encoding"] == "8bit"


def test_part_that_says_nothing_gets_what_a_message_gets_but_the_version() -> None:
    message = MIXED.replace(b"Content-Type: text/plain\r\n\r\nplain", "\r\ndürr".encode())
    recoded = recode(message, seven_bit=True)
    assert recoded.count(b"MIME-Version") == message.count(b"MIME-Version") + 1  # the attached one
    parts = [part["Content-Type"] for part in email.message_from_bytes(recoded).walk()]
    assert parts[2] == "text/plain; charset=utf-8"


def test_message_without_mime_says_what_it_is() -> None:
    recoded = recode(b"Subject: x\r\n\r\ncaf\xc3\xa9 and some more text\r\n", seven_bit=True)
    message = email.message_from_bytes(recoded)
    assert message["MIME-Version"] == "1.0"
    assert message["Content-Type"] == "text/plain; charset=utf-8"


def test_rfc1428_3_text_of_unknown_charset_says_so() -> None:
    recoded = recode(b"Subject: x\r\n\r\ncaf\xe9 and some more text\r\n", seven_bit=True)
    assert email.message_from_bytes(recoded).get_content_charset() == "unknown-8bit"


def test_encoding_that_nobody_knows_is_none() -> None:
    message = TEXT.replace(b"Encoding: 8bit", b"Encoding: utf-8")
    assert_same(TEXT, recode(message, seven_bit=True))


def test_quoted_printable_with_octets_it_must_not_have_is_mended() -> None:
    message = TEXT.replace(b"8bit", b"quoted-printable").replace(b"= equals", b"=3D equals")
    assert_same(message, recode(message, seven_bit=True))


def test_base64_in_one_long_line_is_broken_into_short_ones() -> None:
    message = b"Content-Transfer-Encoding: BASE64\r\n\r\n" + b"QUJD" * 1000 + b"\r\n"
    recoded = recode(message, seven_bit=False)
    assert_same(message, recoded)
    assert recode(message[:200] + b"\xe9" + message[200:], seven_bit=True) == recoded


def test_long_lines_are_made_short_and_8bit_is_kept_elsewhere() -> None:
    message = MIXED.replace(b"plain and ASCII: =", LONG)
    recoded = recode(message, seven_bit=False)
    assert_same(message, recoded, seven_bit=False)
    assert "diesem Teil: ä".encode() in recoded
    assert recoded.count(b"quoted-printable") == 1


def test_long_fields_are_folded() -> None:
    message = b"X-Long: " + LONG + b"\r\nSubject: x\r\n\r\nbody\r\n"
    recoded = recode(message, seven_bit=False)
    assert_same(message, recoded)
    assert recoded.replace(b"\r\n ", b" ") == message


def test_8bit_fields_become_ascii_and_the_body_stays() -> None:
    recoded = recode(crlf("Subject: Grüße\nX: y\n\nbody  =\n"), seven_bit=True)
    assert recoded == b"Subject: =?utf-8?b?R3LDvMOfZQ==?=\r\nX: y\r\n\r\nbody  =\r\n"


def test_octets_that_no_text_has_are_kept_by_base64() -> None:
    body = b"nul \0, bare \r and bare \n, and \xe9" + b" and more text" * 10
    recoded = recode(b"Content-Type: text/plain\r\n\r\n" + body, seven_bit=True)
    assert contents(recoded) == [("text/plain", body)]


def failure(message: bytes) -> PermanentFailure:
    with pytest.raises(PermanentFailure) as caught:
        recode(message, seven_bit=True)
    return caught.value


@pytest.mark.parametrize("message", [SIGNED, b"DKIM-Signature: v=1\r\n" + TEXT])
def test_signed_8bit_message_cannot_be_sent(message: bytes) -> None:
    found = failure(message)
    assert str(found.status) == "5.6.3"
    assert "signed" in found.text


@pytest.mark.parametrize("seven_bit", [True, False])
@pytest.mark.parametrize(
    "message",
    [
        b"dkim-signature : v=1\r\nSubject: x\r\n\r\n" + LONG,
        SIGNED.replace("signed téxt".encode(), LONG),
    ],
)
def test_long_lines_of_a_signed_message_are_sent_as_they_are(
    message: bytes, seven_bit: bool
) -> None:
    assert recode(message, seven_bit=seven_bit) == message


def test_signed_part_in_ascii_does_not_hinder_the_others() -> None:
    signed = SIGNED.replace("é".encode(), b"e").replace(b"Subject: signed\r\n", b"")
    message = MIXED.replace(b"Content-Type: image/gif", signed + b"\r\n--=_ (1)\r\nX: y")
    recoded = recode(message, seven_bit=True)
    assert_same(message, recoded)
    assert signed in recoded


@pytest.mark.parametrize("kind", ["message/partial", "message/delivery-status", "message/x"])
def test_rfc2045_6_4_message_that_has_no_encoding_cannot_be_sent(kind: str) -> None:
    message = crlf(f"Content-Type: {kind}\n\nSubject: é\n\né\n")
    assert str(failure(message).status) == "5.6.3"


def test_rfc6532_3_7_message_in_utf8_may_be_encoded() -> None:
    message = crlf("Content-Type: message/global\n\nFrom: bé@x.example\n\né\n")
    recoded = recode(message, seven_bit=True)
    assert recoded.endswith(b"\r\n\r\nFrom: b=C3=A9@x.example\r\n\r\n=C3=A9\r\n")


def test_attached_message_to_an_address_in_utf8_cannot_be_sent() -> None:
    message = MIXED.replace(b"From: b@x", "From: bé@x".encode())
    assert str(failure(message).status) == "5.6.7"


def nested(depth: int, text: bytes) -> bytes:
    message = b"Content-Type: text/plain\r\n\r\n" + text
    for level in range(depth):
        head = b'Content-Type: multipart/mixed; boundary="%d"\r\n\r\n--%d\r\n' % (level, level)
        message = head + message + b"\r\n--%d--\r\n" % level
    return message


def test_nested_parts_are_found() -> None:
    message = nested(40, "déep and some more text".encode())
    assert_same(message, recode(message, seven_bit=True))


def test_parts_nested_without_end_are_not_gone_into() -> None:
    assert str(failure(nested(1000, b"\xe9")).status) == "5.6.3"
    long_lines = nested(1000, LONG)
    assert recode(long_lines, seven_bit=True) == long_lines


@pytest.mark.parametrize(
    "message",
    [
        crlf("Content-Type: multipart/mixed\n\nno boundary, but é and more\n"),
        crlf("Content-Type: multipart/mixed; boundary=b\n\nno delimiter, but é\n"),
    ],
)
def test_multipart_without_parts_loses_nothing(message: bytes) -> None:
    recoded = recode(message, seven_bit=True)
    assert recoded.isascii()
    assert b"=C3=A9" in recoded


def test_multipart_that_does_not_end_is_read_to_its_end() -> None:
    message = MIXED.partition(b"--inner--")[0]
    assert_same(message, recode(message, seven_bit=True))


def test_digest_holds_messages() -> None:
    message = crlf(
        """\
Content-Type: multipart/digest; boundary=b

--b

Subject: Grüße
Content-Type: text/plain; charset=utf-8

text with an umlaut: ä
--b--
"""
    )
    recoded = recode(message, seven_bit=True)
    assert_same(message, recoded)
    assert b"Subject: =?utf-8?b?R3LDvMOfZQ==?=" in recoded


def test_message_that_begins_with_its_text_is_all_text() -> None:
    message = "no field here, but ä\r\nand more\r\n".encode()
    recoded = recode(message, seven_bit=True)
    assert contents(recoded) == [("text/plain", message)]


def entity(kind: str, encoding: str, body: bytes) -> bytes:
    return crlf(f"Content-Type: {kind}\nContent-Transfer-Encoding: {encoding}\n\n") + body


def encoded_leaf(kind: str, encoding: str, content: bytes) -> bytes:
    match encoding:
        case "base64":
            return entity(kind, encoding, base64.b64encode(content))
        case "quoted-printable":
            lines = [quopri.encodestring(line) for line in content.split(b"\r\n")]
            return entity(kind, encoding, b"\r\n".join(lines).replace(b"=\n", b"=\r\n"))
        case _:
            return entity(kind, encoding, content)


LINES = st.lists(
    st.text("aä= .\t-", max_size=40).map(str.encode) | st.sampled_from([LONG, b"--x", b"\xff"])
).map(b"\r\n".join)
LEAVES = st.builds(
    encoded_leaf,
    st.sampled_from(["text/plain; charset=utf-8", "text/html", "image/png"]),
    st.sampled_from(["7bit", "8bit", "binary", "base64", "quoted-printable"]),
    LINES,
)


def multipart(parts: list[bytes]) -> bytes:
    boundary = hashlib.sha256(b"".join(parts)).hexdigest()  # another one than that of any part
    delimiter = f"\r\n--{boundary}".encode()
    body = b"".join(delimiter + b"\r\n" + part for part in parts)
    return entity(f"multipart/mixed; boundary={boundary}", "8bit", body + delimiter + b"--\r\n")


def attached(message: bytes) -> bytes:
    return entity("message/rfc822", "8bit", message)


MESSAGES = st.recursive(
    LEAVES,
    lambda parts: st.lists(parts, min_size=1).map(multipart) | parts.map(attached),
    max_leaves=8,
)


@given(MESSAGES, st.booleans())
def test_any_message_holds_the_same_afterwards(message: bytes, seven_bit: bool) -> None:
    message = b"MIME-Version: 1.0\r\n" + message
    assert_same(message, recode(message, seven_bit=seven_bit), seven_bit=seven_bit)


FRAGMENTS = [
    *(b"Content-Type: ", b"multipart/mixed", b"multipart/digest", b"message/rfc822", b"text/plain"),
    *(b"; boundary=b", b'; boundary="b', b"; boundary*0=b; boundary*1*=utf-8''%E9", b"; charset=x"),
    *(b"Content-Transfer-Encoding: ", b"8bit", b"base64", b"quoted-printable", b"x-uuencode"),
    *(
        b"\r\n--b\r\n",
        b"\r\n--b--\r\n",
        b"--b",
        b"\r\n\r\n",
        b"\r\n",
        b"\r\n ",
        b"\n",
        b"\r",
        b"\0",
    ),
    *(
        b"Subject: ",
        b"To: ",
        b"DKIM-Signature: ",
        b'"\\',
        b"<(@,;:=",
        b"\xc3\xa9",
        b"\xff",
        b"=C3=",
    ),
    *(b"x" * 1000, b" " * 1000, b"word " * 250, b"QUJD" * 300, b"\xe9" * 1000),
]


@pytest.mark.parametrize("seven_bit", [True, False])
def test_any_octets_give_a_message_or_a_failure(seven_bit: bool) -> None:
    @given(st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=5)).map(b"".join))
    def check(message: bytes) -> None:
        try:
            recoded = recode(message, seven_bit=seven_bit)
        except PermanentFailure as failure:
            assert failure.status.subject == 6  # noqa: PT017
            assert seven_bit
            return
        assert recoded.isascii() or not seven_bit
        if not has_long_lines(message) and (message.isascii() or not seven_bit):
            assert recoded is message

    check()


def test_real_messages_lose_nothing() -> None:
    """The messages of Python's own test suite, where it is installed."""
    corpus = Path(email.__file__).parents[1] / "test" / "test_email" / "data"
    files = sorted(corpus.glob("msg_*.txt"))
    if not files:
        lacking("needs Python's test suite (apt install libpython3.11-testsuite)")
    for file in files:
        octets = file.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        recoded = recode(octets, seven_bit=True)
        assert_same(octets, recoded)


@pytest.mark.parametrize("seven_bit", [True, False])
def test_large_message_takes_little_time(seven_bit: bool) -> None:
    line = "a line of text with an umlaut: ä\r\n".encode()
    message = b"Subject: x\r\n\r\n" + line * 300_000 + LONG
    before = time.process_time()
    recode(message, seven_bit=seven_bit)
    assert time.process_time() - before < 5


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (b"", False),
        (b"x" * 998, False),
        (b"x" * 998 + b"\r\n" + b"x" * 998 + b"\r\n", False),
        (b"x" * 999, True),
        (b"x" * 999 + b"\r\n", True),
        (b"short\r\n" + b"x" * 999 + b"\r\n", True),
        (b"\r\n" * 5000, False),
    ],
)
def test_rfc5321_4_5_3_1_6_line_of_998_octets_is_not_too_long(
    octets: bytes, expected: bool
) -> None:
    assert has_long_lines(octets) is expected


def test_what_is_known_of_a_message_tells_whether_it_is_recoded() -> None:
    for eight_bit, long_lines, takes, expected in [
        (False, False, False, False),
        (True, False, True, False),
        (True, False, False, True),
        (False, True, True, True),
    ]:
        needs = needs_recoding(eight_bit=eight_bit, long_lines=long_lines, takes_eight_bit=takes)
        assert needs is expected


def envelope(sender: str | None, recipient: str, *, smtputf8: bool = True) -> Envelope:
    reverse_path = None if sender is None else Mailbox(sender, "x.example")
    return Envelope(reverse_path, (Recipient(Mailbox(recipient, "x.example")),), smtputf8=smtputf8)


@pytest.mark.parametrize(
    ("given_envelope", "header", "expected"),
    [
        (envelope("a", "b"), b"Subject: x\r\n", False),
        (envelope(None, "b"), b"Subject: x\r\n", False),
        (envelope("é", "b"), b"Subject: x\r\n", True),
        (envelope("a", "é"), b"Subject: x\r\n", True),
        (envelope("a", "b"), "Subject: é\r\n".encode(), True),
        (envelope("a", "b", smtputf8=False), "Subject: é\r\n".encode(), False),
    ],
)
def test_rfc6531_3_smtputf8_is_needed_for_what_is_not_ascii(
    given_envelope: Envelope, header: bytes, expected: bool
) -> None:
    assert needs_smtputf8(given_envelope, header) is expected


def test_rfc6531_3_2_message_that_needs_smtputf8_is_not_sent_without() -> None:
    require_smtputf8(needed=True, offered=True)
    require_smtputf8(needed=False, offered=False)
    with pytest.raises(PermanentFailure) as caught:
        require_smtputf8(needed=True, offered=False)
    assert str(caught.value.status) == "5.6.7"
