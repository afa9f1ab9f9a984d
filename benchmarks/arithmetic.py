"""What a fleet takes, worked out of what was measured (benchmarks/results/) and of assumptions, which stand here.

docs/scale.md is made of this. Nothing in it was measured on a hundred thousand hosts; each number says what it is of.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from benchmarks import harness
from benchmarks.harness import Cell, Result, Spread
from kmwatch.ledger import ALLOCATIONS

HOSTS = (10, 1000, 100_000)
SCRAPE_SECONDS = 15
"""As deploy/prometheus-shard.yml scrapes hosts."""
FLEET_SECONDS = 60
"""As deploy/prometheus-fleet.yml fetches what the shards recorded."""
RECORDED = {"instance_kind": 4, "instance_outcome": 1, "instance": 5, "instance_severity": 1}
"""The rules of the group kmwatch_fleet in dashboards/recording.yml, by what they leave apart."""
_VALUES = {"instance_kind": len(ALLOCATIONS), "instance_outcome": 2, "instance": 1, "instance_severity": 3}
_DAY = 86400
_LONGER = 2  # times as long as the shortest: captures of another kind
DUCKDB, SPARK = "duckdb", "spark"
"""The engines, as benchmarks/fleet.py calls them."""


class Assumption(NamedTuple):
    """A number that was not measured here, its unit, and where it is from."""

    what: str
    value: float
    unit: str
    source: str


SAMPLE = Assumption(
    "what Prometheus keeps of a sample on the disk",
    2,
    "bytes",
    "Prometheus' documentation, *Storage*, *Operational aspects*: 1 to 2 bytes on average",
)
HEAD = Assumption(
    "what Prometheus takes for a series in memory",
    3000,
    "bytes",
    "Robust Perception, *Why does Prometheus use so much RAM?*: 3 kB with Prometheus 2.20, with its latest samples",
)
PROMETHEUS = Assumption(
    "memory that one Prometheus has for series",
    32e9,
    "bytes",
    "assumed: half of a machine of 64 GB; the other half is for queries and the page cache",
)
EVENTS = Assumption(
    "events of a host",
    20_000,
    "a second",
    "assumed: a tenth of what `ls -R` makes on two CPUs (README); `kmwatch_events_total` tells yours",
)
RECORDING = Assumption("how long each host records", 60, "seconds a day", "assumed: one capture a day of a minute")
PATIENCE = Assumption("what a report of the fleet may take", 900, "seconds", "the aim: a quarter of an hour")
DRIVER = Assumption("memory of Spark's driver", 8e9, "bytes", "assumed: one process of an ordinary machine")
ASSUMPTIONS = (SAMPLE, HEAD, PROMETHEUS, EVENTS, RECORDING, PATIENCE, DRIVER)


def recorded_series() -> int:
    """How many series of a host leave its Prometheus, at most: those of all kinds, outcomes and severities."""
    return sum(rules * _VALUES[level] for level, rules in RECORDED.items())


def events_of_capture() -> float:
    """Events of one capture, one a host and day."""
    return EVENTS.value * RECORDING.value


def result(name: str) -> Result:
    """What a benchmark found that is kept in benchmarks/results/."""
    return Result.read((harness.RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def number(cell: Cell) -> float:
    """A cell as a number: of a spread the median; ValueError where it is none."""
    value = cell.median if isinstance(cell, Spread) else cell
    if value is None or isinstance(value, str):
        raise ValueError(f"{cell!r} is no number")
    return float(value)


def measured(found: Result, row: str, column: str) -> float:
    """The number in a row and column of a result; ValueError where there is none."""
    at = list(found.columns).index(column)
    cells = [each[at] for each in found.rows if each[0] == row]
    if not cells:
        raise ValueError(f"{found.title} has no row {row!r}")
    return number(cells[0])


class Run(NamedTuple):
    """A report of so many captures with so many events in all.

    seconds: of the clock. memory, own: MB at most, of all processes and of the one that was started. cpu, driver: CPU
    seconds, of all processes and of that one.
    """

    captures: float
    events: float
    seconds: float
    memory: float
    own: float
    cpu: float
    driver: float

    @property
    def shared(self) -> float:
        """CPU seconds of what can be spread over machines."""
        return self.cpu - self.driver

    @property
    def length(self) -> float:
        """Events of one capture."""
        return self.events / self.captures


def runs(found: Result, engine: str) -> list[Run]:
    """Those of an engine, the fewest captures first, as benchmarks/fleet.py measures them; ValueError for none."""
    every = sorted(Run(*map(number, row[1:])) for row in found.rows if row[0] == engine)
    if not every:
        raise ValueError(f"{found.title} has nothing of {engine}: it was left out when it was measured")
    return every


def alike(every: Sequence[Run]) -> list[Run]:
    """The runs of short captures, which differ in their number."""
    return [run for run in every if run.length < _LONGER * min(each.length for each in every)]


@dataclass(frozen=True)
class Linear:
    """What grows with captures and their events: at first, for each capture, and for each event."""

    start: float
    capture: float
    event: float

    @classmethod
    def of(cls, every: Sequence[Run], value: Callable[[Run], float]) -> "Linear":
        """From the smallest and the largest of alike runs, and from one of longer captures, if any; nothing shrinks."""
        same, event = alike(every), 0.0
        few, many = same[0], same[-1]
        if longer := next((run for run in every if run not in same), None):
            shorter = next(run for run in same if run.captures == longer.captures)
            event = max(value(longer) - value(shorter), 0) / (longer.events - shorter.events)
        added = value(many) - value(few) - event * (many.events - few.events)
        capture = max(added, 0) / (many.captures - few.captures)
        return cls(value(few) - few.captures * capture - few.events * event, capture, event)

    def each(self, events: float) -> float:
        """What one capture of so many events adds."""
        return self.capture + events * self.event


@dataclass(frozen=True)
class Fleet:
    """All that was measured: series of a host, bytes of an event, and what reports take with each engine.

    duckdb, spark: seconds of a report. driver, shared: CPU seconds of Spark's driver, and of the rest. memory: MB of
    the driver, but for its Java virtual machine.
    """

    series: float
    event_bytes: float
    duckdb: Linear
    spark: Linear
    driver: Linear
    shared: Linear
    memory: Linear

    @classmethod
    def read(cls) -> "Fleet":
        """From benchmarks/results/; OSError or ValueError where something is missing there."""
        found = result("fleet")
        duckdb, spark = runs(found, DUCKDB), runs(found, SPARK)
        return cls(
            measured(result("serving"), "kmwatch serve, under load", "series"),
            measured(result("recording"), "mixture: kmwatch record", "bytes an event"),
            # Long captures of a fleet that is made up have few keys: one with thousands tells what an event takes.
            replace(Linear.of(duckdb, lambda run: run.seconds), event=1 / _rate(result("offline"))),
            Linear.of(spark, lambda run: run.seconds),
            Linear.of(spark, lambda run: run.driver),
            Linear.of(spark, lambda run: run.shared),
            Linear.of(alike(spark), lambda run: run.own),
        )

    def duckdb_seconds(self, hosts: int) -> float:
        """A report of a day's captures, one of each host, one after another on one machine."""
        return self.duckdb.start + hosts * self.duckdb.each(events_of_capture())

    @property
    def driver_seconds(self) -> float:
        """What Spark's driver does for a capture of a day, alone, however many cores there are."""
        return self.driver.each(events_of_capture())

    @property
    def left_seconds(self) -> float:
        """What is left of PATIENCE once Spark has started."""
        return PATIENCE.value - self.spark.start

    def cores(self, hosts: int) -> int | None:
        """Cores for a report within PATIENCE, beside the driver's; None where the driver alone takes longer."""
        left = self.left_seconds - hosts * self.driver_seconds
        return max(math.ceil(hosts * self.shared.each(events_of_capture()) / left), 1) if left > 0 else None

    def driver_bytes(self, hosts: int) -> float:
        """What all captures' tables, their sums and the survey take in it."""
        return 1e6 * (self.memory.start + hosts * self.memory.capture)


