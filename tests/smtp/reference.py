"""The compiled loops again, slow and obvious: what they are held against."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass
class Decoded:
    octets: bytes
    rest: bytes
    """What came behind the end of the data."""
    ended: bool
    bare: bool
    nul: bool
    size: int


def decode(sent: bytes, *, keep_cr: bool) -> Decoded:
    """What follows a 354 (RFC 5321 §4.1.1.4, §4.5.2).

    `octets` says what is kept only while `bare` is false: a message with bare CR or LF is refused.
    """
    # The data ends with the first line that is a dot alone; only CRLF ends a line.
    data, ended, rest = _end_of_data(sent)
    lines = data.split(b"\r\n")
    undone = [line.removeprefix(b".") for line in lines]
    end = b"\r\n" if keep_cr else b"\n"
    return Decoded(
        octets=end.join(undone),
        rest=rest,
        ended=ended,
        bare=any(b"\r" in line or b"\n" in line for line in lines),
        nul=b"\0" in data,
        size=len(b"\r\n".join(undone)),
    )


def _end_of_data(sent: bytes) -> tuple[bytes, bool, bytes]:
    if sent.startswith(b".\r\n"):
        return b"", True, sent[3:]
    data, found, rest = sent.partition(b"\r\n.\r\n")
    return (data + b"\r\n", True, rest) if found else (sent, False, b"")


def dot_stuff(message: bytes) -> bytes:
    """Double the dots that begin a line; lines end with CRLF."""
    return re.sub(rb"(\A|\n)\.", rb"\1..", message)


def commands(sent: bytes, *, limit: int) -> list[bytes | str]:
    """The lines of a command stream, or `too long`; `bare` ends it."""
    found: list[bytes | str] = []
    while b"\n" in sent:
        line, _, sent = sent.partition(b"\n")
        if not line.endswith(b"\r"):
            return [*found, "bare"]
        found.append("too long" if len(line) + 1 > limit else line[:-1])
    return found


_ATOM = rb"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\x80-\xff-]+"
_LABEL = rb"[A-Za-z0-9_\x80-\xff](?:[A-Za-z0-9_\x80-\xff-]*[A-Za-z0-9_\x80-\xff])?"
_DOMAIN = rb"(?:%s(?:\.%s)*|\[[!-=?-Z\\^-~]*\])" % (_LABEL, _LABEL)
_QUOTED = rb'"(?:[^\x00-\x1f\x7f"\\]|\\[ -~])+"'
_PATH = re.compile(
    rb" *(?P<path><(?P<route>@%(domain)s(?:,@%(domain)s)*:)?"
    rb"(?:(?P<local>%(quoted)s|%(atom)s(?:\.%(atom)s)*)(?:@(?P<domain>%(domain)s))?)?>)"
    rb"(?: +(?P<rest>.*))?" % {b"domain": _DOMAIN, b"quoted": _QUOTED, b"atom": _ATOM},
    re.DOTALL,
)


def path(argument: bytes, keyword: bytes) -> tuple[str, str, bytes] | None:
    """What `parse_path` is to return; None for what is no path (RFC 5321 §4.1.2)."""
    if argument[: len(keyword)].upper() != keyword:
        return None
    found = _PATH.fullmatch(argument, len(keyword))
    if found is None:
        return None
    local, domain = found["local"] or b"", found["domain"] or b""
    if not local and found["route"]:
        return None
    names = [domain, *(name.lstrip(b"@") for name in (found["route"] or b"")[:-1].split(b","))]
    labels = [label for name in names if name[:1] != b"[" for label in name.split(b".")]
    if len(local) > 64 or max(map(len, labels)) > 63 or (domain and len(found["path"]) > 256):
        return None
    if any(len(name) > 255 for name in names if name[:1] != b"["):
        return None
    if local.startswith(b'"'):
        local = re.sub(rb"\\(.)", rb"\1", local[1:-1])
    try:
        return local.decode(), domain.decode(), found["rest"] or b""
    except UnicodeDecodeError:
        return None


def replies(sent: bytes, *, longest: int, most: int) -> list[tuple[int, list[bytes]] | str]:
    """The replies of a server (RFC 5321 §4.2), each its code and its lines; what ends them, last.

    `bad` stands where no octets that may follow make it a reply, `open` where there is a part of
    one.
    """
    found: list[tuple[int, list[bytes]] | str] = []
    codes: list[bytes] = []
    lines: list[bytes] = []
    while line := re.match(rb"([2-5][0-9][0-9])(?:([ -])([^\r\n]*))?\r\n", sent):
        code, separator, text = line.groups(b"")
        if len(line[0]) > longest or (codes and code != codes[0]):
            return [*found, "bad"]
        codes.append(code)
        lines.append(text)
        sent = sent[line.end() :]
        if separator != b"-":
            found.append((int(code), lines))
            codes, lines = [], []
        elif len(lines) == most:
            return [*found, "bad"]
    may_follow = rb"[2-5]?|[2-5][0-9]{1,2}|[2-5][0-9][0-9]([ -][^\r\n]*)?\r?"
    if len(sent) > longest or not re.fullmatch(may_follow, sent):
        return [*found, "bad"]
    return [*found, "open"] if sent or lines else found
