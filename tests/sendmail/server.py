"""An SMTP server that says what a test has written down."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

Script = Sequence[tuple[str, str]]
"""What is heard, by its first word (MAIL, RCPT, …, or `.` for the end of the message), and what is
said to it, lines separated by LF; "" says nothing and closes. The greeting is said to ""."""

DEADLINE = 20.0


class ScriptedServer:
    """Serves one connection and remembers what it heard."""

    def __init__(self, script: Script, *, family: socket.AddressFamily = socket.AF_INET) -> None:
        self.heard: list[bytes] = []
        self.data = b""
        self._script = list(script)
        host = "127.0.0.1" if family == socket.AF_INET else "::1"
        self._listener = socket.create_server((host, 0), family=family)
        self._listener.settimeout(DEADLINE)
        self.host: str = host
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)

    @property
    def address(self) -> str:
        return f"[{self.host}]:{self.port}"

    @contextmanager
    def serving(self) -> Iterator[ScriptedServer]:
        self._thread.start()
        try:
            yield self
        finally:
            self._listener.close()
            self._thread.join(DEADLINE)

    def _serve(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return  # nobody came
        with connection, connection.makefile("rb") as lines:
            connection.settimeout(DEADLINE)
            try:
                self._speak(connection, lines)
            except OSError:
                return  # the other side has had enough

    def _speak(self, connection: socket.socket, lines: Iterator[bytes]) -> None:
        for heard, said in self._script:
            if heard == ".":
                self.data = _read_data(lines)
            elif heard:
                line = next(lines, b"")
                self.heard.append(line.rstrip(b"\r\n"))
                if not line.upper().startswith(heard.encode()):
                    return
            if not said:
                return
            connection.sendall("".join(f"{line}\r\n" for line in said.split("\n")).encode())
        self.heard += [line.rstrip(b"\r\n") for line in lines]


def _read_data(lines: Iterator[bytes]) -> bytes:
    data = b""
    for line in lines:
        if line == b".\r\n":
            break
        data += line
    return data
