"""What a scrape shows: plain data, made once an interval, never changed, and far from the kernel."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kmwatch.serve.cells import Labels

SCRAPE_BOUNDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
"""Seconds: a scrape is to take less than 0.1."""


@dataclass(frozen=True)
class Exemplar:
    """One event that a counter counted: labels in the order in which they are shown, and seconds since the epoch."""

    labels: Mapping[str, str]
    at: float


@dataclass(frozen=True)
class Family:
    """The series of one metric: their labels in the metric's order, and their values.

    created: when each began at 0, in seconds since the epoch; empty for what is no counter.
    exemplars: of those series that have one, by labels.
    """

    labels: Sequence[Labels]
    values: Sequence[float]
    created: Sequence[float] = ()
    exemplars: Mapping[Labels, Exemplar] = field(default_factory=dict)


@dataclass(frozen=True)
class Histogram:
    """Durations: how many took at most each of SCRAPE_BOUNDS seconds, how many there were, and their sum in seconds."""

    at_most: tuple[int, ...] = (0,) * len(SCRAPE_BOUNDS)
    count: int = 0
    seconds: float = 0.0

    def plus(self, seconds: float) -> "Histogram":
        """The same with one more."""
        first = bisect_left(SCRAPE_BOUNDS, seconds)
        more = tuple(count + (at >= first) for at, count in enumerate(self.at_most))
        return Histogram(more, self.count + 1, self.seconds + seconds)


@dataclass(frozen=True)
class Own:
    """What kmwatch knows of itself.

    programs_attached, bpf_runs: counts. bpf_run_seconds, cpu_seconds: CPU time since the start.
    map_entries, map_max_entries: by the name of the map. memory_bytes: resident.
    overhead, overhead_limit: share of all CPUs' time; overhead_step: steps taken against it, sample: share looked at.
    scrapes: how long they took.
    """

    programs_attached: int = 0
    bpf_runs: int = 0
    bpf_run_seconds: float = 0.0
    map_entries: Mapping[str, int] = field(default_factory=dict)
    map_max_entries: Mapping[str, int] = field(default_factory=dict)
    overhead: float = 0.0
    overhead_limit: float = 0.0
    overhead_step: int = 0
    sample: float = 1.0
    memory_bytes: int = 0
    cpu_seconds: float = 0.0
    scrapes: Histogram = field(default_factory=Histogram)


@dataclass(frozen=True)
class Snapshot:
    """All that can be scraped, as of `at` seconds since the epoch; one Family for each metric but the histogram."""

    at: float
    families: Mapping[str, Family]
    scrapes: Histogram = field(default_factory=Histogram)
