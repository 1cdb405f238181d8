"""A flame graph as SVG, from stacks that were sampled.

Stacks come folded, a line each, `outermost;…;innermost count`, as py-spy and many other tools
write them. Widths are shares of the samples; the colour says which kind of code it is; the title
of each frame, its name and share, is shown by browsers under the pointer.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from xml.sax.saxutils import escape, quoteattr

WIDTH = 1200
ROW = 17
MARGIN = 30
CHARACTER = 6.6  # the width of one, about
NARROWEST = 0.3  # pixels; what is narrower is left out

# Hues, in degrees: (marks of the frame's name, hue).
_HUES = ((("[k]",), 200), ((".py",), 45), (("lib", ".so"), 100))
_OTHER_HUE = 10


@dataclass(slots=True)
class Frame:
    """A function where it was called from, with all that it called."""

    name: str
    samples: int = 0
    called: dict[str, Frame] = field(default_factory=dict)


def gather(stacks: Iterable[str]) -> Frame:
    """Put folded stacks together."""
    root = Frame("all")
    for line in stacks:
        names, _, count = line.rpartition(" ")
        if not count.strip().isdigit():
            continue
        frame = root
        frame.samples += int(count)
        for name in names.split(";"):
            frame = frame.called.setdefault(name, Frame(name))
            frame.samples += int(count)
    return root


def render(root: Frame, title: str) -> str:
    """Return the SVG."""
    if not root.samples:
        raise ValueError("no samples: was there any load?")
    rows = list(_rectangles(root, 0, 0.0, WIDTH / root.samples))
    height = (max(level for level, *_ in rows) + 1) * ROW + 2 * MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}"'
        ' font-family="monospace" font-size="11">',
        f'<rect width="100%" height="100%" fill="#fff"/><text x="8" y="20">{escape(title)}</text>',
    ]
    for level, left, width, frame in rows:
        share = frame.samples / root.samples
        top = height - MARGIN - (level + 1) * ROW
        label = _label(frame.name, left, top, width)
        parts.append(
            f"<g><title>{escape(frame.name)}: {share:.1%}</title>"
            f'<rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="{ROW - 1}"'
            f' rx="1" fill={quoteattr(_colour(frame.name))}/>{label}</g>'
        )
    return "\n".join([*parts, "</svg>\n"])


def _rectangles(
    frame: Frame, level: int, left: float, scale: float
) -> Iterator[tuple[int, float, float, Frame]]:
    """Level, left edge and width of each frame that is wide enough to be seen."""
    width = frame.samples * scale
    if width < NARROWEST:
        return
    yield level, left, width, frame
    for name in sorted(frame.called):
        called = frame.called[name]
        yield from _rectangles(called, level + 1, left, scale)
        left += called.samples * scale


def _label(name: str, left: float, top: float, width: float) -> str:
    room = int((width - 4) / CHARACTER)
    if room < 3:
        return ""
    text = name if len(name) <= room else name[: room - 1] + "…"
    return f'<text x="{left + 2:.1f}" y="{top + 12}">{escape(text)}</text>'


def _colour(name: str) -> str:
    """One hue for each kind of code, and a shade for each name."""
    hue = next((hue for marks, hue in _HUES if any(mark in name for mark in marks)), _OTHER_HUE)
    return f"hsl({hue}, {60 + zlib.crc32(name.encode()) % 30}%, 68%)"
