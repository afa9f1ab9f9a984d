"""Counters since the start, out of batches: exact, never going back, of bounded size; numpy adds up each batch."""

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from kmwatch import contexts
from kmwatch.batch import ROW, Batch, Cache, Meta, Rows, Trust
from kmwatch.kernel.symbols import Site
from kmwatch.ledger import ALLOCATIONS, FREES, MAPPINGS, Array, Ledger
from kmwatch.mobility import REQUESTED, migratetype
from kmwatch.schema import Kind
from kmwatch.serve.cells import OTHER, Labels, Names
from kmwatch.serve.ranking import Ranking
from kmwatch.serve.snapshot import Family
from kmwatch.serve.tally import Shape, Tally, TopTally

OUTCOMES = ("real", "opportunistic")
LOST = ("lost", "map_full")
"""The words of Trust for events that were not counted; its others are doubts about those that were."""

_PRESSURES = {
    Kind.DIRECT_RECLAIM: "direct_reclaims_total",
    Kind.COMPACTION: "compactions_total",
    Kind.OOM_VICTIM: "oom_victims_total",
}
_SUMS = ("allocations", "requested_bytes", "allocated_bytes", "wasted_bytes")
_OF_FACTS = ("count", "bytes_requested", "bytes_allocated", "bytes_wasted")  # the columns of the ledger for _SUMS
_FEW = 256  # names of what is few: flags in use are some hundred, size classes two dozen


@dataclass(frozen=True)
class Limits:
    """What bounds the series. top: entries at the top of each measure; idle: seconds until one loses its series.

    at_once: what makes a series begin is counted in it: who reads all of it afterwards misses nothing.
    """

    top: int = 50
    idle: float = 3600.0
    at_once: bool = False


