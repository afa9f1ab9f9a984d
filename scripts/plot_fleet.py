#!/usr/bin/env python3
"""Draw docs/fleet.svg: time and memory of a report by the number of captures, from benchmarks/results/fleet.json.

`python -m scripts.plot_fleet` writes it; tests/test_scale.py fails while it differs from the result.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import NamedTuple

from benchmarks.arithmetic import DUCKDB, SPARK, alike, number, result, runs
from benchmarks.harness import Cell, Result, Spread, shown

PICTURE = Path(__file__).resolve().parent.parent / "docs" / "fleet.svg"
_WIDTH, _HEIGHT = 880, 380  # pixels
_TOP, _BOTTOM = 64, 52
_MARKERS = {
    DUCKDB: '<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5"><title>{told}</title></circle>',
    SPARK: '<path class="square" d="M{x:.1f} {y:.1f}m-4-4h8v8h-8z"><title>{told}</title></path>',
}
# Colours differ in lightness as well, and markers in shape: nobody must tell blue from orange.
_STYLE = """
svg { font: 13px system-ui, sans-serif; --ground: #fff; --ink: #1f2328; --faint: #656d76; --grid: #d8dee4;
  --duckdb: #0550ae; --spark: #c2560c }
@media (prefers-color-scheme: dark) { svg { --ground: #0d1117; --ink: #e6edf3; --faint: #9198a1; --grid: #30363d;
  --duckdb: #79c0ff; --spark: #ffa657 } }
.ground { fill: var(--ground) } text { fill: var(--ink) } .faint { fill: var(--faint) } .grid { stroke: var(--grid) }
.head { font-weight: 600 } .duckdb { color: var(--duckdb) } .spark { color: var(--spark) } g text { fill: currentColor }
.curve { fill: none; stroke: currentColor; stroke-width: 2 } .error { stroke: currentColor }
circle, .square { fill: currentColor }
"""


class Point(NamedTuple):
    """What came of so many captures."""

    captures: int
    spread: Spread


@dataclass(frozen=True)
class Panel:
    """One measure: its heading, and the points of each engine. left, right: where it stands, in pixels."""

    heading: str
    curves: dict[str, list[Point]]
    left: float
    right: float


@dataclass(frozen=True)
class Axis:
    """A logarithmic axis: values from `low` to `high` between two places."""

    low: float
    high: float
    first: float
    last: float

    def at(self, value: float) -> float:
        """Where a value stands."""
        return self.first + (self.last - self.first) * math.log(value / self.low) / math.log(self.high / self.low)

    def ticks(self) -> Iterator[float]:
        """1, 2, 5, 10 and so on, as far as it goes."""
        for power in range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1):
            yield from (step * 10.0**power for step in (1, 2, 5) if self.low <= step * 10.0**power <= self.high)


def svg(found: Result) -> str:
    """The picture of a result of benchmarks/fleet.py."""
    panels = (
        Panel("Time of a report, seconds", _curves(found, "s"), 70, 420),
        Panel("Memory of all processes, MB", _curves(found, "memory, MB"), 520, 870),
    )
    events = round(alike(runs(found, DUCKDB))[-1].length, -2)
    sizes = sorted({point.captures for points in panels[0].curves.values() for point in points})
    words = f"kmwatch report of made-up captures, about {events:,.0f} events in each; both axes are logarithmic"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{words}">',
        f"<style>{_STYLE}</style>",
        f'<rect class="ground" width="{_WIDTH}" height="{_HEIGHT}"/>',
        _text(16, 22, words, "faint", "start"),
        *_legend([engine for engine in _MARKERS if engine in panels[0].curves]),
        *(line for panel in panels for line in _panel(panel, sizes)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _legend(engines: Sequence[str]) -> Iterator[str]:
    """Which marker is whose, at the top on the right: curves meet, and names beside them would, too."""
    for at, engine in enumerate(engines):
        left = _WIDTH - 90 * (len(engines) - at) + 10
        yield f'<g class="{engine}">'
        yield _MARKERS[engine].format(x=left, y=18, told=engine)
        yield _text(left + 12, 22, engine, "head", "start")
        yield "</g>"


def _curves(found: Result, column: str) -> dict[str, list[Point]]:
    """The points of a column, by engine: of the runs that differ in the number of captures only."""
    at = list(found.columns).index(column)
    curves: dict[str, list[Point]] = {}
    for engine in _MARKERS:
        rows = {tuple(map(number, row[1:3])): row[at] for row in found.rows if row[0] == engine}
        if rows:
            same = alike(runs(found, engine))
            curves[engine] = [Point(int(run.captures), _spread(rows[run.captures, run.events])) for run in same]
    return curves


def _spread(cell: Cell) -> Spread:
    return cell if isinstance(cell, Spread) else Spread(*[number(cell)] * 3)


def _panel(panel: Panel, sizes: Sequence[int]) -> Iterator[str]:
    spreads = [point.spread for points in panel.curves.values() for point in points]
    x = Axis(sizes[0] / 1.25, sizes[-1] * 1.25, panel.left, panel.right)
    low, high = min(each.low for each in spreads), max(each.high for each in spreads)
    y = Axis(low / 1.5, high * 1.5, _HEIGHT - _BOTTOM, _TOP)
    yield _text(panel.left, _TOP - 16, panel.heading, "head", "start")
    for tick in y.ticks():
        yield _line(panel.left, y.at(tick), panel.right, y.at(tick), "grid")
        yield _text(panel.left - 8, y.at(tick) + 4, f"{tick:,g}", "faint", "end")
    for size in sizes:
        yield _line(x.at(size), _TOP, x.at(size), _HEIGHT - _BOTTOM, "grid")
        yield _text(x.at(size), _HEIGHT - _BOTTOM + 18, f"{size:,}", "faint", "middle")
    yield _text((panel.left + panel.right) / 2, _HEIGHT - 14, "captures", "", "middle")
    for engine, points in panel.curves.items():
        yield f'<g class="{engine}">'
        yield from _curve(engine, points, x.at, y.at)
        yield "</g>"


def _curve(
    engine: str, points: Sequence[Point], x: Callable[[float], float], y: Callable[[float], float]
) -> Iterator[str]:
    places = [(x(point.captures), y(point.spread.median)) for point in points]
    yield f'<polyline class="curve" points="{" ".join(f"{left:.1f},{top:.1f}" for left, top in places)}"/>'
    for point, (left, top) in zip(points, places, strict=True):
        told = f"{engine}, {point.captures:,} captures: {shown(point.spread)}"
        yield _line(left, y(point.spread.low), left, y(point.spread.high), "error")
        yield _MARKERS[engine].format(x=left, y=top, told=escape(told))


def _line(x1: float, y1: float, x2: float, y2: float, name: str) -> str:
    return f'<line class="{name}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, words: str, name: str, anchor: str) -> str:
    return f'<text class="{name}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def main() -> None:
    """Write it."""
    PICTURE.write_text(svg(result("fleet")), encoding="utf-8")


if __name__ == "__main__":
    main()
