"""Domains as the DNS takes them, and address literals (RFC 5321 §4.1.2, §4.1.3).

What it does: turns the domain of a mailbox into lower-case A-labels (RFC 5891 §5, RFC 3492), and
reads address literals (RFC 5321 §4.1.3).  What it leaves to others: whether the domain exists, and
the rules a registry holds its names to (direction, context): a label that breaks those is not in
the DNS.  It fails with ValueError.

Python's `idna` codec is of IDNA 2003 and takes `straße.de` for `strasse.de`, which belongs to
somebody else; so the mapping here is the later one, which keeps ß, ς and the joiners.
"""

from __future__ import annotations

import re
import unicodedata
from ipaddress import IPv4Address, IPv6Address, ip_address

Address = IPv4Address | IPv6Address

_MAX_DOMAIN = 253
_MAX_LABEL = 63
_ASCII_LABEL = re.compile(r"[a-z0-9_-]+\Z")  # the underscore is in use, whatever RFC 1123 says
_CONTEXT = frozenset("-\u00b7\u0375\u05f3\u05f4\u200c\u200d\u30fb")  # RFC 5892 appendix A


def a_labels(domain: str) -> str:
    """Return `domain` in lower case, U-labels as A-labels, without a dot at the end."""
    # RFC 5895 §2: case, width and the ideographic full stop are mapped, nothing else.
    text = unicodedata.normalize("NFKC", _lower(unicodedata.normalize("NFKC", domain)))
    labels = [_a_label(label) for label in text.replace("\u3002", ".").removesuffix(".").split(".")]
    name = ".".join(labels)
    if len(name) > _MAX_DOMAIN:
        raise ValueError("domain name too long")
    return name


def _lower(text: str) -> str:
    """Lower case letter by letter: `str.lower` would make the last sigma of a word another one."""
    return "".join(character.lower() for character in text)


def _a_label(label: str) -> str:
    if label.isascii():
        encoded = label
    elif _is_u_label(label):
        encoded = "xn--" + label.encode("punycode").decode("ascii")
    else:
        raise ValueError("character not allowed in a domain name")
    if len(encoded) > _MAX_LABEL or not _ASCII_LABEL.match(encoded):
        raise ValueError("malformed label in domain name")
    return encoded


def _is_u_label(label: str) -> bool:
    """Whether all are letters, digits or marks, the first no mark (RFC 5891 §5.4, RFC 5892 §3)."""
    if unicodedata.category(label[0])[0] == "M":
        return False
    return all(
        character in _CONTEXT
        or unicodedata.category(character) in ("Ll", "Lo", "Lm", "Mn", "Mc", "Nd")
        for character in label
    )


def literal_address(domain: str) -> Address:
    """Read `[192.0.2.1]` or `[IPv6:2001:db8::1]`."""
    if not (domain.startswith("[") and domain.endswith("]")):
        raise ValueError("not an address literal")
    text = domain[1:-1]
    tag, _, rest = text.partition(":")
    if tag.lower() != "ipv6":
        return IPv4Address(text)
    if "%" in rest:
        raise ValueError("a zone index means nothing in mail")
    return unmapped(IPv6Address(rest))


def unmapped(address: Address) -> Address:
    """Return the IPv4 address that `::ffff:192.0.2.1` stands for, others as they are."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def parse_address(text: str) -> Address:
    """Read an IP address; an IPv4-mapped one is the IPv4 one."""
    return unmapped(ip_address(text))
