"""Rings: how many and how large, and a place for each kind; a mapped ring read as an array."""

from types import SimpleNamespace

import numpy as np
import pytest

from kmwatch import schema
from kmwatch.events import COLUMNS
from kmwatch.schema import KINDS, Kind
from kmwatch.sources import ring
from kmwatch.sources.ring import RingRecorder, Rooms, _Ring, ring_sizes

EVENT, STATE = schema.dtype("event"), schema.dtype("ring")
ROOM = 256


@pytest.mark.parametrize(
    ("cpus", "gibibytes", "rings", "events"),
    [
        (1, 0.25, 1, 1 << 17),  # never less than 16 MiB, here 9
        (2, 24, 2, 1 << 20),  # 192 MiB are 1.4 million each: down to a power of two
        (3, 16, 4, 1 << 18),
        (8, 64, 8, 1 << 18),  # never more than 256 MiB
        (128, 2048, 128, 1 << 14),  # but 1 MiB each
        (512, 64, 512, 1 << 13),  # as long as that is not too much of the memory
    ],
)
def test_the_rings_fit_the_machine(cpus: int, gibibytes: float, rings: int, events: int) -> None:
    memory = int(gibibytes * (1 << 30))
    assert ring_sizes(cpus, memory) == (rings, events)
    assert rings * events * EVENT.itemsize <= max(16 << 20, memory / 128)


def test_there_is_a_place_for_each_kind() -> None:
    assert max(Kind) + 1 == KINDS


class Mapped:
    """A ring as the programs write it, made of plain memory."""

    def __init__(self, laps: int = 0) -> None:
        """One that has been around so many times."""
        self.state, self.places = np.zeros(1, STATE), np.zeros(ROOM, EVENT)
        self.state["taken"] = self.state["read"] = laps * ROOM
        self.places["lap"] = laps % 256
        self.ring = _Ring(self.state, self.places)

    def put(self, number: int, *, busy: bool = False) -> None:
        """An event with this pid, complete or not."""
        lap, place = divmod(int(self.state["taken"][0]), ROOM)
        self.places["pid"][place] = number
        if not busy:
            self.places["lap"][place] = (lap + 1) & 0xFF
        self.state["taken"] += np.uint64(1)


def pids(events: ring.Array) -> list[int]:
    found: list[int] = events["pid"].tolist()
    return found


@pytest.mark.parametrize("laps", [0, 1, 254, 255, 256])
def test_events_come_in_order_also_around_the_end(laps: int) -> None:
    """Reading a few at a time goes around the ring more than twice."""
    mapped, read = Mapped(laps), []
    for number in range(600):
        mapped.put(number)
        if number % 7 == 0:
            events = mapped.ring.events(100)
            read += pids(events)
            mapped.ring.release(len(events))
    while len(events := mapped.ring.events(100)):
        read += pids(events)
        mapped.ring.release(len(events))

    assert read == list(range(600))


@pytest.mark.parametrize("laps", [0, 1, 255, 256])
def test_nothing_is_read_from_the_first_event_that_is_not_complete(laps: int) -> None:
    mapped = Mapped(laps)
    for number in range(5):
        mapped.put(number, busy=number == 3)

    assert pids(mapped.ring.events(100)) == [0, 1, 2]
    mapped.ring.release(3)
    assert pids(mapped.ring.events(100)) == []
    assert mapped.ring.fill() == pytest.approx(2 / ROOM)


def test_a_full_ring_is_read_whole() -> None:
    mapped = Mapped(3)
    mapped.state["taken"] += np.uint64(10)
    mapped.state["read"] += np.uint64(10)
    mapped.places["lap"][:10] = 4
    for number in range(ROOM):
        mapped.put(number)

    assert mapped.ring.fill() == 1
    assert pids(mapped.ring.events(1000)) == list(range(ROOM - 10))
    mapped.ring.release(ROOM - 10)
    assert pids(mapped.ring.events(1000)) == list(range(ROOM - 10, ROOM))


def test_no_more_is_read_than_asked_for() -> None:
    mapped = Mapped()
    for number in range(5):
        mapped.put(number)

    assert pids(mapped.ring.events(2)) == [0, 1]
    assert pids(mapped.ring.events(2)) == [0, 1]  # until it is released


