"""How costs grow, each at several sizes: reading the kernel's tables, reports, scrapes, pages, and an event itself.

Between two sizes stands the power of the size that the cost grew with: 0 where it does not grow, 1 where it doubles
with the size. Rows of the kernel's tables are made up and written into them: no workload has ten thousand call sites.
"""

import math
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np

from benchmarks import made
from benchmarks.commands import KMWATCH, make, run
from benchmarks.harness import Cell, Missing, Options, Result, Spread, in_turn, main
from benchmarks.serving import exposed, scraped
from benchmarks.watching import Workload, elsewhere
from kmwatch import schema
from kmwatch.errors import NotPossibleError
from kmwatch.kernel.syscalls import update
from kmwatch.rules import judge
from kmwatch.schema import Kind
from kmwatch.sources.maps import LiveSource
from kmwatch.views import page
from kmwatch.views.report import build

SITES = (100, 1000, 10_000)
_CAPTURES = (1_000_000, 10_000_000, 100_000_000)  # events; the last with --full
_KEY, _VALUE, _FRONT = (schema.dtype(name) for name in ("ledger_key", "ledger_value", "front_row"))
_HOW = {"command": "kmwatch report --html", "made": 0.0}

Sizes = dict[int, Callable[[], float]]
"""What measures a cost, by size."""


def _keys(count: int) -> np.ndarray:
    """Keys that no event has: an OOM victim with a mask."""
    keys = np.zeros(count, _KEY)
    keys["kind"], keys["gfp"] = Kind.OOM_VICTIM, np.arange(count) + 1
    return keys


def _fill(source: LiveSource, rows: int) -> None:
    """Write so many rows into the kernel's hash map."""
    kernel = source._kernel  # noqa: SLF001
    value = np.zeros(kernel.cpus, _VALUE)
    value["count"] = 1
    keys, map_fd = _keys(rows), kernel.programs.descriptor("ledger")
    try:
        for at in range(rows):
            update(map_fd, keys[at : at + 1].ctypes.data, value.ctypes.data)
    except OSError as error:
        raise Missing(f"the kernel's table has no room for {rows:,} rows: {error.strerror}") from error


def _take_fronts(source: LiveSource) -> None:
    """Take every place of the fronts that is free, so that keys must go to the hash map."""
    kernel = source._kernel  # noqa: SLF001
    fronts = kernel.programs.read_arrays("fronts", _FRONT, kernel.cpus)
    for at, row in enumerate(fronts):
        row["key"][row["key"]["kind"] == 0] = _keys(1)[0]
        kernel.programs.write_array("fronts", row, at)


@contextmanager
def _tables() -> Iterator[Sizes]:
    """Reading the kernel's tables, with so many rows that all have changed."""

    def reading(rows: int) -> Callable[[], float]:
        def read() -> float:
            with LiveSource(frozenset({Kind.OOM_VICTIM})) as source:
                _fill(source, rows)
                began = time.perf_counter()
                found = source.read()
                took = time.perf_counter() - began
            if len(found.rows) < rows:
                raise Missing(f"{len(found.rows)} of {rows} rows were read: the numbers mean nothing")
            return 1e3 * took

        return read

    yield {rows: reading(rows) for rows in SITES}


def _pairs(workload: Workload, *, taken: bool) -> Sizes:
    """A kmalloc and a kfree, watched, with so many other rows in the hash map; where fronts are taken, beside them."""

    def paired(rows: int) -> Callable[[], float]:
        def pair() -> float:
            with LiveSource(frozenset({Kind.KMALLOC, Kind.KFREE, Kind.OOM_VICTIM})) as source:
                _fill(source, rows)
                if taken:
                    _take_fronts(source)
                source.read()
                while source._kernel.meter.is_measuring:  # noqa: SLF001  # it makes every program slower
                    source.read()
                best = workload.best("msg64")
                if Kind.KFREE not in source.read().rows["kind"]:
                    raise Missing("nothing was counted while it was measured: the numbers mean nothing")
            return best

        return pair

    return {rows: paired(rows) for rows in SITES}


