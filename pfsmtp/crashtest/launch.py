"""Becomes a server that does not outlive the test, should the test itself be killed.

    python -P -m pfsmtp.crashtest.launch PARENT FILE

asks the kernel for a SIGKILL when the process PARENT, who started it, dies, and goes on as
`pfsmtp -c FILE`. Raises OSError.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # prctl(2), linux/prctl.h


def main(parent: int, config: str) -> None:
    """Does not return, unless the parent is dead already."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    # The kernel looks at all 64 bits of each argument.
    prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)
    if prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"PR_SET_PDEATHSIG: {os.strerror(code)}")
    if os.getppid() == parent:
        os.execv(sys.executable, [sys.executable, "-P", "-m", "pfsmtp", "-c", config])


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
