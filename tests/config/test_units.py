"""The kinds of value that a configuration file writes as text."""

from __future__ import annotations

import pytest

from pfsmtp.config.units import (
    Address,
    Host,
    Hostname,
    Octets,
    PathTemplate,
    Seconds,
    SecondsOrOff,
    Written,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500 ms", 0.5),
        ("1 s", 1),
        ("90s", 90),
        ("5 min", 300),
        ("1.5 h", 5400),
        ("5 d", 432_000),
        (" 10  s ", 10),
    ],
)
def test_a_time_span_is_seconds(text: str, seconds: float) -> None:
    assert Seconds.parse(text) == seconds


@pytest.mark.parametrize(
    ("text", "octets"),
    [
        ("1 B", 1),
        ("64 KiB", 65_536),
        ("50 MiB", 52_428_800),
        ("1 GiB", 2**30),
        ("1 kB", 1000),
        ("2 MB", 2_000_000),
        ("1.5 KiB", 1536),
    ],
)
def test_a_size_is_octets(text: str, octets: int) -> None:
    size = Octets.parse(text)
    assert size == octets
    assert isinstance(size, int)


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        (Seconds, "fifty", "'fifty' is not a time span; write e.g. \"5 min\""),
        (Seconds, 300, '300 has no unit; write e.g. "5 min"'),
        (Seconds, True, 'true is not a time span; write e.g. "5 min"'),
        (Seconds, "300", "'300' is not a time span; write e.g. \"5 min\""),
        (Seconds, "-1 s", "'-1 s' is not a time span; write e.g. \"5 min\""),
        (Seconds, "\u0661 s", "'\u0661 s' is not a time span; write e.g. \"5 min\""),
        (Seconds, "5 m", "'5 m': m is not a unit of a time span; use one of ms, s, min, h, d"),
        (Seconds, "0 s", "'0 s' is no time at all; write e.g. \"5 min\""),
        (Octets, "0 B", "'0 B' is no size at all; write e.g. \"50 MiB\""),
        (Octets, "0.1 B", "'0.1 B' is no size at all; write e.g. \"50 MiB\""),
        (Octets, "5 mb", "'5 mb': mb is not a unit of a size"),
        (Octets, "5 MiB\n6", "'5 MiB\\n6' is not a size"),
    ],
)
def test_a_quantity_without_a_known_unit_is_refused(
    kind: Written, value: object, words: str
) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the words are compared
        kind.parse(value)
    assert str(caught.value).startswith(words)


def test_no_time_at_all_switches_off_what_can_be_switched_off() -> None:
    assert float(SecondsOrOff.parse("0 s")) == 0


@pytest.mark.parametrize(
    ("text", "host", "port", "written"),
    [
        ("0.0.0.0:25", "0.0.0.0", 25, "0.0.0.0:25"),
        ("[::]:25", "::", 25, "[::]:25"),
        ("[0:0:0:0:0:0:0:1]:2525", "::1", 2525, "[::1]:2525"),
        ("127.0.0.1:0", "127.0.0.1", 0, "127.0.0.1:0"),
        ("127.0.0.1:65535", "127.0.0.1", 65535, "127.0.0.1:65535"),
    ],
)
def test_an_address_has_a_host_and_a_port(text: str, host: str, port: int, written: str) -> None:
    address = Address.parse(text)
    assert (address.host, address.port) == (host, port)
    assert address == written


@pytest.mark.parametrize(
    "value",
    [
        "localhost:25",
        "127.0.0.1",
        "127.0.0.1:",
        ":25",
        "::1:25",
        "[::1]",
        "[127.0.0.1]:25",
        "127.1:25",
        "127.0.0.1:65536",
        "127.0.0.1:99999999999999999999",
        "127.0.0.1:-1",
        "127.0.0.1:smtp",
        "127.0.0.1:²",
        "[[::1]]:25",
        "a\0b:25",
        25,
        ["127.0.0.1:25"],
    ],
)
def test_anything_but_an_ip_address_and_a_port_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r'write e\.g\. "127\.0\.0\.1:'):
        Address.parse(value)


@pytest.mark.parametrize(
    ("text", "loopback"),
    [
        ("127.0.0.1:25", True),
        ("127.255.0.3:25", True),
        ("[::1]:25", True),
        ("0.0.0.0:25", False),
        ("[::]:25", False),
        ("192.0.2.1:25", False),
        ("[::ffff:127.0.0.1]:25", False),
        ("[::2]:25", False),
        ("[::11]:25", False),
    ],
)
def test_an_address_knows_whether_only_this_machine_reaches_it(text: str, loopback: bool) -> None:
    assert Address.parse(text).is_loopback is loopback


@pytest.mark.parametrize(
    ("text", "name", "port"),
    [
        ("smtp.example.org:587", "smtp.example.org", 587),
        ("192.0.2.1:25", "192.0.2.1", 25),
        ("[2001:db8::1]:25", "2001:db8::1", 25),
    ],
)
def test_a_host_has_a_name_and_a_port(text: str, name: str, port: int) -> None:
    host = Host.parse(text)
    assert (host.name, host.port) == (name, port)


@pytest.mark.parametrize("value", ["smtp.example.org", "a b:25", "x:0", "[x]:25", "-a:25", 587])
def test_anything_but_a_host_and_a_port_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r'write e\.g\. "smtp\.example\.org:587"'):
        Host.parse(value)


@pytest.mark.parametrize(
    "name",
    ["mx.example.org", "localhost", "1a2b3c", "xn--bcher-kva.example", "[192.0.2.1]", "[IPv6:::1]"],
)
def test_rfc5321_2_3_5_a_hostname_is_a_domain_or_an_address_literal(name: str) -> None:
    assert Hostname.parse(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "my_host.example.org",
        "mx.example.org.",
        ".example.org",
        "a..b",
        "-a.example.org",
        "a-.example.org",
        "bücher.example",
        "mx example.org",
        "mx.example.org\r\n",
        "[::1]",
        "[IPv6:192.0.2.1]",
        "192.0.2.1]",
        "a" * 64,
        ".".join(["a" * 60] * 5),
        25,
    ],
)
def test_anything_else_is_no_hostname(name: object) -> None:
    with pytest.raises(ValueError, match="neither a domain nor an address literal"):
        Hostname.parse(name)


@pytest.mark.parametrize(
    "path", ["../var/mail/{login}", "/home/{login}/Maildir", "{login}/{login}"]
)
def test_a_path_template_has_the_login_in_it(path: str) -> None:
    assert PathTemplate.parse(path) == path


@pytest.mark.parametrize(
    "path", ["../var/mail", "../var/{user}", "{login}/{domain}", "{login}}", 3]
)
def test_a_path_template_has_nothing_else_in_braces(path: object) -> None:
    with pytest.raises(ValueError, match=r"same for all users|belongs to nothing"):
        PathTemplate.parse(path)