def draining(monkeypatch: pytest.MonkeyPatch, mapped: Mapped, comes: int) -> tuple[RingRecorder, list[int]]:
    """A recorder with this ring only and blocks of ten; so many records come while it takes one. The pids it took."""
    monkeypatch.setattr(ring, "_BLOCK", 10)
    recorder, taken, numbers = RingRecorder.__new__(RingRecorder), list[int](), iter(range(1000, 2000))
    recorder._rings, recorder._used, recorder._fullest = [mapped.ring], 0, 0.0

    def take(events: ring.Array) -> None:
        taken.extend(pids(events))
        recorder._used += len(events)
        for _ in range(comes):
            mapped.put(next(numbers))

    monkeypatch.setattr(recorder, "_take", take)
    return recorder, taken


def test_what_comes_while_a_ring_is_read_waits_for_the_next_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a turn would end in a row of small blocks, each of which has its price."""
    mapped = Mapped()
    for number in range(24):
        mapped.put(number)
    recorder, taken = draining(monkeypatch, mapped, 1)

    assert recorder._drain(1) == 26
    assert taken == [*range(24), 1000, 1001]
    assert recorder._drain(2) == 0
    assert recorder._drain(1) == 1
    assert taken[26:] == [1002]


def test_a_ring_that_never_ends_leaves_the_others_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    mapped = Mapped()
    for number in range(10):
        mapped.put(number)
    recorder, taken = draining(monkeypatch, mapped, 10)

    assert recorder._drain(1) == 10 * ring._BLOCKS
    assert len(taken) == 10 * ring._BLOCKS


def test_a_turn_does_not_end_where_the_ring_does(monkeypatch: pytest.MonkeyPatch) -> None:
    mapped = Mapped()
    for at in range(ROOM - 3):
        mapped.put(at)
    mapped.ring.release(ROOM - 3)
    for number in range(23):
        mapped.put(number)
    recorder, taken = draining(monkeypatch, mapped, 0)

    assert recorder._drain(10) == 23
    assert taken == [*range(23)]


def test_a_segment_without_room_for_the_least_block_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its second is not over yet: were it kept open, the ring would fill up."""
    mapped, closed, turns = Mapped(), list[int](), iter(range(7))
    recorder, _ = draining(monkeypatch, mapped, 0)
    monkeypatch.setattr(ring, "_SEGMENT_EVENTS", 25)
    monkeypatch.setattr(ring, "_PAUSE", 0.0)
    recorder._sizes, recorder._since, recorder._stopped = (1, 96), 1e9, False  # an eighth: blocks from twelve on
    monkeypatch.setattr(ring, "_BLOCK", 24)

    def until() -> bool:
        for number in range(12):
            mapped.put(number)
        return next(turns) == 6

    def close(*_: object, **__: object) -> None:
        closed.append(recorder._used)
        recorder._used = 0

    recorder._until, recorder._start = until, 0
    monkeypatch.setattr(recorder, "_close", close)
    monkeypatch.setattr(recorder, "_kernel", SimpleNamespace(stop=lambda: None), raising=False)
    assert len([*recorder.segments()]) == len(closed)

    assert closed == [24, 24, 24, 12]


def test_memory_comes_back_when_the_last_array_of_it_is_gone() -> None:
    rooms = Rooms()
    columns, pair = rooms.take()
    columns["time"][:] = 7
    part = columns["time"][3:5]

    del columns, pair
    assert not rooms._spare
    assert part.tolist() == [7, 7]
    del part
    assert len(rooms._spare) == 1
    assert rooms.take()[0]["time"][3] == 7  # the same memory
    assert len(rooms._spare) == 1


def test_columns_do_not_overlap_and_little_memory_is_kept() -> None:
    rooms = Rooms()
    taken = [rooms.take() for _ in range(ring._SPARE + 2)]
    for at, (columns, pair) in enumerate(taken):
        for number, column in enumerate((*columns.values(), pair)):
            column[:] = 16 * at + number
    for at, (columns, pair) in enumerate(taken):
        assert {column.name for column in COLUMNS} == set(columns)
        for number, column in enumerate((*columns.values(), pair)):
            assert len(column) == ring._SEGMENT_EVENTS
            assert (column[0], column[-1]) == (16 * at + number, 16 * at + number)

    del columns, pair, column
    taken.clear()
    assert len(rooms._spare) == ring._SPARE
