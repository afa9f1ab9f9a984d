"""Second copies of the busy programs (bpf/again.h): they see exactly what the kernel skipped the first for.

But for what they are skipped for themselves: an interrupt within an interrupt, while both run. That is lost, and said.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import pytest

from kmwatch.schema import Kind, Stacks
from kmwatch.sources.maps import LiveSource
from kmwatch.sources.ring import RingRecorder
from kmwatch.sources.running import Again
from tests.live.watching import Workload
from tests.support import wait_until

Stopped = TypeVar("Stopped")

KERNEL = "no second copies here: this kernel's raw prototypes or its preempt_count are not known"


Seen = tuple[dict[str, int], dict[str, int], dict[str, int], int]
"""By event: what the kernel skipped copied programs for, what copies saw, what they were skipped for. Then what other
programs were skipped for."""


def seen(kernel: Any) -> Seen:
    """What was skipped and seen so far."""
    programs = kernel.programs
    copied = {each.probe.event: each.probe for each in programs.attachments if each.again}
    if not copied:
        pytest.skip(KERNEL)
    missed = {each.probe.event: programs.missed(each) for each in programs.attachments if not each.again}
    caught = programs.read_arrays("caught", np.dtype("<u8"), kernel.cpus).sum(axis=1)
    others = sum(count for event, count in missed.items() if event not in copied)
    twice = {each.probe.event: programs.missed(each) for each in programs.attachments if each.again}
    return (
        {event: missed[event] for event in copied},
        {event: int(caught[probe.kinds[0]]) for event, probe in copied.items()},
        twice,
        others,
    )


def stopped(kernel: Any, stop: Callable[[], Stopped], monkeypatch: pytest.MonkeyPatch) -> tuple[Seen, Stopped]:
    """What was seen at the moment at which kmwatch itself looked, and what stopping gives.

    The machine goes on, and so do the counts until the programs are gone; a first outlives its copy.
    """
    looked: list[Seen] = []
    look = kernel._skipped

    def look_at_one_moment() -> int:
        def attempt() -> list[int] | None:
            before, skipped = seen(kernel), look()
            looked[:] = [before]
            return [skipped] if seen(kernel) == before else None

        return wait_until(attempt, 10, "a moment in which no program was skipped")[0]

    monkeypatch.setattr(kernel, "_skipped", look_at_one_moment)
    result = stop()
    return looked[0], result


def uncaught(missed: dict[str, int], caught: dict[str, int], twice: dict[str, int]) -> int:
    """What neither a program nor its copy saw: nothing but what the copy was skipped for as well."""
    rest = {event: missed[event] - caught[event] for event in missed}
    assert all(0 <= count <= twice[event] for event, count in rest.items()), (missed, caught, twice)
    return sum(rest.values())


def test_a_recording_loses_nothing_to_interrupts(workload: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    with RingRecorder(frozenset(Kind), Stacks.PAGES, lambda: True) as recorder:
        workload.run("busy", 3)
        segments = recorder.segments()
        (missed, caught, twice, others), given = stopped(recorder._kernel, lambda: [*segments], monkeypatch)
        lost = sum(segment.trust.lost for segment in given)

    assert sum(missed.values()) > 0
    assert lost == sum(recorder.unrecorded.values()) + others + uncaught(missed, caught, twice)


def test_a_ledger_with_copies_loses_nothing_to_interrupts(workload: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    with LiveSource(frozenset(Kind), restrained=0.0, again=Again.ALL) as source:
        workload.run("busy", 3)
        (missed, caught, twice, others), last = stopped(source._kernel, source.finish, monkeypatch)

    assert sum(missed.values()) > 0
    assert last.trust.lost == others + uncaught(missed, caught, twice)
    assert set(last.rows["failed"].tolist()) <= {0, 1}


def test_copies_can_be_given_up(workload: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    with LiveSource(frozenset(Kind), restrained=0.0, again=Again.ALL) as source:
        with_copies = source.attached
        seen(source._kernel)
        source.restrain((), 0)
        fewer = source.attached
        before = seen(source._kernel)[1]
        workload.run("busy", 2)
        (missed, caught, _, others), last = stopped(source._kernel, source.finish, monkeypatch)

    assert fewer < with_copies
    assert caught == before
    assert last.trust.lost == sum(missed.values()) - sum(caught.values()) + others
