"""The eight views of the live screen: what each gathers from the ledger, and its columns. All sums are the ledger's."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from kmwatch.batch import ROW, STACKED
from kmwatch.findings import SEVERITIES, Found
from kmwatch.growth import BY
from kmwatch.ledger import ALLOCATIONS, MAPPINGS, Array, Ledger
from kmwatch.rules import judge
from kmwatch.schema import Kind
from kmwatch.units import printable
from kmwatch.views.rulebook import build as rule_page
from kmwatch.views.top import columns as col
from kmwatch.views.top import outstanding
from kmwatch.views.top.columns import Cell, Column, Groups, amount, words
from kmwatch.views.top.past import Past

BAD, WARN, PLAIN, GOOD = "bad", "warn", "", "good"
"""Levels of a row or a part of the header: what the screen may colour."""


class Row(NamedTuple):
    """One row of a view: what tells it apart, its level, and a cell for each column of the view."""

    key: tuple[Cell, ...]
    level: str
    cells: tuple[Cell, ...]


class Gathered(NamedTuple):
    """What a view found, row for row: keys, levels, and what its columns read."""

    keys: Sequence[tuple[Cell, ...]]
    levels: Sequence[str]
    data: Any


@dataclass(frozen=True)
class View:
    """A view. `sort` names the column it starts sorted by; `empty` says what it means when there is no row.

    unseen: what to say where nobody looked at what is held; "" for a view that does not need it.
    """

    name: str
    about: str
    empty: str
    sort: str
    columns: tuple[Column, ...]
    gather: Callable[[Ledger, Ledger, Past], Gathered]
    unseen: str = ""


@dataclass(frozen=True)
class Grouping:
    """What most views gather: groups, those with the most bytes first. `keep` leaves out some of them."""

    by: tuple[str, ...]
    kinds: tuple[Kind, ...]
    keep: Callable[[Array], Array] | None = None
    once: bool = False

    def __call__(self, total: Ledger, recent: Ledger, past: Past) -> Gathered:
        """The groups."""
        found = col.gather(total, recent, past, self.by, self.kinds, once=self.once)
        if self.keep:
            kept = self.keep(found.total)
            found = Groups(found.meta, found.total[kept], found.recent[kept], found.rates[kept], found.seconds)
        return Gathered(col.keys(found.total, self.by), _levels(found.total), found)

    def part(self, total: Ledger, key: tuple[Cell, ...]) -> Ledger:
        """The part of a ledger that is in one group, with its stacks; empty where there is no such group."""
        rows, stacked = total.rows, total.stacked
        chosen, seen = np.isin(rows["kind"], self.kinds), np.isin(stacked["kind"], self.kinds)
        if self.once:
            chosen &= total.facts["counted_once"]
        for name, value in zip(self.by, key, strict=True):
            chosen &= (rows if name in ROW.fields else total.facts)[name] == value  # type: ignore[operator]
            # What is not in a stack's key follows from it: of other groups there are no sites in the part.
            if name in STACKED.fields:  # type: ignore[operator]
                seen &= stacked[name] == value
        part = total.at(rows[chosen])
        part.stacked = stacked[seen]
        return part


def build(view: View, total: Ledger, recent: Ledger, past: Past | None = None) -> list[Row]:
    """The rows of a view.

    Args:
        view: one of VIEWS.
        total: everything since the start.
        recent: the window of the last refresh; the rates come from it.
        past: the last refreshes, for the lines of blocks.
    """
    keys, levels, data = view.gather(total, recent, past or Past())
    cells = zip(*(column.values(data) for column in view.columns), strict=True)
    return [Row(*row) for row in zip(keys, levels, cells, strict=True)]


def _levels(groups: Array) -> list[str]:
    """Bad is what may hang: sleeping where that is a bug, and failures nobody expected."""
    bad = groups["failures"] > 0
    if {"atomic", "may_sleep", "counted_once", "kind"} <= set(groups.dtype.names or ()):
        bad |= groups["atomic"] & groups["may_sleep"] & _own(groups)
    return [BAD if each else PLAIN for each in bad.tolist()]


def _own(groups: Array) -> Array:
    """Without the pages that another allocator took for itself."""
    own: Array = groups["counted_once"] | np.isin(groups["kind"], MAPPINGS)
    return own


def _failing(groups: Array) -> Array:
    failing: Array = (groups["failures"] > 0) | (groups["opportunistic_failures"] > 0)
    return failing


def _class_names(groups: Groups) -> list[Cell]:
    largest, rows = groups.meta.limits.largest_slab, groups.total
    names: list[Cell] = []
    for kind, cache, taken in zip(
        rows["kind"].tolist(), rows["cache"].tolist(), rows["bytes_alloc"].tolist(), strict=True
    ):
        if kind == Kind.CACHE_ALLOC:
            names.append(printable(groups.meta.caches[cache].name) or "unknown")
        else:
            names.append(f"kmalloc {amount(taken) or 'failed'}{' pages' if taken > largest else ''}")
    return names


def _takes(groups: Groups) -> list[Cell]:
    rows = zip(groups.total["cache"].tolist(), groups.total["bytes_alloc"].tolist(), strict=True)
    return [groups.meta.caches[cache].size if cache else taken for cache, taken in rows]


def _findings(total: Ledger, recent: Ledger, past: Past) -> Gathered:  # noqa: ARG001  # every view is gathered alike
    found = judge(total)
    seen: dict[tuple[str, ...], int] = {}
    keys: list[tuple[Cell, ...]] = []
    for one in found:
        evidence = one.finding.evidence
        where = (
            one.rule.code,
            one.finding.site,
            *(str(evidence.get(name, "")) for name in ("gfp", "context", "size_class")),
        )
        seen[where] = seen.get(where, 0) + 1
        keys.append((*where, seen[where]))
    levels = {"error": BAD, "warning": WARN}
    return Gathered(keys, [levels.get(one.severity, PLAIN) for one in found], found)


def _of(name: str) -> Callable[[list[Found]], list[Cell]]:
    return lambda found: [printable(str(getattr(one.finding, name))) for one in found]


def _evidence(found: list[Found]) -> list[Cell]:
    told = [{"confidence": one.finding.confidence, **one.finding.evidence} for one in found]
    return [printable(", ".join(f"{name.replace('_', ' ')} {value}" for name, value in each.items())) for each in told]


def _rule_text(found: list[Found]) -> list[Cell]:
    pages = {code: "\n\n".join(rule_page(code)["text"]) for code in {one.rule.code for one in found}}
    return [pages[one.rule.code] for one in found]


def _held(total: Ledger, recent: Ledger, past: Past) -> Gathered:  # noqa: ARG001  # every view is gathered alike
    found = outstanding.gather(total)
    return Gathered(col.keys(found.total, BY), [PLAIN] * len(found.total), found)


_SITES = View(
    "sites",
    "Who allocates: one row for each site, allocator, cache, GFP mask and context.",
    "no allocation seen yet",
    "bytes/s",
    (
        col.site(1), col.kind(4), col.context(6), col.gfp(10, 18),
        words("cache", "the cache's name, or the order of a page allocation", col.what, 11, 14, 24), col.trend(7),
        *col.measures(3, 2, 5, 9, 12, 8, 15, 13, 14, 16),
        col.MODULE, col.MASK, col.may_sleep(0), col.atomic(0), col.zone_asked(0), col.COUNTED,
    ),
    Grouping(
        ("kind", "site", "cache", "gfp", "context", "order", "zone_asked", "atomic", "may_sleep", "counted_once"),
        (*ALLOCATIONS, *MAPPINGS),
    ),
)  # fmt: skip
_CACHES = View(
    "caches",
    "From what: caches, and the size classes of kmalloc; above the largest class kmalloc takes whole pages.",
    "no allocation seen yet",
    "bytes/s",
    (
        words("cache", "the cache, or the size class of kmalloc", _class_names, 1, 22, 34), col.kind(9),
        Column("takes", "bytes that one object takes", _takes, 4, 6, show=amount),
        *col.measures(3, 2, 5, 6, 8, 7, 11, 12, 13, 10),
    ),
    Grouping(("kind", "cache", "bytes_alloc"), (Kind.CACHE_ALLOC, Kind.KMALLOC)),
)  # fmt: skip
_GFP = View(
    "gfp",
    "How: GFP masks. Pages that another allocator takes for itself are left out; a vmalloc's event tells no mask.",
    "no allocation seen yet",
    "bytes/s",
    (
        col.gfp(1, 30), words(col.MASK.title, col.MASK.doc, col.MASK.values, 10, 8),
        col.may_sleep(4), col.zone_asked(5),
        *col.measures(3, 2, 9, 11, 6, 7, 13, 8, 12, 14),
    ),
    Grouping(
        ("gfp", "may_sleep", "zone_asked"),
        (Kind.KMALLOC, Kind.CACHE_ALLOC, Kind.PAGE_ALLOC, Kind.PERCPU_ALLOC), once=True,
    ),
)  # fmt: skip
_ZONES = View(
    "zones",
    "From where: the zone asked for and the zone that the pages came from, those of slabs and vmalloc included.",
    "no page allocation seen yet",
    "bytes/s",
    (
        col.zone_asked(1), words("got", "the zone that the pages came from", col.zones_got, 2, 7), col.NODE,
        col.ORDER, col.MOBILITY,
        *col.measures(4, 3, 0, 0, 8, 6, 0, 9, 10, 0),
    ),
    Grouping(("kind", "zone_asked", "zone", "node", "order", "migratetype"), (Kind.PAGE_ALLOC,)),
)  # fmt: skip
_CONTEXT = View(
    "context",
    "In which context. Red is a bug: what may sleep, where that is not allowed.",
    "no allocation seen yet",
    "count/s",
    (
        col.context(1, 22), col.kind(4), col.may_sleep(5), col.atomic(6),
        *col.measures(2, 3, 10, 11, 7, 8, 0, 9, 12, 0),
    ),
    Grouping(("context", "kind", "may_sleep", "atomic", "counted_once"), (*ALLOCATIONS, *MAPPINGS), _own),
)  # fmt: skip
_FAILURES = View(
    "failures",
    "What failed. Opportunistic failures are first tries that their callers expect to fail.",
    "no allocation has failed",
    "failed",
    (
        col.site(1), col.kind(4), col.ORDER, col.context(6), col.gfp(7),
        *col.measures(0, 0, 0, 0, 8, 0, 0, 2, 3, 10),
        Column("failed/s", "unexpected failures a second", col.rate_of("failures"), 11, 8, show=col.per_second),
        col.zone_asked(9), col.MODULE, col.MASK, col.may_sleep(0), col.atomic(0), col.COUNTED,
    ),
    Grouping(
        ("kind", "site", "gfp", "context", "order", "zone_asked", "atomic", "may_sleep", "counted_once"),
        (*ALLOCATIONS, *MAPPINGS), _failing,
    ),
)  # fmt: skip
_FINDINGS = View(
    "findings",
    "What is wasteful, wrong or dangerous; Enter says what to do instead.",
    "no findings",
    "severity",
    (
        Column("severity", "error: can hang or crash; warning: wasteful or fragile; notice: worth knowing",
               lambda found: [SEVERITIES.index(one.severity) for one in found], 3, 8, words=True,
               show=SEVERITIES.__getitem__),
        words("rule", "the rule's code (`kmwatch explain CODE`)", lambda found: [one.rule.code for one in found], 6, 5),
        words("site", "where", _of("site"), 2, 20, 30),
        Column("saves/s", "bytes a second that the advice would save",
               lambda found: [one.finding.saving for one in found], 4, show=amount),
        words("problem", "the rule's name", lambda found: [one.rule.name for one in found], 1, 24, 38),
        words("message", "what was found", _of("message"), 5, 30, 200),
        words("advice", "what to do instead", _of("advice")),
        words("evidence", "the numbers it rests on", _evidence),
        words("about", "the rule's page in the rule book", _rule_text),
    ),
    _findings,
)  # fmt: skip
_OUTSTANDING = View(
    "outstanding",
    "What was allocated since the start and is still held: one row for each site and cache.",
    "nothing is held",
    "bytes",
    outstanding.COLUMNS,
    _held,
    unseen="what is held is looked at in the running kernel only: `kmwatch top --outstanding`",
)

VIEWS = {view.name: view for view in (_SITES, _CACHES, _GFP, _ZONES, _CONTEXT, _FAILURES, _FINDINGS, _OUTSTANDING)}
"""The views by name, in the order of their keys 1 to 8."""
