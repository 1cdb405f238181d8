"""`crashtest …` on the command line. Wrong usage ends with exit status 2, as argparse has it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from pfsmtp.config import Octets, Seconds

_EPILOG = (
    "The real mail is not touched: the server runs on a directory beside it, and on ports of"
    " loopback. Exit status: 0 nothing that was acknowledged is lost, 1 something is (the directory"
    " is kept), 2 it could not be run."
)


def add_to(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.epilog = _EPILOG
    parser.add_argument(
        "--for",
        dest="seconds",
        metavar="TIME",
        type=_reader(Seconds.parse),
        default=60.0,
        help='how long to send and kill, as in 10min; default "1 min"',
    )
    parser.add_argument(
        "--every",
        metavar="TIME",
        type=_reader(Seconds.parse),
        default=1.0,
        help='time between two kills, on average; default "1 s"',
    )
    parser.add_argument("--clients", metavar="N", type=_count, default=8, help="default 8")
    parser.add_argument("--seed", metavar="N", type=int, help="repeat the run that had this seed")
    parser.add_argument(
        "--into",
        metavar="FILE",
        type=Path,
        help="outbound: relay to the inbound server of this configuration, and kill that too",
    )
    parser.add_argument(
        "--directory", metavar="DIR", type=Path, help="where to work; default: beside the real mail"
    )
    parser.add_argument(
        "--space",
        metavar="SIZE",
        type=_reader(Octets.parse),
        default=Octets.parse("1 GiB"),
        help='how much mail to keep at a time; default "1 GiB"',
    )
    parser.add_argument("--keep", action="store_true", help="keep the directory in any case")
    parser.add_argument("--json", action="store_true", help="the figures as one JSON object")


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 1 or more")
    return int(text)


def _reader(parse: Callable[[object], float]) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read
