"""What all benchmarks share: rounds in turn, ratios with their spread, targets, a table, and a file of results.

A benchmark is a module that measures and says what came of it; it ends with 0 whatever that is. `python -m
benchmarks.start` runs this one:

    from benchmarks.harness import Options, Result, Spread, Target, in_turn, main, ratios

    def measure(options: Options) -> Result:
        found = in_turn({"old": old, "new": new}, lambda name: {"start": seconds()}, options.rounds)
        ratio = Spread.of(ratios(found["new"]["start"], found["old"]["start"]))
        return Result(
            title="Start",
            about="What was measured and how, in whole sentences: it stands on the page.",
            columns=("way", "seconds", "of old"),
            rows=[("new", Spread.of(found["new"]["start"]), ratio)],
            targets=[Target("the new way takes of the old one", ratio, 0.5, reason="Why, where it is missed.")],
        )

    if __name__ == "__main__":
        main("start", measure)

`main` reads --rounds, --full and --write: with --write the result stands in benchmarks/results/start.json afterwards,
from which docs/performance.md is made (`make docs`). Add the module's name to BENCHMARKS in the Makefile. A cell is a
text, a number, a Spread or None; units stand in the headings.
"""

import argparse
import json
import math
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

from kmwatch import __version__
from kmwatch.errors import KmwatchError

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
ROUNDS, FULL_ROUNDS = 5, 21
_ORDER = ("watching", "recording", "offline", "startup", "serving", "scaling", "fleet")


class Missing(Exception):  # noqa: N818
    """What was to be measured is not there or does not work here; the text says why."""


