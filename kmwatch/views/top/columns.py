"""The columns of the live screen: what fills each, how a cell reads, and how much room it wants. Plain data only."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kmwatch import contexts
from kmwatch.batch import Meta
from kmwatch.ledger import Array, Ledger
from kmwatch.mobility import migratetype
from kmwatch.schema import NO_ZONE, Kind
from kmwatch.units import printable, short, size
from kmwatch.views.top.past import BY as REMEMBERED
from kmwatch.views.top.past import LOOKS, Past, places, sparklines

Cell = str | int | float
GAP = 2
"""Characters between two columns."""


@dataclass(frozen=True)
class Groups:
    """What a view's columns read.

    total: the groups since the start, as Ledger.groups gives them.
    recent: row for row the same groups in the window of the last refresh; zeros where nothing happened.
    rates: row for row bytes allocated a second in each of the last refreshes; (rows, 0) where these are not remembered.
    seconds: length of that window.
    """

    meta: Meta
    total: Array
    recent: Array
    rates: Array
    seconds: float


@dataclass(frozen=True)
class Column:
    """One column.

    values: from what the view gathered to one cell a row; all cells of a column have one type.
    show: a cell as text.
    width, most: characters it needs at least, and at most where there is room.
    rank: 1 is the last to go when the terminal is narrow; 0 is shown in the details only.
    words: text, left-aligned, sorted ascending, searched by the filter; else a number, right-aligned, largest first.
    latest: of a text that does not fit the end is shown.
    """

    title: str
    doc: str
    values: Callable[[Any], Sequence[Cell]]
    rank: int = 0
    width: int = 7
    most: int = 0
    words: bool = False
    latest: bool = False
    show: Callable[[Any], str] = str


def layout(columns: Sequence[Column], width: int) -> list[tuple[int, int]]:
    """Which columns fit into `width` characters, in their order: index and characters of each."""
    chosen: dict[int, int] = {}
    left = width
    for at in sorted((at for at, each in enumerate(columns) if each.rank), key=lambda at: columns[at].rank):
        need = columns[at].width + (GAP if chosen else 0)
        if need <= left:
            chosen[at], left = columns[at].width, left - need
    for at, given in chosen.items():  # in order of rank
        more = max(0, min(left, columns[at].most - given))
        chosen[at], left = given + more, left - more
    return sorted(chosen.items())


def gather(
    total: Ledger, recent: Ledger, past: Past, by: tuple[str, ...], kinds: tuple[Kind, ...], *, once: bool = False
) -> Groups:
    """The groups of both ledgers and of what is remembered, brought together by their keys; most bytes first."""
    whole = total.groups(*by, kinds=kinds, once=once)
    whole = whole[np.argsort(-whole["bytes_allocated"], kind="stable")]
    part = recent.groups(*by, kinds=kinds, once=once)
    at = places(part, whole, by)  # a row that was taken back altogether is in the part only
    aligned = np.zeros(len(whole), whole.dtype)
    aligned[at[at >= 0]] = part[at >= 0]
    rates = past.of(whole) if set(REMEMBERED) <= set(by) else np.zeros((len(whole), 0))
    return Groups(total.meta, whole, aligned, rates, max(recent.seconds, 1e-9))


def keys(groups: Array, by: Sequence[str]) -> list[tuple[Cell, ...]]:
    """What tells the groups apart."""
    rows: list[tuple[Cell, ...]] = groups[list(by)].tolist()
    return rows


def per_second(value: float) -> str:
    """A rate: `0.3`, `42`, `12.3k`; nothing for nothing."""
    if not value:
        return ""
    return f"{value:.1f}" if abs(value) < 10 else short(value)


def amount(value: float) -> str:
    """Bytes in at most seven characters: `640`, `1.5K`, `1023.9M`; nothing for nothing."""
    return size(value).replace(" ", "").replace("iB", "").removesuffix("B") if value else ""


def share(value: float) -> str:
    """A part of a whole in percent; nothing below half a percent."""
    return f"{value:.0%}" if value >= 0.005 else ""


def _count(value: int) -> str:
    return short(value) if value else ""


def _node(value: int) -> str:
    return "" if value == NO_ZONE else str(value)


def _yes(value: Array) -> list[Cell]:
    return ["yes" if each else "no" for each in value.tolist()]


def total_of(name: str) -> Callable[[Groups], list[Cell]]:
    """Values of a column: a measure since the start."""
    return lambda groups: groups.total[name].tolist()


def rate_of(name: str) -> Callable[[Groups], list[Cell]]:
    """Values of a column: a measure a second, in the window of the last refresh."""
    return lambda groups: (groups.recent[name] / groups.seconds).tolist()


def request(groups: Groups) -> list[Cell]:
    """The smallest and the largest request in bytes: `64`, `12-96`."""
    low, high = groups.total["min_request"].tolist(), groups.total["max_request"].tolist()
    return [str(most) if least == most else f"{least}-{most}" for least, most in zip(low, high, strict=True)]


def waste_share(groups: Groups) -> list[Cell]:
    """Which part of what was allocated nobody asked for, since the start: 0.0 to 1.0."""
    taken = np.maximum(groups.total["bytes_allocated"], 1)
    shares: list[Cell] = (np.maximum(groups.total["bytes_wasted"], 0) / taken).tolist()
    return shares


def decoded(groups: Groups) -> list[Cell]:
    """GFP masks in words; empty for events without one."""
    masks, kinds = groups.total["gfp"].tolist(), _kinds(groups)
    words = {mask: groups.meta.gfp.decode(mask) for mask in set(masks)}
    return ["" if not mask and kind in _WITHOUT_GFP else words[mask] for mask, kind in zip(masks, kinds, strict=True)]


def orders(groups: Groups) -> list[Cell]:
    """The order of a page allocation; for others that of their largest request."""
    told, largest = groups.total["order"].tolist(), groups.total["max_request"].tolist()
    order_for, paged = groups.meta.limits.order_for, int(Kind.PAGE_ALLOC)
    rows = zip(_kinds(groups), told, largest, strict=True)
    return [order if kind == paged else order_for(most) for kind, order, most in rows]


def what(groups: Groups) -> list[Cell]:
    """The cache's name, or the order of a page allocation."""
    caches, orders_ = groups.total["cache"].tolist(), groups.total["order"].tolist()
    rows = zip(caches, orders_, _kinds(groups), strict=True)
    names = groups.meta.caches
    return [
        printable(names[c].name) if c else f"order {order}" if kind == Kind.PAGE_ALLOC else ""
        for c, order, kind in rows
    ]


