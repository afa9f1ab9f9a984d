"""Events of a synthetic capture: made call site by call site, numbered as no other host numbers them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from kmwatch.batch import Meta, Rows
from kmwatch.events import KEY_TYPE, Array, Columns, Segment, concatenated, empty_columns, selected
from kmwatch.fleet.calls import FREES, Call
from kmwatch.fleet.invented import CACHES
from kmwatch.kernel.symbols import Site
from kmwatch.schema import NO_ZONE, Context, Kind

_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_MOVABLE = 1  # the migrate type, beside unmovable, 0
_UNSEEN = (Kind.PAGE_FREE, Kind.VFREE)  # whose events do not tell who released
_MOST_THREADS = 4000
_SECOND = 1_000_000_000


@dataclass
class Events:
    """A recorder that has recorded already: events in the order of time, and what their numbers refer to."""

    meta: Meta
    keys: Rows
    columns: Columns
    seconds: int

    def segments(self) -> Iterator[Segment]:
        """A second each."""
        bounds = np.searchsorted(self.columns["time"], np.arange(self.seconds + 1) * _SECOND).tolist()
        for second, (first, last) in enumerate(pairwise(bounds)):
            yield Segment(selected(self.columns, slice(first, last)), float(second), 1.0)


class Maker:
    """Makes events.

    Args:
        meta: of the host; its sites and caches are filled in `made`.
        offset: where in a function a call returns to.
        random: where all chance comes from.
        seconds: the span.
    """

    def __init__(self, meta: Meta, offset: Callable[[str], int], random: np.random.Generator, seconds: int) -> None:
        self._meta, self._offset, self._random = meta, offset, random
        self._seconds, self._end = seconds, seconds * _SECOND
        self._sites: dict[Site, int] = {}
        self._caches: dict[str, int] = {}
        self._keys: dict[tuple[int, ...], int] = {}
        self._parts: list[Columns] = []
        self._objects = 1

    def add(self, call: Call, count: int, failing: float) -> None:
        """So many events of a call at times by chance, of which a share fails, and the releases within the span."""
        part = empty_columns(count)
        part["time"] = self._random.integers(0, self._end, count)
        part["ptr"] = np.arange(self._objects, self._objects + count, dtype=np.uint64) * _SPREAD
        self._objects += count
        self._who(part)
        failed = self._random.random(count) < failing
        part["ptr"][failed] = 0
        sizes = self._sizes(call, count)
        taken = self._taken(call, sizes)
        part["requested"] = np.where(call.cache != "" or call.kind == Kind.PAGE_ALLOC, 0, sizes)
        for size, lost in sorted({*zip(taken.tolist(), failed.tolist(), strict=True)}):
            part["key"][(taken == size) & (failed == lost)] = self._key(call, size, failed=lost)
        self._parts.append(part)
        if call.freed:
            self._release(call, selected(part, ~failed))

    def made(self) -> Events:
        """All of it. Sites, caches and keys are numbered by chance, as they are by what comes first."""
        sites = self._random.permutation(len(self._sites))
        caches = self._random.permutation(len(self._caches))
        keys = self._random.permutation(len(self._keys))
        known, named = [*self._sites], [*self._caches]
        self._meta.sites += [known[at] for at in np.argsort(sites).tolist()]
        self._meta.caches += [CACHES[named[at]] for at in np.argsort(caches).tolist()]
        table = np.zeros(len(keys), KEY_TYPE)
        table[keys] = np.array([*self._keys], KEY_TYPE)
        for name, places in (("site", sites), ("cache", caches)):
            table[name] = np.append(0, 1 + places)[table[name]]
        columns = concatenated(self._parts)
        columns["key"] = keys[columns["key"]].astype(np.uint32)
        in_order = selected(columns, np.argsort(columns["time"], kind="stable"))
        return Events(self._meta, table, in_order, self._seconds)

    def _release(self, call: Call, given: Columns) -> None:
        lived = self._random.exponential(call.lifetime * _SECOND, len(given["time"]))
        given["time"] = given["time"] + lived.astype(np.int64)
        part = selected(given, given["time"] < self._end)
        part["requested"][:] = 0
        part["key"][:] = self._released(call)
        self._parts.append(part)

    def _who(self, part: Columns) -> None:
        """Threads of the host; those of interrupts are whoever ran."""
        count = len(part["time"])
        part["task"] = self._random.integers(1, len(self._meta.tasks), count).astype(np.uint32)
        part["pid"] = self._random.integers(1, _MOST_THREADS, count).astype(np.uint32)
        part["cpu"] = self._random.integers(0, self._meta.host.cpus, count).astype(np.uint16)

    def _sizes(self, call: Call, count: int) -> Array:
        """Requests between the call's bounds; where they vary, each host's are a little elsewhere."""
        low, high = call.sizes
        if low < high:
            low += int(self._random.integers(0, max((high - low) // 10, 1)))
        return self._random.integers(low, high, count, endpoint=True)

    def _taken(self, call: Call, sizes: Array) -> Array:
        """The size class of a kmalloc; of others it follows from the cache, the order or the request."""
        if call.kind != Kind.KMALLOC:
            return np.zeros(len(sizes), np.int64)
        classes = np.array(self._meta.limits.classes)
        return classes[np.searchsorted(classes, sizes)]

    def _key(self, call: Call, taken: int, *, failed: bool) -> int:
        gfp = self._meta.gfp.encode(call.gfp) if call.kind != Kind.VMALLOC else 0
        more = {"gfp": gfp, "bytes_alloc": taken, "context": call.context, "failed": failed}
        return self._number(call.kind, call.function, call, **more)

    def _released(self, call: Call) -> int:
        return self._number(FREES[call.kind], call.freed, call, context=call.context & Context.SOFTIRQ)

    def _number(self, kind: Kind, function: str, call: Call, **values: int) -> int:
        site = Site(f"{function}+{self._offset(function):#x}", function, call.module)
        seen = kind not in _UNSEEN
        key = {
            **dict.fromkeys(KEY_TYPE.names or (), 0),
            **dict.fromkeys(("zone", "node", "migratetype"), NO_ZONE),
            "kind": int(kind),
            "site": 1 + self._sites.setdefault(site, len(self._sites)) if seen else 0,
            "cache": 1 + self._caches.setdefault(call.cache, len(self._caches)) if call.cache else 0,
            **values,
        }
        if kind in (Kind.PAGE_ALLOC, Kind.PAGE_FREE):
            key["order"] = call.order
        if kind == Kind.PAGE_ALLOC and not values["failed"]:
            key |= {"zone": self._meta.zones.index("Normal"), "node": 0}
            key["migratetype"] = _MOVABLE if "MOVABLE" in call.gfp else 0
        return self._keys.setdefault(tuple(int(each) for each in key.values()), len(self._keys))
