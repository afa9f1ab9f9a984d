"""Stacks counted in the kernel: with all of them every event has one, with a sample every site has."""

from collections.abc import Iterator

import numpy as np
import pytest

from kmwatch.ledger import ALLOCATIONS, SITE, Ledger
from kmwatch.profile import NO_STACK, profile
from kmwatch.schema import Kind, Stacks
from kmwatch.sources.maps import LiveSource
from tests.live.watching import MESSAGE, PAYLOAD, Watch, Workload, only

COUNT = 10007
KINDS = frozenset(ALLOCATIONS)


@pytest.fixture
def everything() -> Iterator[Watch]:
    """Every stack is counted."""
    with LiveSource(KINDS, stacks=Stacks.ALL) as source:
        yield Watch(source)


@pytest.fixture
def sampled() -> Iterator[Watch]:
    """Those of a sample are."""
    with LiveSource(KINDS, stacks=Stacks.SAMPLED) as source:
        yield Watch(source)


def stacked(ledger: Ledger, part: Ledger) -> np.ndarray:
    """The counts of stacks of a part of a ledger."""
    keys = {tuple(row) for row in part.rows[list(SITE)].tolist()}
    return ledger.stacked[[tuple(row) in keys for row in ledger.stacked[list(SITE)].tolist()]]


def test_with_all_each_event_has_one(everything: Watch, workload: Workload) -> None:
    ledger = everything.during(lambda: workload.run("msgsnd", COUNT, 100))
    mine = only(ledger, MESSAGE, Kind.KMALLOC, 192)

    assert mine.events() == COUNT
    assert stacked(ledger, mine)["count"].sum() == COUNT
    assert ledger.trust.unknown_stack == 0


def test_they_lead_from_the_system_call_to_the_site(everything: Watch, workload: Workload) -> None:
    found = profile(everything.during(lambda: workload.run("msgsnd", COUNT, 100)))
    values, ways = found.values()[:, 0], []
    for path, value in zip(found.paths, values.tolist(), strict=True):
        names = [found.frames[at].name.partition(".")[0] for at in path]
        if names[-2] in MESSAGE and value >= COUNT:
            ways.append(names)

    (way,) = ways
    assert way[-1] == "[kmalloc]"
    assert {"do_syscall_64", "do_msgsnd"} < set(way)
    assert way.index("do_syscall_64") < way.index("do_msgsnd")


def test_of_a_sample_each_stands_for_as_many(sampled: Watch, workload: Workload) -> None:
    """One in 127 of each CPU's events, whatever site they are of: with 100 003 it is right to a few per cent."""
    count = 100_003
    ledger = sampled.during(lambda: workload.run("msgsnd", count, 100))
    mine = only(ledger, MESSAGE, Kind.KMALLOC, 192)

    assert mine.events() == count
    # Four standard deviations of so many draws of one in 127.
    assert stacked(ledger, mine)["count"].sum() == pytest.approx(count, rel=4 * (127 / count) ** 0.5)


def test_of_a_sample_every_site_has_one(sampled: Watch, workload: Workload) -> None:
    """However few its events are: the first on each CPU has one."""
    for what, count, size in (("msgsnd", 3, 100), ("add_key", 2, 300)):
        workload.run(what, count, size)
    ledger = sampled.so_far(Ledger(sampled.source.meta))
    found = profile(ledger)

    assert only(ledger, PAYLOAD, Kind.KMALLOC).events() == 2
    assert sum(found.values()[:, 0]) == ledger.totals().allocations > 0
    assert NO_STACK not in found.frames


def test_none_are_counted_where_none_are_asked_for(watch: Watch, workload: Workload) -> None:
    ledger = watch.during(lambda: workload.run("msgsnd", COUNT, 100))

    assert len(ledger.stacked) == 0
    assert {path[0] for path in profile(ledger).paths} == {profile(ledger).frames.index(NO_STACK)}