def zones_got(groups: Groups) -> list[Cell]:
    """The zone that the pages came from; `none` where there were none."""
    names = groups.meta.zones
    return [printable(names[zone]) if zone < len(names) else "none" for zone in groups.total["zone"].tolist()]


def mobility(groups: Groups) -> list[Cell]:
    """The kernel's migrate types in words."""
    return [migratetype(each) or "" for each in groups.total["migratetype"].tolist()]


def counted(groups: Groups) -> list[Cell]:
    """Whether the memory is part of the totals."""
    return ["yes" if each else "no: another allocator's own pages" for each in groups.total["counted_once"].tolist()]


def _kinds(groups: Groups) -> list[int]:
    names = groups.total.dtype.names or ()
    found: list[int] = groups.total["kind"].tolist() if "kind" in names else [0] * len(groups.total)
    return found


def _sites(groups: Groups) -> list[Cell]:
    return [printable(groups.meta.sites[site].text) for site in groups.total["site"].tolist()]


def _contexts(groups: Groups) -> list[Cell]:
    bits = groups.total["context"].tolist()
    names = {each: contexts.name(each) for each in set(bits)}
    return [names[each] for each in bits]


def _modules(groups: Groups) -> list[Cell]:
    return [printable(groups.meta.sites[site].module) for site in groups.total["site"].tolist()]


def _masks(groups: Groups) -> list[Cell]:
    return [f"{mask:#x}" if mask else "" for mask in groups.total["gfp"].tolist()]


_KIND_NAMES: dict[int, str] = {int(each): each.name.lower() for each in Kind}


