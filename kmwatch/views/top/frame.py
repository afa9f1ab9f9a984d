"""What the live screen shows at one moment, as plain data: frames, header, sorted and filtered rows, pages of text."""

import re
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from kmwatch.batch import STACKED, Batch, Meta
from kmwatch.ledger import PRESSURE, Ledger
from kmwatch.thresholds import DEFAULTS, Thresholds
from kmwatch.units import number, printable, seconds, size
from kmwatch.views.top.catalog import BAD, GOOD, PLAIN, VIEWS, WARN, Row, View, build
from kmwatch.views.top.columns import amount, per_second, share
from kmwatch.views.top.past import LOOKS, Past, sparkline

MOST_ROWS = 500
"""Rows that are shown at most; the filter reaches the others."""
_JUDGE_EVERY = 5.0  # seconds


class Part(NamedTuple):
    """A piece of the header: as it reads where there is room, as it reads where there is not, and its level.

    rates: how it went in the last refreshes, to be shown as a block each.
    widths: characters that are kept for text and short beside blocks, so that nothing moves when numbers change.
    """

    text: str
    short: str
    level: str = PLAIN
    rates: tuple[float, ...] | None = None
    widths: tuple[int, int] = (0, 0)


_NOTHING = Part("", "")


class Page(NamedTuple):
    """Text to read: a title and labelled paragraphs."""

    title: str
    lines: list[tuple[str, str]]


@dataclass(frozen=True)
class Order:
    """By which column rows are sorted, and whether against that column's usual direction."""

    column: int
    reverse: bool = False


@dataclass(frozen=True)
class Frame:
    """One refresh: everything since the start, and the window since the refresh before. It never changes.

    Views are built when first asked for, in whatever thread asks.
    """

    total: Ledger
    recent: Ledger
    past: Past = field(default_factory=Past)
    replayed: bool = False
    worst: Part = _NOTHING
    """How many findings there are, and the level of the worst; it may be a few seconds old."""
    _rows: dict[str, list[Row]] = field(default_factory=dict)

    def rows(self, name: str) -> list[Row]:
        """The rows of a view."""
        if name not in self._rows:
            self._rows[name] = build(VIEWS[name], self.total, self.recent, self.past)
        return self._rows[name]

    def empty(self, view: View) -> str:
        """What it means when a view has no row."""
        return view.unseen if view.unseen and self.total.held is None else view.empty

    @cached_property
    def header(self) -> list[list[Part]]:
        """The three lines of the header."""
        return header(self.total, self.recent, self.past, replayed=self.replayed)


class Frames:
    """Folds batches into frames; `replayed` is whether they were recorded before."""

    def __init__(self, meta: Meta, *, replayed: bool = False, thresholds: Thresholds = DEFAULTS) -> None:
        self._total, self._replayed = Ledger(meta, thresholds), replayed
        self._past = Past()
        self._worst, self._judge_at = _NOTHING, 0.0

    def add(self, batch: Batch, *, judge: bool = False) -> Frame:
        """The frame after one more batch; the findings are counted anew with `judge`, and otherwise now and then."""
        self._total.add(batch)
        recent = Ledger(self._total.meta)
        recent.add(replace(batch, held=None, stacked=np.zeros(0, STACKED)))
        self._past = (Past() if batch.fresh else self._past).after(recent)
        # The ledger makes new rows for each batch, and only its trust and what grows are added to in place.
        total = copy(self._total)
        total.trust, total.growth = replace(total.trust), total.growth.copy()
        rows: dict[str, list[Row]] = {}
        # The rules look at every row in Python: seldom, once there are many.
        if judge or batch.fresh or total.seconds >= self._judge_at:
            self._judge_at = total.seconds + min(total.seconds, _JUDGE_EVERY)
            rows["findings"] = found = build(VIEWS["findings"], total, recent)
            self._worst = Part(str(len(found)), "", found[0].level) if found else _NOTHING
        return Frame(total, recent, self._past, self._replayed, self._worst, rows)


