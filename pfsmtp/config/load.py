"""Reads a configuration file, completes it and checks it, before anything acts on it.

Reading touches the file itself, the name of this machine, `/etc/hosts` and what systemd says of the
runtime directory, and nothing else: whether the paths and users in it exist is for those to find
out who need them.
"""

from __future__ import annotations

import os
import re
import socket
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from pfsmtp.config.rules import faults
from pfsmtp.config.schema import Config
from pfsmtp.config.units import Hostname, PathTemplate, quote

HOSTS = Path("/etc/hosts")

# Where the inbound server's self-signed certificate goes when nobody says otherwise.
_DEFAULT_TLS = {"certificate": "../var/tls/cert.pem", "key": "../var/tls/key.pem"}
# The outbound server's socket for the machine's sendmail, in what systemd has made for it to write.
_SOCKET = "sendmail"


class ConfigError(Exception):
    """The configuration cannot be used; the text names file, key and remedy."""


def load(path: str | os.PathLike[str]) -> Config:
    """Return what the file at `path` says, complete and checked. Raises ConfigError."""
    try:
        raw = _read(path)
        _complete(raw)
        config = _convert(raw, base=Path(os.path.abspath(path)).parent)
        for fault in faults(config):
            raise ValueError(fault)
    except ValueError as error:
        raise ConfigError(f"{os.fspath(path)}: {error}") from None
    return config


def machine_name(name: str, hosts: str) -> str:
    """Return the full name of the machine that calls itself `name`, going by its /etc/hosts.

    The DNS is not asked: it may take minutes to say nothing. Where /etc/hosts has no name with a
    dot for it, the name stays as it is.
    """
    if "." in name:
        return name
    for line in hosts.splitlines():
        names = line.partition("#")[0].split()[1:]
        if name in names:
            for candidate in names:
                if candidate.startswith(f"{name}."):
                    return candidate
    return name


def _read(path: str | os.PathLike[str]) -> dict[str, Any]:
    try:
        text = Path(path).read_bytes().decode()
        return tomllib.loads(text)
    except FileNotFoundError:
        raise ValueError("there is no such file; name another with -c") from None
    except OSError as error:
        raise ValueError(f"it cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ValueError(f"line {line} is not UTF-8; save the file as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise ValueError(_explain_toml(str(error))) from None


def _explain_toml(message: str) -> str:
    """Turn `Invalid value (at line 3, column 8)` into where, what and a remedy."""
    what, _, where = message.removesuffix(")").rpartition(" (at ")
    if what.startswith("Cannot declare"):
        what = "this section was there before; put all its keys in one place"
    elif what == "Cannot overwrite a value":
        what = "this key was there before; keep one"
    elif what == "Invalid value":
        what += '; write text in quotes, e.g. hostname = "mx.example.org"'
    return f"{where}: {what}" if what else message


def _complete(raw: dict[str, Any]) -> None:
    """Put in what depends on the machine or the role."""
    if "hostname" not in raw:
        name = machine_name(socket.gethostname(), _text_of(HOSTS))
        try:
            raw["hostname"] = Hostname.parse(name)
        except ValueError:
            raise ValueError(
                f"hostname: this machine calls itself {quote(name)}, which is not a domain"
                '; write hostname = "mx.example.org", or whatever its name is in the DNS'
            ) from None
    if raw.get("role") == "inbound":
        tls = raw.setdefault("tls", {})
        if isinstance(tls, dict) and not tls.keys() & _DEFAULT_TLS.keys():
            tls.update(_DEFAULT_TLS)
    elif raw.get("role") == "outbound":
        listen = raw.get("listen")
        # systemd.exec(5): several directories are separated by colons.
        runtime = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
        if runtime and isinstance(listen, dict):
            listen.setdefault("sendmail", os.path.join(runtime, _SOCKET))


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _convert(raw: dict[str, Any], *, base: Path) -> Config:
    try:
        config: Config = msgspec.convert(raw, Config, dec_hook=_reader(base))
    except msgspec.ValidationError as error:
        from pfsmtp.config.explain import explain  # rarely wanted, and every start would pay for it

        raise ValueError(explain(error, raw)) from None
    return config


def _reader(base: Path) -> Callable[[Any, object], object]:
    """Return what reads the kinds of value that msgspec leaves to us."""

    def read(kind: Any, value: object) -> object:
        if kind is Path:
            return Path(_absolute(value, base))
        if kind is PathTemplate:
            return PathTemplate(_absolute(PathTemplate.parse(value), base))
        return kind.parse(value)

    return read


def _absolute(value: object, base: Path) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError(f'{quote(value)} is not a path; write e.g. "../var/name"')
    if re.match(r"~|\$", value):
        raise ValueError(f"{quote(value)}: ~ and $ mean nothing here; write the whole path")
    return os.path.normpath(base / value)
