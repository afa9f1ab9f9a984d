"""All about one row of the live screen, as plain data: its columns, the sizes asked for, the stacks, its GFP flags."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from kmwatch.demand import by_eighths
from kmwatch.events import fill_shifts
from kmwatch.ledger import MEASURES, Array, Ledger
from kmwatch.profile import Profile, profile
from kmwatch.runs import runs
from kmwatch.schema import Kind
from kmwatch.units import number, printable, short
from kmwatch.views.explain import build_gfp
from kmwatch.views.top.catalog import Grouping, View
from kmwatch.views.top.columns import Cell, amount, share
from kmwatch.views.top.frame import Frame, Page, details

MOST_STACKS = 12
"""Stacks that are shown at most, those with the largest share."""

_EVENTS = [MEASURES.index(name) for name in ("count", "failures", "opportunistic_failures")]
_EIGHTH = np.dtype([(name, "<i8") for name in ("class", "low", "high", "count", "asked", "taken")])


class Bar(NamedTuple):
    """The requests in an eighth of a size class: their sizes, how many they are, and the bytes that they took.

    length: those bytes, as a part of the longest bar. wasted: the part of them that nobody can have asked for.
    """

    sizes: str
    requests: str
    taken: str
    length: float
    wasted: float


class SizeClass(NamedTuple):
    """A size class of kmalloc, or whole pages: what it is, what was asked of it and wasted, and its eighths."""

    name: str
    told: str
    bars: list[Bar]


class Stack(NamedTuple):
    """A way of calls, its function first; by which part of the events it came, and how many these are."""

    part: str
    events: str
    frames: list[str]


class About(NamedTuple):
    """All about a row. more: what is said of the stacks that are not shown, "" where all are."""

    page: Page
    sizes: list[SizeClass]
    stacks: list[Stack]
    more: str
    flags: list[tuple[str, str]]


Told = Callable[[Frame], About | None]
"""All about something, as it is in a frame; None where that does not have it."""


def of_row(view: View, key: tuple[Cell, ...]) -> Told:
    """All about a row of a view, known by its key."""

    def told(frame: Frame) -> About | None:
        row = next((row for row in frame.rows(view.name) if row.key == key), None)
        if row is None:
            return None
        page = details(view, row)
        if not isinstance(view.gather, Grouping):
            return About(page, [], [], "", [])
        part = view.gather.part(frame.total, key)
        stacks, more = ways(profile(part, once=False))
        mask = dict(zip(view.gather.by, key, strict=True)).get("gfp", 0)
        return About(page, sizes(part), stacks, more, _flags(part, int(mask)))

    return told


def all_sizes(frame: Frame) -> About:
    """The sizes that kmalloc was asked for, by whomever."""
    found = sizes(frame.total)
    lines = [] if found else [("sizes", "no kmalloc seen yet")]
    return About(Page("sizes that kmalloc was asked for", lines), found, [], "", [])


def sizes(ledger: Ledger) -> list[SizeClass]:
    """The sizes that kmalloc was asked for, by class and eighth of it, as far as a ledger tells them."""
    groups = ledger.groups("bytes_alloc", kinds=(Kind.KMALLOC,))
    groups = groups[(groups["count"] > 0) & (groups["bytes_allocated"] > 0)]
    eighths = _eighths(by_eighths(ledger.rows))
    longest, largest = int(eighths["taken"].max(initial=1)), ledger.meta.limits.largest_slab
    found = []
    for group in groups:
        taken, low = int(group["bytes_alloc"]), int(group["min_request"])
        name = f"kmalloc {amount(taken)}{' pages' if taken > largest else ''}"
        bars = [_bar(each, longest, low) for each in eighths[eighths["class"] == taken]]
        found.append(SizeClass(name, _told(group), bars))
    return found


def ways(found: Profile) -> tuple[list[Stack], str]:
    """The stacks by their share of the events, the largest first; and what to say of those that are too many."""
    events = found.values()[:, _EVENTS].sum(axis=1)
    whole = max(int(events.sum()), 1)
    order = [at for at in np.argsort(-events, kind="stable").tolist() if events[at] > 0]
    stacks = [
        # The last of a path is the kind of allocation.
        Stack(
            share(events[at] / whole) or "<1%", short(int(events[at])), [_frame(found, each) for each in path[-2::-1]]
        )
        for at, path in ((at, found.paths[at]) for at in order[:MOST_STACKS])
    ]
    rest = order[MOST_STACKS:]
    return stacks, f"{number(len(rest))} more, {events[rest].sum() / whole:.0%} of all" if rest else ""


def _frame(found: Profile, at: int) -> str:
    frame = found.frames[at]
    return printable(f"{frame.name} [{frame.module}]" if frame.module else frame.name)


def _told(group: Any) -> str:
    """What was asked of a size class, and what of it was wasted."""
    count, wasted, taken = (int(group[name]) for name in ("count", "bytes_wasted", "bytes_allocated"))
    asked = f"{short(count)} of {_between(int(group['min_request']), int(group['max_request']))} bytes"
    return f"{asked}; wasted {amount(max(wasted, 0)) or 'nothing'} of {amount(taken)}, {wasted / taken:.0%}"


def _between(low: int, high: int) -> str:
    return amount(high) if low >= high else f"{amount(low)}-{amount(high)}"


def _eighths(requests: Array) -> Array:
    """Requests by class and eighth of it: the bounds of their sizes, and sums; `asked` is what that is at most."""
    keys = np.zeros(len(requests), [("bytes_alloc", "<i8")])
    keys["bytes_alloc"] = requests["taken"]
    shifts = fill_shifts(keys)
    eighth = (requests["size"] - 1) >> shifts
    order, starts = runs([requests["taken"], eighth], len(requests))
    found = np.zeros(len(starts), _EIGHTH)
    first = order[starts]
    found["class"], found["low"] = requests["taken"][first], (eighth[first] << shifts[first]) + 1
    if len(starts):
        found["high"] = np.maximum.reduceat(requests["size"][order], starts)
        for name, each in (("count", 1), ("asked", requests["size"]), ("taken", requests["taken"])):
            found[name] = np.add.reduceat((requests["count"] * each)[order], starts)
    return found


def _bar(eighth: Any, longest: int, low: int) -> Bar:
    """`low`: the smallest request of the class."""
    low, high = max(int(eighth["low"]), low), int(eighth["high"])
    taken = int(eighth["taken"])
    return Bar(
        _between(low, high),
        short(int(eighth["count"])),
        amount(taken),
        taken / longest,
        1 - int(eighth["asked"]) / taken,
    )


def _flags(part: Ledger, mask: int) -> list[tuple[str, str]]:
    """What the flags of a mask mean, and what is odd about it."""
    if not mask:
        return []
    told = build_gfp([f"{mask:#x}"], part.meta.gfp)
    return [
        *((each["name"], each["summary"]) for each in told["flags"]),
        *(("remark", each) for each in told["remarks"]),
    ]
