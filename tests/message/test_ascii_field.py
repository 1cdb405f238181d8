"""Fields in ASCII, read back by Python's email package."""

from __future__ import annotations

import contextlib
import email
import email.policy
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pfsmtp.message.ascii_field import ascii_field, fold_field
from pfsmtp.smtp.errors import PermanentFailure


def encoded(field: str | bytes) -> bytes:
    octets = field.encode() if isinstance(field, str) else field
    return ascii_field(octets + b"\r\n")


def read(octets: bytes) -> email.message.EmailMessage:
    assert octets.isascii()
    assert octets.endswith(b"\r\n")
    assert all(len(line) <= 78 for line in octets.split(b"\r\n"))
    message = email.message_from_bytes(octets + b"\r\n", policy=email.policy.default)
    assert isinstance(message, email.message.EmailMessage)
    return message


@pytest.mark.parametrize(
    "subject",
    [
        "Grüße",
        "Grüße aus Köln",
        "all ASCII but for the last wörd",
        "é",
        "  spaces  between  ä  ö  ",
        "日本語の件名" * 20,
        "ends with emoji 🎉",
    ],
)
def test_rfc2047_5_text_is_read_back_as_it_was(subject: str) -> None:
    field = encoded(f"Subject: {subject}")
    assert read(field)["Subject"] == subject.strip()


def test_words_in_ascii_stay_as_they_are() -> None:
    assert encoded("Subject: from Köln to Rome") == (
        b"Subject: from =?utf-8?b?S8O2bG4=?= to Rome\r\n"
    )


def test_rfc2047_2_encoded_word_has_75_characters_at_most() -> None:
    words = encoded(b"Subject: " + b"\xff" * 500).split()[1:]
    assert max(map(len, words)) <= 75


def test_rfc1428_3_octets_that_are_not_utf8_are_called_so() -> None:
    assert encoded(b"Subject: caf\xe9") == b"Subject: =?unknown-8bit?b?Y2Fm6Q==?=\r\n"


@pytest.mark.parametrize(
    ("field", "addresses"),
    [
        ("To: Jörg <j@x.example>", [("Jörg", "j@x.example")]),
        ('To: "Müller, Jörg" <j@x.example>', [("Müller, Jörg", "j@x.example")]),
        ('To: "a \\"ö\\"" <j@x.example>', [('a "ö"', "j@x.example")]),
        ("To: Jörg<j@x.example>", [("Jörg", "j@x.example")]),
        (
            "To: Jörg von Q. <j@x.example>, k@x.example, Anna <a@x.example>",
            [("Jörg von Q.", "j@x.example"), ("", "k@x.example"), ("Anna", "a@x.example")],
        ),
        ('Resent-From: "é" <j@x.example>', [("é", "j@x.example")]),
    ],
)
def test_rfc2047_5_display_names_are_read_back(
    field: str, addresses: list[tuple[str, str]]
) -> None:
    message = read(encoded(field))
    found = message[field.partition(":")[0]].addresses
    assert [(each.display_name, each.addr_spec) for each in found] == addresses


def test_rfc2047_5_comment_is_encoded_between_its_parentheses() -> None:
    assert encoded("To: k@x.example (Käthe)") == b"To: k@x.example (=?utf-8?b?S8OkdGhl?=)\r\n"


def test_group_of_recipients_is_encoded_by_its_names() -> None:
    field = encoded("To: Grüppe: Jörg <j@x.example>, k@x.example;")
    message = read(field)
    assert [each.addr_spec for each in message["To"].addresses] == ["j@x.example", "k@x.example"]


@pytest.mark.parametrize(
    "field",
    [
        "To: jörg@x.example",
        "To: <jörg@x.example>",
        "From: J <j@müller.example>",
        "Cc: j@müller.example",
        'Reply-To: "jörg"@x.example',
        "To: ok@x.example, jörg@x.example (comment)",
    ],
)
def test_rfc6531_3_2_address_that_is_not_ascii_cannot_be_sent(field: str) -> None:
    with pytest.raises(PermanentFailure) as caught:
        encoded(field)
    assert str(caught.value.status) == "5.6.7"


