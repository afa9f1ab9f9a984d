"""Captures of many kernels in one Meta: their rows get numbers of its tables, by names.

Call sites are told apart by function and module: offsets and numbers mean nothing in another build.
"""

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np

from kmwatch.batch import NO_TASK, Batch, Host, Meta, Rows, Task
from kmwatch.demand import Demand, merged
from kmwatch.failures import MOST_KEPT
from kmwatch.fleet.flags import FleetFlags
from kmwatch.held import GROUP, Held
from kmwatch.kernel.slab import AllocatorLimits
from kmwatch.kernel.symbols import UNKNOWN, Site
from kmwatch.schema import NO_ZONE

Array = np.ndarray[Any, np.dtype[Any]]
_T = TypeVar("_T", bound=Hashable)
_DIFFERS = "differs from capture to capture"
_MOST_DOUBTS = 1000

Tell = Callable[[Task, Host], Task]
"""What rows of a task of a host are told apart by."""


class _Table(Generic[_T]):
    """Numbers for things, in order of first sight."""

    def __init__(self, items: list[_T]) -> None:
        self.items = items
        self._numbers = {item: number for number, item in enumerate(items)}

    def number(self, item: _T) -> int:
        """The number of a thing; a new one where it is new."""
        number = self._numbers.get(item)
        if number is None:
            number = self._numbers[item] = len(self.items)
            self.items.append(item)
        return number

    def numbers(self, items: Iterable[_T]) -> Array:
        """Those of many."""
        return np.array([self.number(item) for item in items], np.int64)


@dataclass(frozen=True)
class Translation:
    """Numbers of one capture as those of the fleet; each array is by the capture's own number."""

    fleet: "Merging"
    meta: Meta
    sites: Array
    caches: Array
    zones: Array
    tasks: dict[int, int]

    def rows(self, rows: Rows) -> Rows:
        """Rows, of dtype ROW, STACKED or HELD: whatever of these columns they have."""
        translated = rows.copy()
        names = rows.dtype.names or ()
        for name, numbers in (("site", self.sites), ("cache", self.caches), ("zone", self.zones)):
            if name in names:
                translated[name] = numbers[rows[name]]
        if "gfp" in names:
            translated["gfp"] = self._each(rows["gfp"], lambda mask: self.fleet.flags.mask(self.meta.gfp, mask))
        if "task" in names:
            translated["task"] = self._each(rows["task"], lambda number: self.tasks.get(number, 0))
        if "stack" in names:
            translated["stack"] = self._each(rows["stack"], self._stack)
        self.fleet.refresh()
        return translated

    def batch(self, batch: Batch) -> Batch:
        """A batch; what it holds is for the fleet to add up."""
        return replace(batch, rows=self.rows(batch.rows), stacked=self.rows(batch.stacked), held=None)

    def demand(self, demand: Demand) -> Demand:
        """What kmalloc was asked for."""
        requests = demand.requests.copy()
        requests["site"] = self.sites[requests["site"]]
        return replace(demand, requests=merged(requests))

    def held(self, held: Held) -> Held:
        """What is held."""
        stacks = held.stacks.copy()
        if len(stacks):
            stacks[:, 1] = self.sites[stacks[:, 1]]
            stacks[:, 2] = self._each(stacks[:, 2], self._stack)
        return replace(held, rows=self.rows(held.rows), stacks=stacks, before=None, now=None)

    def _stack(self, number: int) -> int:
        frames = self.meta.stacks.get(number)
        return self.fleet.stack(tuple(self.sites[list(frames)].tolist())) if frames else 0

    @staticmethod
    def _each(column: Array, translate: Callable[[int], int]) -> Array:
        """A column translated, each distinct value once."""
        values, back = np.unique(column, return_inverse=True)
        return np.array([translate(value) for value in values.tolist()], np.int64)[back.ravel()]


class Merging:
    """One Meta for many captures.

    Args:
        tell: what rows are told apart by; None where they are not.
    """

    def __init__(self, tell: Tell | None = None) -> None:
        self.flags = FleetFlags()
        self.meta = Meta(Host("no host", "no kernel", "", 1), self.flags.table, AllocatorLimits(), (), {}, "")
        self._tell = tell
        self._sites = _Table(self.meta.sites)
        self._caches = _Table(self.meta.caches)
        self._zones: _Table[str] = _Table([])
        self._tasks = _Table([NO_TASK])
        self._stacks: _Table[tuple[int, ...]] = _Table([()])
        self._hosts: dict[str, None] = {}
        self._kernels: dict[str, None] = {}

    def translation(self, name: str, meta: Meta) -> Translation:
        """The numbers of a capture of this name, whose tables join those of the fleet."""
        self._join(name, meta)
        zones = np.full(NO_ZONE + 1, NO_ZONE, np.int64)
        zones[: len(meta.zones)] = self._zones.numbers(meta.zones)
        self.meta.zones = tuple(self._zones.items)
        tasks = {number: self._task(task, meta.host) for number, task in meta.tasks.items()}
        return Translation(
            self, meta, self._sites.numbers(map(_named, meta.sites)), self._caches.numbers(meta.caches), zones, tasks
        )

    def stack(self, frames: tuple[int, ...]) -> int:
        """The number of a stack of the fleet's sites."""
        number = self._stacks.number(frames)
        self.meta.stacks[number] = frames
        return number

    def refresh(self) -> None:
        """The table of flags as it is by now."""
        self.meta.gfp = self.flags.table

    def _task(self, task: Task, host: Host) -> int:
        number = self._tasks.number(self._tell(task, host)) if self._tell else 0
        self.meta.tasks[number] = self._tasks.items[number]
        return number

    def _join(self, name: str, other: Meta) -> None:
        meta, first = self.meta, not self._hosts
        self._hosts[other.host.hostname] = self._kernels[other.host.kernel] = None
        meta.host = Host(
            _one_or_count(self._hosts, "hosts"),
            _one_or_count(self._kernels, "kernels"),
            "",
            other.host.cpus if first else max(meta.host.cpus, other.host.cpus),
        )
        if first:
            meta.limits, meta.context, meta.start = other.limits, other.context, other.start
        meta.context = meta.context if meta.context == other.context else _DIFFERS
        meta.start = min(meta.start, other.start)
        for probe, how in other.probes.items():
            meta.probes[probe] = how if meta.probes.get(probe, how) == how else _DIFFERS
        room = max(MOST_KEPT - len(meta.failures), 0)
        meta.failures += [replace(each, gfp=self.flags.mask(other.gfp, each.gfp)) for each in other.failures[:room]]
        meta.doubts += [f"{name}: {doubt}" for doubt in other.doubts][: _MOST_DOUBTS - len(meta.doubts)]


def _named(site: Site) -> Site:
    return site if site == UNKNOWN else Site(site.symbol, site.symbol, site.module)


def _one_or_count(names: dict[str, None], what: str) -> str:
    return next(iter(names)) if len(names) == 1 else f"{len(names):,} {what}"


def sum_of(held: Iterable[Held]) -> Held | None:
    """What all hold together; None where nobody looked."""
    parts = list(held)
    if not parts:
        return None
    whole = Held(np.concatenate([each.rows for each in parts]), parts[0].bits, sum(each.refused for each in parts))
    stacks = np.concatenate([each.stacks for each in parts])
    return replace(whole, rows=whole.grouped(*GROUP), stacks=stacks)
