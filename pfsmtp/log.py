"""Writes events, one line each, as logfmt or JSON.

A line is `ts` (UTC), `event`, the fields bound beforehand, the fields of the event. It leaves in
one `os.write` to a descriptor in append mode, so that threads and processes share a file without
locks.

Whatever Unicode does not call printable (control characters, bidi marks, line separators, lone
surrogates) is escaped, and can be read back: in logfmt as `\\n`, `\\x1b`, `\\u202e`, where `\\xff`
is an octet that is not UTF-8; in JSON as JSON has it. JSON has nothing for octets that are not
UTF-8, and strict readers reject lone surrogates, so a text with either starts with U+FFFD there,
and goes on with backslashes doubled and the escapes of logfmt.

Logging never raises and never stops mail: a line that cannot be written is lost, and the next that
gets through is preceded by `log-lost`, with their number. Only opening the file the first time
raises OSError. What is worth an event is left to the callers, and so are the names of fields.
"""

from __future__ import annotations

import os
import stat
import time
import traceback
from collections.abc import Callable
from json.encoder import encode_basestring, encode_basestring_ascii
from pathlib import Path
from typing import Literal, Protocol

from pfsmtp._logline import logfmt, logfmt_line, write_at_once

Format = Literal["logfmt", "json"]

_NAMED_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


