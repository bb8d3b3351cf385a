"""Line charts as SVG text.

Knows numbers and a page whose style sheet colours `.line0`, `.line1`, `.axis` and `.grid`. Knows
no training.
"""

import math
from collections.abc import Sequence
from html import escape

import msgspec

Point = tuple[float, float]
WIDTH, HEIGHT = 640, 260
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 12, 40
MAX_MARKS = 60


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """Points by rising x; `marks` draws each of them, `faint` draws the line in the background."""

    name: str
    points: Sequence[Point]
    marks: bool = False
    faint: bool = False


class Scale(msgspec.Struct, frozen=True, kw_only=True):
    """From values to positions along one axis, with round ticks that cover the values."""

    ticks: tuple[float, ...]
    start: float
    end: float

    def at(self, value: float) -> float:
        """Return the position of a value, in SVG units."""
        low, high = self.ticks[0], self.ticks[-1]
        return self.start + (value - low) / (high - low) * (self.end - self.start)


def round_ticks(low: float, high: float, wanted: int = 5) -> tuple[float, ...]:
    """Return round numbers a 1, 2 or 5 apart (times a power of ten) that cover a range."""
    if not low < high:
        low, high = (low - 0.5, high + 0.5) if low else (0.0, 1.0)
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return tuple(round(step * count, 12) for count in range(first, last + 1))


def line_chart(lines: Sequence[Line], *, x_name: str, y_name: str, from_zero: bool = False) -> str:
    """Return an SVG of some lines over one pair of axes; nothing for no points."""
    points = [point for line in lines for point in line.points]
    if not points:
        return ""
    lows = [y for _, y in points] + [0.0] * from_zero
    ticks_x = round_ticks(min(x for x, _ in points), max(x for x, _ in points))
    x_axis = Scale(ticks=ticks_x, start=LEFT, end=WIDTH - RIGHT)
    ticks_y = round_ticks(min(lows), max(lows))
    y_axis = Scale(ticks=ticks_y, start=HEIGHT - BOTTOM, end=TOP)
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(y_name)}">',
        *_grid(x_axis, y_axis),
        *(_curve(number, line, x_axis, y_axis) for number, line in enumerate(lines)),
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, x_name),
        "</svg>",
    ]
    return "".join(parts)


def _grid(x_axis: Scale, y_axis: Scale) -> list[str]:
    parts = []
    for tick in y_axis.ticks:
        y = y_axis.at(tick)
        ends = f'x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"'
        parts.append(f'<line class="grid" {ends}/>')
        parts.append(_text(LEFT - 8, y + 4, label(tick), anchor="end"))
    below = HEIGHT - BOTTOM + 18
    return parts + [_text(x_axis.at(tick), below, label(tick)) for tick in x_axis.ticks]


def _text(x: float, y: float, text: str, *, anchor: str = "middle") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text class="axis" {place}>{escape(text)}</text>'


def _curve(number: int, line: Line, x_axis: Scale, y_axis: Scale) -> str:
    places = [(x_axis.at(x), y_axis.at(y)) for x, y in line.points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    kind = f"line{number} faint" if line.faint else f"line{number}"
    parts = [f'<polyline class="{kind}" points="{path}"/>']
    if line.marks or len(places) == 1:
        kept = range(0, len(places), math.ceil(len(places) / MAX_MARKS))
        parts += [_mark(number, line.points[at], places[at]) for at in kept]
    return "".join(parts)


def _mark(number: int, point: Point, place: Point) -> str:
    title = f"<title>{label(point[0])}: {point[1]:.5g}</title>"
    centre = f'cx="{place[0]:.1f}" cy="{place[1]:.1f}" r="4"'
    return f'<circle class="mark{number}" {centre}>{title}</circle>'


def label(value: float) -> str:
    """Write a tick: thousands as k, small numbers with few digits."""
    if value and abs(value) < 1e-3:
        return f"{value:.0e}".replace("e-0", "e-")
    return f"{value / 1_000:g}k" if abs(value) >= 10_000 else f"{value:g}"


def smoothed(points: Sequence[Point], keep: float = 0.8) -> list[Point]:
    """Return the exponential mean of the values so far, without bias towards the first."""
    total, weight, made = 0.0, 0.0, []
    for x, y in points:
        total, weight = keep * total + y, keep * weight + 1
        made.append((x, total / weight))
    return made
