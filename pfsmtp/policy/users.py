"""The user map: which addresses are local, and whose they are.

    # login : address, address, ...
    alice : alice@example.org, alice@example.net, "alice liddell"@example.org
    bob   : bob@example.org, @example.com      # @example.com: whatever nobody else has there

An address is looked up as it stands, then without its tag (`bob+lists` is `bob`), then as the
domain's catch-all. Case does not matter, nor does the form of a letter (NFC, NFD) or of a
domain (A-label, U-label). A login may have several lines; an address may stand only once. `#`
begins a comment at the start of a line or after a space, for it may stand in an address.

postmaster is always somebody (RFC 5321 §4.5.1): without a domain, at every local domain that has
neither a postmaster nor a catch-all of its own, and at this machine's addresses. It is whoever has
the address `postmaster`, without a domain, in the map; else the first who has it with one; else the
login of that name; else the first login of all.

At an address literal (`alice@[192.0.2.1]`) a local-part is whoever has it in the first domain that
does, by the order of the map; there is no catch-all. Which literals are ours is left to `access`.

Errors name file, line and remedy. Nothing here is changed after `load`; threads share it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from pfsmtp.smtp.address import Mailbox
from pfsmtp.smtp.domain import a_labels

POSTMASTER = "postmaster"
LONGEST_LOGIN = 255  # octets: NAME_MAX of Linux file systems

_COMMENT = re.compile(r"(?:^|\s)#.*")
_ADDRESS = re.compile(
    r"""(?: "(?P<quoted> (?:[^"\\] | \\.)* )" | (?P<plain> [^\s",@]*) )
        (?: @ (?P<domain> [^\s",@]+) )? \s* (?: , \s* (?=\S) | $ )""",
    re.VERBOSE,
)


class UserMapError(Exception):
    """The user map cannot be used; the text names file, line and remedy."""


class Entry(NamedTuple):
    """One address of the map, folded; `local_part` None is a catch-all."""

    login: str
    local_part: str | None
    domain: str


@dataclass(slots=True)
class _Domain:
    logins: dict[str, str] = field(default_factory=dict)  # by local-part
    catch_all: str | None = None


class UserMap:
    """Who has which address."""

    __slots__ = ("_at_literals", "_domains", "_separator", "logins", "postmaster")

    def __init__(self, entries: Sequence[Entry], separator: str = "+") -> None:
        """Take entries in the map's order, of which there must be one."""
        self._separator = separator
        self._domains: dict[str, _Domain] = {}
        self._at_literals = _Domain()
        for login, local_part, name in entries:
            domain = self._domains.setdefault(name, _Domain())
            if local_part is None:
                domain.catch_all = login
            else:
                domain.logins[local_part] = login
        self.logins = tuple(dict.fromkeys(entry.login for entry in entries))
        self.postmaster = _postmaster(entries)
        self._complete()

    @classmethod
    def load(cls, path: Path, separator: str = "+") -> UserMap:
        """Read a map; `separator` begins a tag, "" switches tags off. Raises UserMapError."""
        entries = list(_read(path))
        if not entries:
            raise UserMapError(
                f"{path}: there are no users, and all mail would be refused; "
                "add a line such as `alice : alice@example.org`"
            )
        return cls(entries, separator)

    def login(self, mailbox: Mailbox) -> str | None:
        """Return whose mailbox it is, None if nobody's."""
        # Nearly all mail spells an address as the map does: try that first, without folding.
        domain = self._domains.get(mailbox.domain)
        if domain is not None:
            login = domain.logins.get(mailbox.local_part)
            if login is not None:
                return login
        else:
            domain = self._at_literals if mailbox.is_literal else self._domain(mailbox.domain)
            if domain is None:
                return None
        return self._folded(domain, mailbox.local_part)

    def is_local_domain(self, domain: str) -> bool:
        """Whether there are users at a domain; "" and address literals are none."""
        return self._domain(domain) is not None

    def _folded(self, domain: _Domain, local_part: str) -> str | None:
        local_part = _fold(local_part)
        login = domain.logins.get(local_part)
        if login is None and self._separator:
            name, _, _ = local_part.partition(self._separator)
            login = domain.logins.get(name)
        return domain.catch_all if login is None else login

    def _domain(self, name: str) -> _Domain | None:
        try:
            return self._domains.get(a_labels(name))
        except ValueError:
            return None

    def _complete(self) -> None:
        """Add what needs no line: postmaster everywhere, and the addresses of this machine."""
        self._domains.setdefault("", _Domain()).logins[POSTMASTER] = self.postmaster
        for domain in self._domains.values():
            for local_part, login in domain.logins.items():
                self._at_literals.logins.setdefault(local_part, login)
            if domain.catch_all is None:
                domain.logins.setdefault(POSTMASTER, self.postmaster)
        self._at_literals.logins[POSTMASTER] = self.postmaster


def _postmaster(entries: Sequence[Entry]) -> str:
    holders = [entry for entry in entries if entry.local_part == POSTMASTER]
    bare = [entry for entry in holders if not entry.domain]
    named = [entry for entry in entries if _fold(entry.login) == POSTMASTER]
    return (bare or holders or named or entries)[0].login


def _fold(local_part: str) -> str:
    # RFC 6532 §3.1: the form of letters is NFC. Not casefold, which makes one of ß and ss.
    local_part = local_part.lower()
    return local_part if local_part.isascii() else unicodedata.normalize("NFC", local_part)


def _read(path: Path) -> Iterator[Entry]:
    lines: dict[tuple[str | None, str], int] = {}
    for number, line in enumerate(_text(path).split("\n"), 1):
        try:
            for entry in _entries(_COMMENT.sub("", line).strip()):
                address = entry.local_part, entry.domain
                if address in lines:
                    spelt = "@".join(part or "" for part in address)
                    raise ValueError(
                        f"{spelt} stands on line {lines[address]} already; remove one of the two"
                    )
                lines[address] = number
                yield entry
        except ValueError as error:
            raise UserMapError(f"{path}:{number}: {error}") from error


def _text(path: Path) -> str:
    try:
        octets = path.read_bytes()
    except OSError as error:
        raise UserMapError(
            f"{path}: the user map cannot be read ({error.strerror}); "
            "correct [local] users, or make the file readable for the server"
        ) from error
    try:
        return octets.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = octets.count(b"\n", 0, error.start) + 1
        raise UserMapError(
            f"{path}:{number}: this is not UTF-8; store the file in that encoding"
        ) from error


def _entries(line: str) -> Iterator[Entry]:
    """Read one line without its comment. Raises ValueError with what is wrong and the remedy."""
    if not line:
        return
    login, colon, addresses = line.partition(":")
    if not colon:
        raise ValueError("there is no colon; write `login : address, address`")
    login = login.rstrip()
    _check_login(login)
    position = 0
    addresses = addresses.strip()
    if not addresses:
        raise ValueError(f"{login} has no address; add one, or remove the line")
    while position < len(addresses):
        match = _ADDRESS.match(addresses, position)
        if match is None or not match[0]:
            raise ValueError(
                f"`{addresses[position:]}` is not a list of addresses; "
                "write local-part@domain, with commas between them"
            )
        yield _entry(login, match)
        position = match.end()


def _entry(login: str, match: re.Match[str]) -> Entry:
    text = match[0].rstrip(", \t")
    quoted, plain, domain = match.group("quoted", "plain", "domain")
    if domain is None:
        if plain is None or plain.lower() != POSTMASTER:
            raise ValueError(f"`{text}` has no domain; write local-part@domain")
        return Entry(login, POSTMASTER, "")
    if domain.startswith("["):
        raise ValueError(f"`{text}`: this machine's addresses need no line; remove this one")
    try:
        name = a_labels(domain)
    except ValueError as error:
        raise ValueError(f"`{text}`: {error}; correct the domain") from error
    if plain == "":
        return Entry(login, None, name)
    if quoted is not None:
        return Entry(login, _fold(re.sub(r"\\(.)", r"\1", quoted)), name)
    if str(Mailbox(plain, domain)) != f"{plain}@{domain}":
        raise ValueError(f'`{text}`: this local-part needs quotes; write "{plain}"@{domain}')
    return Entry(login, _fold(plain), name)


def _check_login(login: str) -> None:
    """A login becomes part of a path: it must be one name in a directory, and look like one."""
    if not login:
        raise ValueError("there is no login before the colon; write `login : address`")
    if login.startswith((".", "-")):
        raise ValueError(f"the login `{login}` begins with `{login[0]}`; choose another")
    if "/" in login or not login.isprintable():
        raise ValueError(
            f"the login {login!a} cannot be the name of a directory; "
            "leave out slashes and what cannot be printed"
        )
    if len(login.encode()) > LONGEST_LOGIN:
        raise ValueError(f"the login is longer than {LONGEST_LOGIN} octets; choose a shorter one")
