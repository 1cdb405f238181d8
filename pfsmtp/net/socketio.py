"""The door to the compiled calls on descriptors (ext/socketio.pyx, described in _socketio.pyi).

Each lets go of the GIL once, for all that can be done without it.
"""

from pfsmtp.net._socketio import (
    accept,
    accept_pending,
    exchange,
    queue_up,
    send_all,
    send_last,
    wait_for,
)

__all__ = [
    "accept",
    "accept_pending",
    "exchange",
    "queue_up",
    "send_all",
    "send_last",
    "wait_for",
]
