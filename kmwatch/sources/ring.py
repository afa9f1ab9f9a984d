"""Every event of the running kernel by itself: rings that BPF programs write, mapped and read as arrays."""

import mmap
import os
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self

import numpy as np

from kmwatch import schema
from kmwatch.batch import KEY, Cost, Rows, Task, Trust
from kmwatch.events import COLUMNS, KEY_TYPE, Array, Columns, Numbers, Segment, selected
from kmwatch.kernel import abilities
from kmwatch.kernel.cgroups import Cgroups
from kmwatch.schema import Kind, Stacks
from kmwatch.scramble import Scrambler
from kmwatch.sources.bpf import Programs
from kmwatch.sources.pairs import Pairs
from kmwatch.sources.running import Again, RunningKernel

_EVENT, _STATE = schema.dtype("event"), schema.dtype("ring")
_KEY, _TASK = schema.dtype("ledger_key"), schema.dtype("task_name")
_WORDS, _KEY_WORDS = _EVENT.itemsize // 8, _KEY.itemsize // 8  # the key comes first
_LAPS = 256
_BLOCK = 16384  # events converted at a time: few enough to stay in the CPU's cache
_BLOCKS = 8  # blocks of one ring before it is the next one's turn
_SEGMENT_EVENTS = 1 << 20
_SEGMENT_SECONDS = 1.0
_ROW = sum(np.dtype(column.type).itemsize for column in COLUMNS)
_SPARE = 2  # segments whose memory is kept: one is filled while another is written
_PAUSE = 0.05  # seconds to let events gather: a block has its price, however few it has
_FASTEST = 4e6  # events a second in a ring: a pause shall not fill it
_RING_SHARE, _LEAST, _MOST = 128, 16 << 20, 256 << 20  # of the machine's memory; bytes of all rings together
_MOST_OF_MANY = 2 << 20  # bytes of a ring, where there are so many that all together take more than that


