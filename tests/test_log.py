"""The log: one line an event, nothing from outside unescaped, and no error of its own."""

from __future__ import annotations

import errno
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pfsmtp.log import Format, Log

NOW = 1_700_000_000.0625
STAMP = "2023-11-14T22:13:20.062Z"

HOSTILE = [
    ("CR LF", "a\r\nts=b", r'"a\r\nts=b"'),
    ("ESC", "\x1b[2J", r'"\x1b[2J"'),
    ("NUL", "\0", r'"\x00"'),
    ("DEL", "\x7f", r'"\x7f"'),
    ("C1", "\x85\x9b", r'"\u0085\u009b"'),
    ("bidi override", "\u202egnp.exe", r'"\u202egnp.exe"'),
    ("bidi isolates", "\u2066\u2067\u2068\u2069", r'"\u2066\u2067\u2068\u2069"'),
    ("bidi marks", "\u200e\u200f\u061c", r'"\u200e\u200f\u061c"'),
    ("line separators", "\u2028\u2029", r'"\u2028\u2029"'),
    ("lone surrogate", "\ud800", r'"\ud800"'),
    ("octets that are not UTF-8", b"caf\xe9", r'"caf\xe9"'),
    ("undecoded octet", "caf\udce9", r'"caf\xe9"'),
    ("beyond the BMP", "\U000e0001", r'"\U000e0001"'),
    ("invisible space", "a\u00a0b\u200bc", r'"a\u00a0b\u200bc"'),
    ("quote", 'say "hi"', r'"say \"hi\""'),
    ("backslash", r"a\nb", r'"a\\nb"'),
    ("equals sign", "a=b", '"a=b"'),
    ("space", "a b", '"a b"'),
    ("nothing", "", '""'),
    ("what None looks like", "-", '"-"'),
]

_LOGFMT_FIELD = re.compile(r'(\w+)=(?:"((?:[^"\\]|\\.)*)"|([^ "=]*))(?: |\Z)')
_ESCAPE = re.compile(
    r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8})|(.))",
)
_NAMED = {"n": "\n", "r": "\r", "t": "\t"}


