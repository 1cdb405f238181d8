"""What the queue costs: slots that are written over again, against a new file for each message.

    bench/slots.py                   every table, medians of five: about four minutes
    bench/slots.py --repeats 1 --waiting 20000

1. Durable writes alone, by threads of one process, without any mail: a slot, a file that is
   made and removed again. Both sides are the compiled calls that pfsmtp uses; they take turns.
2. The queue itself: messages put, and attempts (claimed, read, recorded as delivered).
3. A start with many messages waiting: how long, and memory for each.

CPU is that of the process, system time included; kernel threads are not in it. README.md tells how
to read the figures, and where they lie.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import os
import resource
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from measure import Machine

from pfsmtp import durable
from pfsmtp.mailqueue import segment
from pfsmtp.mailqueue.segment import KINDS, Segments
from pfsmtp.mailqueue.slot import PAGE
from pfsmtp.mailqueue.spool import Spool
from pfsmtp.smtp.address import Mailbox
from pfsmtp.smtp.envelope import Envelope, Recipient
from pfsmtp.smtp.outcome import Kind, Outcome
from pfsmtp.smtp.status import Status

THREADS = (1, 10, 50)
SIZES = (1024, 10 * 1024, 100 * 1024)
DELIVERED = Outcome(
    Kind.DELIVERED, Status(2, 0, 0), "ok, queued as 4T9ZkX2bVqz1", "mx.example.org", "192.0.2.1"
)


class Silent:
    """A log nobody reads."""

    def event(self, name: str, /, **fields: object) -> None:
        print(f"unexpected: {name} {fields}", file=sys.stderr)


@dataclass(frozen=True)
class Cost:
    """What a run came to."""

    rate: float  # a second
    cpu: float  # microseconds each


def measured(count: int, action: Callable[[], object]) -> Cost:
    """Do it, which is `count` things."""
    gc.collect()
    cpu, began = cpu_seconds(), time.perf_counter()
    action()
    seconds = time.perf_counter() - began
    return Cost(count / seconds, (cpu_seconds() - cpu) / count * 1e6)


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def in_threads(threads: int, work: Callable[[int], None]) -> None:
    running = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()


def median(costs: list[Cost]) -> Cost:
    return Cost(
        statistics.median(cost.rate for cost in costs),
        statistics.median(cost.cpu for cost in costs),
    )


# Durable writes alone


def files_made_and_removed(base: Path, threads: int, *, size: int, each: int) -> Cost:
    """Write, sync, rename, sync the directory; then remove: as a queue of files does."""
    for name in ("tmp", "new"):
        (base / name).mkdir()
    tmp, new = durable.Directory(base / "tmp"), durable.Directory(base / "new")
    octets = os.urandom(size)

    def work(number: int) -> None:
        for turn in range(each):
            name = f"{number}.{turn}"
            durable.deliver(tmp, name, [octets], new)
            durable.remove(new, name)

    return measured(threads * each, lambda: in_threads(threads, work))


def slots_written_over(base: Path, threads: int, *, size: int, each: int) -> Cost:
    """Write into a slot that was written before."""
    for name in ("slots", "tmp"):
        (base / name).mkdir()
    segments = Segments(
        durable.Directory(base / "slots"), durable.Directory(base / "tmp"), now=time.time()
    )
    kind = segment.kind_for(size) or KINDS[-1]
    files = [segments.create(kind) for _ in range(-(-threads // kind.count))]
    octets = os.urandom(size)

    def work(number: int) -> None:
        file, _ = files[number // kind.count]
        place = segment.place_in(file, number % kind.count)
        for _ in range(each):
            pen = segments.take(file)
            commit = segments.group_commit(file)
            segment.store(pen, commit, segment.offset_of(place), kind.size, [octets])
            segments.give(file, pen)

    cost = measured(threads * each, lambda: in_threads(threads, work))
    segments.close()
    for _, owner in files:
        os.close(owner)
    return cost


def files_written_over(base: Path, threads: int, *, size: int, each: int) -> Cost:
    """Open a file that was written before, write over it, close it: a file for each slot."""
    octets = os.urandom(-(-size // PAGE) * PAGE)
    for number in range(threads):
        (base / str(number)).write_bytes(octets)
    os.sync()
    flags = os.O_RDWR | os.O_CLOEXEC
    commits = [segment.GroupCommit(os.open(base / str(number), flags)) for number in range(threads)]

    def work(number: int) -> None:
        for _ in range(each):
            pen = os.open(base / str(number), flags)
            segment.store(pen, commits[number], 0, len(octets), [octets])
            os.close(pen)

    return measured(threads * each, lambda: in_threads(threads, work))


def writes(base: Path, repeats: int) -> None:
    sides = {
        "slot of a file": slots_written_over,
        "file a slot": files_written_over,
        "new file": files_made_and_removed,
    }
    print("durable writes alone: a second, and µs of CPU\n")
    names = "".join(f" {name} | |" for name in sides)
    print(f"| octets | threads |{names}")
    print("| --- " * (2 + 2 * len(sides)) + "|")
    fresh = itertools.count()
    for size in SIZES:
        for threads in THREADS:
            each = max(20, (4000 if size < 50_000 else 1000) // threads)
            costs: dict[str, list[Cost]] = {name: [] for name in sides}
            for repeat in range(repeats):
                for name in sorted(sides, reverse=bool(repeat % 2)):
                    place = base / f"writes{next(fresh)}"
                    place.mkdir()
                    costs[name].append(sides[name](place, threads, size=size, each=each))
            medians = [median(costs[name]) for name in sides]
            cells = "".join(f" {cost.rate:.0f} | {cost.cpu:.0f} |" for cost in medians)
            print(f"| {size} | {threads} |{cells}", flush=True)


# The queue


def open_spool(path: Path) -> Spool:
    return Spool(path, deliverers=1, log=Silent(), number=itertools.count(1).__next__)


def message(size: int) -> bytes:
    return b"Subject: a message\r\n\r\n" + (b"x" * 76 + b"\r\n") * (size // 78)


def envelope(domain: str = "example.org") -> Envelope:
    return Envelope(Mailbox("alice", "example.net"), (Recipient(Mailbox("bob", domain)),))


def put_and_deliver(path: Path, threads: int, *, size: int, each: int) -> tuple[Cost, Cost]:
    """Put so many messages, then deliver them; the second time, when the slots are there."""
    spool = open_spool(path)
    shard = spool.shard(0)
    octets, to = message(size), envelope()

    def put(number: int) -> None:
        for _ in range(each):
            intake = spool.begin(to)
            intake.write(octets)
            intake.commit()

    def deliver(number: int) -> None:
        while (unit := shard.due(time.time())) is not None:
            lease = shard.claim(unit)
            assert lease is not None
            for _ in lease.body.pieces():
                pass
            lease.record({0: DELIVERED})

    for _ in range(2):
        putting = measured(threads * each, lambda: in_threads(threads, put))
        while shard.waiting() < threads * each:
            shard.hear(1)
        delivering = measured(threads * each, lambda: in_threads(threads, deliver))
    spool.close()
    return putting, delivering


def queue(base: Path, repeats: int) -> None:
    print("\nthe queue\n")
    print("| octets | threads | put, a second | µs CPU | attempts, a second | µs CPU |")
    print("| --- | --- | --- | --- | --- | --- |")
    fresh = itertools.count()
    for size in SIZES:
        for threads in THREADS:
            each = (4000 if size < 50_000 else 1000) // threads
            costs = [
                put_and_deliver(base / f"queue{next(fresh)}", threads, size=size, each=each)
                for _ in range(repeats)
            ]
            putting, delivering = (median(list(each)) for each in zip(*costs, strict=True))
            print(
                f"| {size} | {threads} | {putting.rate:.0f} | {putting.cpu:.0f} |"
                f" {delivering.rate:.0f} | {delivering.cpu:.0f} |",
                flush=True,
            )


# A start


def start(base: Path, waiting: int) -> None:
    print(f"\na start with {waiting} messages waiting, to 100 domains\n")
    path = base / "start"
    spool = open_spool(path)
    octets = message(1024)

    def put(number: int) -> None:
        for turn in range(waiting // 10):
            intake = spool.begin(envelope(f"domain{turn % 100}.example"))
            intake.write(octets)
            intake.commit()

    putting = measured(waiting, lambda: in_threads(10, put))
    spool.close()
    print(f"put by 10 threads: {putting.rate:.0f} a second, {putting.cpu:.0f} µs CPU each")
    for name, drop in (("from the disk", True), ("from the page cache", False)):
        if drop and not drop_caches():
            continue
        spool = open_spool(path)
        gc.collect()
        before = resident()
        began, cpu = time.perf_counter(), cpu_seconds()
        shard = spool.shard(0)
        seconds = time.perf_counter() - began
        print(
            f"{name}: {seconds:.2f} s, {cpu_seconds() - cpu:.2f} s CPU, {shard.waiting()} units,"
            f" {(resident() - before) / max(shard.waiting(), 1):.0f} octets of memory each"
        )
        shard.close()
        spool.close()
        del shard


def resident() -> int:
    """Octets of memory that are this process's own."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Private_Dirty:"):
            return int(line.split()[1]) * 1024
    raise OSError("no Private_Dirty")


def drop_caches() -> bool:
    os.sync()
    try:
        Path("/proc/sys/vm/drop_caches").write_text("3")
    except OSError:
        return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--directory", type=Path, help="on the disk that is meant")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--waiting", type=int, default=100_000)
    options = parser.parse_args()
    base = Path(tempfile.mkdtemp(prefix="pfsmtp-slots-", dir=options.directory))
    try:
        print(Machine.describe(base))
        writes(base, options.repeats)
        queue(base, options.repeats)
        start(base, options.waiting)
    finally:
        shutil.rmtree(base)


if __name__ == "__main__":
    main()
