"""Figures as pictures. Needs matplotlib, and nothing else here does: `bench/requirements.txt`.

Each function takes what a script has measured and writes one file, SVG or PNG by its name. Colours
and marks say who: Postfix and pfsmtp look the same in every picture.
"""

from __future__ import annotations

import importlib
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COLOURS = {"postfix": "#8a8d91", "pfsmtp": "#1f6fb4"}
MARKS = {"postfix": "s", "pfsmtp": "o"}
STYLES = ("-", "--", ":", "-.")
INCH_WIDE, INCH_HIGH = 5.2, 3.6
LINEAR_BELOW = {"symlog": {"linthresh": 1000}}
"""What a scale takes: one that begins with nothing is no logarithm there."""

Series = Mapping[str, Sequence[tuple[float, float]]]
"""Points by name; a name is that of a server, perhaps with what differs behind it."""


class NoPlotsError(Exception):
    """Pictures cannot be made here; the message says what to do."""


def check(path: Path | None) -> None:
    """See before anything is measured that a picture can be made. Raises NoPlotsError."""
    if path is not None:
        _figure()
        if path.suffix not in (".svg", ".png"):
            raise NoPlotsError(f"{path} ends neither with .svg nor with .png")


def _figure() -> Callable[..., Any]:
    try:
        figure: Callable[..., Any] = importlib.import_module("matplotlib.figure").Figure
    except ImportError as error:
        raise NoPlotsError(
            "matplotlib is missing: pip install -r bench/requirements.txt"
        ) from error
    return figure


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture: what its axes say, and what is drawn in it. A scale is one of matplotlib's."""

    up: str
    across: str
    series: Series
    x_scale: str = "linear"
    y_scale: str = "linear"


def lines(path: Path, rows: Sequence[Sequence[Panel]], *, title: str) -> None:
    """Rows of panels, as many in each; a line in them for each of the series."""
    across = len(rows[0])
    figure = _figure()(figsize=(INCH_WIDE * across, INCH_HIGH * len(rows)), layout="constrained")
    figure.suptitle(title, fontsize=10)
    for axes_of_row, row in zip(_axes(figure, len(rows), across), rows, strict=True):
        for axes, panel in zip(axes_of_row, row, strict=True):
            _draw(axes, panel)
    figure.savefig(path)


def _draw(axes: Any, panel: Panel) -> None:
    for number, (name, points) in enumerate(panel.series.items()):
        server, _, rest = name.partition(" ")
        axes.plot(
            [x for x, _ in points],
            [y for _, y in points],
            color=COLOURS.get(server),
            marker=MARKS.get(server, "o"),
            linestyle=STYLES[_rank(panel.series, number) % len(STYLES)],
            label=name if rest else server,
        )
    axes.set_xlabel(panel.across)
    axes.set_ylabel(panel.up)
    axes.set_xscale(panel.x_scale, **LINEAR_BELOW.get(panel.x_scale, {}))
    axes.set_yscale(panel.y_scale)
    if panel.x_scale == "log":
        _number_plainly(axes.xaxis, (1,))
    if panel.y_scale == "log":
        _number_plainly(axes.yaxis, (1, 2, 5))
    if panel.y_scale == "linear":
        axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def _number_plainly(axis: Any, digits: Sequence[int]) -> None:
    """100 rather than a power of ten on a logarithmic axis, and others that begin with `digits`."""
    ticker = importlib.import_module("matplotlib.ticker")
    axis.set_major_locator(ticker.LogLocator(subs=digits))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(ticker.NullFormatter())


def bars(
    path: Path, groups: Sequence[str], series: Mapping[str, Sequence[float]], *, title: str, up: str
) -> None:
    """A group of bars for each name in `groups`, in it a bar for each of the series."""
    figure = _figure()(
        figsize=(2 + 0.9 * len(groups) * len(series), INCH_HIGH), layout="constrained"
    )
    ((axes,),) = _axes(figure, 1, 1)
    width = 0.8 / len(series)
    for number, (name, values) in enumerate(series.items()):
        places = [place + width * (number - (len(series) - 1) / 2) for place in range(len(groups))]
        axes.bar(places, values, width, label=name, color=COLOURS.get(name.partition(" ")[0]))
    axes.set_xticks(range(len(groups)), groups, rotation=20 if len(groups) > 4 else 0)
    axes.set_ylabel(up)
    axes.set_title(title, fontsize=10)
    axes.grid(axis="y", alpha=0.3)
    if len(series) > 1:
        axes.legend(fontsize=8)
    figure.savefig(path)


def medians(pairs: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points with the median of all that were measured at each x."""
    at: dict[float, list[float]] = {}
    for x, y in pairs:
        at.setdefault(x, []).append(y)
    return [(x, statistics.median(at[x])) for x in sorted(at)]


def _axes(figure: Any, high: int, wide: int) -> list[list[Any]]:
    return [list(row) for row in figure.subplots(high, wide, squeeze=False)]


def _rank(series: Series, number: int) -> int:
    """How many series of the same server come before this one."""
    names = [name.partition(" ")[0] for name in series]
    return names[:number].count(names[number])
