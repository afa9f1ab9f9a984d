"""Rings that are too small: what finds no room is counted, what is kept is whole, though all CPUs share one ring."""

import os
import threading

import numpy as np
import pytest

from kmwatch.kernel import abilities
from kmwatch.schema import Kind, Stacks
from kmwatch.sources import ring
from kmwatch.sources.ring import RingRecorder
from tests.live.watching import Workload

pytestmark = pytest.mark.live

_KINDS = frozenset({Kind.KMALLOC, Kind.KFREE})
_ROOM = 256
_MESSAGES = 20011  # a kmalloc and a kfree each


def test_places_are_taken_by_compare_and_swap_where_linux_has_it() -> None:
    release = tuple(int(part) for part in os.uname().release.split(".")[:2])

    assert (abilities.compare_and_swap() == "") == (release >= (5, 12))


@pytest.mark.parametrize("is_read", [False, True])
def test_what_finds_no_room_is_counted(monkeypatch: pytest.MonkeyPatch, workload: Workload, is_read: bool) -> None:
    """Where nobody reads meanwhile, the first events are kept; where somebody does, the ring comes around often."""
    monkeypatch.setattr(ring, "ring_sizes", lambda *_: (1, _ROOM))
    worker = threading.Thread(target=workload.run, args=("msgsnd", _MESSAGES, 100))

    with RingRecorder(_KINDS, Stacks.NONE, lambda: not worker.is_alive()) as recorder:
        worker.start()
        if not is_read:
            worker.join()
        segments = [*recorder.segments()]
    worker.join()
    kept = {name: np.concatenate([each.columns[name] for each in segments]) for name in ("key", "cpu", "time")}
    unrecorded = sum(recorder.unrecorded.values())

    assert len(kept["key"]) + unrecorded >= 2 * _MESSAGES
    assert len(kept["key"]) > 8 * _ROOM if is_read else len(kept["key"]) == _ROOM
    assert unrecorded <= sum(each.trust.lost for each in segments)
    assert {*recorder.keys["kind"][np.unique(kept["key"])].tolist()} <= _KINDS
    assert kept["cpu"].max() < (os.cpu_count() or 1)
    assert 0 <= kept["time"].min() <= kept["time"].max() < 60e9
