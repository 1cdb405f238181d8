"""The command line, as programs use it with sendmail(8).

Options that ask for what the server decides, or that meant something to Sendmail's own queue, are
taken and ignored. Those that ask for what is not done here are refused, rather than to do something
else.
"""

from __future__ import annotations

import os

from pfsmtp.sendmail.failure import Failure

USAGE = "usage: sendmail [-t] [-i] [-f sender] [-F name] [-C file] [option ...] [recipient ...]"

# How the letters take their values, as getopt(3) has it.
_WITHOUT_VALUE = "GIUimnstvx78"
_WITH_VALUE = "ABCDFLMNORVXbcefhopr"
_WITH_VALUE_ATTACHED = "dq"

_MODES = {
    "m": "submit",
    "s": "smtp",
    "p": "list",
    "i": "aliases",
}
_MODES_BY_NAME = {"mailq": "list", "newaliases": "aliases"}


class Options:
    """What the command line asks for.

    `mode` is `submit` (a message from stdin), `smtp` (speak it on stdin and stdout), `list` and
    `run` (the queue), or `aliases` (there are none, so that nothing is to be done).
    """

    def __init__(self) -> None:
        self.mode = "submit"
        self.recipients: list[str] = []
        self.recipients_in_header = False
        self.sender: str | None = None  # "" is the null path
        self.full_name: str | None = None
        self.dot_ends = True
        self.verbose = False
        self.eight_bit = False
        self.notify: str | None = None
        self.returning: str | None = None
        self.envelope_id: str | None = None
        self.config: str | None = None
        self.run = ""


def parse(argv: list[str]) -> Options:
    """Read the command line, the program's name first. Raises Failure with EX_USAGE."""
    options = Options()
    options.mode = _MODES_BY_NAME.get(os.path.basename(argv[0]), "submit")
    arguments = argv[1:]
    while arguments:
        argument = arguments.pop(0)
        if argument == "--":
            break
        if len(argument) < 2 or argument[0] != "-":
            arguments.insert(0, argument)
            break
        _take(options, argument[1:], arguments)
    options.recipients = arguments
    return options


def _take(options: Options, letters: str, following: list[str]) -> None:
    """Take one argument: letters without values, of which the last may have one."""
    while letters:
        letter, letters = letters[0], letters[1:]
        if letter in _WITHOUT_VALUE:
            _set(options, letter, "")
            continue
        if letter in _WITH_VALUE_ATTACHED:
            _set(options, letter, letters)
        elif letter in _WITH_VALUE and (letters or following):
            _set(options, letter, letters or following.pop(0))
        elif letter in _WITH_VALUE:
            raise Failure(os.EX_USAGE, f"-{letter} needs a value; {USAGE}")
        else:
            raise Failure(os.EX_USAGE, f"-{letter} is not an option; {USAGE}")
        return


def _set(options: Options, letter: str, value: str) -> None:
    """Do what one option says."""
    match letter:
        case "t":
            options.recipients_in_header = True
        case "i":
            options.dot_ends = False
        case "f" | "r":
            options.sender = value
        case "F":
            options.full_name = value
        case "v":
            options.verbose = True
        case "B":
            options.eight_bit = value.upper() == "8BITMIME"
        case "N":
            options.notify = _notify(value)
        case "R":
            options.returning = _returning(value)
        case "V":
            options.envelope_id = value
        case "C" | "c":
            options.config = value
        case "b":
            options.mode = _mode(value)
        case "I":
            options.mode = "aliases"
        case "q":
            options.mode, options.run = "run", value
        case "o":
            _set_old(options, value)


def _set_old(options: Options, value: str) -> None:
    """`-oX`: what were one-letter options of Sendmail's configuration."""
    if value == "i":
        options.dot_ends = False
    elif value == "v":
        options.verbose = True


def _mode(value: str) -> str:
    mode = _MODES.get(value)
    if mode is None:
        known = ", ".join(f"-b{letter}" for letter in _MODES)
        raise Failure(os.EX_USAGE, f"-b{value} is not done here, only {known}; {USAGE}")
    return mode


def _notify(value: str) -> str:
    # RFC 3461 §4.1: NEVER stands alone.
    words = value.upper().split(",")
    if words == ["NEVER"] or set(words) <= {"SUCCESS", "FAILURE", "DELAY"}:
        return ",".join(words)
    raise Failure(os.EX_USAGE, f"-N {value}: say never, or some of success,failure,delay")


def _returning(value: str) -> str:
    # RFC 3461 §4.3
    returning = value.upper()
    if returning in ("FULL", "HDRS"):
        return returning
    raise Failure(os.EX_USAGE, f"-R {value}: say full or hdrs")
