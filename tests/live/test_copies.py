"""Second copies of the busy programs (bpf/again.h): they see exactly what the kernel skipped the first for."""

from typing import Any

import numpy as np
import pytest

from kmwatch.schema import Kind, Stacks
from kmwatch.sources.maps import LiveSource
from kmwatch.sources.ring import RingRecorder
from kmwatch.sources.running import Again
from tests.live.watching import Workload

KERNEL = "no second copies here: this kernel's raw prototypes or its preempt_count are not known"


def seen(kernel: Any) -> tuple[dict[str, int], dict[str, int], int]:
    """By event, what the kernel skipped copied programs for and what their copies saw; what others were skipped for."""
    programs = kernel.programs
    copied = {each.probe.event: each.probe for each in programs.attachments if each.again}
    if not copied:
        pytest.skip(KERNEL)
    missed = {each.probe.event: programs.missed(each) for each in programs.attachments if not each.again}
    caught = programs.read_arrays("caught", np.dtype("<u8"), kernel.cpus).sum(axis=1)
    others = sum(count for event, count in missed.items() if event not in copied)
    return (
        {event: missed[event] for event in copied},
        {event: int(caught[probe.kinds[0]]) for event, probe in copied.items()},
        others,
    )


def test_a_recording_loses_nothing_to_interrupts(workload: Workload) -> None:
    with RingRecorder(frozenset(Kind), Stacks.PAGES, lambda: True) as recorder:
        workload.run("busy", 3)
        recorder._kernel.stop()
        missed, caught, others = seen(recorder._kernel)
        lost = sum(segment.trust.lost for segment in recorder.segments())

    assert sum(missed.values()) > 0
    assert missed == caught
    assert lost == sum(recorder.unrecorded.values()) + others


def test_a_ledger_with_copies_loses_nothing_to_interrupts(workload: Workload) -> None:
    with LiveSource(frozenset(Kind), restrained=0.0, again=Again.ALL) as source:
        workload.run("busy", 3)
        last = source.finish()
        missed, caught, others = seen(source._kernel)

    assert sum(missed.values()) > 0
    assert missed == caught
    assert last.trust.lost == others
    assert set(last.rows["failed"].tolist()) <= {0, 1}


def test_copies_can_be_given_up(workload: Workload) -> None:
    with LiveSource(frozenset(Kind), restrained=0.0, again=Again.ALL) as source:
        with_copies = source.attached
        seen(source._kernel)
        source.restrain((), 0)
        fewer = source.attached
        before = seen(source._kernel)[1]
        workload.run("busy", 2)
        last = source.finish()
        missed, caught, others = seen(source._kernel)

    assert fewer < with_copies
    assert caught == before
    assert last.trust.lost == sum(missed.values()) - sum(caught.values()) + others