def prometheus_series() -> float:
    """How many series one Prometheus has memory for."""
    return PROMETHEUS.value / HEAD.value


def samples(series: float, seconds: float) -> float:
    """Samples a second of series that are looked at every so many seconds."""
    return series / seconds


def day_bytes(series: float, seconds: float) -> float:
    """Bytes a day of these."""
    return samples(series, seconds) * _DAY * SAMPLE.value


def _rate(found: Result) -> float:
    """Events a second of a report of a long capture that reads each: few are counted where little happens."""
    return 1e6 * measured(found, "kmwatch report --from 0.001, long", "M events/s")


class Bend(NamedTuple):
    """A part, the number of hosts from which it is too small, and what is done then."""

    part: str
    hosts: float
    then: str


def bends(fleet: Fleet) -> list[Bend]:
    """Every part that has a limit, the first to reach it first."""
    found = [
        Bend(
            "one Prometheus that scrapes every host",
            prometheus_series() / fleet.series,
            "several share the hosts, and send on what they recorded",
        ),
        Bend(
            "one Prometheus that has what the others recorded",
            prometheus_series() / recorded_series(),
            "a store that is spread over machines takes what is sent",
        ),
        Bend(
            "a report with DuckDB on one machine within a quarter of an hour",
            _times(PATIENCE.value - fleet.duckdb.start, fleet.duckdb.each(events_of_capture())),
            "Spark reads the captures on many machines, or the report takes longer",
        ),
        Bend(
            "the time of Spark's driver, which judges one capture after another",
            _times(fleet.left_seconds, fleet.driver_seconds),
            "more cores do not help: parts of the fleet are reported apart, by a glob of hosts",
        ),
        Bend(
            "the memory of Spark's driver",
            _times(DRIVER.value - fleet.driver_bytes(0), 1e6 * fleet.memory.capture),
            "the driver gets more, or parts of the fleet are reported apart",
        ),
    ]
    return sorted(found, key=lambda bend: bend.hosts)


def _times(room: float, each: float) -> float:
    """How many fit."""
    return room / each if each > 0 else math.inf
