"""What a report of many captures takes, with each engine: time, memory and CPU seconds by the number of captures.

The fleets are made up by `kmwatch synth`. Memory and CPU seconds are those of all processes: with Spark a Java virtual
machine and its Python workers are beside the one that was started.
"""

import json
import tempfile
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

from benchmarks.arithmetic import DUCKDB, SPARK
from benchmarks.commands import KMWATCH, run, run_tree
from benchmarks.harness import Cell, Options, Result, Spread, in_turn, main
from kmwatch.fleet.synth import PLANTED

CAPTURES = (10, 30, 100, 300)
_FULL = 1000
_SHORT, _LONG = 4_000, 1_000_000
"""Events of a capture, about; few long ones tell what an event takes."""
_OPTIONS = {DUCKDB: ("--engine", "duckdb"), SPARK: ("--engine", "spark", "--master", "local[2]")}
_SHARE = 5  # one round of these for so many of others
COLUMNS = ("engine", "captures", "events", "s", "memory, MB", "its own, MB", "CPU s", "its own, CPU s")
_MEASURED = ("seconds", "memory", "own", "cpu", "driver")

Size = tuple[int, int]
"""Captures, and about how many events of each."""


def sizes(*, full: bool) -> list[Size]:
    """What is measured, the longer captures last."""
    counts = CAPTURES + (_FULL,) * full
    return [*((count, _SHORT) for count in counts), (CAPTURES[0], _LONG)]


def make(root: Path, size: Size) -> int:
    """Make a fleet, the same each time; how many events it has."""
    captures, events = size
    run((*KMWATCH, "synth", "-o", root, "--hosts", str(captures), "--events", str(events)))
    return int(json.loads((root / PLANTED).read_text(encoding="utf-8"))["events"])


def row(engine: str, captures: int, events: int, measured: Mapping[str, list[float]]) -> tuple[Cell, ...]:
    """A line of the table."""
    return (engine, captures, events, *(Spread.of(measured.get(name, [])) for name in _MEASURED))


def measure(options: Options) -> Result:
    """Engines in turn, at one size after another."""
    missing: dict[str, str] = {}
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for size in sizes(full=options.full):
            root = Path(scratch) / "-".join(map(str, size))
            events = make(root, size)
            found = in_turn(
                {engine: nullcontext for engine in _OPTIONS if engine not in missing},
                lambda engine, root=root: run_tree((*KMWATCH, "report", root, "--json", *_OPTIONS[engine])),
                max(options.rounds // _SHARE, 1),
                missing,
            )
            rows += [row(engine, size[0], events, measured) for engine, measured in found.items()]
    return Result(
        title="Fleets",
        about="`kmwatch report FLEET --json` of captures that `kmwatch synth` made up, with each engine; Spark has two "
        "cores (`local[2]`) and starts anew for each report. Memory is the most that all processes had together, "
        "looked at five times a second, and CPU seconds are those of all; *its own* are those of the process that was "
        "started: with Spark its driver, without the Java virtual machine. [scale.md](scale.md) works out from it "
        "what larger fleets take.",
        columns=COLUMNS,
        rows=sorted(rows, key=lambda each: [*_OPTIONS].index(str(each[0]))),
        notes=[f"{engine} is left out: {reason}" for engine, reason in missing.items()],
    )


if __name__ == "__main__":
    main("fleet", measure)
