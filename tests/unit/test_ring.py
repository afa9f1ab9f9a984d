"""Ring buffers: how many and how large, and that Python and C agree on them; a mapped ring read as an array."""

import mmap
import re
from types import SimpleNamespace

import numpy as np
import pytest

from kmwatch import schema
from kmwatch.events import COLUMNS
from kmwatch.schema import BPF_DIR, Kind
from kmwatch.sources import ring
from kmwatch.sources.ring import RingRecorder, Rooms, _Ring, ring_sizes

RECORD = schema.dtype("ring_record")
PAGES = 5  # not a whole number of records: they wrap


@pytest.mark.parametrize(
    ("cpus", "gibibytes", "rings", "bytes_each"),
    [
        (1, 0.25, 1, 16 << 20),  # never less than 16 MiB
        (2, 24, 2, 64 << 20),  # 192 MiB are twice 96: down to a power of two
        (3, 16, 4, 32 << 20),
        (8, 64, 8, 32 << 20),  # never more than 256 MiB
        (128, 2048, 8, 32 << 20),
    ],
)
def test_the_rings_fit_the_machine(cpus: int, gibibytes: float, rings: int, bytes_each: int) -> None:
    assert ring_sizes(cpus, int(gibibytes * (1 << 30))) == (rings, bytes_each // mmap.PAGESIZE)


def test_c_has_as_many_rings_and_a_place_for_each_kind() -> None:
    rings = (BPF_DIR / "ring.h").read_text()
    assert rings.count("BPF_RINGBUF_OUTPUT(") == rings.count(".ringbuf_reserve(") == ring._MOST_RINGS
    kinds = re.search(r"#define KINDS (\d+)", (BPF_DIR / "events.h").read_text())
    assert kinds
    assert int(kinds[1]) == max(Kind) + 1


class Mapped:
    """A ring as the kernel maps it, made of plain memory: the data area stands there twice."""

    def __init__(self) -> None:
        self.size = PAGES * mmap.PAGESIZE
        self.consumer, self.producer = np.zeros(1, "<u8"), np.zeros(1, "<u8")
        self.data = np.zeros(2 * self.size, np.uint8)
        self.ring = _Ring.__new__(_Ring)
        self.ring._size, self.ring._data = self.size, self.data
        self.ring._consumer, self.ring._producer = self.consumer, self.producer

    def put(self, number: int, *, busy: bool = False) -> None:
        """A record with this pid, complete or not."""
        record = np.zeros(1, RECORD)
        record["length"] = RECORD["event"].itemsize | (1 << 31 if busy else 0)
        record["event"]["pid"] = number
        places = (int(self.producer[0]) + np.arange(RECORD.itemsize)) % self.size
        self.data[places] = self.data[places + self.size] = record.view(np.uint8)
        self.producer[0] += np.uint64(RECORD.itemsize)


def pids(records: ring.Array) -> list[int]:
    found: list[int] = records["event"]["pid"].tolist()
    return found


def test_records_come_in_order_also_around_the_end() -> None:
    """The area holds 256 records: reading a few at a time goes around it more than twice."""
    mapped, read = Mapped(), []
    for number in range(600):
        mapped.put(number)
        if number % 7 == 0:
            records = mapped.ring.records(100)
            read += pids(records)
            mapped.ring.release(len(records))
    read += pids(mapped.ring.records(100))

    assert read == list(range(600))


def test_nothing_is_read_from_the_first_record_that_is_not_complete() -> None:
    mapped = Mapped()
    for number in range(5):
        mapped.put(number, busy=number == 3)

    assert pids(mapped.ring.records(100)) == [0, 1, 2]
    mapped.ring.release(3)
    assert pids(mapped.ring.records(100)) == []
    assert mapped.ring.fill() == pytest.approx(2 * RECORD.itemsize / mapped.size)


def test_no_more_is_read_than_asked_for() -> None:
    mapped = Mapped()
    for number in range(5):
        mapped.put(number)

    assert pids(mapped.ring.records(2)) == [0, 1]
    assert pids(mapped.ring.records(2)) == [0, 1]  # until it is released


def draining(monkeypatch: pytest.MonkeyPatch, mapped: Mapped, comes: int) -> tuple[RingRecorder, list[int]]:
    """A recorder with this ring only and blocks of ten; so many records come while it takes one. The pids it took."""
    monkeypatch.setattr(ring, "_BLOCK", 10)
    recorder, taken, numbers = RingRecorder.__new__(RingRecorder), list[int](), iter(range(1000, 2000))
    recorder._rings, recorder._used, recorder._fullest = [mapped.ring], 0, 0.0

    def take(records: ring.Array) -> None:
        taken.extend(pids(records))
        recorder._used += len(records)
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


def test_a_segment_without_room_for_the_least_block_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its second is not over yet: were it kept open, the ring would fill up."""
    mapped, closed, turns = Mapped(), list[int](), iter(range(7))
    recorder, _ = draining(monkeypatch, mapped, 0)
    monkeypatch.setattr(ring, "_SEGMENT_EVENTS", 25)
    monkeypatch.setattr(ring, "_PAUSE", 0.0)
    recorder._sizes, recorder._since, recorder._stopped = (1, 2), 1e9, False  # pages of the ring: blocks from twelve on
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
