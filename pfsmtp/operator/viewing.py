"""Looking at the queue: what `queue list`, `show` and `summary` do. Nothing is changed by it.

Raises QueueError, OSError when the queue cannot be read, and DeliveryFailure when a message cannot.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress

from pfsmtp.config import Outbound
from pfsmtp.mailqueue.body import FileBody, SlotBody
from pfsmtp.mailqueue.entry import Condition, Damaged, Selection, View
from pfsmtp.mailqueue.window import Window
from pfsmtp.operator import arguments, details, listing, record, summary
from pfsmtp.operator.output import Output
from pfsmtp.operator.prospect import Prospects
from pfsmtp.operator.record import Object
from pfsmtp.operator.trouble import QueueError, no_such


class Viewing:
    """The queue of one configuration, as it is `now`, in Unix seconds."""

    def __init__(self, config: Outbound, output: Output, *, now: float) -> None:
        self._damaged = config.queue.directory / "damaged"
        self._prospects = Prospects(config, now=now)
        self._output = output
        self._now = now
        self._window: Window | None = None
        with suppress(FileNotFoundError):  # no mail was ever queued
            self._window = Window(config.queue.directory)

    def list(self, options: argparse.Namespace) -> None:
        """Show what is in the queue, and what was set aside."""
        output, now = self._output, self._now
        views = self._views(arguments.selection(options, now))
        only_damaged = options.state == Condition.DAMAGED.value
        damaged = [] if arguments.has_filters(options) and not only_damaged else self._set_aside()
        if output.json:
            output.objects(map(self._object, views))
            output.objects(record.of_damaged(each, directory=self._damaged) for each in damaged)
            return
        if not only_damaged:
            output.lines(listing.table(views, self._prospects, now=now, columns=output.columns))
        output.lines(listing.damaged_lines(damaged, self._damaged, now=now))

    def show(self, options: argparse.Namespace) -> None:
        """Show one message."""
        output = self._output
        views = [*self._views(Selection(id=options.id))]
        if not views:
            raise QueueError(no_such(options.id))
        if not (output.json or options.raw):
            output.lines(details.description(views, self._prospects, now=self._now))
        with closing(self._message(views[0])) as message:
            pieces = message.pieces()
            if options.raw:
                output.octets(pieces)
                return
            text = pieces if options.body else [details.header_of(pieces)]
            if output.json:
                key = "message" if options.body else "header"
                whole = b"".join(text).decode("utf-8", "backslashreplace")
                output.objects(self._object(view) | {key: whole} for view in views)
            else:
                output.lines([""])
                output.lines(details.text_lines(text))

    def summarize(self, options: argparse.Namespace) -> None:
        """Show the destinations."""
        output = self._output
        views = self._views(arguments.selection(options, self._now))
        destinations = summary.by_destination(views, self._prospects)
        if output.json:
            output.objects(map(summary.of_destination, destinations))
            return
        output.lines(
            summary.table(destinations, self._prospects, now=self._now, columns=output.columns)
        )
        if damaged := self._set_aside():
            output.lines([f"{len(damaged)} damaged and set aside in {self._damaged}"])

    def _views(self, selection: Selection) -> Iterator[View]:
        """The units that are selected, as they are read."""
        return iter(()) if self._window is None else self._window.views(selection)

    def _set_aside(self) -> Sequence[Damaged]:
        return () if self._window is None else self._window.damaged()

    def _message(self, view: View) -> SlotBody | FileBody:
        """The message of a unit. Raises QueueError when it is gone meanwhile."""
        message = None if self._window is None else self._window.message(view.entry.id)
        if message is None:
            raise QueueError(no_such(view.entry.id))
        return message

    def _object(self, view: View) -> Object:
        return record.of_view(view, self._prospects.of(view))
