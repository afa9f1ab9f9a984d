"""The ledger: all batches grouped. Whatever shows a sum takes it from here; nothing is added up anywhere else."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from kmwatch.batch import ROW, STACKED, Batch, Cost, Meta, Rows, Trust
from kmwatch.growth import Growth
from kmwatch.held import Held
from kmwatch.kernel.allocators import via_of
from kmwatch.rows import merged, merged_stacks, reduce_requests
from kmwatch.runs import runs
from kmwatch.schema import Context, Kind, Via
from kmwatch.thresholds import DEFAULTS, Thresholds
from kmwatch.timeline import Timeline

Array = np.ndarray[Any, np.dtype[Any]]

ALLOCATIONS = (Kind.KMALLOC, Kind.CACHE_ALLOC, Kind.PAGE_ALLOC, Kind.VMALLOC, Kind.PERCPU_ALLOC)
MAPPINGS = (Kind.IOREMAP, Kind.VMAP)
FREES = (Kind.KFREE, Kind.CACHE_FREE, Kind.PAGE_FREE, Kind.VFREE, Kind.IOUNMAP, Kind.PERCPU_FREE)
PRESSURE = (Kind.EXTFRAG, Kind.DIRECT_RECLAIM, Kind.COMPACTION, Kind.OOM_VICTIM)

MEASURES = ("count", "failures", "opportunistic_failures", "bytes_requested", "bytes_allocated", "bytes_wasted")
"""The sums of a group. count: what succeeded; bytes_wasted: allocated but not asked for."""

SITE = ("kind", "site", "cache", "gfp", "context", "order", "zone", "node", "migratetype", "via")
"""What tells the sites of a report apart; they are all columns of ROW."""

_FOLLOWS = ("zone_asked", "atomic", "may_sleep", "counted_once")  # from those

ELSEWHERE = Via.SLAB | Via.VMALLOC | Via.PERCPU
"""Pages taken for a slab, a vmalloc area or a per-CPU chunk are counted there, once."""


@dataclass(frozen=True)
class Totals:
    """Sums over everything, each piece of memory counted once; bytes and counts since the start."""

    allocations: int
    frees: int
    failures: int
    opportunistic_failures: int
    bytes_requested: int
    bytes_allocated: int
    bytes_wasted: int


class Ledger:
    """Grouped observations of one source.

    rows: dtype ROW, one for each distinct key, in no particular order.
    start, seconds: the span that the batches covered, in seconds since the epoch and seconds.
    trust, cost: the doubt and the cost of all batches.
    held, growth: what was held at the end of the last batch, and at each; None and empty where nobody looked.
    stacked: dtype STACKED, one for each distinct key and stack.
    timeline: the same rows by slices of time; None where nobody asked for it.
    thresholds: what rules hold it to.
    """

    def __init__(self, meta: Meta, thresholds: Thresholds = DEFAULTS, timeline: Timeline | None = None) -> None:
        self.meta, self.thresholds, self.timeline = meta, thresholds, timeline
        self.rows: Rows = np.zeros(0, ROW)
        self.stacked: Rows = np.zeros(0, STACKED)
        self.start, self.seconds = 0.0, 0.0
        self.trust, self.cost = Trust(), Cost()
        self.held: Held | None = None
        self.growth = Growth()

    def add(self, batch: Batch) -> None:
        """Add a batch; a fresh one replaces all before it."""
        if batch.fresh:
            self.rows, self.stacked, self.seconds = np.zeros(0, ROW), np.zeros(0, STACKED), 0.0
            self.trust, self.cost = Trust(), Cost()
            self.growth = Growth()
        if not self.seconds:
            self.start = batch.start
        self.seconds += batch.seconds
        self.trust.add(batch.trust)
        self.cost = Cost(self.cost.kernel + batch.cost.kernel, self.cost.own + batch.cost.own)
        if batch.held:
            self.held = batch.held
            self.growth.add(batch.start + batch.seconds, batch.held)
        self.rows = merged(np.concatenate([self.rows, batch.rows]))
        if len(batch.stacked):
            self.stacked = merged_stacks(np.concatenate([self.stacked, batch.stacked]))
        if self.timeline:
            self.timeline.add(batch)
        self.__dict__.pop("facts", None)

    @cached_property
    def facts(self) -> Array:
        """One row for each row of `rows` with what follows from its key: outcome, atomicity, sleeping, zone asked for.

        Fields: count, failures, opportunistic_failures, bytes_* as in MEASURES; atomic, may_sleep, counted_once,
        sleeping_in_atomic (bool); zone_asked (text).
        """
        rows, gfp = self.rows, self.meta.gfp
        masks, back = np.unique(rows["gfp"], return_inverse=True)
        names = [(gfp.may_sleep(mask), gfp.opportunistic(mask), gfp.zone_asked(mask)) for mask in masks.tolist()]
        by_mask = np.array(names, [("may_sleep", "?"), ("opportunistic", "?"), ("zone_asked", "U8")])[back.ravel()]
        failed = rows["failed"] != 0
        # Without flags the event says nothing about what its caller expected.
        expected = by_mask["opportunistic"] & (rows["gfp"] != 0)
        facts = np.zeros(len(rows), _FACTS)
        facts["count"] = np.where(failed, 0, rows["count"])
        facts["failures"] = np.where(failed & ~expected, rows["count"], 0)
        facts["opportunistic_failures"] = np.where(failed & expected, rows["count"], 0)
        for name in ("bytes_requested", "bytes_allocated"):
            facts[name] = np.where(failed, 0, rows[name])
        memory = np.isin(rows["kind"], ALLOCATIONS)
        facts["bytes_wasted"] = np.where(memory, facts["bytes_allocated"] - facts["bytes_requested"], 0)
        facts["atomic"] = (rows["context"] != 0) & (rows["context"] & Context.UNKNOWN == 0)
        # A vmalloc or ioremap may always sleep: alloc_vmap_area() says might_sleep(), and its event has no GFP flags.
        facts["may_sleep"] = by_mask["may_sleep"] | np.isin(rows["kind"], [Kind.VMALLOC, *MAPPINGS])
        facts["counted_once"] = memory & ((rows["kind"] != Kind.PAGE_ALLOC) | (rows["via"] & ELSEWHERE == 0))
        facts["zone_asked"] = by_mask["zone_asked"]
        facts["sleeping_in_atomic"] = self._sleeping_in_atomic(facts)
        return facts

    def _sleeping_in_atomic(self, facts: Array) -> Array:
        """What may sleep where that is a bug; what an allocator needs for itself is its caller's, found by its own."""
        mapped = np.isin(self.rows["kind"], MAPPINGS)
        wrong: Array = facts["atomic"] & facts["may_sleep"] & (facts["counted_once"] | mapped)
        sites = np.unique(self.rows["site"][wrong]).tolist()
        allocators = [site for site in sites if via_of(self.meta.sites[site].symbol)]
        return wrong & ~np.isin(self.rows["site"], allocators)

    def totals(self) -> Totals:
        """Sums over everything."""
        facts, once = self.facts, self.facts["counted_once"]
        sums = {name: int(facts[name][once].sum()) for name in MEASURES}
        frees = int(self.rows["count"][np.isin(self.rows["kind"], FREES)].sum())
        return Totals(allocations=sums.pop("count"), frees=frees, **sums)

    def events(self, *kinds: Kind) -> int:
        """How many events of these kinds there were; of all kinds where none is named."""
        chosen = np.isin(self.rows["kind"], kinds) if kinds else np.ones(len(self.rows), bool)
        return int(self.rows["count"][chosen].sum())

    def sites(self) -> Array:
        """What each site does, each way that it does it: groups by SITE, most bytes first."""
        groups = self.groups(*SITE, *_FOLLOWS, kinds=(*ALLOCATIONS, *MAPPINGS))
        return groups[np.lexsort([-groups["count"], -groups["bytes_allocated"]])]

    def at(self, rows: Rows) -> "Ledger":
        """The ledger of a part of this one's rows, those of a slice of time perhaps."""
        part = Ledger(self.meta, self.thresholds)
        part.rows = rows
        return part

    def groups(
        self,
        *columns: str,
        kinds: tuple[Kind, ...] = ALLOCATIONS,
        once: bool = False,
        labels: dict[str, Array] | None = None,
    ) -> Array:
        """Allocations grouped by columns of ROW or of `facts`: those columns, MEASURES, min_request, max_request, fill.

        With `once`, page allocations that another allocator made for itself are left out, so that sums over several
        kinds count each piece of memory once. `labels` are further columns, one value for each of `rows`.
        """
        chosen = np.isin(self.rows["kind"], kinds)
        if once:
            chosen &= self.facts["counted_once"]
        rows, facts = self.rows[chosen], self.facts[chosen]
        labels = {name: column[chosen] for name, column in (labels or {}).items()}
        keys = [facts[name] if name in _FACTS.names else rows[name] for name in columns]  # type: ignore[operator]
        columns, keys = (*columns, *labels), [*keys, *labels.values()]
        order, starts = runs(keys, len(rows))
        types = [(name, key.dtype) for name, key in zip(columns, keys, strict=True)]
        grouped = np.zeros(len(starts), [*types, *((name, "<i8") for name in MEASURES), *_REQUESTS])
        for name, key in zip(columns, keys, strict=True):
            grouped[name] = key[order][starts]
        if len(starts):
            for name in MEASURES:
                grouped[name] = np.add.reduceat(facts[name][order], starts)
            reduce_requests(grouped, rows[order], starts)
        return grouped


_REQUESTS = [(name, *ROW.fields[name][:1]) for name in ("min_request", "max_request", "fill")]  # type: ignore[index]
_FACTS = np.dtype(
    [
        *((name, "<i8") for name in MEASURES),
        *((name, "?") for name in ("atomic", "may_sleep", "counted_once", "sleeping_in_atomic")),
        ("zone_asked", "U8"),
    ]
)
