"""What a process leaves that is killed between two steps is taken up at once, not minutes later."""

from __future__ import annotations

import smtplib
from pathlib import Path

import pytest

from tests.delivery.hosts import Host
from tests.faults.injection import KILL, Fault, Injection
from tests.running.outbound.internet import Internet, outbound
from tests.running.outbound.post import outcome, submit, views
from tests.running.program import eventually


@pytest.mark.parametrize("recipients", [1, 2])
def test_message_whose_receiver_was_killed_before_it_told_of_it_goes_out_at_once(
    tmp_path: Path, recipients: int
) -> None:
    """The write to the deliverer's FIFO is the first that the connection's thread makes."""
    internet = Internet()
    address = internet.address()
    names = [internet.domain(f"d{number}", address) for number in range(recipients)]
    to = [f"bob@{name}" for name in names]
    workers = {"processes": 1, "deliverers": 1}
    with (
        Host(address=address, port=internet.port) as host,
        internet.name_server(tmp_path / "names") as zone,
        outbound(tmp_path / "out", internet, zone, workers=workers) as server,
    ):
        submit(server, *to)
        eventually(lambda: views(server) == [], what="the first message gone")
        host.stored.clear()
        (ready,) = [
            each for each in server.events("worker-ready") if each["worker"].startswith("receiver")
        ]
        fault = Fault("write", KILL, 1)
        with Injection(ready["pid"], fault, record=tmp_path / "strace") as injection:
            with pytest.raises((smtplib.SMTPException, OSError)):
                submit(server, *to)
            eventually(lambda: injection.count > 0, what="its death")
        eventually(lambda: len(host.stored) == recipients, what="the message at its host")
        submit(server, *to)
        for recipient in to:
            assert outcome(server, recipient, attempt=3)["event"] == "delivered"
