"""A client that is content with any end, and says which it was."""

from __future__ import annotations

import socket
from contextlib import suppress

from tests.running.program import Talk

PROMPT = 8.0
"""Seconds in which a server has to answer, whatever fails."""


def send(port: int, recipients: list[str], message: bytes) -> str:
    """Send a message; return the reply that ended it, "" when the connection was lost instead.

    `message` ends with CRLF, and needs no dot-stuffing. Fails when there is no answer.
    """
    try:
        with Talk.over(socket.create_connection(("127.0.0.1", port), timeout=PROMPT)) as talk:
            reply = _transact(talk, recipients, message)
            if reply:
                with suppress(ConnectionError):
                    talk.say("QUIT")
            return reply
    except TimeoutError:
        raise AssertionError("the client is left without an answer") from None
    except OSError:
        return ""


def _transact(talk: Talk, recipients: list[str], message: bytes) -> str:
    reply = talk.hear()
    lines: list[str | bytes] = ["EHLO client.example.org", "MAIL FROM:<sender@example.org>"]
    lines += [f"RCPT TO:<{recipient}>" for recipient in recipients]
    lines += ["DATA", message + b"."]
    for line in lines:
        if reply[:1] not in ("2", "3"):
            return reply
        reply = talk.say(line)
    return reply
