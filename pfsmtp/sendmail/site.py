"""Where the outbound server listens, and which domain the users of this machine have.

The server is looked for in this order: the file given with -C, the addresses in the environment's
PFSMTP_SUBMIT, /etc/pfsmtp/outbound.toml, and at last port 2526 of 127.0.0.1 and ::1. The domain,
which completes addresses without one, is that in /etc/mailname, else the host name of the
configuration, else that of the machine.

PFSMTP_SUBMIT may begin with the path of the server's socket. That is for the compiled front
(ext/front.c), which goes on to here when nobody listens there, and so it is passed over.
"""

from __future__ import annotations

import os

from pfsmtp.sendmail.failure import Failure

CONFIG = "/etc/pfsmtp/outbound.toml"
MAILNAME = "/etc/mailname"
DEFAULT_SERVERS = (("127.0.0.1", 2526), ("::1", 2526))


class Site:
    """What `find` has found."""

    def __init__(self, servers: tuple[tuple[str, int], ...], domain: str) -> None:
        self.servers = servers  # IP addresses and ports, to be tried in this order
        self.domain = domain


def config_path(given: str | None) -> str | None:
    """Return the configuration file: the one given, else the machine's if it has one."""
    if given is not None:
        return given
    return CONFIG if os.path.exists(CONFIG) else None


def find(given: str | None, environ: dict[str, str]) -> Site:
    """Find the server. Raises Failure with EX_CONFIG if what is configured cannot be used."""
    addresses = _addresses(environ) if given is None else []
    path = None if addresses else config_path(given)
    hostname = ""
    if addresses:
        servers = _servers(addresses, "PFSMTP_SUBMIT")
    elif path:
        listen, hostname = _read(path)
        servers = _servers(listen, path) or DEFAULT_SERVERS
    else:
        servers = DEFAULT_SERVERS
    return Site(servers, mailname() or hostname or os.uname().nodename)


def _addresses(environ: dict[str, str]) -> list[str]:
    """Return the words of PFSMTP_SUBMIT that are not the path of a socket."""
    words = environ.get("PFSMTP_SUBMIT", "").replace(",", " ").split()
    return [word for word in words if not word.startswith("/")]


def _read(path: str) -> tuple[list[str], str]:
    """Return what the configuration says of `[listen] smtp` and `hostname`."""
    # Dear to import, and not wanted where the environment names the server.
    import tomllib

    try:
        with open(path, "rb") as file:
            config = tomllib.load(file)
        return list(map(str, config.get("listen", {}).get("smtp", ()))), str(
            config.get("hostname", "")
        )
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise Failure(os.EX_CONFIG, f"{path}: {error}") from error


def _servers(addresses: list[str], source: str) -> tuple[tuple[str, int], ...]:
    servers = []
    for address in addresses:
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal():
            raise Failure(
                os.EX_CONFIG,
                f"{source}: {address!r} is no address like 127.0.0.1:2526 or [::1]:2526",
            )
        servers.append((host.strip("[]"), int(port)))
    return tuple(servers)


def mailname() -> str:
    """Return the domain that /etc/mailname gives this machine, "" if it gives none."""
    try:
        with open(MAILNAME, encoding="ascii") as file:
            return file.readline().strip()
    except (OSError, ValueError):
        return ""
