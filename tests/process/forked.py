"""Children of the test itself, for what two processes do to each other."""

from __future__ import annotations

import fcntl
import json
import os
import traceback
import warnings
from collections.abc import Callable
from typing import Any

_FAILED = 99


class Child:
    """A process that makes one call, and hands back what it returned, as JSON."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._result, low = os.pipe()
        # Where no test opens a descriptor of its choice.
        writer = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, 500)
        os.close(low)
        with warnings.catch_warnings():
            # The test runner may have threads; the child uses none of what they hold.
            warnings.filterwarnings("ignore", ".*multi-threaded.*", DeprecationWarning)
            self.pid = os.fork()
        if self.pid == 0:
            _run(call, writer)
        os.close(writer)

    def result(self) -> Any:
        """Wait for the end of the child and return what the call returned."""
        status, octets = self.end()
        assert status == 0, f"the child ended with {status}"
        return json.loads(octets)

    def end(self) -> tuple[int, bytes]:
        """Wait for the end of the child; return its exit status, negative for a signal."""
        with open(self._result, "rb") as result:
            octets = result.read()
        _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status), octets

    def wait(self) -> int:
        """Wait for the end of the child; return its status as `os.waitpid` has it."""
        os.close(self._result)
        return os.waitpid(self.pid, 0)[1]


def _run(call: Callable[[], object], writer: int) -> None:
    status = _FAILED
    try:
        os.write(writer, json.dumps(call()).encode())
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)
