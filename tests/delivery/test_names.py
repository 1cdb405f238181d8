"""Names that no other delivery has, whatever the clock, the PIDs and the counter do."""

from __future__ import annotations

import itertools
import os
import re
import threading

import pytest

from pfsmtp.delivery.maildir.names import Names, clean_host
from pfsmtp.process.shared import Numbers

FILE = re.compile(r"(\d+)\.M(\d+)P(\d+)Q(\d+)R([0-9a-f]{8})\.mx\.example\.org\Z")


def names(when: float = 1795492487.25, number: int = 7, pid: int = 42) -> Names:
    return Names("mx.example.org", numbers=lambda: number, clock=lambda: when, pid=pid)


def test_file_name_says_second_microsecond_process_and_number() -> None:
    found = FILE.match(names().file())
    assert found is not None
    assert found.groups()[:4] == ("1795492487", "250000", "42", "7")


def test_names_differ_though_time_process_and_number_are_the_same() -> None:
    """A clock set back, a PID that came again, a counter that began anew."""
    files = {names().file() for _ in range(1000)}
    messages = {names().message() for _ in range(1000)}
    assert len(files) == 1000
    assert len(messages) >= 999  # of 24 bits; their number is what tells them apart


def test_message_name_is_short_and_an_atom() -> None:
    assert re.fullmatch(r"[0-9a-f]{15,30}", names().message())


@pytest.mark.parametrize(
    ("hostname", "cleaned"),
    [
        ("mx.example.org", "mx.example.org"),
        ("a/b:c", r"a\057b\072c"),
        ("a b\n", r"a\040b\012"),
        ("bücher", r"b\303\274cher"),
        ("x" * 300, "x" * 100),
    ],
)
def test_host_is_cleaned_as_maildir_wants_it(hostname: str, cleaned: str) -> None:
    assert clean_host(hostname) == cleaned


def test_file_name_leaves_room_for_flags() -> None:
    longest = Names(
        "x" * 300, numbers=lambda: (1 << 64) - 1, clock=lambda: 99999999999.999999, pid=4194304
    )
    assert len(longest.file()) <= 200


def _make_names(numbers: Numbers, count: int, out: int) -> None:
    made: list[str] = []

    def work() -> None:
        mine = Names("h", numbers=numbers.next, clock=lambda: 1.0, pid=1, bits=lambda bits: 0)
        for _ in range(count):
            made.append(mine.file())
            made.append(mine.message())

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with os.fdopen(out, "w") as pipe:
        pipe.write("\n".join(made))


def test_names_of_several_processes_and_threads_differ_by_the_counter_alone() -> None:
    """All else is the same: time, PID, random bits."""
    numbers = Numbers()
    readers = []
    for _ in range(4):
        receive, send = os.pipe()
        pid = os.fork()
        if not pid:
            try:
                _make_names(numbers, 300, send)
            finally:
                os._exit(0)
        os.close(send)
        readers.append((pid, receive))
    made = []
    for pid, receive in readers:
        with os.fdopen(receive) as pipe:
            made += pipe.read().splitlines()
        os.waitpid(pid, 0)
    assert len(made) == 4 * 3 * 300 * 2
    assert len(set(made)) == len(made)


def test_each_name_takes_a_number() -> None:
    counter = itertools.count(1)
    taking = Names("h", numbers=counter.__next__, clock=lambda: 1.0, pid=1)
    taking.file()
    taking.message()
    assert next(counter) == 3
