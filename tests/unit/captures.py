"""Captures for tests: a few events written by the real writer, in the words of rows.py.

    write_capture(tmp_path / "a.kmw", [[at(0.2, rows.kmalloc("f+0x1", 60), comm="cat")], [], [at(2.5, ...)]])

Segment n has the events from second n to second n + 1.
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from kmwatch.batch import KEY, Cache, Cost, Meta, Rows, Task, Trust
from kmwatch.capture import journal
from kmwatch.capture.journal import Entry
from kmwatch.capture.layout import JOURNAL
from kmwatch.capture.writer import Writer
from kmwatch.events import COLUMNS, KEY_TYPE, Segment, empty_columns
from kmwatch.kernel.symbols import Site
from kmwatch.schema import Context, Kind
from tests.unit import rows
from tests.unit.rows import Row

Event = dict[str, Any]
"""A Row of rows.py with what only a single event has: time in seconds, ptr, pid, cpu, comm, cgroup, stack."""

START = 1_700_000_000.0
DENTRY = Cache("dentry", 190, 192)
_SIZED = (Kind.CACHE_ALLOC, Kind.CACHE_FREE, Kind.PAGE_ALLOC, Kind.PAGE_FREE)  # their size follows from the key
_T = TypeVar("_T")


def at(time: float, row: Row, **single: Any) -> Event:
    """An event, or as many as the row counts, at `time`; `stack` is sites as text, innermost first."""
    return {"ptr": 0, "pid": 1, "cpu": 0, "comm": "", "cgroup": "", "stack": (), "time": time, **row, **single}


class FakeRecorder:
    """Numbers what events refer to, as a recorder does, and gives their segments."""

    def __init__(self, segments: Sequence[Sequence[Event]], trust: dict[int, Trust], meta: Meta) -> None:
        self.meta = meta
        self._given, self._trust = segments, trust
        self._keys: list[Any] = []

    @property
    def keys(self) -> Rows:
        """The keys so far."""
        return np.array(self._keys, KEY_TYPE)

    def segments(self) -> Iterator[Segment]:
        """A second each."""
        for number, events in enumerate(self._given):
            columns = empty_columns(sum(each["count"] for each in events))
            first = 0
            for event in sorted(events, key=lambda each: float(each["time"])):
                for name, value in self._single(event).items():
                    columns[name][first : first + event["count"]] = value
                first += event["count"]
            yield Segment(columns, float(number), 1.0, self._trust.get(number, Trust()), Cost(0.01, 0.02))

    def _single(self, event: Event) -> dict[str, int]:
        row = rows.rows_of(self.meta, {name: value for name, value in event.items() if name not in _SINGLE})[0]
        key = tuple(row[name] for name in KEY)
        sized = event["kind"] in _SIZED
        return {
            "time": round(event["time"] * 1e9),
            "key": _number(self._keys, key),
            "requested": 0 if sized else event.get("min_request", 0),
            "task": self._task(event),
            "stack": self._stack(event["stack"]),
            **{name: event[name] for name in ("ptr", "pid", "cpu")},
        }

    def _task(self, event: Event) -> int:
        task = Task(event["comm"], event["cgroup"])
        if not task.comm:
            return 0
        found = [number for number, each in self.meta.tasks.items() if each == task]
        number = found[0] if found else len(self.meta.tasks)
        self.meta.tasks[number] = task
        return number

    def _stack(self, frames: Sequence[str]) -> int:
        if not frames:
            return 0
        sites = tuple(_number(self.meta.sites, _site(frame)) for frame in frames)
        found = [number for number, each in self.meta.stacks.items() if each == sites]
        number = found[0] if found else len(self.meta.stacks) + 1
        self.meta.stacks[number] = sites
        return number


_SINGLE = {column.name for column in COLUMNS} | {"comm", "cgroup"}


def _site(text: str) -> Site:
    symbol, _, rest = text.partition("+")
    return Site(text.partition(" ")[0], symbol, rest.partition(" [")[2].rstrip("]"))


def _number(table: list[_T], item: _T) -> int:
    if item not in table:
        table.append(item)
    return table.index(item)


def write_capture(
    directory: Path,
    segments: Sequence[Sequence[Event]],
    *,
    trust: dict[int, Trust] | None = None,
    ended: bool = True,
    about: dict[str, Any] | None = None,
    **meta: Any,
) -> Path:
    """Write a capture and return its directory.

    Args:
        directory: made here.
        segments: the events of each second.
        trust: the doubt of segments, by number.
        ended: False for a capture that was cut.
        about: what its meta.json says of how it was made.
        meta: what rows.meta is to say otherwise.
    """
    recorder = FakeRecorder(segments, trust or {}, rows.meta(**{"start": START, **meta}))
    with Writer(directory, recorder, about or {}) as writer:
        for segment in recorder.segments():
            writer.write(segment)
        if ended:
            writer.finish("the test is over", {})
    return directory


_MSGSND = ("load_msg+0x41", "do_msgsnd+0x66", "do_syscall_64+0x5d")
_OPEN = ("getname_flags+0x4a", "do_sys_openat2+0x5b", "do_syscall_64+0x5d")


def small_segments() -> list[list[Event]]:
    """Three seconds of two commands and an interrupt.

    Second 0: 4 kmallocs of 60 bytes, and 1 of 3000. Second 1: 2 dentries, an order-3 request that fails, a vmalloc.
    Second 2: 3 kmallocs of 60 bytes, 2 pages, and what was allocated in second 0 is freed.
    """
    msg = {"comm": "stress-ng-msg", "cgroup": "/user.slice", "stack": _MSGSND, "pid": 70}
    find = {"comm": "find", "stack": _OPEN, "pid": 71, "cpu": 1}
    return [
        [
            *(at(0.1 + 0.2 * each, rows.kmalloc("load_msg+0x41", 60), ptr=1 + each, **msg) for each in range(4)),
            at(0.95, rows.kmalloc("getname_flags+0x4a", 3000), ptr=9, **find),
        ],
        [
            at(1.0, rows.object_of(DENTRY, "d_alloc+0x1", context=Context.SOFTIRQ), ptr=10, **find),
            at(1.3, rows.object_of(DENTRY, "d_alloc+0x1", context=Context.SOFTIRQ), ptr=11, **find),
            at(1.5, rows.pages("probe+0x9 [wifi]", 3, gfp="GFP_ATOMIC", failed=1)),
            at(1.7, rows.area("module_alloc+0x9 [wifi]", 8192), ptr=12, comm="modprobe"),
        ],
        [
            *(at(2.2, rows.kmalloc("load_msg+0x41", 60), ptr=20 + each, **msg) for each in range(3)),
            at(2.4, rows.pages("probe+0x9 [wifi]", zone=2, node=0, migratetype=0, count=2), ptr=30, **find),
            *(at(2.6, rows.row(Kind.KFREE, "free_msg+0x99"), ptr=1 + each, **msg) for each in range(4)),
        ],
    ]


def small_capture(directory: Path, **changes: Any) -> Path:
    """The capture of small_segments(); `changes` as write_capture() takes them."""
    return write_capture(directory, small_segments(), **changes)


def entries(directory: Path) -> list[Entry]:
    """What the journal of a capture tells."""
    return list(journal.read(directory).entries)


def write_journal(directory: Path, told: list[Entry]) -> None:
    """The journal anew, with the checksums of these lines."""
    (directory / JOURNAL).write_bytes(b"".join(map(journal._line, told)))


def tell(directory: Path, name: str) -> None:
    """Let the journal have the digest that a file has now."""
    digest = hashlib.sha256((directory / name).read_bytes()).hexdigest()
    write_journal(
        directory, [{**each, "sha256": digest} if each.get("file") == name else each for each in entries(directory)]
    )