def ring_sizes(cpus: int, memory: int) -> tuple[int, int]:
    """How many rings a machine of so many CPUs and bytes of memory gets, and the events of each; powers of two."""
    rings = 1 << (cpus - 1).bit_length()
    whole = min(max(memory // _RING_SHARE, _LEAST), max(_MOST, rings * _MOST_OF_MANY))
    return rings, 1 << (whole // rings // _EVENT.itemsize).bit_length() - 1


class _Ring:
    """One ring of bpf/ring.h: its struct ring, an array of one, and its events, as many as a power of two.

    What is read lies where it was written, so that a block of events ends where the ring does.
    """

    def __init__(self, state: Array, events: Array) -> None:
        self._taken, self._read, self._events = state["taken"], state["read"], events

    def waiting(self) -> int:
        """How many events are to be read."""
        return int(self._taken[0]) - int(self._read[0])

    def fill(self) -> float:
        """The share of it that these are."""
        return self.waiting() / len(self._events)

    def events(self, most: int) -> Array:
        """Complete events in order, at most so many; they stay where they are until they are released."""
        lap, start = divmod(int(self._read[0]), len(self._events))
        events = self._events[start : start + min(most, self.waiting())]
        complete = events["lap"] == (lap + 1) % _LAPS
        return events if complete.all() else events[: int(np.argmin(complete))]

    def release(self, count: int) -> None:
        """Give the places of the first events back."""
        self._read[0] += np.uint64(count)


def _rings(programs: Programs, rings: int, events: int) -> list[_Ring]:
    """The rings of the programs, mapped."""
    written = mmap.PROT_READ | mmap.PROT_WRITE
    states = mmap.mmap(programs.descriptor("rings"), rings * _STATE.itemsize, mmap.MAP_SHARED, written)
    size = rings * events * _EVENT.itemsize
    recorded = mmap.mmap(programs.descriptor("recorded"), size, mmap.MAP_SHARED, mmap.PROT_READ)
    states_of = np.frombuffer(states, _STATE, rings).reshape(rings, 1)
    return [*map(_Ring, states_of, np.frombuffer(recorded, _EVENT).reshape(rings, events))]


class RingRecorder:
    """The running kernel as a recorder: a context manager that gives segments of a second at most.

    Args:
        kinds: what to record.
        stacks: which events take their stack along.
        until: asked all the time; True ends the recording, after what was still on its way.
    """

    def __init__(self, kinds: frozenset[Kind], stacks: Stacks, until: Callable[[], bool]) -> None:
        self._kinds, self._stacks, self._until = kinds, stacks, until
        self._kernel = RunningKernel(kinds, pointers=True)
        self.meta, self.notes = self._kernel.meta, self._kernel.notes
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        self._swaps = not abilities.compare_and_swap()
        # Without it no two CPUs may write to one ring, also if they come online later.
        cpus = os.sysconf("SC_NPROCESSORS_ONLN") if self._swaps else self._kernel.cpus
        self._sizes = ring_sizes(cpus, memory)
        self._rings: list[_Ring] = []
        self._numbers, self._scramble, self._cgroups = Numbers(_KEY), Scrambler(), Cgroups()
        self._keys: Rows = np.zeros(0, KEY_TYPE)
        self._start, self._since, self._cpu = 0, 0.0, 0.0
        self._unrecorded = np.zeros(0, np.int64)
        self._rooms = Rooms()
        self._buffer, self._pair = self._rooms.take()
        self._used, self._pairs = 0, Pairs()
        self._fullest, self._stopped = 0.0, False
        self.unrecorded: dict[str, int] = {}
        """Events that found no room in a ring, by kind."""

    def __enter__(self) -> Self:
        rings, events = self._sizes
        defines = {"RINGS": rings, "RING_EVENTS": events, "COMPARE_AND_SWAP": self._swaps, "STACKS": self._stacks}
        self._kernel.open("events.c", defines, again=Again.ALL)
        try:
            self._rings = _rings(self._kernel.programs, rings, events)
        except BaseException:  # no room for the mapping, perhaps
            self._kernel.close()
            raise
        self._start, self._cpu = self._kernel.began, time.process_time()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._rings.clear()
        self._kernel.close()

    @property
    def keys(self) -> Rows:
        """The keys so far, dtype KEY_TYPE."""
        return self._keys

    @property
    def formats(self) -> dict[str, str]:
        """The format of each tracepoint that is recorded, by "category:event"."""
        return self._kernel.formats()

    def take_fill(self) -> float:
        """How full a ring was at most since the last call, 0 to 1."""
        fullest, self._fullest = self._fullest, 0.0
        return fullest

    def stop(self) -> None:
        """End soon."""
        self._stopped = True

    def segments(self) -> Iterator[Segment]:
        """Read until the end; the last segment comes when no program runs any more."""
        capacity = self._sizes[1]
        pause, least = min(_PAUSE, capacity / _FASTEST), min(_BLOCK, capacity // 8)
        while not (self._stopped or self._until()):
            is_over = self._now() - self._since >= _SEGMENT_SECONDS
            is_behind = self._drain(1 if is_over else least) >= _BLOCKS * _BLOCK
            if is_over or self._used + least > _SEGMENT_EVENTS:  # there a block that may be taken has no room
                yield self._close()
            if not is_behind:
                time.sleep(pause)
        end = self._now()
        self._kernel.stop()
        while self._drain(1):
            if self._used == _SEGMENT_EVENTS:
                yield self._close(end)
        yield self._close(end, last=True)

    def _now(self) -> float:
        return (time.monotonic_ns() - self._start) / 1e9

    def _drain(self, least: int) -> int:
        """Take a share of each ring in which so many events wait; how many that were."""
        before = self._used
        for ring in self._rings:
            self._fullest = max(self._fullest, ring.fill())
            for _ in range(_BLOCKS):
                room = _SEGMENT_EVENTS - self._used
                if min(ring.waiting(), room) < least:  # the rest waits: it would be a small block
                    break
                events = ring.events(min(_BLOCK, room))
                if not len(events):  # the first one is being written
                    break
                self._take(events)
                ring.release(len(events))
                if max(len(events), ring.waiting()) < _BLOCK:  # and so does what has come since
                    break
        return self._used - before

    def _take(self, events: Array) -> None:
        """Convert a block of events to columns."""
        rows = slice(self._used, self._used + len(events))
        words = events.view(np.uint64).reshape(-1, _WORDS)
        self._buffer["key"][rows] = self._numbers.of(words[:, :_KEY_WORDS])
        self._buffer["ptr"][rows] = self._scramble(events["ptr"])
        np.subtract(events["time"].view(np.int64), self._start, out=self._buffer["time"][rows])
        for name in ("requested", "pid", "task", "stack", "cpu"):
            self._buffer[name][rows] = events[name]
        self._pair[rows] = events["pair"]
        self._used = rows.stop

    def _close(self, end: float | None = None, *, last: bool = False) -> Segment:
        """The segment that ends now, or at `end`."""
        end = max(self._since, self._now() if end is None else end)
        columns = {name: column[: self._used] for name, column in self._buffer.items()}
        pair = self._pair[: self._used]
        self._learn(columns)
        columns = self._pairs.settle(columns, pair, last=last)
        wanted = np.isin(self._keys["kind"], [int(kind) for kind in self._kinds])
        if not wanted.all():
            columns = selected(columns, wanted[columns["key"]])
        self._kernel.learn_memory()
        cpu = time.process_time()
        self._kernel.meter.look()
        cost = Cost(self._kernel.meter.seconds(len(pair)), cpu - self._cpu)
        segment = Segment(columns, self._since, end - self._since, self._trust(), cost)
        self._since, self._used, self._cpu = end, 0, cpu
        self._buffer, self._pair = self._rooms.take()
        return segment

    def _learn(self, columns: Columns) -> None:
        """What the numbers mean that these events use for the first time."""
        if len(self._numbers) > len(self._keys):
            new = self._numbers.records[len(self._keys) :]
            keys = np.zeros(len(new), KEY_TYPE)
            for name in KEY:
                if name not in ("site", "cache"):
                    keys[name] = new[name]
            keys["site"], keys["cache"] = self._kernel.sites(new["site"]), self._kernel.caches(new["cache"])
            self._keys = np.concatenate([self._keys, keys])
        if _unknown(columns["task"], self.meta.tasks):
            self._learn_tasks()
        if _unknown(columns["stack"], self.meta.stacks):
            self._kernel.learn_stacks()

    def _learn_tasks(self) -> None:
        numbers, names = self._kernel.programs.read_hash("tasks", np.dtype("<u4"), _TASK)
        new = [
            (number, name)
            for number, name in zip(numbers.tolist(), names[:, 0], strict=True)
            if number not in self.meta.tasks
        ]
        if any(not self._cgroups.path(int(name["cgroup"])) for _, name in new):
            self._cgroups.scan()
        for number, name in new:
            comm = name["comm"].tobytes().partition(b"\0")[0].decode("utf-8", "backslashreplace")
            self.meta.tasks[number] = Task(comm, self._cgroups.path(int(name["cgroup"])))

    def _trust(self) -> Trust:
        trust = self._kernel.trust()
        copies = self._kernel.programs.read_arrays("unrecorded", np.dtype("<u8"), self._kernel.cpus)
        unrecorded = copies.sum(axis=1).astype(np.int64)
        gained = unrecorded - self._unrecorded if len(self._unrecorded) else unrecorded
        self._unrecorded = unrecorded
        self.unrecorded = {kind.name.lower(): int(unrecorded[kind]) for kind in Kind if unrecorded[kind]}
        trust.lost += int(gained.sum())
        return trust


class Rooms:
    """Memory for the columns of segments, which comes back when nobody has an array of a segment any more.

    New memory costs more than what is written to it: the kernel fills it with zeros first.
    """

    def __init__(self) -> None:
        self._spare: list[Array] = []

    def take(self) -> tuple[Columns, Array]:
        """Columns for a segment and the pair of each event, all still to be written."""
        types = [(column.name, np.dtype(column.type)) for column in COLUMNS]
        memory = self._spare.pop() if self._spare else np.empty(_SEGMENT_EVENTS * (_ROW + 1), np.uint8)
        # Arrays made of this one refer to it, and not to the memory: a memoryview lies between.
        whole = np.frombuffer(memory.data, np.uint8)
        weakref.finalize(whole, self._give_back, memory).atexit = False
        ends = np.cumsum([_SEGMENT_EVENTS * kind.itemsize for _, kind in types])
        parts = np.split(whole, ends)
        columns = {name: part.view(kind) for (name, kind), part in zip(types, parts[:-1], strict=True)}
        return columns, parts[-1]

    def _give_back(self, memory: Array) -> None:
        if len(self._spare) < _SPARE:
            self._spare.append(memory)


def _unknown(numbers: Array, known: Mapping[int, Any]) -> bool:
    """Whether a number other than 0 is not known; neighbours are mostly equal."""
    if not len(numbers):
        return False
    changes = np.flatnonzero(numbers[1:] != numbers[:-1])
    distinct = np.unique(np.append(numbers[changes], numbers[-1])).tolist()
    return any(number and number not in known for number in distinct)
