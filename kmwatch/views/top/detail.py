"""All about one row of the live screen, as plain data: its columns, the sizes asked for, the stacks, its GFP flags."""

from typing import NamedTuple

import numpy as np

from kmwatch.demand import by_eighths
from kmwatch.events import fill_shifts
from kmwatch.ledger import MEASURES, Array, Ledger
from kmwatch.profile import Profile, profile
from kmwatch.runs import runs
from kmwatch.schema import Kind
from kmwatch.units import number, printable, short
from kmwatch.views.explain import build_gfp
from kmwatch.views.top.catalog import Grouping, Row, View
from kmwatch.views.top.columns import amount, share
from kmwatch.views.top.frame import Frame, Page, details

MOST_STACKS = 12
"""Stacks that are shown at most, those with the largest share."""

_EVENTS = [MEASURES.index(name) for name in ("count", "failures", "opportunistic_failures")]


class Bar(NamedTuple):
    """The requests in an eighth of a size class: their sizes, how many there were, and the bytes that they took.

    length: those bytes, as a part of the longest bar. wasted: the part of them that surely nobody asked for.
    """

    sizes: str
    count: str
    taken: str
    length: float
    wasted: float


class SizeClass(NamedTuple):
    """A size class of kmalloc, or whole pages: what it is, what was taken of it and wasted, and its eighths."""

    name: str
    told: str
    bars: list[Bar]


class Stack(NamedTuple):
    """A way of calls, its function first, by what share of the events it came, and how many these are."""

    share: float
    count: str
    frames: list[str]


class Detail(NamedTuple):
    """All about a row. more: what is said of stacks that are not shown, "" where all are."""

    page: Page
    sizes: list[SizeClass]
    stacks: list[Stack]
    more: str
    flags: list[tuple[str, str]]


def detail(frame: Frame, view: View, row: Row) -> Detail:
    """All about a row of a view."""
    if not isinstance(view.gather, Grouping):
        return Detail(details(view, row), [], [], "", [])
    part = view.gather.part(frame.total, row.key)
    known = dict(zip(view.gather.by, row.key, strict=True))
    stacks, more = ways(profile(part, once=False))
    return Detail(details(view, row), sizes(part), stacks, more, _flags(part, int(known.get("gfp", 0))))


def all_sizes(frame: Frame) -> Detail:
    """The sizes that kmalloc was asked for, by whomever."""
    found = sizes(frame.total)
    told = "since the start" if found else "no kmalloc seen yet"
    return Detail(Page("sizes: all of kmalloc", [("asked", told)]), found, [], "", [])


def sizes(ledger: Ledger) -> list[SizeClass]:
    """The sizes that kmalloc was asked for, by class and eighth of it, as far as a ledger tells them."""
    requests = _eighths(by_eighths(ledger.rows))
    longest = int(requests["bytes"].max(initial=1))
    largest = ledger.meta.limits.largest_slab
    found = []
    for group in ledger.groups("bytes_alloc", kinds=(Kind.KMALLOC,)):
        taken, count = int(group["bytes_alloc"]), int(group["count"])
        if count <= 0:
            continue
        name = f"kmalloc {amount(taken)}{' pages' if taken > largest else ''}"
        wasted, all_bytes = max(int(group["bytes_wasted"]), 0), max(int(group["bytes_allocated"]), 1)
        low, high = int(group["min_request"]), int(group["max_request"])
        asked = _between(low, high)
        told = f"{number(count)} of {asked} bytes: {amount(wasted) or 'nothing'} of {amount(all_bytes)} wasted"
        part = f" ({share(wasted / all_bytes)})" if share(wasted / all_bytes) else ""
        bars = [_bar(each, longest) for each in requests[requests["taken"] == taken]]
        found.append(SizeClass(name, told + part, bars))
    return found


def ways(found: Profile) -> tuple[list[Stack], str]:
    """The stacks by their share of all events, the largest first; and what to say of those that are too many to show."""
    events = found.values()[:, _EVENTS].sum(axis=1)
    whole = int(events.sum())
    order = [at for at in np.argsort(-events, kind="stable").tolist() if events[at] > 0]
    stacks = [
        Stack(events[at] / whole, short(int(events[at])), [_frame(found, each) for each in found.paths[at][-2::-1]])
        for at in order[:MOST_STACKS]
    ]
    rest = order[MOST_STACKS:]
    more = f"{number(len(rest))} more, {events[rest].sum() / whole:.0%} of the events" if rest else ""
    return stacks, more


def _frame(found: Profile, at: int) -> str:
    frame = found.frames[at]
    return printable(f"{frame.name} [{frame.module}]" if frame.module else frame.name)


_EIGHTH = [("taken", "<i8"), ("eighth", "<i8"), ("low", "<i8"), ("high", "<i8"), ("count", "<i8"), ("asked", "<i8")]


def _eighths(requests: Array) -> Array:
    """Requests of all sites by class and eighth: bounds of the sizes, count, bytes asked for (at most) and taken."""
    shifts = fill_shifts(requests.astype([("bytes_alloc", "<i8")])) if len(requests) else np.zeros(0, np.int64)
    return np.zeros(0, _EIGHTH) if not len(requests) else shifts


def _bar(eighth: Array, longest: int) -> Bar:
    return Bar("", "", "", 0.0, 0.0)


def _between(low: int, high: int) -> str:
    return number(high) if low == high else f"{number(low)} to {number(high)}"


def _flags(part: Ledger, mask: int) -> list[tuple[str, str]]:
    """What the flags of a mask mean, and what is odd about it."""
    if not mask:
        return []
    told = build_gfp([f"{mask:#x}"], part.meta.gfp)
    flags = [(each["name"], each["summary"]) for each in told["flags"]]
    return [*flags, *(("note", each) for each in told["remarks"])]


_ = runs
