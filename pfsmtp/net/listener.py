"""Listening sockets: bound in the master, shared by all workers.

What a connection needs is set once on its listener, and inherited by what it accepts: TCP_NODELAY.
Errors name the address and the remedy.

A socket for the programs of this machine is a file. It replaces one that nobody listens at any
more, as a server leaves it that was killed; at the end whoever has bound it removes it.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pfsmtp.config import Address

_BACKLOG = 1024
_FOR_EVERYBODY = 0o111  # a umask: to connect is to write


class BindError(Exception):
    """An address cannot be listened on; the text says which, why, and what to do."""


@dataclass(frozen=True, slots=True)
class Listener:
    """A bound socket; `implicit_tls` for a port on which TLS begins with the first octet.

    `local` for one at which programs of this machine hand over messages, which is no SMTP.
    """

    socket: socket.socket
    implicit_tls: bool
    local: bool = False

    def fileno(self) -> int:
        return self.socket.fileno()

    def close(self) -> None:
        self.socket.close()


def bind(address: Address, *, implicit_tls: bool) -> Listener:
    """Listen on an address. Raises BindError."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise BindError(_explain(address, error)) from error
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # IPv4 has listeners of its own, so that both can be bound side by side.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address.host, address.port))
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise BindError(_explain(address, error)) from error
    return adopt(sock, implicit_tls=implicit_tls)


def adopt(sock: socket.socket, *, implicit_tls: bool) -> Listener:
    """Take a socket that listens already, from systemd for example."""
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return Listener(sock, implicit_tls)


def bind_local(path: Path) -> Listener:
    """Listen for the programs of this machine, of all users. Raises BindError.

    Changes the umask meanwhile, which is all threads': only for a process that has one.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        _clear(path)
        before = os.umask(_FOR_EVERYBODY)
        try:
            sock.bind(os.fspath(path))
        finally:
            os.umask(before)
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise BindError(_explain_local(path, error)) from error
    return adopt_local(sock)


def adopt_local(sock: socket.socket) -> Listener:
    """Take a socket for programs that listens already. Raises BindError, and then closes it."""
    if sock.type != socket.SOCK_SEQPACKET:
        name = os.fsdecode(sock.getsockname())
        sock.close()
        raise BindError(
            f"the socket {name} that systemd passes is of another type than programs use:"
            f" write ListenSequentialPacket={name} in the socket unit"
        )
    sock.setblocking(False)
    return Listener(sock, implicit_tls=False, local=True)


def remove_local(path: Path) -> None:
    """Take the file of such a socket away, which nobody accepts from any more. Never raises."""
    with suppress(OSError):
        path.unlink()


def _clear(path: Path) -> None:
    """Take a socket away that nobody listens at. Raises OSError."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return  # bind will say that something is there
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        probe.setblocking(False)  # somebody may listen who is busy
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
        except OSError:
            return  # the same


def _explain_local(path: Path, error: OSError) -> str:
    where = f"cannot listen on {path}"
    if error.errno == errno.EADDRINUSE:
        return (
            f"{where}: it is no socket, or another program listens there; `ss -xlp src {path}`"
            " shows which. Stop it, or choose another path for [listen] sendmail"
        )
    if error.errno == errno.ENOENT:
        return f"{where}: there is no such directory. Make it, or correct [listen] sendmail"
    if error.errno in (errno.EACCES, errno.EROFS):
        return (
            f"{where}: this user may not write to its directory. Give it to him, or choose another"
            " path for [listen] sendmail"
        )
    return f"{where}: {error.strerror or error}"


def _explain(address: Address, error: OSError) -> str:
    where = f"cannot listen on {address}"
    if error.errno == errno.EADDRINUSE:
        port = address.port
        return (
            f"{where}: another program has port {port}; `ss -ltnp 'sport = :{port}'` shows which."
            " Stop it, or choose another port in [listen]"
        )
    if error.errno == errno.EACCES:
        return (
            f"{where}: only root may take ports below 1024. Start as root with `user` set in the"
            " configuration, let systemd pass the socket, give the program CAP_NET_BIND_SERVICE,"
            " or choose a port above 1023 in [listen]"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return (
            f"{where}: this machine does not have that address; `ip address` lists those it has."
            " Choose one of them in [listen]"
        )
    if error.errno == errno.EAFNOSUPPORT:
        return (
            f"{where}: this machine has no {'IPv6' if ':' in address.host else 'IPv4'}."
            " Leave the address out of [listen]"
        )
    return f"{where}: {os.strerror(error.errno or 0)}"