def header(total: Ledger, recent: Ledger, past: Past, *, replayed: bool = False) -> list[list[Part]]:
    """Three lines: whose memory; how much of it now; what watching costs, and how far to trust it."""
    return [_who(total, replayed=replayed), _traffic(total, recent, past), _doubt(total, recent)]


def _who(total: Ledger, *, replayed: bool) -> list[Part]:
    host, span = total.meta.host, seconds(total.seconds)
    name, kernel = printable(host.hostname), printable(host.kernel)
    return [
        Part("kmwatch", "kmwatch", GOOD),
        Part(name, name),
        Part(f"Linux {kernel}, {host.cpus} CPU{'s' if host.cpus != 1 else ''}", kernel),
        Part(f"the first {span} of a capture" if replayed else f"watching for {span}", span),
    ]


def _traffic(total: Ledger, recent: Ledger, past: Past) -> list[Part]:
    span, sums, now = max(recent.seconds, 1e-9), total.totals(), recent.totals()
    events, taken, wasted = recent.events() / span, now.bytes_allocated / span, now.bytes_wasted / span
    rate, part = per_second(events) or "0", share(wasted / taken if taken else 0.0) or "0%"
    real, expected = sums.failures, sums.opportunistic_failures
    return [
        Part(f"{rate} events/s", f"{rate} ev/s", GOOD, tuple(past.events.tolist()), (15, 11)),
        Part(f"{size(taken)}/s", f"{amount(taken) or '0'}/s", GOOD, tuple(past.bytes_allocated.tolist()), (12, 9)),
        Part(f"wasted {size(wasted)}/s ({part})", f"waste {part}", GOOD, widths=(25, 10)),
        Part(
            f"failed {number(real)} real, {number(expected)} opp.",
            f"fail {real}+{expected}",
            BAD if real else PLAIN,
            tuple(past.failures.tolist()),
            (21, 8),
        ),
    ]


def _doubt(total: Ledger, recent: Ledger) -> list[Part]:
    """The cost is of one CPU, in the window; the losses are of all time, and only those that there are."""
    cost, trust, span = recent.cost, total.trust, max(recent.seconds, 1e-9)
    kernel, own = cost.kernel / span, cost.own / span
    parts = [
        Part(f"cost {kernel + own:.1%} of a CPU ({kernel:.1%} in the kernel)", f"cost {kernel + own:.1%}"),
        _loss("lost", trust.lost, WARN if trust.lost * 1000 > total.events() else PLAIN),
    ]
    if trust.map_full:
        parts.append(_loss("no room for", trust.map_full, BAD))
    parts += [Part(text, text, WARN) for text in _pressure(total)]
    if trust.duplicates_removed:
        parts.append(_loss("doubles removed", trust.duplicates_removed, PLAIN))
    if trust.unknown_site:
        parts.append(_loss("site unknown", trust.unknown_site, PLAIN))
    return parts


def _loss(name: str, count: int, level: str) -> Part:
    return Part(f"{name} {number(count)}", f"{name} {number(count)}", level)


def _pressure(total: Ledger) -> list[str]:
    counts = ((kind.name.lower().replace("_", " "), total.events(kind)) for kind in PRESSURE)
    return [f"{name} {number(count)}" for name, count in counts if count]


