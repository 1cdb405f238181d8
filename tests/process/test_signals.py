"""Signals come as names, in order, to the process they were meant for."""

from __future__ import annotations

import os
import select
import signal

from pfsmtp.process.signals import SignalPipe, blocked, unblock
from tests.process.forked import Child
from tests.process.running import eventually


def test_signals_are_read_by_name_in_their_order() -> None:
    def child() -> list[str]:
        signals = SignalPipe(["hup", "term", "usr1"])
        for number in (signal.SIGUSR1, signal.SIGHUP, signal.SIGTERM, signal.SIGHUP):
            signal.raise_signal(number)
        return signals.read()

    assert Child(child).result() == ["usr1", "hup", "term", "hup"]


def test_reading_does_not_wait() -> None:
    assert Child(lambda: SignalPipe(["hup"]).read()).result() == []


def test_signal_wakes_who_polls() -> None:
    def child() -> list[str]:
        signals = SignalPipe(["alrm"])
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        poll = select.poll()
        poll.register(signals.fileno(), select.POLLIN)
        assert poll.poll(20_000)
        return signals.read()

    assert Child(child).result() == ["alrm"]


def test_many_signals_between_two_reads_all_come() -> None:
    def child() -> int:
        signals = SignalPipe(["hup"])
        for _ in range(10_000):
            signal.raise_signal(signal.SIGHUP)
        return len(signals.read())

    assert Child(child).result() == 10_000


def test_more_signals_than_the_pipe_holds_do_no_harm() -> None:
    def child() -> int:
        signals = SignalPipe(["hup"])
        for _ in range(70_000):
            signal.raise_signal(signal.SIGHUP)
        return len(signals.read())

    assert Child(child).result() == 65_536


def test_ignored_signals_do_not_come() -> None:
    def child() -> list[str]:
        signals = SignalPipe(["hup"], ignored=["term", "usr2"])
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGUSR2)
        return signals.read()

    assert Child(child).result() == []


def test_signal_to_a_child_that_was_just_forked_does_not_reach_its_parent() -> None:
    def parent() -> list[list[str]]:
        signals = SignalPipe(["term"])
        with blocked():
            child = Child(lambda: _newborn(signals))
            os.kill(child.pid, signal.SIGTERM)
        return [child.result(), signals.read()]

    assert Child(parent).result() == [["term"], []]


def test_signals_held_back_come_when_the_block_ends() -> None:
    def child() -> list[list[str]]:
        signals = SignalPipe(["term"])
        with blocked():
            os.kill(os.getpid(), signal.SIGTERM)
            before = signals.read()
        return [before, signals.read()]

    assert Child(child).result() == [[], ["term"]]


def _newborn(inherited: SignalPipe) -> list[str]:
    """Do what a worker does first; a signal is waiting for it."""
    eventually(lambda: signal.SIGTERM in signal.sigpending())
    signals = SignalPipe(["term"])
    inherited.forget()
    unblock()
    return signals.read()
