"""`queue …` on the command line: its commands, their options, and which messages they mean.

What changes messages has to be told which: an ID, a filter, or `--all`; nothing is meant by
default. Wrong usage ends with exit status 2, as argparse has it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace

from pfsmtp.config import Seconds
from pfsmtp.mailqueue.entry import Condition, Selection, Wish

_ANY_BUT_HELD = frozenset({Condition.WAITING, Condition.ACTIVE})

# What is done with messages: in a word, at length, and with which when none is named by its ID.
_WISHES = (
    (Wish.RETRY, "try to deliver now, rather than at the next time", _ANY_BUT_HELD),
    (Wish.HOLD, "do not try to deliver, until released", _ANY_BUT_HELD),
    (Wish.RELEASE, "hold no longer", frozenset({Condition.HELD})),
    (Wish.DELETE, "delete, and tell nobody", frozenset(Condition)),
    (Wish.BOUNCE, "give up, and tell the sender", frozenset(Condition)),
)
_BY_DEFAULT = {wish: conditions for wish, _, conditions in _WISHES}
_RELEASED_BY_ID = frozenset({Condition.HELD, Condition.ACTIVE})

_TABLE_EPILOG = (
    "Each message to each destination is shown with why it waits, when it is tried next (NEXT) and"
    " when it is given up (UNTIL)."
)


def add_to(parser: argparse.ArgumentParser) -> None:
    """Add the commands."""
    commands = parser.add_subparsers(dest="queue", metavar="COMMAND", required=True)
    listing = commands.add_parser(
        "list", help="what is in the queue, and why", epilog=_TABLE_EPILOG
    )
    _add_filters(listing, [*Condition])
    _add_json(listing)
    show = commands.add_parser("show", help="all that is known of one message")
    show.add_argument("id", metavar="ID")
    text = show.add_mutually_exclusive_group()
    text.add_argument("--body", action="store_true", help="the whole message, not only its header")
    text.add_argument("--raw", action="store_true", help="nothing but the message, octet for octet")
    _add_json(show)
    for wish, help, _ in _WISHES:
        command = commands.add_parser(
            wish.value, help=help, usage="%(prog)s [-h] [ID ...] [filters] [--all] [--json]"
        )
        command.add_argument("ids", metavar="ID", nargs="*")
        _add_filters(command, [Condition.WAITING, Condition.ACTIVE, Condition.HELD])
        command.add_argument("--all", action="store_true", help="all there are")
        command.set_defaults(complain=command.error)
        _add_json(command)
    summary = commands.add_parser("summary", help="the destinations, with how much waits for each")
    _add_filters(summary, [Condition.WAITING, Condition.ACTIVE, Condition.HELD])
    _add_json(summary)


def selection(options: argparse.Namespace, now: float) -> Selection:
    """The messages that the filters mean; all when there are none."""
    chosen = Selection(
        domain=options.destination,
        sender=options.sender,
        recipient=options.recipient,
        queued_before=None if options.older is None else now - options.older,
        queued_after=None if options.newer is None else now - options.newer,
    )
    if options.state is None:
        return chosen
    return replace(chosen, conditions=frozenset({Condition(options.state)}))


def has_filters(options: argparse.Namespace) -> bool:
    """Whether the filters leave anything out."""
    return selection(options, 0.0) != Selection()


def selections(options: argparse.Namespace, wish: Wish, now: float) -> list[Selection]:
    """The messages that something is to be done with: for each ID, or for the filters."""
    filtered = has_filters(options)
    if not options.ids and not filtered and not options.all:
        options.complain("which messages? Name an ID, a filter such as --destination, or --all")
    if options.all and (options.ids or filtered):
        options.complain("--all leaves nothing to be named by an ID or a filter")
    chosen = selection(options, now)
    if options.ids:
        if wish is Wish.RELEASE and options.state is None:
            chosen = replace(chosen, conditions=_RELEASED_BY_ID)
        return [replace(chosen, id=id) for id in dict.fromkeys(options.ids)]
    if options.state is None:
        chosen = replace(chosen, conditions=_BY_DEFAULT[wish])
    return [chosen]


def _add_filters(parser: argparse.ArgumentParser, states: list[Condition]) -> None:
    filters = parser.add_argument_group("filters, all of which must hold")
    filters.add_argument("--destination", metavar="DOMAIN")
    filters.add_argument("--sender", metavar="ADDRESS", type=_address, help="<> is the null path")
    filters.add_argument("--recipient", metavar="ADDRESS", type=_address)
    filters.add_argument("--older", metavar="TIME", type=_reader(Seconds.parse), help="as in 2h")
    filters.add_argument("--newer", metavar="TIME", type=_reader(Seconds.parse), help="as in 30min")
    filters.add_argument("--state", choices=[state.value for state in states])


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for programs: one object a line")


def _address(text: str) -> str:
    """An address as it was given, with or without the brackets of a path."""
    if text in ("", "<>"):
        return "<>"
    return text[1:-1] if text.startswith("<") and text.endswith(">") else text


def _reader(parse: Callable[[object], Seconds]) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read