def _kind_names(groups: Groups) -> list[Cell]:
    return [_KIND_NAMES.get(each, "unknown") for each in _kinds(groups)]


_WITHOUT_GFP = frozenset({int(Kind.VMALLOC), int(Kind.IOREMAP), int(Kind.VMAP)})


def words(
    title: str, doc: str, values: Callable[[Any], Sequence[Cell]], rank: int = 0, width: int = 10, most: int = 0
) -> Column:
    """A column of text."""
    return Column(title, doc, values, rank, width, most, words=True)


def site(rank: int) -> Column:
    """Where: the function that asked, and the offset in it."""
    return words("site", "the function that asked, and where in it", _sites, rank, 24, 48)


def kind(rank: int) -> Column:
    """Which allocator was asked."""
    doc = "the allocator that was asked; ioremap and vmap map memory without allocating any"
    return words("kind", doc, _kind_names, rank, 12)


def context(rank: int, width: int = 12) -> Column:
    """Where the CPU was."""
    doc = "where the CPU was: a bare `process` may sleep, everything else that is known may not"
    return words("context", doc, _contexts,
                 rank, width, 32)  # fmt: skip


def gfp(rank: int, width: int = 16) -> Column:
    """The GFP mask in words."""
    return words("gfp", "the GFP mask in this kernel's own words (`kmwatch explain NAME`)", decoded, rank, width, 60)


def zone_asked(rank: int) -> Column:
    """The highest zone that the mask allows."""
    return words("asked", "the highest zone that the GFP mask allows", total_of("zone_asked"), rank, 7)


def may_sleep(rank: int) -> Column:
    """Whether the allocation may sleep."""
    return words("sleeps", "whether the allocation may sleep: the mask's direct-reclaim bit",
                 lambda groups: _yes(groups.total["may_sleep"]), rank, 6)  # fmt: skip


def atomic(rank: int) -> Column:
    """Whether sleeping is a bug in this context."""
    return words("atomic", "whether sleeping would be a bug in this context",
                 lambda groups: _yes(groups.total["atomic"]), rank, 6)  # fmt: skip


def trend(rank: int) -> Column:
    """How the bytes a second went."""
    doc = "bytes a second in the last refreshes, a block each, the most of them a full one"
    return words("trend", doc, lambda groups: sparklines(groups.rates), rank, LOOKS)


def measures(*ranks: int) -> tuple[Column, ...]:
    """The measures by rank: count/s, bytes/s, waste/s, waste, count, bytes, wasted, failed, opport., request."""
    made = (
        Column("count/s", "allocations a second since the last refresh", rate_of("count"), show=per_second),
        Column("bytes/s", "bytes allocated a second (K = KiB, M = MiB)", rate_of("bytes_allocated"), show=amount),
        Column("waste/s", "of these never asked for: rounded up", rate_of("bytes_wasted"), show=amount),
        Column("waste", "never asked for, in percent since the start", waste_share, width=5, show=share),
        Column("count", "allocations since the start", total_of("count"), show=_count),
        Column("bytes", "bytes allocated since the start", total_of("bytes_allocated"), show=amount),
        Column("wasted", "bytes never asked for since the start", total_of("bytes_wasted"), show=amount),
        Column("failed", "failures that nobody expected", total_of("failures"), show=_count),
        Column(
            "opport.", "failed first tries, which their callers expect", total_of("opportunistic_failures"), show=_count
        ),
        words("request", "smallest and largest request in bytes", request, width=11),
    )
    return tuple(Column(**{**vars(column), "rank": rank}) for column, rank in zip(made, ranks, strict=True))


MODULE = words("module", "the kernel module of the site", _modules)
MASK = words("mask", "the GFP mask as passed", _masks)
COUNTED = words("counted", "whether the memory is part of the totals above", counted)
ORDER = Column("order", "2^order contiguous pages", orders, 5, 5)
MOBILITY = words("mobility", "the kernel's migrate type: what may share a block of pages", mobility, 7, 11)
NODE = Column("node", "NUMA node that the pages came from", total_of("node"), 11, 4, show=_node)