@contextmanager
def _events() -> Iterator[dict[str, Sizes]]:
    with tempfile.TemporaryDirectory() as directory, elsewhere() as cpu:
        workload = Workload(Path(directory), cpu)
        yield {
            "kmalloc and kfree, in the fronts, ns, by rows": _pairs(workload, taken=False),
            "kmalloc and kfree, fronts taken, ns, by rows": _pairs(workload, taken=True),
        }


def _spent(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - began)


def _reports() -> dict[str, Sizes]:
    """Adding a second to a ledger, and what is made of a ledger."""
    ledgers = {sites: made.ledger(sites) for sites in SITES}
    batches = {sites: made.batch(each.meta, sites) for sites, each in ledgers.items()}
    pages = {sites: made.ledger(sites, seconds=20) for sites in SITES}
    return {
        "adding a batch, ms, by sites": {
            sites: lambda at=sites: _spent(lambda: ledgers[at].add(batches[at])) for sites in SITES
        },
        "rules and report, ms, by sites": {
            sites: lambda at=sites: _spent(lambda: build(pages[at], judge(pages[at]))) for sites in SITES
        },
        "page, kB, by sites": {
            sites: lambda at=sites: len(page.render(page.build(pages[at], [], _HOW)).encode()) / 1e3 for sites in SITES
        },
    }


def _scrapes(name: str) -> Sizes:
    def scrape(sites: int) -> float:
        with exposed(sites) as (pipeline, address):
            return scraped(pipeline, address)[name]

    return {sites: lambda at=sites: scrape(at) for sites in SITES}


def _captures(directory: Path, *, full: bool) -> Sizes:
    """`kmwatch report` of captures of so many events; seconds."""
    made_up = {events: make(directory / f"{events}.kmw", events) for events in _CAPTURES[: 2 + full]}
    return {events: lambda at=path: run((*KMWATCH, "report", at))["seconds"] for events, path in made_up.items()}


def _rows(name: str, sizes: Sizes, rounds: int) -> list[tuple[Cell, ...]]:
    """A line for each size, with the power that the cost grew with since the one before."""
    ways = {f"{size:,}": nullcontext for size in sizes}
    by_name = {f"{size:,}": work for size, work in sizes.items()}
    found = in_turn(ways, lambda size: {"cost": by_name[size]()}, rounds)
    rows, before = [], None
    for size in sizes:
        cost = Spread.of(found.get(f"{size:,}", {}).get("cost", []))
        power = None
        if cost and before and min(cost.median, before[1]) > 0:
            power = round(math.log(cost.median / before[1]) / math.log(size / before[0]), 2)
        rows.append((name, size, cost, power))
        before = (size, cost.median) if cost else None
    return rows


def measure(options: Options) -> Result:
    """One cost after another, each at all its sizes in turn."""
    rows, notes = [], []
    try:
        with _tables() as tables:
            rows += _rows("reading the kernel's tables, ms, by rows", tables, options.rounds)
        with _events() as events:
            for name, sizes in events.items():
                rows += _rows(name, sizes, options.rounds)
    except NotPossibleError as error:
        notes.append(f"nothing of the kernel was measured: {error}")
    for name, sizes in _reports().items():
        rows += _rows(name, sizes, options.rounds)
    for what, title in (("publish", "making a snapshot"), ("first", "a first scrape")):
        rows += _rows(f"{title}, ms, by sites", _scrapes(what), options.rounds)
    with tempfile.TemporaryDirectory() as directory:
        captures = _captures(Path(directory), full=options.full)
        rows += _rows("report of a capture, s, by events", captures, min(options.rounds, 5))
    return Result(
        title="Scaling",
        about="How each cost grows, at several sizes. *Power*: what power of the size it grew with since the size "
        "before: 0 is not at all, 1 as the size. Rows in the kernel's tables, ledgers and captures are made up; the "
        "pair of one kmalloc and one kfree is real, message in and message out, with its system calls.",
        columns=("cost", "size", "measured", "power"),
        rows=rows,
        notes=notes,
    )


if __name__ == "__main__":
    main("scaling", measure)
