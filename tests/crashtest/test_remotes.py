"""The outbound server is killed while it relays to software that is not ours."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from pfsmtp.config import Outbound, load
from pfsmtp.crashtest.account import Account
from pfsmtp.crashtest.outbound import OutboundScene
from pfsmtp.crashtest.trial import Plan, Trial
from tests.crashtest.postfix import SmtpSink
from tests.crashtest.running import as_lines
from tests.figures import Show
from tests.running.program import ROOT, Program


def relay_to_smtp_sink(directory: Path, plan: Plan) -> Account:
    config = load(Program.outbound(directory / "out").config)
    assert isinstance(config, Outbound)
    with closing(SmtpSink(directory / "sink", plan.run)) as sink:
        scene = OutboundScene(config, directory, sink)
        with closing(scene):
            trial = Trial(
                scene,
                plan,
                interrupted=threading.Event(),
                show=lambda *_: None,
                clock=time.monotonic,
            )
            return trial.run()


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param(Plan(seconds=3, every=0.25, clients=4, seed=1), id="seconds"),
        pytest.param(
            Plan(seconds=600, every=1, clients=8, seed=1),
            id="ten-minutes",
            marks=[pytest.mark.slow, pytest.mark.timeout(1200)],
        ),
    ],
)
def test_o2_smtp_sink_gets_every_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plan: Plan, show: Show
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    account = relay_to_smtp_sink(tmp_path, plan)
    show("Crash test: outbound to smtp-sink", as_lines(account.figures))
    assert account.faults == []
    assert account.figures["kills"] > 1
    assert account.figures["delivered"] == account.figures["acknowledged_recipients"] > 50
