"""The kinds of value that a configuration file writes as text.

Each is a subclass of what the program computes with (`float`, `int`, `str`), so that nobody but the
reader of the file knows about the text. `parse` takes what TOML gave and raises ValueError with a
sentence that says what is wrong and what to write instead; it never guesses a unit.
"""

from __future__ import annotations

import re
import socket
from typing import Protocol, Self

_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?) *([A-Za-z]+)\Z", re.ASCII)

_SECONDS = {"ms": 0.001, "s": 1, "min": 60, "h": 3600, "d": 86400}
_OCTETS = {
    "B": 1,
    "kB": 1000,
    "KiB": 1024,
    "MB": 1000**2,
    "MiB": 1024**2,
    "GB": 1000**3,
    "GiB": 1024**3,
}


class Written(Protocol):
    """A kind of value that reads itself from what TOML gave."""

    @classmethod
    def parse(cls, value: object) -> Self: ...


class Seconds(float):
    """A time span of more than nothing: `"5 min"`."""

    __slots__ = ()

    @classmethod
    def parse(cls, value: object) -> Self:
        seconds = cls(_quantity(value, _SECONDS, what="time span", example="5 min"))
        if seconds <= 0:
            raise ValueError(f'{quote(value)} is no time at all; write e.g. "5 min"')
        return seconds


class SecondsOrOff(float):
    """A time span; `"0 s"` switches off what it is for."""

    __slots__ = ()

    @classmethod
    def parse(cls, value: object) -> Self:
        return cls(_quantity(value, _SECONDS, what="time span", example="5 min"))


class Octets(int):
    """A size of one octet or more: `"50 MiB"`."""

    __slots__ = ()

    @classmethod
    def parse(cls, value: object) -> Self:
        octets = cls(_quantity(value, _OCTETS, what="size", example="50 MiB"))
        if octets <= 0:
            raise ValueError(f'{quote(value)} is no size at all; write e.g. "50 MiB"')
        return octets


class Address(str):
    """An IP address and a port to listen on or to ask: `"0.0.0.0:25"`, `"[::]:25"`."""

    host: str  # without brackets
    port: int
    is_ipv6: bool

    @classmethod
    def parse(cls, value: object) -> Self:
        host, port = _split_port(value, example='"127.0.0.1:25" or "[::1]:25"')
        is_ipv6 = host.startswith("[")
        family = socket.AF_INET6 if is_ipv6 else socket.AF_INET
        if not is_address(host):
            raise ValueError(
                f"{quote(value)} has no IP address before its port, and names are not looked up"
                f'; write e.g. "127.0.0.1:{port}" or "[::1]:{port}"'
            )
        bare = host[1:-1] if is_ipv6 else host
        host = socket.inet_ntop(family, socket.inet_pton(family, bare))
        address = cls(f"[{host}]:{port}" if is_ipv6 else f"{host}:{port}")
        address.host, address.port, address.is_ipv6 = host, port, is_ipv6
        return address

    @property
    def is_loopback(self) -> bool:
        return self.host == "::1" if self.is_ipv6 else self.host.startswith("127.")


class Host(str):
    """A host, by name or IP address, and a port to connect to: `"smtp.example.org:587"`."""

    name: str  # without brackets
    port: int

    @classmethod
    def parse(cls, value: object) -> Self:
        name, port = _split_port(value, example='"smtp.example.org:587"')
        if port == 0 or not (is_domain(name) or is_address(name)):
            raise ValueError(f'{quote(value)} is not a host; write e.g. "smtp.example.org:587"')
        host = cls(f"{name}:{port}")
        host.name, host.port = name.strip("[]"), port
        return host


class Hostname(str):
    """What this server calls itself: a domain, or an address literal (RFC 5321 §2.3.5)."""

    __slots__ = ()

    @classmethod
    def parse(cls, value: object) -> Self:
        if isinstance(value, str) and (is_domain(value) or is_address_literal(value)):
            return cls(value)
        raise ValueError(
            f"{quote(value)} is neither a domain nor an address literal"
            '; write e.g. "mx.example.org" or "[192.0.2.1]"'
        )


class PathTemplate(str):
    """A path for each user: `"../var/mail/{login}"`."""

    __slots__ = ()

    @classmethod
    def parse(cls, value: object) -> Self:
        if not isinstance(value, str) or "{login}" not in value:
            raise ValueError(
                f"{quote(value)} would be the same for all users"
                '; put {login} where the user\'s name goes, e.g. "../var/mail/{login}"'
            )
        if unknown := re.search(r"[{}]", value.replace("{login}", "")):
            raise ValueError(f"{quote(value)}: {unknown[0]} belongs to nothing but {{login}}")
        return cls(value)


_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\Z", re.ASCII)


def is_domain(text: str) -> bool:
    """Whether it is a domain in A-labels, as RFC 5321 §4.1.2 has it; one label will do."""
    return len(text) <= 255 and _DOMAIN.match(text) is not None


def is_address(text: str) -> bool:
    """Whether it is `192.0.2.1` or `[2001:db8::1]`."""
    if text.startswith("[") and text.endswith("]"):
        return _is_ip(socket.AF_INET6, text[1:-1])
    return _is_ip(socket.AF_INET, text)


def is_address_literal(text: str) -> bool:
    """Whether it is `[192.0.2.1]` or `[IPv6:2001:db8::1]` (RFC 5321 §4.1.3)."""
    if not (text.startswith("[") and text.endswith("]")):
        return False
    inner = text[1:-1]
    if inner[:5].lower() == "ipv6:":
        return _is_ip(socket.AF_INET6, inner[5:])
    return _is_ip(socket.AF_INET, inner)


def quote(value: object) -> str:
    """The value as the reader of an error message would find it in the file."""
    return repr(value) if isinstance(value, str) else str(value).lower()


def _quantity(
    value: object, units: dict[str, float] | dict[str, int], *, what: str, example: str
) -> float:
    if isinstance(value, str) and (match := _QUANTITY.match(value.strip())):
        number, unit = match.groups()
        if unit in units:
            return float(number) * units[unit]
        known = ", ".join(units)
        raise ValueError(f"{quote(value)}: {unit} is not a unit of a {what}; use one of {known}")
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        raise ValueError(f'{value} has no unit; write e.g. "{example}"')
    raise ValueError(f'{quote(value)} is not a {what}; write e.g. "{example}"')


def _split_port(value: object, *, example: str) -> tuple[str, int]:
    if isinstance(value, str):
        host, colon, port = value.strip().rpartition(":")
        if colon and host and port.isascii() and port.isdigit() and int(port[:6]) <= 65535:
            return host, int(port)
    raise ValueError(f"{quote(value)} is not an address with a port; write e.g. {example}")


def _is_ip(family: int, text: str) -> bool:
    try:
        socket.inet_pton(family, text)
    except (OSError, ValueError):
        return False
    return True