class Spread(NamedTuple):
    """The median of several rounds, between their quartiles."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Self | None:
        """Of all values that are numbers; None where there is none."""
        finite = sorted(value for value in values if math.isfinite(value))
        if len(finite) < 2:
            return cls(*finite * 3) if finite else None
        return cls(*statistics.quantiles(finite, n=4, method="inclusive"))


Cell = str | int | float | Spread | None


@dataclass(frozen=True)
class Target:
    """What is aimed at: `measured` is at most `limit`, or at least; `reason` says why it is not, where it is not."""

    claim: str
    measured: float | Spread | None
    limit: float
    unit: str = ""
    at_least: bool = False
    reason: str = ""

    @property
    def is_met(self) -> bool | None:
        """None where nothing was measured."""
        if self.measured is None:
            return None
        value = self.measured.median if isinstance(self.measured, Spread) else self.measured
        return value >= self.limit if self.at_least else value <= self.limit

    @property
    def verdict(self) -> str:
        """In a word."""
        return {True: "PASS", False: "over" if not self.at_least else "below", None: "not measured"}[self.is_met]

    @property
    def wanted(self) -> str:
        """The limit in words."""
        return f"at {'least' if self.at_least else 'most'} {shown(self.limit)} {self.unit}".rstrip()


@dataclass(frozen=True)
class Result:
    """What one benchmark found: one table, and the targets it is held to. `notes` are what the table cannot say."""

    title: str
    about: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    targets: Sequence[Target] = ()
    notes: Sequence[str] = ()
    machine: Mapping[str, str] = field(default_factory=dict)

    def written(self) -> str:
        """As JSON; ValueError where a row does not fit the columns or a number is none."""
        if wrong := [row for row in self.rows if len(row) != len(self.columns)]:
            raise ValueError(f"{self.title}: a row of {len(wrong[0])} cells under {len(self.columns)} columns")
        return json.dumps(asdict(self), indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def read(cls, text: str) -> Self:
        """From JSON."""
        found = json.loads(text)
        rows = [[_cell(cell) for cell in row] for row in found["rows"]]
        targets = [Target(**{**each, "measured": _cell(each["measured"])}) for each in found["targets"]]
        return cls(**{**found, "rows": rows, "targets": targets})


class Options(NamedTuple):
    """How much to measure: rounds that count, and whether it may take minutes."""

    rounds: int
    full: bool


def main(name: str, measure: Callable[[Options], Result], arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and keep the result where that is asked."""
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--full", action="store_true", help=f"take minutes: {FULL_ROUNDS} rounds, long recordings")
    parser.add_argument("--rounds", type=int, help=f"rounds that count (default: {ROUNDS}, or {FULL_ROUNDS})")
    parser.add_argument("--write", action="store_true", help="keep the result for docs/performance.md")
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was started is ended then, too
    rounds = given.rounds or (FULL_ROUNDS if given.full else ROUNDS)
    try:
        with _bytecode():
            result = measure(Options(rounds, given.full))
    except (Missing, KmwatchError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return
    except KeyboardInterrupt:
        sys.exit(130)
    print("\n".join(table(result)))
    if given.write:
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{name}.json"
        path.write_text(Result(**{**vars(result), "machine": machine()}).written(), encoding="utf-8")
        print(f"{path.relative_to(ROOT)} written")


@contextmanager
def _bytecode() -> Iterator[None]:
    """Python keeps what it compiled, as where kmwatch is installed, though nothing is left in the checkout."""
    with tempfile.TemporaryDirectory() as directory:
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = directory
        yield


Found = dict[str, dict[str, list[float]]]
"""By way and by what was measured: one number for each round. A way that is missing is not there."""


def in_turn(
    ways: Mapping[str, Callable[[], AbstractContextManager[Any]]],
    measure: Callable[[str], Mapping[str, float]],
    rounds: int,
    missing: dict[str, str] | None = None,
    seconds: float = math.inf,
) -> Found:
    """Measure inside each way in turn, A B C A B C; a first round warms up and does not count.

    Args:
        ways: by name, what makes a context manager in which that way is in force.
        measure: numbers by name, measured in the way of that name.
        rounds: how many count.
        missing: gets the reasons of the ways that are left out, as they raised Missing.
        seconds: after so many no further round begins, once one has counted.
    """
    found: Found = {name: {} for name in ways}
    until = time.monotonic() + seconds
    for number in range(rounds + 1):
        if number > 1 and time.monotonic() > until:
            break
        for name in list(found):
            say(f"round {number} of {rounds}, {name}")
            try:
                with ways[name]():
                    measured = measure(name)
            except Missing as error:
                del found[name]
                if missing is not None:
                    missing[name] = str(error)
                continue
            for what, value in measured.items() if number else ():
                found[name].setdefault(what, []).append(value)
    say("")
    return found


def added(values: Sequence[float], nothing: Sequence[float]) -> list[float]:
    """What came to `nothing`, round by round."""
    return [value - floor for value, floor in zip(values, nothing, strict=True)]


def ratios(values: Sequence[float], others: Sequence[float]) -> list[float]:
    """The ratio of each round; NaN where there is none."""
    pairs = zip(values, others, strict=True)
    return [value / other if other > 0 else math.nan for value, other in pairs]


def shown(cell: Cell) -> str:
    """A cell as text."""
    if cell is None:
        return "-"
    if isinstance(cell, str):
        return cell
    if isinstance(cell, Spread):
        spread = f" ({shown(cell.low)} to {shown(cell.high)})" if cell.low < cell.high else ""
        return shown(cell.median) + spread
    if isinstance(cell, int) or abs(cell) >= 100:
        return f"{cell:,.0f}"
    # Not less than two places after the point where quarters of rounds differ there; never 1e-05.
    return f"{cell:.2f}" if abs(cell) >= 1 or cell == 0 else f"{cell:.3f}"


def table(result: Result) -> list[str]:
    """The result as lines of text."""
    cells = [list(result.columns), *([shown(cell) for cell in row] for row in result.rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [result.title]
    for row in cells:
        aligned = (
            f"{cell:<{width}}" if at == 0 else f"{cell:>{width}}"
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join(aligned).rstrip())
    lines += [f"{each.verdict}: {each.claim}: {shown(each.measured)}; {each.wanted}" for each in result.targets]
    return lines + [f"note: {note}" for note in result.notes]


def say(text: str) -> None:
    """Progress, on a terminal only; nothing clears it."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def results() -> list[Result]:
    """All that are kept: first what a user pays for watching, at last what few have; what is new after these."""
    places = {name: at for at, name in enumerate(_ORDER)}
    paths = sorted(RESULTS.glob("*.json"), key=lambda path: (places.get(path.stem, len(places)), path.stem))
    return [Result.read(path.read_text(encoding="utf-8")) for path in paths]


def machine() -> dict[str, str]:
    """What was measured where and when; no host's name."""
    cpus = os.cpu_count() or 1
    memory = os.sysconf("SC_PAGESIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    found = {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "kmwatch": " ".join([__version__, *_first_words(["git", "-c", "safe.directory=*", "rev-parse", "HEAD"], 9)]),
        "kernel": f"{os.uname().sysname} {os.uname().release} {os.uname().machine}",
        "processor": f"{cpus} CPUs, {_processor()}",
        "memory": f"{memory:.0f} GB",
    }
    for tool in ("perf", "bpftrace", "stress-ng"):
        words = _first_words([tool, "--version"], 40)
        if number := re.search(r"\d+(?:\.\d+)+", " ".join(words)):
            found[tool] = number[0]
    return found


def _first_words(command: list[str], length: int) -> list[str]:
    """The first letters of what a command prints; none where it cannot."""
    try:
        ended = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    except (OSError, subprocess.CalledProcessError):
        return []
    return [ended.stdout[:length].strip()]


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.lower().startswith(("model name", "cpu part")))
    return next(names, os.uname().machine)


def _cell(cell: Any) -> Any:
    return Spread(*cell) if isinstance(cell, list) else cell
