"""An hour in which other sites are at the top all the time: sums stay exact, series stay few, nothing goes back."""

from dataclasses import dataclass

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kmwatch.batch import Batch, Meta
from kmwatch.serve.counters import Counters, Limits
from kmwatch.serve.ranking import ROOM
from tests.unit.counted import START, Series, began, kmallocs, known, series, total

HOUR, STEP = 3600, 20
SITES = (
    "site_allocations_total",
    "site_requested_bytes_total",
    "site_allocated_bytes_total",
    "site_wasted_bytes_total",
)


@dataclass
class Kernel:
    """What the kernel did, by its own count."""

    allocations: int = 0
    requested: int = 0
    allocated: int = 0
    failures: int = 0

    def does(self, batch: Batch) -> None:
        """Count a batch, row by row."""
        for row in batch.rows:
            if row["failed"]:
                self.failures += int(row["count"])
                continue
            self.allocations += int(row["count"])
            self.requested += int(row["bytes_requested"])
            self.allocated += int(row["bytes_allocated"])


def an_hour(meta: Meta, seed: int, wave: int, busy: int) -> list[Batch]:
    """In each step some sites at random, and a group that is at the top and moves on every `wave` batches."""
    random, made = np.random.default_rng(seed), []
    for at in range(HOUR // STEP):
        first = at // wave * busy
        sites = np.concatenate([random.integers(1, len(meta.sites), busy), np.arange(first, first + busy)])
        sites = np.unique(sites % (len(meta.sites) - 1) + 1)
        counts = random.integers(1, 50, len(sites)) * random.choice([1, 1, 1000], len(sites))
        failed = bool(random.random() < 0.1)
        asked = int(random.choice([8, 100, 1000, 9000]))
        made.append(kmallocs(sites, counts, asked=asked, failed=failed, at=START + STEP * at, seconds=STEP))
    return made


def goes_on(before: dict[str, tuple[Series, Series]], families: dict, name: str) -> None:
    """No series that is the same one as before has gone back; one that is new begins at its own time."""
    values, times = series(families, name), began(families, name)
    old_values, old_times = before.get(name, ({}, {}))
    for labels, value in values.items():
        if old_times.get(labels) == times[labels]:
            assert value >= old_values[labels], (name, labels)
        else:
            assert value >= 0
    gone = [labels for labels in old_values if labels not in values]
    assert not any("other" in labels for labels in gone), "the rest never ends"
    before[name] = values, times


@given(
    seed=st.integers(0, 2**32 - 1),
    top=st.integers(0, 20),
    idle=st.sampled_from([5.0, 60.0, 600.0, 3600.0]),
    sites=st.integers(1, 400),
    wave=st.integers(1, 100),
    busy=st.integers(1, 40),
)
@settings(max_examples=8, deadline=None)
def test_an_hour_of_churn(*, seed: int, top: int, idle: float, sites: int, wave: int, busy: int) -> None:
    meta, kernel, before = known(sites), Kernel(), {}
    counters = Counters(meta, START, Limits(top, idle))
    for batch in an_hour(meta, seed, wave, busy):
        kernel.does(batch)
        counters.add(batch)
        families = counters.families()
        for name in (*SITES, "site_failures_total", "allocations_total", "failures_total"):
            goes_on(before, families, name)
        sums = kernel.allocations, kernel.requested, kernel.allocated, kernel.allocated - kernel.requested
        assert tuple(int(total(families, name)) for name in SITES) == sums
        assert tuple(int(total(families, name.removeprefix("site_"))) for name in SITES) == sums
        assert total(families, "site_failures_total") == total(families, "failures_total") == kernel.failures
        for name in (*SITES, "site_failures_total"):  # `other` once for each kind here: there is but one
            own = [labels for labels in families[name].labels if labels[0] != "other"]
            assert len(own) <= ROOM * top
            assert len(families[name].labels) - len(own) <= 5  # the rest of failures keeps its order
    assert {int(v) for v in series(families, "top_entries_limit").values()} == {ROOM * top}


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=5, deadline=None)
def test_a_site_that_stays_at_the_top_keeps_all_that_it_counted_since(seed: int) -> None:
    random = np.random.default_rng(seed)
    meta = known(300)
    counters, counted = Counters(meta, START, Limits(3, 600.0)), 0
    for at in range(HOUR // STEP):
        others = np.unique(random.integers(3, len(meta.sites), 20))
        sites = np.concatenate([[1, 2], others])  # both call sites of function_0
        counts = np.concatenate([[500, 500], random.integers(1, 900, len(others))])
        counters.add(kmallocs(sites, counts, at=START + STEP * at, seconds=STEP))
        counted += 1000
    shown = series(counters.families(), "site_allocations_total")
    assert shown["function_0", "module_0", "kmalloc"] == counted - 1000  # the first batch made it enter


def test_who_was_at_the_top_leaves_after_the_idle_time_and_begins_anew() -> None:
    meta = known(3)
    counters = Counters(meta, START, Limits(1, 20.0))
    name, hot = "site_allocations_total", ("function_0", "module_0", "kmalloc")
    shown, first = [], []
    for at, count in enumerate([100, 50, 0, 0, 0, 0, 0, 70, 30]):
        sites = np.array([1] if count else [], np.int64)
        counters.add(kmallocs(sites, np.array([count] if count else [], np.int64), at=START + 5 * at))
        families = counters.families()
        shown.append((series(families, name).get(hot), series(families, name)["other", "", "kmalloc"]))
        first.append(began(families, name).get(hot))
    assert shown == [
        (0, 100),
        (50, 100),
        *[(50, 100)] * 3,
        (None, 150),  # idle for 20 seconds
        (None, 150),
        (0, 220),
        (30, 220),
    ]
    assert first == [START + 5] * 5 + [None] * 2 + [START + 40] * 2


def test_others_wait_while_there_is_no_room() -> None:
    """Ten times as many sites as there is room for, each at the top once: none is thrown out, none comes in."""
    meta = known(200)
    counters = Counters(meta, START, Limits(1, 3600.0))
    for at in range(80):
        counters.add(kmallocs(np.array([2 * at + 1]), np.array([10**at if at < 9 else 10**9 + at]), at=START + 5 * at))
    families = counters.families()
    own = [labels[0] for labels in families["site_allocations_total"].labels if labels[0] != "other"]
    assert sorted(own) == [f"function_{at}" for at in range(ROOM)]
    assert series(families, "top_entries")["site",] == ROOM
