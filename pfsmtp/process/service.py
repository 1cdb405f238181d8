"""What the master asks of the program it runs, and what it gives in return.

The program implements `Service`, `Generation` and `Body`; nothing here knows what it serves. The
life of a generation:

    load     the service reads and checks everything, binds what is not yet bound
    fork     each seat of each role gets a worker: privileges dropped, `make`, `Body.start`, ready
    serving  once all are ready; only then is the generation before told to drain
    drain    `Generation.close` in the master, `Body.drain` in the workers, which leave when done
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from pfsmtp.process.privileges import Identity


class EventLog(Protocol):
    """Where the state changes of master and workers are written."""

    def event(self, name: str, /, **fields: object) -> None: ...

    def bug(self, name: str, error: BaseException, /, **fields: object) -> None: ...

    def reopen(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Context:
    """Which worker this is, as its body is told."""

    role: str
    index: int  # from 0; nobody else of this role and generation takes work under the same
    count: int  # how many there are of the role, at the start of the generation
    generation: int

    @property
    def name(self) -> str:
        """What people read: they count from 1."""
        return f"{self.role} {self.index + 1}"


class Body(Protocol):
    """What a worker does. All methods are called in its main thread, and return at once."""

    def start(self) -> None:
        """Begin; when this returns, the worker counts as ready. Raises ServiceError, OSError."""
        ...

    def drain(self) -> None:
        """Take nothing new, close the listeners, end what is open at the next good moment."""
        ...

    def finished(self) -> bool:
        """Whether nothing is left to do after `drain`; asked several times a second."""
        ...

    def stop(self) -> None:
        """Let go at once; the process ends right after."""
        ...

    def reopen(self) -> None:
        """Open the log files anew. Raises OSError, and then goes on with the old ones."""
        ...

    def core_taken(self, share: float) -> None:
        """For what share of its time the worker's core was taken of late, by whomever.

        Told about once a second to who keeps to a core, where the kernel says so.
        """
        ...

    def title(self) -> str:
        """A few words for `ps`, such as "12 connections 340 messages"."""
        ...


@dataclass(frozen=True, slots=True)
class Role:
    """A kind of worker, and how many of them.

    `make` runs in the child. It has inherited all that is open in the master, and closes what its
    body does not use, the listeners of others above all: what it keeps open stays bound.
    """

    name: str
    count: int
    make: Callable[[Context], Body]
    core: Callable[[int], int] | None = None  # which core (`cores.Core`) each index keeps to
    prepare: Callable[[], None] | None = None
    """What all of the role share and no other needs, such as imports: done in the master, before
    each is forked, and so behind the roles before it, whose workers are at work by then."""


class Generation(Protocol):
    """All that was read from one state of the configuration. TTIN adds to its first role."""

    @property
    def roles(self) -> Sequence[Role]: ...

    @property
    def identity(self) -> Identity | None:
        """Whom the workers run as (`privileges.identity`); None for who the master is."""
        ...

    def close(self) -> None:
        """No worker will be forked from it again: close listeners no other generation uses.

        Called once, in the master, as its workers are told to drain, or when it could not start.
        """
        ...


class Service(Protocol):
    """What the master runs, and reloads. It starts no threads: the master forks."""

    def load(self) -> Generation:
        """Read and check everything anew. Raises ServiceError, and has then changed nothing."""
        ...

    def tick(self) -> None:
        """Called about once a second, in the master."""
        ...

    def worker_died(self, pid: int, *, killed: bool) -> None:
        """A worker is gone: free what it held. Its pid may recur from now on.

        `killed` says that it did not leave of its own accord, and may have left things half done.
        """
        ...


@dataclass(frozen=True, slots=True)
class Timing:
    """How long things may take, in seconds."""

    beat: float = 1.0  # how often main threads come round
    stuck: float = 30.0  # a worker that has not come round for so long is killed
    boot: float = 60.0  # fork to ready, for a whole generation
    stop: float = 30.0  # what has been begun may go on after TERM, or when the master has died
    retire: float = 1800.0  # the same after HUP: as long as a session may last
    quit: float = 3.0  # from QUIT to KILL
    reload_spacing: float = 1.0  # HUPs closer together than this are one
    steady: float = 1.0  # who lives longer than this has not failed at once
    backoff: float = 0.5  # after several that failed at once, doubled each time
    backoff_limit: float = 30.0