class Log:
    """Where events go. Children made with `bind` share the file, and what happens to it."""

    __slots__ = ("_bound", "_out", "_style")

    def __init__(
        self,
        target: Path | int,
        format: Format = "logfmt",
        *,
        owner: tuple[int, int] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Write to a file, made when missing, or to a copy of an open descriptor.

        `owner` is the user and group that files made by root are given to, so that processes
        without its privileges can open them again. Raises OSError.
        """
        self._out = _Output(target, owner=owner)
        self._style: _Style = _JSON(clock) if format == "json" else _Logfmt(clock)
        self._bound = b""

    def bind(self, **fields: object) -> Log:
        """Return a log whose every line has these fields too."""
        child = object.__new__(Log)
        child._out = self._out
        child._style = self._style
        child._bound = self._bound + self._style.fields(fields)
        return child

    def event(self, name: str, /, **fields: object) -> None:
        """Write one event. Never raises."""
        style = self._style
        self._out.write(style.line(name, self._bound, fields), style)

    def bug(self, name: str, error: BaseException, /, **fields: object) -> None:
        """Write an event with the traceback of what should not have happened. Never raises."""
        try:
            trace = "".join(traceback.format_exception(error)).rstrip()
        except Exception as second:
            trace = f"{type(error).__name__}, and no traceback because of {type(second).__name__}"
        self.event(name, **fields, error=type(error).__name__, traceback=trace)

    def reopen(self) -> None:
        """Open the file anew, for one that was rotated away; keep the old one if that fails."""
        try:
            self._out.reopen()
        except OSError as error:
            self.event("log-reopen-failed", file=error.filename, reason=error.strerror)

    @property
    def file(self) -> Path | None:
        """The file that is opened anew by `reopen`; None if all is written to a descriptor."""
        return self._out.path

    def close(self) -> None:
        """Give the descriptor back; what is written afterwards is lost."""
        self._out.close()


class _Output:
    """The descriptor, and the account of what did not get through it.

    The counts have no lock: at worst, threads that fail at the same instant count as one.
    """

    __slots__ = ("_descriptor", "_lost", "_owner", "_torn", "_write", "path")

    def __init__(self, target: Path | int, *, owner: tuple[int, int] | None) -> None:
        self._owner = owner
        self._lost = 0
        self._torn = False
        self.path: Path | None = None
        if isinstance(target, int):
            # A copy: should the caller's be closed, its number may come back as a client's socket.
            self._descriptor = os.dup(target)
        else:
            self.path = target
            self._descriptor = self._open(target)
        is_file = stat.S_ISREG(os.fstat(self._descriptor).st_mode)
        self._write = write_at_once if is_file else os.write

    def write(self, octets: bytes, style: _Style) -> None:
        lost, torn = self._lost, self._torn
        if lost:
            octets = style.line("log-lost", b"", {"lines": lost}) + octets
        if torn:
            octets = b"\n" + octets
        written = 0
        try:
            written = self._write(self._descriptor, octets)
            while written < len(octets):
                written += self._write(self._descriptor, octets[written:])
        except OSError:
            self._lost += 1
            self._torn = torn if not written else octets[written - 1 : written] != b"\n"
            return
        if lost or torn:
            self._lost -= lost
            self._torn = False

    def reopen(self) -> None:
        if self.path is None:
            return
        descriptor = self._open(self.path)
        # In one step, so that other threads never write to a closed or foreign descriptor.
        os.dup2(descriptor, self._descriptor, inheritable=False)
        os.close(descriptor)

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _open(self, path: Path) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY
        descriptor = os.open(path, flags, 0o600)
        if self._owner is not None and os.geteuid() == 0:
            os.fchown(descriptor, *self._owner)
        return descriptor


class _Style(Protocol):
    """How a line is put together. Both methods give UTF-8 without anything unprintable."""

    def fields(self, fields: dict[str, object]) -> bytes:
        """Fields as they stand in a line."""
        ...

    def line(self, name: str, bound: bytes, fields: dict[str, object]) -> bytes:
        """The line of an event, now; `bound` is what `fields` gave for those of all lines."""
        ...


class _Timestamps:
    """The time of an event, `2026-01-31T23:59:59.123Z`; the text of a second is made once."""

    __slots__ = ("_clock", "_second")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._second = (-1, "")

    def now(self) -> str:
        now = self._clock()
        whole = int(now)
        second, text = self._second
        if second != whole:
            text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))
            self._second = (whole, text)
        return f"{text}.{int((now - whole) * 1000):03d}Z"


class _Logfmt:
    """`ts=… event=message-accepted size=1024 hello="a name"`; None is `-`, lists have commas."""

    __slots__ = ("_timestamps",)

    def __init__(self, clock: Callable[[], float]) -> None:
        self._timestamps = _Timestamps(clock)

    def fields(self, fields: dict[str, object]) -> bytes:
        return logfmt(fields, _words, _escape)

    def line(self, name: str, bound: bytes, fields: dict[str, object]) -> bytes:
        return logfmt_line(self._timestamps.now(), name, bound, fields, _words, _escape)


def _words(value: object) -> str:
    """A value of a rarer kind in logfmt, without quotes and escapes but for those of its items."""
    if isinstance(value, float):
        return repr(round(value, 6))
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple, set, frozenset)):
        items = [item if type(item) is str else _text(item) for item in value]
        text = ",".join(items)
        if "\\" in text or text.count(",") >= len(items):
            text = ",".join([item.replace("\\", "\\\\").replace(",", "\\,") for item in items])
        return text
    return _text(value)


class _JSON:
    """`{"ts":"…","event":"message-accepted","size":1024,"hello":"a name"}`."""

    __slots__ = ("_timestamps",)

    def __init__(self, clock: Callable[[], float]) -> None:
        self._timestamps = _Timestamps(clock)

    def fields(self, fields: dict[str, object]) -> bytes:
        return "".join([f',"{key}":{_json_value(value)}' for key, value in fields.items()]).encode()

    def line(self, name: str, bound: bytes, fields: dict[str, object]) -> bytes:
        begin = f'{{"ts":"{self._timestamps.now()}","event":"{name}"'.encode()
        return b"%b%b%b}\n" % (begin, bound, self.fields(fields))


def _json_value(value: object) -> str:
    if type(value) is str and value.isascii():
        return encode_basestring_ascii(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if type(value) is int:
        return str(value)
    if isinstance(value, float):
        # JSON has no word for infinity and NaN.
        return repr(round(value, 6)) if abs(value) < float("inf") else f'"{value}"'
    if isinstance(value, (list, tuple, set, frozenset)):
        return f"[{','.join([_json_value(item) for item in value])}]"
    text = _text(value)
    if text.isprintable():
        return encode_basestring(text) if text[:1] != "\ufffd" else _json_escaped(text)
    try:
        text.encode()
    except UnicodeEncodeError:
        return _json_escaped(text)
    return encode_basestring_ascii(text)


def _json_escaped(text: str) -> str:
    return encode_basestring("\ufffd" + _escape(text))


def _text(value: object) -> str:
    """What a value says; octets that are not UTF-8 become lone surrogates."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).decode("utf-8", "surrogateescape")
    try:
        return str(value)
    except Exception as error:
        return f"<{type(value).__name__}: {type(error).__name__}>"


def _escape(text: str) -> str:
    text = text.replace("\\", "\\\\").replace('"', '\\"')
    if text.isprintable():
        return text
    return "".join([char if char.isprintable() else _escape_char(char) for char in text])


def _escape_char(char: str) -> str:
    if char in _NAMED_ESCAPES:
        return _NAMED_ESCAPES[char]
    number = ord(char)
    if number < 0x80:
        return f"\\x{number:02x}"
    if 0xDC80 <= number <= 0xDCFF:  # an octet, by way of surrogateescape
        return f"\\x{number - 0xDC00:02x}"
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"
