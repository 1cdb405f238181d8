from __future__ import annotations

import contextlib
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pfsmtp.smtp.domain import a_labels, literal_address


@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        ("Example.ORG", "example.org"),
        ("example.org.", "example.org"),
        ("_dmarc.example.org", "_dmarc.example.org"),
        ("münchen.example", "xn--mnchen-3ya.example"),
        ("MÜNCHEN.example", "xn--mnchen-3ya.example"),
        ("mu\u0308nchen.example", "xn--mnchen-3ya.example"),  # NFD
        ("例え。テスト", "xn--r8jz45g.xn--zckzah"),  # ideographic full stop
        ("ｅｘａｍｐｌｅ．org", "example.org"),  # full width  # noqa: RUF001
        ("faß.example", "xn--fa-hia.example"),  # not fass.example, which is another domain
        ("βόλος.example", "xn--nxasmm1c.example"),
        ("ΒΌΛΟΣ.example", "xn--nxasmq6b.example"),  # capitals have one sigma
        ("xn--mnchen-3ya.example", "xn--mnchen-3ya.example"),
    ],
)
def test_rfc5891_5_domain_becomes_a_labels(domain: str, expected: str) -> None:
    assert a_labels(domain) == expected


@pytest.mark.parametrize(
    "domain",
    [
        "",
        ".",
        "a..b",
        ".example.org",
        "a b.example",
        "a\\.example",
        "a\x00b.example",
        "☃.example",
        "a\u2100.example",  # becomes a/c
        "\u0301a.example",  # a mark first
        "é\ud800.example",
        "é\ufffe.example",
        "x" * 64 + ".example",
        "é" * 60 + ".example",
        ".".join(["x" * 60] * 5),
    ],
)
def test_what_is_no_domain_name_is_refused(domain: str) -> None:
    with pytest.raises(ValueError, match="domain name"):
        a_labels(domain)


@given(st.text(max_size=80))
def test_any_text_gives_a_name_or_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        name = a_labels(text)
        assert name.isascii()
        assert a_labels(name) == name


@pytest.mark.parametrize(
    ("literal", "address"),
    [
        ("[192.0.2.1]", "192.0.2.1"),
        ("[IPv6:2001:db8::1]", "2001:db8::1"),
        ("[ipv6:::1]", "::1"),
        ("[IPv6:::ffff:192.0.2.1]", "192.0.2.1"),
    ],
)
def test_rfc5321_4_1_3_literal_is_read(literal: str, address: str) -> None:
    assert literal_address(literal) == ip_address(address)


@pytest.mark.parametrize(
    "literal",
    [
        "[]",
        "[192.0.2]",
        "[192.0.2.256]",
        "[192.0.2.01]",
        "[2001:db8::1]",
        "[IPv6:192.0.2.1]",
        "[IPv6:fe80::1%eth0]",
        "[x-tag:stuff]",
        "[192.0.2.1",
        "192.0.2.1",
    ],
)
def test_rfc5321_4_1_3_malformed_literal_is_refused(literal: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        literal_address(literal)
