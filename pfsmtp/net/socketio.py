"""The door to the compiled calls on descriptors (ext/socketio.pyx, described in _socketio.pyi).

Each lets go of the GIL once, for all that can be done without it.
"""

from pfsmtp.net._socketio import (
    Place,
    accept_pending,
    exchange,
    send_all,
    send_last,
    wait_for,
)

__all__ = [
    "Place",
    "accept_pending",
    "exchange",
    "send_all",
    "send_last",
    "wait_for",
]
