"""What people see: a line while it runs, and the verdict."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TextIO

from pfsmtp.crashtest.account import Account
from pfsmtp.crashtest.ledger import Ledger
from pfsmtp.crashtest.trial import Plan, Progress, Scene

_REDRAWN = 0.2  # seconds between two lines on a terminal
_WRITTEN = 10.0  # the same, elsewhere
_SHOWN = 20  # faults
_CLEAR = "\r\x1b[K"


class Line:
    """The line of progress: rewritten on a terminal, a new one now and then elsewhere."""

    def __init__(self, stream: TextIO, clock: Callable[[], float]) -> None:
        self._stream = stream
        self._clock = clock
        self._is_terminal = stream.isatty()
        self._next = clock() + (0.0 if self._is_terminal else _WRITTEN)

    def show(self, progress: Progress, ledger: Ledger, scene: Scene) -> None:
        """Show how it goes, if it is time to."""
        now = self._clock()
        if now < self._next:
            return
        self._next = now + (_REDRAWN if self._is_terminal else _WRITTEN)
        text = describe(progress, ledger, scene, now=now)
        self._stream.write(f"{_CLEAR}{text}" if self._is_terminal else f"{text}\n")
        self._stream.flush()

    def end(self) -> None:
        """Leave the terminal as it was."""
        if self._is_terminal:
            self._stream.write(_CLEAR)
            self._stream.flush()


def describe(progress: Progress, ledger: Ledger, scene: Scene, *, now: float) -> str:
    """How it goes, in one line."""
    whole = progress.ends - progress.began
    gone = min(now - progress.began, whole)
    parts = [
        f"{_clock_time(gone)} of {_clock_time(whole)}, {progress.phase}",
        f"{sum(progress.kills.values())} kills",
        f"{len(ledger):,} sent",
        f"{ledger.acknowledged:,} acknowledged",
        f"{scene.arrived:,} copies found",
        f"{scene.faults} faults",
    ]
    return "; ".join(parts)


def as_text(account: Account, plan: Plan, *, role: str, seconds: float) -> str:
    """The verdict for a person."""
    lines = [f"{role}: {_clock_time(seconds)} with {plan.clients} clients, seed {plan.seed}"]
    width = max(len(name) for name in account.figures)
    for name, number in account.figures.items():
        lines.append(f"  {name.replace('_', ' '):<{width}}  {number:>11,}")
    faults = account.faults
    lines += [f"  ! {fault}" for fault in faults[:_SHOWN]]
    if len(faults) > _SHOWN:
        lines.append(f"  ! and {len(faults) - _SHOWN} more")
    lines.append(verdict(account))
    return "\n".join(lines)


def as_json(account: Account, plan: Plan, *, role: str, seconds: float, kept: str | None) -> str:
    """The same for a program."""
    return json.dumps(
        {
            "role": role,
            "seed": plan.seed,
            "seconds": round(seconds, 1),
            "clients": plan.clients,
            "figures": account.figures,
            "faults": account.faults,
            "verdict": verdict(account),
            "kept": kept,
        }
    )


def verdict(account: Account) -> str:
    """In one sentence."""
    if account.faults:
        return f"FAILED: {len(account.faults)} things that must not be."
    return "Nothing that was acknowledged is lost, and nothing is there that should not be."


def _clock_time(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02}"