class Lines:
    """A log file, and what is in it by now."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def all(self) -> list[str]:
        return self.path.read_text(encoding="utf-8").split("\n")[:-1]

    def last(self) -> str:
        return self.all()[-1]


@pytest.fixture
def lines(tmp_path: Path) -> Lines:
    return Lines(tmp_path / "log")


@pytest.fixture
def open_log(lines: Lines) -> Iterator[Callable[..., Log]]:
    """Make logs that write to `lines`, by a clock that stands still."""
    logs = []

    def open_log(format: Format = "logfmt", clock: Callable[[], float] = lambda: NOW) -> Log:
        logs.append(Log(lines.path, format, clock=clock))
        return logs[-1]

    yield open_log
    for log in logs:
        log.close()


OpenLog = Callable[..., Log]


def read_logfmt(line: str) -> dict[str, str]:
    """Read a line as logfmt readers do, undoing all escapes."""
    fields, position = {}, 0
    while position < len(line):
        field = _LOGFMT_FIELD.match(line, position)
        assert field is not None, line[position:]
        key, quoted, bare = field.groups()
        fields[key] = bare if quoted is None else unescape(quoted)
        position = field.end()
    return fields


def unescape(text: str) -> str:
    def char(escape: re.Match[str]) -> str:
        octet, short, long, named = escape.groups()
        if octet is not None:
            number = int(octet, 16)
            return chr(number if number < 0x80 else 0xDC00 + number)
        if named is not None:
            return _NAMED.get(named, named)
        return chr(int(short or long, 16))

    return _ESCAPE.sub(char, text)


def test_a_line_is_time_event_and_fields_in_order(open_log: OpenLog, lines: Lines) -> None:
    open_log().event("message-accepted", id="17.a", size=1024, tls=None, client="2001:db8::1")
    assert lines.all() == [
        f"ts={STAMP} event=message-accepted id=17.a size=1024 tls=- client=2001:db8::1"
    ]


def test_json_is_one_object_a_line(open_log: OpenLog, lines: Lines) -> None:
    log = open_log("json")
    log.event("message-accepted", id="17.a", size=1024, tls=None, ok=True, to=["a@b", "c@d"])
    assert lines.all() == [
        f'{{"ts":"{STAMP}","event":"message-accepted",'
        '"id":"17.a","size":1024,"tls":null,"ok":true,"to":["a@b","c@d"]}'
    ]


@pytest.mark.parametrize(
    ("value", "logfmt", "as_json"),
    [
        (True, "true", "true"),
        (False, "false", "false"),
        (0, "0", "0"),
        (-1, "-1", "-1"),
        (2**63 - 1, "9223372036854775807", "9223372036854775807"),
        (-(2**63), "-9223372036854775808", "-9223372036854775808"),
        (2**64, "18446744073709551616", "18446744073709551616"),
        (1.5, "1.5", "1.5"),
        (0.0, "0.0", "0.0"),
        (20.0, "20.0", "20.0"),
        (0.0009999996, "0.001", "0.001"),
        (999999.9999996, "1000000.0", "1000000.0"),
        (1e6, "1000000.0", "1000000.0"),
        (-0.25, "-0.25", "-0.25"),
        (0.1 + 0.2, "0.3", "0.3"),
        (float("inf"), "inf", '"inf"'),
        (float("nan"), "nan", '"nan"'),
        (["a@b", "c@d"], "a@b,c@d", '["a@b","c@d"]'),
        (("a,b", "c\\d"), r'"a\\,b,c\\\\d"', r'["a,b","c\\d"]'),
        ([], '""', "[]"),
        (["-"], '"-"', '["-"]'),
        (["a,b"], r'"a\\,b"', '["a,b"]'),
        (["a b", "c"], '"a b,c"', '["a b","c"]'),
        (Path("/var/mail"), "/var/mail", '"/var/mail"'),
        ("bücher", '"bücher"', '"bücher"'),
        (b"plain", "plain", '"plain"'),
        (errno.ENOSPC, "28", "28"),
    ],
)
def test_each_kind_of_value_has_its_form(
    open_log: OpenLog, lines: Lines, value: object, logfmt: str, as_json: str
) -> None:
    open_log().event("x", value=value)
    assert lines.last() == f"ts={STAMP} event=x value={logfmt}"
    open_log("json").event("x", value=value)
    assert lines.last() == f'{{"ts":"{STAMP}","event":"x","value":{as_json}}}'


@pytest.mark.parametrize(
    ("value", "written"), [row[1:] for row in HOSTILE], ids=[r[0] for r in HOSTILE]
)
def test_what_comes_from_outside_is_escaped(
    open_log: OpenLog, lines: Lines, value: str | bytes, written: str
) -> None:
    open_log().event("x", value=value)
    assert lines.all() == [f"ts={STAMP} event=x value={written}"]


@pytest.mark.parametrize("value", [row[1] for row in HOSTILE], ids=[r[0] for r in HOSTILE])
def test_json_lines_are_printable_and_their_readers_are_strict(
    open_log: OpenLog, lines: Lines, value: str | bytes
) -> None:
    open_log("json").event("x", value=value)
    (line,) = lines.all()
    assert line.isprintable()
    json.loads(line)["value"].encode("utf-8")  # no lone surrogates, which strict readers refuse


@given(st.one_of(st.text(st.characters()), st.binary()))
@example("\ufffd")
@example("\ufffd\\x41")
def test_any_text_is_one_printable_line_and_can_be_read_back(value: str | bytes) -> None:
    text = value if isinstance(value, str) else value.decode("utf-8", "surrogateescape")
    read, write = os.pipe()
    for form in ("logfmt", "json"):
        log = Log(write, "json" if form == "json" else "logfmt")
        log.event("x", value=value)
        log.close()
        line = os.read(read, 65536).decode("utf-8")
        assert line.endswith("\n")
        assert line[:-1].isprintable()
        if form == "logfmt":
            assert read_logfmt(line[:-1])["value"] == text
        else:
            found = json.loads(line)["value"]
            assert (unescape(found[1:]) if found.startswith("\ufffd") else found) == text
    os.close(read)
    os.close(write)


@given(st.floats(0, 1e6, exclude_max=True), st.integers(), st.lists(st.text(), min_size=1))
def test_numbers_and_lists_can_be_read_back(number: float, whole: int, texts: list[str]) -> None:
    read, write = os.pipe()
    log = Log(write)
    log.event("x", number=number, whole=whole, texts=texts)
    log.close()
    line = os.read(read, 65536).decode("utf-8")
    os.close(read)
    os.close(write)
    fields = read_logfmt(line[:-1])
    assert re.fullmatch(r"[0-9]+\.[0-9]{1,6}", fields["number"])
    assert float(fields["number"]) == pytest.approx(number, abs=0.51e-6)
    assert int(fields["whole"]) == whole
    items = re.findall(r"((?:[^\\,]|\\[\s\S])*)(?:,|\Z)", fields["texts"])
    if "\\" in fields["texts"]:
        items = [re.sub(r"\\([\s\S])", r"\1", item) for item in items]
    assert ",".join(items[: len(texts)]) == ",".join(texts)


def test_bound_fields_come_before_the_events_own(open_log: OpenLog, lines: Lines) -> None:
    worker = open_log().bind(role="receiver", worker=3)
    worker.bind(client="192.0.2.1").event("connected", port=25)
    worker.event("ready")
    assert lines.all() == [
        f"ts={STAMP} event=connected role=receiver worker=3 client=192.0.2.1 port=25",
        f"ts={STAMP} event=ready role=receiver worker=3",
    ]


def test_bound_fields_are_escaped_too(open_log: OpenLog, lines: Lines) -> None:
    open_log().bind(hello="a\nb").event("x")
    assert lines.last() == f'ts={STAMP} event=x hello="a\\nb"'


def test_the_time_goes_on(open_log: OpenLog, lines: Lines) -> None:
    times = iter([NOW, NOW + 0.9, NOW + 0.9375, NOW + 3600, NOW - 86400])
    log = open_log(clock=lambda: next(times))
    for _ in range(5):
        log.event("x")
    assert [line.split()[0] for line in lines.all()] == [
        "ts=2023-11-14T22:13:20.062Z",
        "ts=2023-11-14T22:13:20.962Z",
        "ts=2023-11-14T22:13:21.000Z",
        "ts=2023-11-14T23:13:20.062Z",
        "ts=2023-11-13T22:13:20.062Z",
    ]


def test_a_bug_is_one_line_with_its_traceback(open_log: OpenLog, lines: Lines) -> None:
    try:
        raise RuntimeError("what\nnow")
    except RuntimeError as error:
        open_log().bug("session-failed", error, client="192.0.2.1")
    (line,) = lines.all()
    fields = read_logfmt(line)
    assert (fields["client"], fields["error"]) == ("192.0.2.1", "RuntimeError")
    assert fields["traceback"].startswith("Traceback (most recent call last):\n  File ")
    assert fields["traceback"].endswith("RuntimeError: what\nnow")


def test_a_value_that_cannot_be_written_out_is_named(open_log: OpenLog, lines: Lines) -> None:
    class Broken:
        def __str__(self) -> str:
            raise ZeroDivisionError

    open_log().event("x", value=Broken())
    assert lines.last() == f'ts={STAMP} event=x value="<Broken: ZeroDivisionError>"'


def test_a_bug_without_a_traceback_is_still_logged(
    monkeypatch: pytest.MonkeyPatch, open_log: OpenLog, lines: Lines
) -> None:
    def too_deep(error: BaseException) -> list[str]:
        raise RecursionError

    monkeypatch.setattr("pfsmtp.log.traceback.format_exception", too_deep)
    open_log().bug("x", ValueError())
    assert read_logfmt(lines.last())["traceback"] == (
        "ValueError, and no traceback because of RecursionError"
    )


def test_a_line_leaves_in_one_write(monkeypatch: pytest.MonkeyPatch, open_log: OpenLog) -> None:
    writes = []

    def write(descriptor: int, octets: bytes) -> int:
        writes.append(octets)
        return len(octets)

    monkeypatch.setattr("pfsmtp.log.write_at_once", write)
    open_log().event("x", to=["a" * 300] * 1000)
    assert len(writes) == 1
    assert writes[0].endswith(b"\n")


def test_a_write_that_stops_half_way_is_completed(
    monkeypatch: pytest.MonkeyPatch, open_log: OpenLog, lines: Lines
) -> None:
    real = os.write
    monkeypatch.setattr("pfsmtp.log.write_at_once", lambda fd, octets: real(fd, octets[:7]))
    open_log().event("x", value="whole")
    assert lines.all() == [f"ts={STAMP} event=x value=whole"]


class Disk:
    """Takes as many octets as there is room, then says that it is full."""

    def __init__(self) -> None:
        self.room = 10**9
        self._write = os.write

    def write(self, descriptor: int, octets: bytes) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = self._write(descriptor, octets[: self.room])
        self.room -= written
        return written


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    monkeypatch.setattr("pfsmtp.log.write_at_once", disk.write)
    return disk


def test_a_full_disk_is_survived_and_its_losses_told(
    open_log: OpenLog, lines: Lines, disk: Disk
) -> None:
    log = open_log()
    child = log.bind(worker=1)
    disk.room = 0
    log.event("lost")
    child.event("lost")
    log.event("lost")
    disk.room = 10**9
    child.event("x")
    log.event("y")
    assert lines.all() == [
        f"ts={STAMP} event=log-lost lines=3",
        f"ts={STAMP} event=x worker=1",
        f"ts={STAMP} event=y",
    ]


def test_a_torn_line_counts_as_lost_and_the_next_begins_a_new_one(
    open_log: OpenLog, lines: Lines, disk: Disk
) -> None:
    log = open_log()
    disk.room = 20
    log.event("torn")
    log.event("lost")
    disk.room = 10**9
    log.event("x")
    log.event("y")
    assert lines.all() == [
        f"ts={STAMP}"[:20],
        f"ts={STAMP} event=log-lost lines=2",
        f"ts={STAMP} event=x",
        f"ts={STAMP} event=y",
    ]


def test_a_real_full_device_is_survived() -> None:
    log = Log(Path("/dev/full"))
    log.event("x")
    log.close()


def test_a_closed_pipe_is_survived() -> None:
    read, write = os.pipe()
    log = Log(write)
    os.close(write)
    os.close(read)
    log.event("x")
    log.close()


def test_a_pipe_that_nobody_empties_is_survived() -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    log = Log(write)
    for _ in range(200):
        log.event("x", value="a" * 1000)
    while len(os.read(read, 1 << 20)) == 1 << 20:
        pass
    log.event("y")
    last = os.read(read, 1 << 20).decode().split("\n")
    assert re.fullmatch(r"ts=\S+ event=log-lost lines=\d\d+", last[-3])
    assert last[-2].endswith(" event=y")
    log.close()
    os.close(read)
    os.close(write)


def test_a_line_after_the_end_is_lost_in_silence(open_log: OpenLog) -> None:
    log = open_log()
    log.close()
    log.event("x")
    log.close()


def test_a_descriptor_is_copied_so_that_its_number_may_be_reused(tmp_path: Path) -> None:
    read, write = os.pipe()
    log = Log(write)
    os.close(write)
    other = os.open(tmp_path / "mail", os.O_WRONLY | os.O_CREAT)  # most likely the same number
    log.event("x")
    assert os.read(read, 1000).endswith(b" event=x\n")
    assert (tmp_path / "mail").read_bytes() == b""
    log.close()
    os.close(other)
    os.close(read)


def test_descriptors_are_not_inherited(open_log: OpenLog, lines: Lines) -> None:
    log = open_log()
    log.reopen()
    mine = [
        int(name)
        for name in os.listdir("/proc/self/fd")
        if os.path.realpath(f"/proc/self/fd/{name}") == str(lines.path.resolve())
    ]
    assert len(mine) == 1
    assert not os.get_inheritable(mine[0])


def test_reopen_follows_a_rotated_file(open_log: OpenLog, lines: Lines) -> None:
    log = open_log()
    child = log.bind(worker=1)
    log.event("before")
    old = lines.path.rename(lines.path.with_suffix(".1"))
    child.event("between")
    log.reopen()
    child.event("after")
    assert [line.split()[1] for line in Lines(old).all()] == ["event=before", "event=between"]
    assert lines.all() == [f"ts={STAMP} event=after worker=1"]


def test_reopen_keeps_the_old_file_when_there_is_no_new_one(tmp_path: Path) -> None:
    directory = tmp_path / "logs"
    directory.mkdir()
    log = Log(directory / "log", clock=lambda: NOW)
    moved = directory.rename(tmp_path / "moved")
    log.reopen()
    log.event("x")
    assert Lines(moved / "log").all() == [
        f"ts={STAMP} event=log-reopen-failed file={directory}/log "
        'reason="No such file or directory"',
        f"ts={STAMP} event=x",
    ]
    log.close()


def test_reopen_does_nothing_to_a_descriptor() -> None:
    read, write = os.pipe()
    log = Log(write)
    log.reopen()
    log.event("x")
    assert os.read(read, 1000).endswith(b" event=x\n")
    log.close()
    os.close(read)
    os.close(write)


def test_reopen_disturbs_no_thread_that_writes(lines: Lines) -> None:
    log = Log(lines.path)

    def write() -> None:
        for number in range(500):
            log.event("x", value=number)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(200):
        log.reopen()
    for thread in threads:
        thread.join()
    log.close()
    assert len(lines.all()) == 2000


def test_processes_and_threads_share_a_file_without_mixing_lines(lines: Lines) -> None:
    log = Log(lines.path)
    long = "a" * 10_000
    children = []
    for number in range(3):
        child = os.fork()
        if child == 0:
            bound = log.bind(process=number)
            for _ in range(300):
                bound.event("x", value=long)
            os._exit(0)
        children.append(child)
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    log.close()
    found = [read_logfmt(line) for line in lines.all()]
    assert len(found) == 900
    assert all(fields["value"] == long for fields in found)


def test_the_file_is_appended_to_and_not_for_everybody_to_read(
    open_log: OpenLog, lines: Lines
) -> None:
    open_log().event("x")
    open_log().event("y")
    assert len(lines.all()) == 2
    assert lines.path.stat().st_mode & 0o177 == 0


def test_a_file_that_cannot_be_opened_at_first_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Log(tmp_path / "absent" / "log")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_files_made_by_root_are_given_to_their_owner(lines: Lines) -> None:
    log = Log(lines.path, owner=(12345, 12346))
    stat = lines.path.stat()
    assert (stat.st_uid, stat.st_gid) == (12345, 12346)
    lines.path.rename(lines.path.with_suffix(".1"))
    log.reopen()
    assert lines.path.stat().st_uid == 12345
    log.close()


def test_a_line_of_twelve_fields_costs_microseconds() -> None:
    """It costs about 3; the bound leaves room for a machine that is slow or busy."""
    log = Log(Path("/dev/null")).bind(role="receiver")

    def accepted() -> None:
        log.event(
            "message-accepted",
            id="1700000000.M12345P123Q12R1234abcd",
            client="192.0.2.1",
            tls="TLSv1.3",
            hello="mail.example.com",
            reverse_path="someone@example.com",
            recipients=["alice@example.org"],
            size=1024,
            seconds=0.001234,
            outcome="delivered",
            file="1700000000.M12345P123Q12R1234abcd.mx.example.org",
            message=1,
        )

    def burst() -> float:
        begin = time.process_time()
        for _ in range(500):
            accepted()
        return (time.process_time() - begin) / 500

    assert min(burst() for _ in range(10)) < 40e-6
    log.close()
