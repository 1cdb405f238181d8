"""Figures as pictures. Needs matplotlib, and nothing else here does: `bench/requirements.txt`.

Each function takes what a script has measured and writes one file, SVG or PNG by its name. Colours
and marks say who: Postfix and pfsmtp look the same in every picture.
"""

from __future__ import annotations

import importlib
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

COLOURS = {"postfix": "#8a8d91", "pfsmtp": "#1f6fb4"}
MARKS = {"postfix": "s", "pfsmtp": "o"}
STYLES = ("-", "--", ":", "-.")
INCH_WIDE, INCH_HIGH = 5.2, 3.6

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


def lines(
    path: Path,
    panels: Sequence[tuple[str, Series]],
    *,
    title: str,
    across: str,
    logarithmic: bool = False,
) -> None:
    """One panel beside the other, each named by its y-axis, all with the same x-axis."""
    figure = _figure()(figsize=(INCH_WIDE * len(panels), INCH_HIGH), layout="constrained")
    figure.suptitle(title, fontsize=10)
    for axes, (up, series) in zip(_axes(figure, len(panels)), panels, strict=True):
        for number, (name, points) in enumerate(series.items()):
            server, _, rest = name.partition(" ")
            axes.plot(
                [x for x, _ in points],
                [y for _, y in points],
                color=COLOURS.get(server),
                marker=MARKS.get(server, "o"),
                linestyle=STYLES[_rank(series, number) % len(STYLES)],
                label=name if rest else server,
            )
        axes.set_xlabel(across)
        axes.set_ylabel(up)
        axes.set_ylim(bottom=0)
        if logarithmic:
            axes.set_xscale("symlog", linthresh=1000)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(path)


def bars(
    path: Path, groups: Sequence[str], series: Mapping[str, Sequence[float]], *, title: str, up: str
) -> None:
    """A group of bars for each name in `groups`, in it a bar for each of the series."""
    figure = _figure()(
        figsize=(2 + 0.9 * len(groups) * len(series), INCH_HIGH), layout="constrained"
    )
    (axes,) = _axes(figure, 1)
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


def _axes(figure: Any, count: int) -> list[Any]:
    return list(figure.subplots(1, count, squeeze=False)[0])


def _rank(series: Series, number: int) -> int:
    """How many series of the same server come before this one."""
    names = [name.partition(" ")[0] for name in series]
    return names[:number].count(names[number])
