from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal
from unicodedata import normalize

import pytest

from pfsmtp.policy.users import UserMap, UserMapError
from pfsmtp.smtp.address import Mailbox

MAP = """\
# people
alice : alice@example.org, Alice.Liddell@Example.ORG , "a lice,b"@example.org
bob   : bob@example.org,@example.net       # and whatever else comes there

carol : carol@example.net
carol : carol@example.org
dave  : carol+special@example.org, info#1@example.org, "d\\"a\\\\ve"@example.org
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "users"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def users(write: Callable[[str], Path]) -> UserMap:
    return UserMap.load(write(MAP))


@pytest.fixture
def of(write: Callable[[str], Path]) -> Callable[[str], UserMap]:
    """A map from its text."""
    return lambda text: UserMap.load(write(text))


@pytest.mark.parametrize(
    ("local_part", "domain", "login"),
    [
        ("alice", "example.org", "alice"),
        ("ALICE", "example.org", "alice"),
        ("alice", "EXAMPLE.org", "alice"),
        ("alice.liddell", "example.org", "alice"),
        ("a lice,b", "example.org", "alice"),
        ("info#1", "example.org", "dave"),
        ('d"a\\ve', "example.org", "dave"),
        ("alice", "example.com", None),
        ("nobody", "example.org", None),
        ("", "example.org", None),
        ("alice ", "example.org", None),
        ("alice.", "example.org", None),
    ],
)
def test_look_up(users: UserMap, local_part: str, domain: str, login: str | None) -> None:
    assert users.login(Mailbox(local_part, domain)) == login


@pytest.mark.parametrize(
    ("local_part", "login"),
    [("anything", "bob"), ("carol", "carol"), ("carol+tag", "carol"), ("", "bob"), ("+", "bob")],
)
def test_catch_all_comes_last(users: UserMap, local_part: str, login: str) -> None:
    assert users.login(Mailbox(local_part, "example.net")) == login


@pytest.mark.parametrize(
    ("local_part", "login"),
    [
        ("bob+lists", "bob"),
        ("BOB+Lists+more", "bob"),
        ("bob+", "bob"),
        ("carol+special", "dave"),
        ("Carol+SPECIAL", "dave"),
        ("carol+other", "carol"),
        ("+bob", None),
        ("nobody+bob", None),
    ],
)
def test_tag_is_left_out(users: UserMap, local_part: str, login: str | None) -> None:
    assert users.login(Mailbox(local_part, "example.org")) == login


def test_another_separator(write: Callable[[str], Path]) -> None:
    users = UserMap.load(write(MAP), "-")
    assert users.login(Mailbox("bob-lists", "example.org")) == "bob"
    assert users.login(Mailbox("bob+lists", "example.org")) is None


def test_no_separator_means_no_tags(write: Callable[[str], Path]) -> None:
    users = UserMap.load(write(MAP), "")
    assert users.login(Mailbox("bob+lists", "example.org")) is None
    assert users.login(Mailbox("carol+special", "example.org")) == "dave"


@pytest.mark.parametrize(
    "local_part",
    ["../../etc/passwd", "..", ".hidden", "a/b", "../x", 'a"b', "a%00b", "-rf", "|id", ";id;",
     "${run{id}}", "a\0b", "a\r\nb", "\u202e", "\ud800"],
)  # fmt: skip
def test_hostile_local_parts_are_nobody(users: UserMap, local_part: str) -> None:
    assert users.login(Mailbox(local_part, "example.org")) is None


@pytest.mark.parametrize(
    "domain",
    ["..", ".", "example.org.example.org", "a b", "xn--", "xn--\xff", "x" * 300, "\0", "*"],
)
def test_hostile_domains_are_not_local(users: UserMap, domain: str) -> None:
    assert users.login(Mailbox("alice", domain)) is None
    assert not users.is_local_domain(domain)


def test_local_domains(users: UserMap) -> None:
    assert users.is_local_domain("example.org")
    assert users.is_local_domain("Example.NET")
    assert not users.is_local_domain("example.com")
    assert not users.is_local_domain("")
    assert not users.is_local_domain("[127.0.0.1]")


def test_logins_in_the_order_of_the_map(users: UserMap) -> None:
    assert users.logins == ("alice", "bob", "carol", "dave")


Form = Literal["NFC", "NFD"]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("written", ["NFC", "NFD"])
def test_rfc6532_3_1_forms_of_a_letter_are_one(
    of: Callable[[str], UserMap], form: Form, written: Form
) -> None:
    users = of(f"rene : {normalize(written, 'rené')}@example.org")
    assert users.login(Mailbox(normalize(form, "rené"), "example.org")) == "rene"
    assert users.login(Mailbox(normalize(form, "RENÉ"), "example.org")) == "rene"


def test_sharp_s_is_not_two(of: Callable[[str], UserMap]) -> None:
    users = of("weiss : weiss@example.org\nweisz : weiß@example.org")
    assert users.login(Mailbox("weiss", "example.org")) == "weiss"
    assert users.login(Mailbox("weiß", "example.org")) == "weisz"


@pytest.mark.parametrize("written", ["bücher.example", "xn--bcher-kva.example", "Bücher.Example"])
@pytest.mark.parametrize(
    "given", ["bücher.example", "XN--bcher-kva.EXAMPLE", "bu\u0308cher.example"]
)
def test_labels_of_a_domain_are_equal_in_both_forms(
    of: Callable[[str], UserMap], written: str, given: str
) -> None:
    users = of(f"alice : alice@{written}")
    assert users.login(Mailbox("alice", given)) == "alice"
    assert users.is_local_domain(given)


@pytest.mark.parametrize(
    ("text", "login"),
    [
        ("alice : alice@a.example\nbob : postmaster@b.example\ncarol : postmaster", "carol"),
        ("alice : alice@a.example\nbob : Postmaster@b.example, postmaster@c.example", "bob"),
        ("postmaster : alice@a.example\nbob : postmaster@b.example", "bob"),
        ("alice : alice@a.example\npostmaster : bob@b.example", "postmaster"),
        ("alice : @a.example\nbob : bob@b.example", "alice"),
    ],
    ids=["without domain", "with a domain", "with, and a login", "a login", "the first"],
)
@pytest.mark.parametrize("spelt", ["postmaster", "POSTMASTER", "postmaster+tag"])
def test_rfc5321_4_5_1_postmaster_is_always_somebody(
    of: Callable[[str], UserMap], text: str, login: str, spelt: str
) -> None:
    users = of(text)
    assert users.postmaster == login
    assert users.login(Mailbox(spelt, "")) == login
    assert users.login(Mailbox(spelt, "[192.0.2.1]")) == login
    assert users.login(Mailbox(spelt, "a.example")) == login


def test_postmaster_of_a_domain_goes_first_to_who_has_it_there(
    of: Callable[[str], UserMap],
) -> None:
    users = of("root : postmaster, root@a.example\nbob : postmaster@b.example\ncarol : @c.example")
    assert users.login(Mailbox("postmaster", "a.example")) == "root"
    assert users.login(Mailbox("postmaster", "b.example")) == "bob"
    assert users.login(Mailbox("postmaster", "c.example")) == "carol"
    assert users.login(Mailbox("postmaster", "d.example")) is None


def test_only_postmaster_needs_no_domain(users: UserMap) -> None:
    assert users.login(Mailbox("alice", "")) is None


def test_at_an_address_the_first_domain_of_the_map_counts(of: Callable[[str], UserMap]) -> None:
    users = of("alice : info@a.example\nbob : info@b.example, bob@b.example, @c.example")
    assert users.login(Mailbox("info", "[192.0.2.1]")) == "alice"
    assert users.login(Mailbox("Bob+tag", "[IPv6:::1]")) == "bob"
    assert users.login(Mailbox("nobody", "[192.0.2.1]")) is None


def test_byte_order_mark_and_crlf_are_no_part_of_it(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_bytes(b"\xef\xbb\xbfalice : alice@example.org\r\n\r\nbob:bob@example.org\r\n")
    users = UserMap.load(path)
    assert users.login(Mailbox("alice", "example.org")) == "alice"
    assert users.logins == ("alice", "bob")


def test_lines_end_with_lf_only(of: Callable[[str], UserMap]) -> None:
    """`splitlines` would end them at U+2028 and others, and make two lines of one."""
    with pytest.raises(UserMapError, match="is not a list of addresses"):
        of("alice : alice@example.org\u2028eve : root@example.org")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("alice", "there is no colon"),
        (": alice@example.org", "there is no login before the colon"),
        ("alice :", "alice has no address"),
        ("alice : # alice@example.org", "alice has no address"),
        ("alice : alice", "`alice` has no domain"),
        ("alice : alice@", "is not a list of addresses"),
        ("alice : alice@example.org bob@example.org", "is not a list of addresses"),
        ("alice : alice@example.org,", "is not a list of addresses"),
        ("alice : ,", "is not a list of addresses"),
        ("alice : a@b@example.org", "is not a list of addresses"),
        ('alice : "alice@example.org', "is not a list of addresses"),
        ("alice : a..b@example.org", "this local-part needs quotes"),
        ("alice : a;b@example.org", "this local-part needs quotes"),
        ("alice : alice@exam_ple..org", "correct the domain"),
        ("alice : alice@[192.0.2.1]", "need no line; remove this one"),
        ("../alice : alice@example.org", "begins with `.`"),
        ("alice/bob : alice@example.org", "cannot be the name of a directory"),
        ("al\0ice : alice@example.org", "cannot be the name of a directory"),
        ("al\u202eice : alice@example.org", "cannot be the name of a directory"),
        (". : alice@example.org", "begins with `.`"),
        (".. : alice@example.org", "begins with `.`"),
        (".alice : alice@example.org", "begins with `.`"),
        ("-rf : alice@example.org", "begins with `-`"),
        ("é" * 128 + " : alice@example.org", "longer than 255 octets"),
    ],
)
def test_errors_name_file_and_line(write: Callable[[str], Path], line: str, words: str) -> None:
    path = write(f"# a map\n\n{line}\n")
    with pytest.raises(UserMapError) as caught:
        UserMap.load(path)
    assert str(caught.value).startswith(f"{path}:3: ")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("alice@example.org", "ALICE@Example.org"),
        ("@example.org", "@EXAMPLE.org"),
        ("postmaster", "Postmaster"),
        ("alice@bücher.example", "alice@xn--bcher-kva.example"),
        ('"alice"@example.org', "alice@example.org"),
    ],
)
def test_address_that_stands_twice_is_an_error(
    write: Callable[[str], Path], one: str, other: str
) -> None:
    path = write(f"alice : {one}\n\nbob : bob@example.org, {other}\n")
    with pytest.raises(UserMapError, match="stands on line 1 already") as caught:
        UserMap.load(path)
    assert str(caught.value).startswith(f"{path}:3: ")


def test_octets_that_are_not_utf8_are_an_error_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_bytes(b"alice : alice@example.org\nbob : b\xf6b@example.org\n")
    with pytest.raises(UserMapError, match=f"{path}:2: this is not UTF-8"):
        UserMap.load(path)


def test_map_without_users_is_an_error(write: Callable[[str], Path]) -> None:
    with pytest.raises(UserMapError, match="there are no users"):
        UserMap.load(write("# nobody\n"))


def test_missing_map_is_an_error_with_its_path(tmp_path: Path) -> None:
    path = tmp_path / "users"
    with pytest.raises(UserMapError, match=f"{path}: the user map cannot be read"):
        UserMap.load(path)


def test_ten_thousand_users(write: Callable[[str], Path]) -> None:
    path = write(
        "".join(f"u{n} : u{n}@example.org, u{n}@d{n % 100}.example\n" for n in range(10_000))
    )
    users = UserMap.load(path)
    assert len(users.logins) == 10_000
    assert users.login(Mailbox("U9999", "d99.example")) == "u9999"