@pytest.mark.parametrize(
    ("field", "filename"),
    [
        ('Content-Disposition: attachment; filename="Ünïcode.pdf"', "Ünïcode.pdf"),
        ("Content-Disposition: attachment; filename=é.pdf; size=3", "é.pdf"),
    ],
)
def test_rfc2231_4_file_name_is_read_back(field: str, filename: str) -> None:
    assert read(encoded(field)).get_filename() == filename


def test_parameters_in_ascii_are_kept() -> None:
    message = read(encoded('Content-Type: text/plain; charset=utf-8; name="é; x"'))
    assert message.get_content_charset() == "utf-8"
    assert message.get_param("name") == "é; x"


def test_rfc2231_3_parameter_in_pieces_is_put_together() -> None:
    field = encoded("Content-Disposition: attachment; filename*0=a; filename*1=ä; x*=utf-8''%C3%A9")
    message = read(field)
    assert message.get_filename() == "aä"
    assert message["Content-Disposition"].params["x"] == "é"


@pytest.mark.parametrize("name", ["Message-ID", "References", "Received", "Date"])
def test_fields_for_machines_get_no_encoded_words(name: str) -> None:
    assert encoded(f"{name}: <é@x.example>") == f"{name}: <?@x.example>\r\n".encode()


def test_folded_field_is_read_as_one() -> None:
    assert read(encoded("Subject: é\r\n ü\r\n\tx"))["Subject"] == "é ü\tx"


@pytest.mark.parametrize(
    "name", [b"To", b"Subject", b"Content-Type", b"Content-Disposition", b"Date", b"X"]
)
def test_any_value_gives_a_field_or_a_failure(name: bytes) -> None:
    @given(
        st.binary(max_size=200) | st.text("\"\\()<>@,;=:é% \t*'1aü", max_size=50).map(str.encode)
    )
    def check(value: bytes) -> None:
        try:
            field = ascii_field(name + b": " + value + b"\r\n")
        except PermanentFailure as failure:
            assert str(failure.status) == "5.6.7"  # noqa: PT017
            return
        assert field.isascii()
        assert field.startswith(name + b":")
        lines = field.split(b"\r\n")
        assert lines.pop() == b""
        assert all(line.startswith((b" ", b"\t")) and line.strip() for line in lines[1:])

    check()


@pytest.mark.parametrize(
    "unit", ["é ", 'é"\\', "<é", "(é", 'é" ', "é;", "é; a=", 'é;"', "e", "é", "é\r\n ", "é, "]
)
@pytest.mark.parametrize("name", ["To", "Subject", "Content-Type"])
def test_time_grows_no_faster_than_the_field(name: str, unit: str) -> None:
    field = f"{name}: x{unit * (262144 // len(unit))}é\r\n".encode()
    before = time.process_time()
    with contextlib.suppress(PermanentFailure):
        ascii_field(field)
    assert time.process_time() - before < 5


def test_line_is_folded_where_there_is_space() -> None:
    field = b"To: " + b"a@x.example, " * 200 + b"b@x.example\r\n"
    folded = fold_field(field)
    assert folded.replace(b"\r\n", b"") + b"\r\n" == field
    assert max(map(len, folded.split(b"\r\n"))) <= 998


@pytest.mark.parametrize(
    "field",
    [
        b"X: " + b"x" * 2000 + b"\r\n",
        b"X:" + b" " * 2000 + b"\r\n",
        b"x" * 2000 + b": y\r\n",
        b"X: x" + b" " * 2000 + b"\r\n",
    ],
)
def test_line_that_cannot_be_folded_is_left(field: bytes) -> None:
    assert fold_field(field) == field


def test_word_too_long_for_a_line_is_folded_around() -> None:
    field = b"X: a " + b"x" * 2000 + b" b c\r\n"
    assert fold_field(field) == b"X: a\r\n " + b"x" * 2000 + b"\r\n b c\r\n"
