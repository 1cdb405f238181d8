"""Threads that ask for the same sync, each of which is held until who is served by it is known."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping

from tests.syscalls import Border, Call, Judge, until


class Crowd:
    """A thread for each action, under a border; the first begins, then the others, when told.

    `waiting` counts the threads that wait for the next sync to begin. `judge` may be changed.
    """

    def __init__(
        self,
        actions: Mapping[str, Callable[[], object]],
        waiting: Callable[[], int],
        calls: Iterable[str],
        judge: Judge,
    ) -> None:
        self.judge = judge
        self.failures: dict[str, Exception] = {}
        self.ended: list[str] = []
        self.border = Border(tuple(calls), lambda call: self.judge(call))
        self._actions = actions
        self._waiting = waiting
        self._begin = dict.fromkeys(actions, False)
        self.end = self.border.start(self._threads)

    def first_in_sync(self) -> Call:
        """The first thread syncs, and the others wait; returns its call, which is held."""
        first, *others = self._actions
        self._begin[first] = True
        until(lambda: len(self.border.held) == 1, "the first sync")
        self._begin.update(dict.fromkeys(others, True))
        until(lambda: self._waiting() == len(others), "others that wait")
        return self.border.held[0]

    def os_errors(self) -> dict[str, OSError]:
        """The failures, none of which may be anything else."""
        errors = {}
        for name, failure in self.failures.items():
            assert isinstance(failure, OSError)
            errors[name] = failure
        return errors

    def _threads(self) -> None:
        threads = [threading.Thread(target=self._act, args=(name,)) for name in self._actions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _act(self, name: str) -> None:
        until(lambda: self._begin[name], f"{name} may begin")
        try:
            self._actions[name]()
        except Exception as failure:
            self.failures[name] = failure
        self.ended.append(name)