def fit(parts: Sequence[Part], width: int, gap: int = 2) -> list[tuple[str, str]]:
    """The parts that fit into a line, as text and level.

    In full with their lines of blocks, else with half of these, else in short with them, else without, else the first.
    """
    for blocks, short in ((LOOKS, False), (LOOKS // 2, False), (LOOKS // 2, True), (0, False)):
        texts = [_told(part, blocks, short=short) for part in parts]
        if sum(map(len, texts)) + gap * (len(parts) - 1) <= width:
            return [(text, part.level) for text, part in zip(texts, parts, strict=True)]
    fitting, left = [], width
    for part in parts:
        if len(part.short) > left:
            break
        fitting.append((part.short, part.level))
        left -= len(part.short) + gap
    return fitting


def _told(part: Part, blocks: int, *, short: bool) -> str:
    """A part with so many blocks; where there are not yet as many, their place is kept."""
    text = part.short if short else part.text
    if not blocks:
        return text
    text = text.ljust(part.widths[short])
    return text if part.rates is None else f"{text} {sparkline(np.array(part.rates[-blocks:])):>{blocks}}"


def first_order(view: View) -> Order:
    """How a view is sorted at first."""
    return Order([column.title for column in view.columns].index(view.sort))


def arrange(view: View, rows: Sequence[Row], order: Order, needle: str = "") -> tuple[list[Row], int]:
    """The rows to show, sorted and filtered, MOST_ROWS at most; and how many match the filter.

    The needle is a regular expression, in any case; literal text where it is no regular expression.
    """
    if needle:
        found = matcher(needle)
        rows = [row for row in rows if found(searchable(view, row))]
    at, descending = order.column, not view.columns[order.column].words
    arranged = sorted(rows, key=lambda row: row.cells[at], reverse=descending != order.reverse)
    return arranged[:MOST_ROWS], len(rows)


def searchable(view: View, row: Row) -> str:
    """The text that the filter looks at: all columns of words."""
    return " ".join(column.show(cell) for column, cell in zip(view.columns, row.cells, strict=True) if column.words)


def matcher(needle: str) -> Callable[[str], bool]:
    """Whether a text holds the needle."""
    try:
        pattern = re.compile(needle, re.IGNORECASE)
    except (re.error, OverflowError, RecursionError):
        pattern = re.compile(re.escape(needle), re.IGNORECASE)
    return lambda text: pattern.search(text) is not None


def details(view: View, row: Row) -> Page:
    """Everything about one row."""
    pairs = [(column.title, column.show(cell)) for column, cell in zip(view.columns, row.cells, strict=True)]
    main = next(at for at, column in enumerate(view.columns) if column.rank == 1)
    return Page(f"{view.name}: {pairs[main][1]}", [(title, text) for title, text in pairs if text])


KEYS = (
    (f"1 to {len(VIEWS)}", "the views: " + ", ".join(VIEWS)),
    ("o", "what is outstanding: the view of what is held"),
    ("Tab", "the next view"),
    ("s  or >", "sort by the next column; < by the one before; a click on a heading sorts by it"),
    ("r", "reverse the order"),
    ("/", "filter: type part of a name or a regular expression; Enter keeps it, Esc clears it"),
    ("Space", "pause: the screen stands still, the counting goes on"),
    ("↑ ↓ PgUp PgDn", "choose a row; Ctrl+Home and Ctrl+End the first and the last"),
    ("Enter", "all about the row: sizes asked for, stacks, GFP flags; on a finding what to do about it"),
    ("z", "the sizes that kmalloc was asked for, and what of its classes is wasted, by whomever"),
    ("? or h", "this page"),
    ("q", "quit: all programs are detached"),
)


_REPLAY_KEYS = (
    ("Space", "pause: time stands still, and goes on"),
    ("← →", "5 seconds back, forward; a hundredth of the capture where that is more"),
    ("Home End", "to the beginning, to the end; a click on the time line goes there"),
    ("- +", "half the speed, double the speed"),
)


def _keys(*, replayed: bool) -> list[tuple[str, str]]:
    if not replayed:
        return [*KEYS]
    keys = [("q", "quit") if key == "q" else (key, text) for key, text in KEYS if key != "Space"]
    return [*keys[:6], *_REPLAY_KEYS, *keys[6:]]


def help_page(view: View, *, replayed: bool = False) -> Page:
    """The keys, the header and the columns of a view."""
    whose = "the recording took" if replayed else "watching takes"
    header_lines = [
        ("wasted", "allocated but never asked for: requests are rounded up to a size class"),
        ("failed", "failures since the start: real ones, and opportunistic first tries, which their callers expect"),
        ("cost", f"what {whose}, of one CPU: the kernel's part is an estimate from the first second"),
        ("lost", "events that no row could be made for: all counts are lower bounds by that much"),
        ("▁▄█", f"events, bytes and failures a second in the last {LOOKS} refreshes, the most of them a full block"),
    ]
    columns = [(column.title, column.doc) for column in view.columns]
    return Page(
        "help", [*_keys(replayed=replayed), ("", ""), *header_lines, ("", ""), (view.name, view.about), *columns]
    )