class Counters:
    """All counters of one source, since `start`, in seconds since the epoch.

    Args:
        meta: what the batches' numbers mean.
        start: when counting began.
        limits: what bounds the series.
        kinds: what is observed; failures of others are not shown as 0.
    """

    def __init__(
        self, meta: Meta, start: float, limits: Limits | None = None, kinds: Collection[Kind] = frozenset(Kind)
    ) -> None:
        self.start, self.trust = start, Trust()
        self._meta, self._limits = meta, limits or Limits()
        self._owed: Rows = np.zeros(0, ROW)
        self._functions, self._slabs = Names((OTHER, "")), Names((OTHER,))
        self._sizes, self._flags, self._zones = (Names((OTHER,), _FEW) for _ in range(3))
        self._totals, self._tops = self._make_totals(), self._make_tops()
        self._begin(kinds)

    def follow(self, meta: Meta) -> None:
        """Batches come from another source from now on; the counters go on."""
        self._meta, self._owed = meta, np.zeros(0, ROW)
        for names in (self._functions, self._slabs):
            names.forget_table()

    def add(self, batch: Batch) -> None:
        """Count a batch. An empty one lets time pass."""
        self.trust.add(batch.trust)
        span = (batch.start, batch.seconds)
        ledger = self._settled(batch)
        self._add_totals(ledger)
        self._add_pages(ledger)
        self._add_sites(ledger, span)
        self._add_troubles(ledger, span)

    def families(self) -> dict[str, Family]:
        """The series of each counter, and of the gauges that tell how full the tops are."""
        made: dict[str, Family] = {}
        for tally in (*self._totals.values(), *self._tops.values()):
            made |= tally.families()
        entries = {name: top.entries for name, top in self._tops.items()}
        tables = tuple((name,) for name in entries)
        made["top_entries"] = Family(tables, tuple(used for used, _ in entries.values()))
        made["top_entries_limit"] = Family(tables, tuple(limit for _, limit in entries.values()))
        lost = {name: count for name, count in vars(self.trust).items() if name in LOST}
        doubtful = {name: count for name, count in vars(self.trust).items() if name not in LOST}
        return made | {"events_lost_total": self._reasons(lost), "events_doubtful_total": self._reasons(doubtful)}

    def _reasons(self, counts: dict[str, int]) -> Family:
        return Family(tuple((name,) for name in counts), tuple(counts.values()), (self.start,) * len(counts))

    def _settled(self, batch: Batch) -> Ledger:
        """The batch's rows as a ledger, without those that would take something back from a counter.

        A large kmalloc is counted at its first report, and taken back from there at its second. Where a reading fell
        between the two, the row waits until the same row gains again, which pays for it.
        """
        ledger = Ledger(self._meta)
        ledger.add(replace(batch, rows=np.concatenate([self._owed, batch.rows]), fresh=False))
        rows = ledger.rows
        below = (rows["count"] < 0) | (rows["bytes_requested"] < 0) | (rows["bytes_allocated"] < 0)
        below |= (rows["kind"] == Kind.KMALLOC) & (rows["bytes_allocated"] < rows["bytes_requested"])
        self._owed, ledger.rows = rows[below], rows[~below]
        return ledger

    def _make_totals(self) -> dict[str, Tally]:
        one = {
            "frees_total": Shape((), Names(), (_kind,)),
            "failures_total": Shape((), Names(), (_kind, OUTCOMES.__getitem__)),
            "sleeping_in_atomic_total": Shape((), Names(), (_kind,)),
            "gfp_allocations_total": Shape((), self._flags),
            "context_allocations_total": Shape((), Names(), (contexts.name,)),
            "page_allocations_total": Shape((), Names(), (str, _mobility)),
            "zone_pages_total": Shape((), self._zones, (self._zone,)),
            "extfrag_total": Shape((), Names(), (_mobility,)),
            "events_total": Shape((), Names(), (_kind,)),
            **{name: Shape((), Names()) for name in _PRESSURES.values()},
        }
        made = {name: Tally(replace(shape, metrics=(name,)), self.start) for name, shape in one.items()}
        sums = tuple(f"{name}_total" for name in _SUMS)
        return made | {"allocations_total": Tally(Shape(sums, self._sizes, (_kind,)), self.start)}

    def _make_tops(self) -> dict[str, TopTally]:
        details = (_kind, str, contexts.name, OUTCOMES.__getitem__)
        return {
            "site": self._top(Shape(_sites(*_SUMS), self._functions, (_kind,)), (0, 2, 3, 4)),
            "site_failures": self._top(Shape(_sites("failures"), self._functions, details), rare=True),
            "site_sleeping_in_atomic": self._top(
                Shape(_sites("sleeping_in_atomic"), self._functions, (_kind, contexts.name)), rare=True
            ),
            "site_large_allocations": self._top(Shape(_sites("large_allocations"), self._functions, (str,))),
            "slab": self._top(Shape(("slab_allocations_total", "slab_allocated_bytes_total"), self._slabs), (0, 1)),
        }

    def _top(self, shape: Shape, ranked: tuple[int, ...] = (0,), *, rare: bool = False) -> TopTally:
        ranking = Ranking(len(ranked), self._limits.top, self._limits.idle)
        return TopTally(shape, self.start, ranking, ranked, rare=rare or self._limits.at_once)

    def _begin(self, kinds: Collection[Kind]) -> None:
        """Show what is seldom at 0 from the start."""
        watched = sorted(kinds)
        self._totals["events_total"].begin(*((kind,) for kind in watched))
        self._totals["frees_total"].begin(*((kind,) for kind in watched if kind in FREES))
        asked = [kind for kind in watched if kind in ALLOCATIONS]
        self._totals["failures_total"].begin(*((kind, outcome) for kind in asked for outcome in (0, 1)))
        sleepers = (*ALLOCATIONS, *MAPPINGS)
        self._totals["sleeping_in_atomic_total"].begin(*((kind,) for kind in watched if kind in sleepers))
        for kind, name in _PRESSURES.items():
            if kind in kinds:
                self._totals[name].begin(())
        if Kind.EXTFRAG in kinds:
            self._totals["extfrag_total"].begin(*((mobility,) for mobility in REQUESTED))

    def _add_totals(self, ledger: Ledger) -> None:
        rows, facts, totals = ledger.rows, ledger.facts, self._totals
        totals["events_total"].add(_nameless(rows), [rows["kind"]], [rows["count"]])
        freed = rows[np.isin(rows["kind"], FREES)]
        totals["frees_total"].add(_nameless(freed), [freed["kind"]], [freed["count"]])
        chosen = facts["counted_once"] & (facts["count"] > 0)
        rows, facts = rows[chosen], facts[chosen]
        paged = rows["kind"] == Kind.PAGE_ALLOC
        pages = self._meta.limits.page_size << rows["order"].astype(np.int64)
        sizes = np.where(paged, pages, np.where(rows["kind"] == Kind.KMALLOC, rows["bytes_alloc"], 0))
        names = self._sizes.of_values(sizes, lambda size: str(size or ""))
        totals["allocations_total"].add(names, [rows["kind"]], [facts[name] for name in _OF_FACTS])
        flags = self._flags.of_values(rows["gfp"], self._meta.gfp.decode)
        totals["gfp_allocations_total"].add(flags, [], [facts["count"]])
        totals["context_allocations_total"].add(_nameless(rows), [rows["context"]], [facts["count"]])

    def _add_pages(self, ledger: Ledger) -> None:
        paged = (ledger.rows["kind"] == Kind.PAGE_ALLOC) & (ledger.facts["count"] > 0)
        rows, facts = ledger.rows[paged], ledger.facts[paged]
        details = [rows["order"], rows["migratetype"]]
        self._totals["page_allocations_total"].add(_nameless(rows), details, [facts["count"]])
        asked, back = np.unique(facts["zone_asked"], return_inverse=True)
        numbers = np.array([self._zones.number(str(zone)) for zone in asked], np.int64)[back.ravel()]
        self._totals["zone_pages_total"].add(
            numbers, [rows["zone"]], [facts["count"] << rows["order"].astype(np.int64)]
        )
        for kind, name in _PRESSURES.items():
            seen = ledger.rows[ledger.rows["kind"] == kind]
            self._totals[name].add(_nameless(seen), [], [seen["count"]])
        taken = ledger.rows[ledger.rows["kind"] == Kind.EXTFRAG]
        self._totals["extfrag_total"].add(_nameless(taken), [taken["migratetype"]], [taken["count"]])

    def _add_sites(self, ledger: Ledger, span: tuple[float, float]) -> None:
        once = ledger.facts["counted_once"]
        rows, facts = ledger.rows[once], ledger.facts[once]
        sums = [facts[name] for name in _OF_FACTS]
        failed = facts["failures"] + facts["opportunistic_failures"]
        self._tops["site"].add(self._function(rows), [rows["kind"]], [*sums, failed], span)
        large = (rows["kind"] == Kind.KMALLOC) & (rows["bytes_alloc"] > self._meta.limits.largest_slab)
        rows, facts = rows[large], facts[large]
        self._tops["site_large_allocations"].add(self._function(rows), [self._orders(rows)], [facts["count"]], span)
        chosen = ledger.rows["kind"] == Kind.CACHE_ALLOC
        rows, facts = ledger.rows[chosen], ledger.facts[chosen]
        slabs = self._slabs.of_table(self._meta.caches, rows["cache"], _slab)
        self._tops["slab"].add(slabs, [], [facts["count"], facts["bytes_allocated"]], span)

    def _add_troubles(self, ledger: Ledger, span: tuple[float, float]) -> None:
        chosen = ledger.facts["counted_once"] & (ledger.rows["failed"] != 0)
        rows, outcome = ledger.rows[chosen], ledger.facts["opportunistic_failures"][chosen] > 0
        self._totals["failures_total"].add(_nameless(rows), [rows["kind"], outcome], [rows["count"]])
        details = [rows["kind"], self._orders(rows), rows["context"], outcome]
        self._tops["site_failures"].add(self._function(rows), details, [rows["count"]], span)
        rows = ledger.rows[ledger.facts["sleeping_in_atomic"]]
        self._totals["sleeping_in_atomic_total"].add(_nameless(rows), [rows["kind"]], [rows["count"]])
        details = [rows["kind"], rows["context"]]
        self._tops["site_sleeping_in_atomic"].add(self._function(rows), details, [rows["count"]], span)

    def _function(self, rows: Rows) -> Array:
        return self._functions.of_table(self._meta.sites, rows["site"], _function)

    def _orders(self, rows: Rows) -> Array:
        """The order of the contiguous pages that each asks for; 0 where it needs none."""
        distinct, back = np.unique(rows["bytes_alloc"], return_inverse=True)
        sized = np.array([self._meta.limits.order_for(size) for size in distinct.tolist()], np.int64)[back.ravel()]
        small = np.where(rows["kind"] == Kind.KMALLOC, sized, 0)
        return np.where(rows["kind"] == Kind.PAGE_ALLOC, rows["order"], small)

    def _zone(self, number: int) -> str:
        return self._meta.zones[number] if number < len(self._meta.zones) else ""


def _sites(*names: str) -> tuple[str, ...]:
    return tuple(f"site_{name}_total" for name in names)


def _kind(number: int) -> str:
    return Kind(number).name.lower()


def _mobility(number: int) -> str:
    return migratetype(number) or ""


def _function(site: Site) -> Labels:
    return site.symbol, site.module


def _slab(cache: Cache) -> Labels:
    return (cache.name or "unknown",)


def _nameless(rows: Rows) -> Array:
    return np.zeros(len(rows), np.int64)
