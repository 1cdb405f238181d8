"""Lists of addresses in fields and arguments."""

from __future__ import annotations

from email.headerregistry import Address
from email.policy import default

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pfsmtp.sendmail.addresses import split_addresses


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("", []),
        (" , ,, ", []),
        ("a@x", ["a@x"]),
        ("root", ["root"]),
        ("a@x, b@y,c@z", ["a@x", "b@y", "c@z"]),
        ("Ann <a@x>, <b@y>", ["a@x", "b@y"]),
        ('"Smith, Ann <no@x>" <a@x>, b@y', ["a@x", "b@y"]),
        (r'"a \" , b" <a@x>', ["a@x"]),
        ("a@x (Ann, of (all) people), b@y", ["a@x", "b@y"]),
        (r"a@x (a \) b, c), b@y", ["a@x", "b@y"]),
        ("(Ann) <a@x> (again)", ["a@x"]),
        ("undisclosed-recipients:;", []),
        ("friends: a@x, Bob <b@y>;, c@z", ["a@x", "b@y", "c@z"]),
        ('"a,b"@x, "c d"@y', ['"a,b"@x', '"c d"@y']),
        ('<"a>b"@x>, c@y', ['"a>b"@x', "c@y"]),
        ("a@[IPv6:::1], b@[127.0.0.1]", ["a@[IPv6:::1]", "b@[127.0.0.1]"]),
        ("<@relay,@other:a@x>", ["a@x"]),
        ("Ann\t<a@x>,\t b@y ", ["a@x", "b@y"]),
        ("=?utf-8?q?J=C3=B6rg=2C_x?= <a@x>", ["a@x"]),
        ("J\u00f6rg <j\u00f6rg@b\u00fccher.example>", ["j\u00f6rg@b\u00fccher.example"]),
        ("Ann <a@x", ["a@x"]),
        ('"Ann <a@x>, b@y', ['"Ann <a@x>, b@y']),
        ("<>", []),
    ],
)
def test_addresses_are_found(text: str, addresses: list[str]) -> None:
    assert split_addresses(text) == addresses


words = st.from_regex(r"[a-z]{1,5}", fullmatch=True)
addresses = st.builds("{}@{}".format, words, words)
mailboxes = st.one_of(
    addresses,
    st.builds("{} <{}>".format, words, addresses),
    st.builds('"{}, {}" <{}>'.format, words, words, addresses),
    st.builds("{} ({}, {})".format, addresses, words, words),
)


@given(st.lists(mailboxes, max_size=5))
def test_they_are_those_that_the_email_package_finds(given: list[str]) -> None:
    text = ", ".join(given)
    found: tuple[Address, ...] = default.header_factory("To", text).addresses
    assert split_addresses(text) == [address.addr_spec for address in found]


@given(st.text('ab@.,:;<>()[]"\\ ', max_size=30))
def test_nothing_fails_and_nothing_is_empty(text: str) -> None:
    assert all(split_addresses(text))
