"""How fast the compiled loops are: command lines, paths, the text of messages in and out.

Each figure is the best of `--repeats` rounds, since only others' noise makes a loop slower. Beside
the loops over text stands a plain copy of the same octets, which is what none of them can beat.

    bench/parsers.py
    bench/parsers.py --json figures.json --plot parsers.svg
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import plots
from measure import Machine, markdown_table

from pfsmtp import __version__
from pfsmtp.smtp.path import parse_path
from pfsmtp.smtp.wire import Decoder, Input, dot_stuff

ROUND_SECONDS = 0.05
LINE_LIMIT = 2048
TEXT_SIZE = 1 << 20
PIECE = 64 * 1024  # what a large message is received in

COMMANDS = b"MAIL FROM:<alice@example.org> SIZE=1024\r\nRCPT TO:<bob@example.net>\r\nDATA\r\n"
PATHS = {
    "plain": b"TO:<bob@example.net>",
    "with parameters": b"TO:<bob@example.net> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;bob@example.net",
    "quoted": b'TO:<"bob \\"the\\" builder"@example.net>',
    "route": b"TO:<@one.example,@two.example:bob@example.net>",
    "literal": b"TO:<bob@[IPv6:2001:db8::1]>",
}
TEXTS = {
    "lines of 78": b"x" * 76 + b"\r\n",
    "lines of 998": b"x" * 996 + b"\r\n",
    "empty lines": b"\r\n",
    "lines of dots": b"...\r\n",
}


@dataclass(frozen=True, slots=True)
class Figure:
    """One loop over one input."""

    loop: str
    input: str
    nanoseconds: float  # a call
    octets: int  # of a call

    @property
    def megabytes_per_second(self) -> float:
        return self.octets / self.nanoseconds * 1000


def best(action: Callable[[], object], repeats: int) -> float:
    """Nanoseconds of one call, in the best round."""
    calls, seconds = 1, 0.0
    while True:
        seconds = _round(action, calls)
        if seconds >= ROUND_SECONDS:
            break
        calls *= 2
    rounds = [seconds, *(_round(action, calls) for _ in range(repeats - 1))]
    return min(rounds) / calls * 1e9


def _round(action: Callable[[], object], calls: int) -> float:
    began = time.perf_counter()
    for _ in range(calls):
        action()
    return time.perf_counter() - began


def text_of(line: bytes) -> bytes:
    return line * (TEXT_SIZE // len(line))


def stuffed(line: bytes) -> bytes:
    """The text as it is on the wire, with its end."""
    octets, _ = dot_stuff(text_of(line), True)
    return octets + b".\r\n"


def decode(octets: bytes) -> None:
    """As a connection does: received piece by piece, taken out as it comes."""
    decoder, received = Decoder(keep_cr=False), Input()
    view = memoryview(octets)
    for start in range(0, len(octets), PIECE):
        received.feed(view[start : start + PIECE])
        received.data(decoder)
    assert decoder.ended


def take_commands(received: Input) -> None:
    received.feed(COMMANDS)
    while received.command(LINE_LIMIT) is not None:
        pass


def measure(repeats: int) -> list[Figure]:
    """All figures, in the order of the table."""
    figures = []

    def add(loop: str, name: str, octets: bytes | bytearray, action: Callable[[], object]) -> None:
        figures.append(Figure(loop, name, best(action, repeats), len(octets)))

    add("Input.command", "three commands", COMMANDS, partial(take_commands, Input()))
    for name, path in PATHS.items():
        add("parse_path", name, path, partial(parse_path, path, b"TO:"))
    for name, line in TEXTS.items():
        text, wire = text_of(line), stuffed(line)
        add("Decoder", name, wire, partial(decode, wire))
        add("dot_stuff", name, text, partial(dot_stuff, text, True))
    octets = bytearray(text_of(TEXTS["lines of 78"]))
    add("a copy", "1 MiB", octets, partial(bytes, octets))
    return figures


def table(figures: Sequence[Figure]) -> str:
    rows = [
        [
            figure.loop,
            figure.input,
            f"{figure.nanoseconds:,.0f}",
            f"{figure.megabytes_per_second:,.0f}",
        ]
        for figure in figures
    ]
    return markdown_table(["loop", "input", "ns a call", "MB/s"], rows)


def plot(path: Path, figures: Sequence[Figure]) -> None:
    """The loops over text; a call that reads a line is no matter of MB/s."""
    series = {
        f"pfsmtp {loop}": [figure.megabytes_per_second for figure in figures if figure.loop == loop]
        for loop in ("Decoder", "dot_stuff")
    }
    plots.bars(path, list(TEXTS), series, title="compiled loops", up="MB/s")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=10, help="rounds (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="MB/s, as .svg or .png")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    try:
        plots.check(options.plot)
    except plots.NoPlotsError as error:
        print(f"parsers.py: {error}", file=sys.stderr)
        return 1
    figures = measure(options.repeats)
    machine = Machine.describe(Path.cwd())
    print(f"{machine}\npfsmtp {__version__}; best of {options.repeats} rounds\n")
    print(table(figures))
    if options.json:
        known = {"machine": machine.as_dict(), "version": __version__}
        text = json.dumps({**known, "figures": [asdict(figure) for figure in figures]}, indent=1)
        options.json.write_text(text + "\n")
    if options.plot:
        plot(options.plot, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
