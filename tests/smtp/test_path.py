"""The compiled reader of paths against a slow reference."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pfsmtp.smtp.path import PathSyntaxError, parse_path
from tests.smtp import reference


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        (b"FROM:<a@b>", ("a", "b", b"")),
        (b"from:<a.b+c@b.example> SIZE=1", ("a.b+c", "b.example", b"SIZE=1")),
        (b"FROM:<>", ("", "", b"")),
        (b"FROM:<> BODY=7BIT", ("", "", b"BODY=7BIT")),
        (b"FROM: <a@b>", ("a", "b", b"")),
        (b"FROM:<postmaster>", ("postmaster", "", b"")),
        (b'FROM:<"a b"@c>', ("a b", "c", b"")),
        (b'FROM:<"a\\"b"@c>', ('a"b', "c", b"")),
        (b'FROM:<"../x"@d>', ("../x", "d", b"")),
        (b"FROM:<@a,@b:user@d>", ("user", "d", b"")),
        (b"FROM:<user@[127.0.0.1]>", ("user", "[127.0.0.1]", b"")),
        (b"FROM:<user@[IPv6:::1]>", ("user", "[IPv6:::1]", b"")),
        (b"FROM:<a/b@d>", ("a/b", "d", b"")),
        (b"FROM:<a%00b@d>", ("a%00b", "d", b"")),
        (b"FROM:<-rf@d>", ("-rf", "d", b"")),
        (b"FROM:<|id@d>", ("|id", "d", b"")),
        (b"FROM:<${run{id}}@d>", ("${run{id}}", "d", b"")),
        (b"FROM:<user@under_score.example>", ("user", "under_score.example", b"")),
        ("FROM:<ä@ü.example>".encode(), ("ä", "ü.example", b"")),
        (b"FROM:<" + b"x" * 64 + b"@d>", ("x" * 64, "d", b"")),
    ],
)
def test_path_is_read(argument: bytes, expected: tuple[str, str, bytes]) -> None:
    assert parse_path(argument, b"FROM:") == expected


@pytest.mark.parametrize(
    "path",
    [
        b"",
        b"a@b",
        b"<a@b",
        b"<a@b>x",
        b"<a b@c>",
        b"<.a@b>",
        b"<a.@b>",
        b"<a..b@c>",
        b"<..@d>",
        b"<;id;@d>",
        b"<@d>",
        b"<a@>",
        b"<a@.b>",
        b"<a@b.>",
        b"<a@-b>",
        b"<a@b->",
        b"<a@b@c>",
        b'<"a@b>',
        b'<""@b>',
        b'<"a\x01"@b>',
        b'<"a"b@c>',
        b"<a@[1.2.3.4>",
        b"<a@[1.2[3.4]>",
        b"<@a:>",
        b"<@a>",
        b"<@a,b:c@d>",
        b"<\xff@d>",
        b"<a@b\x00c>",
        b"<" + b"x" * 65 + b"@d>",
        b"<a@" + b"x" * 64 + b">",
        b"<a@" + b".".join([b"x" * 60] * 5) + b">",
    ],
)
def test_what_is_no_path_is_refused(path: bytes) -> None:
    with pytest.raises(PathSyntaxError):
        parse_path(b"FROM:" + path, b"FROM:")


@given(st.binary(max_size=60))
@settings(max_examples=500)
def test_no_path_makes_the_parser_fail_otherwise(path: bytes) -> None:
    try:
        local_part, domain, rest = parse_path(b"TO:<" + path, b"TO:")
    except PathSyntaxError:
        return
    assert len(local_part) <= 64
    assert len(domain) <= 255
    assert (b"TO:<" + path).endswith(rest)


TOKENS = [b"<", b">", b"@", b",", b":", b".", b'"', b"\\", b"[", b"]", b" ", b"-", b"a", b"b.c"]
TOKENS += [b"1.2.3.4", b"\xff", b"\0", "\u00e4".encode(), b"x" * 63, b"_", b"IPv6:::1", b"SIZE=1"]


def parsed(argument: bytes) -> tuple[str, str, bytes] | None:
    try:
        return parse_path(argument, b"TO:")
    except PathSyntaxError:
        return None


@given(st.lists(st.sampled_from(TOKENS), max_size=14).map(b"".join))
@settings(max_examples=1000)
def test_path_is_read_as_the_reference_reads_it(path: bytes) -> None:
    for argument in (b"to:<" + path + b">", b"TO: " + path, path):
        assert parsed(argument) == reference.path(argument, b"TO:")


@pytest.mark.parametrize("length", range(6))
def test_all_short_paths_are_read_as_the_reference_reads_them(length: int) -> None:
    for octets in itertools.product(
        [b"<", b">", b"@", b".", b'"', b"\\", b"a", b"-"], repeat=length
    ):
        argument = b"TO:<" + b"".join(octets) + b">"
        assert parsed(argument) == reference.path(argument, b"TO:")
