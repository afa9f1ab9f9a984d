"""What the live screen shows, as plain data."""

from dataclasses import replace
from typing import Any

import pytest

from kmwatch.ledger import Ledger
from kmwatch.views.top.catalog import BAD, GOOD, PLAIN, VIEWS, WARN, Row, View, build
from kmwatch.views.top.columns import Column, amount, layout, per_second
from kmwatch.views.top.frame import (
    MOST_ROWS,
    Frame,
    Frames,
    Order,
    Part,
    arrange,
    details,
    first_order,
    fit,
    header,
    help_page,
)
from kmwatch.views.top.past import Past
from tests.unit import rows
from tests.unit.top_data import make_batch


@pytest.fixture
def frame() -> Frame:
    """After two equal batches: the totals are twice the window's."""
    known = rows.meta()
    frames = Frames(known)
    frames.add(make_batch(known))
    return frames.add(make_batch(known, 2.0))


def shown(frame: Frame, name: str, *titles: str) -> list[dict[str, str]]:
    """The texts of some columns of a view."""
    view = VIEWS[name]
    found = [
        dict(
            zip(
                [c.title for c in view.columns],
                [c.show(v) for c, v in zip(view.columns, row.cells, strict=True)],
                strict=True,
            )
        )
        for row in build(view, frame.total, frame.recent, frame.past)
    ]
    return [{title: row[title] for title in titles} for row in found]


def test_sites(frame: Frame) -> None:
    """Rates are of the window, totals of all time; the most bytes come first."""
    titles = (
        "site",
        "kind",
        "context",
        "gfp",
        "cache",
        "count/s",
        "bytes/s",
        "waste/s",
        "waste",
        "count",
        "failed",
        "request",
    )
    found = [tuple(row.values()) for row in shown(frame, "sites", *titles)]

    assert found == [
        ("probe+0x9", "page_alloc", "process", "GFP_KERNEL", "order 0", "0.5", "2.0K", "", "", "2", "", "4096"),
        ("[red]�[2J+0x0", "cache_alloc", "softirq", "GFP_KERNEL", "dentry", "2.0", "384", "4", "1%", "8", "", "190"),
        ("load_msg+0x41", "kmalloc", "process", "GFP_KERNEL", "", "5.0", "320", "20", "6%", "20", "", "60"),
        ("probe+0x9", "page_alloc", "process", "GFP_ATOMIC", "order 3", "", "", "", "", "", "4", "32768"),
    ]
    assert [row.level for row in frame.rows("sites")] == [PLAIN, BAD, PLAIN, BAD]


def test_caches(frame: Frame) -> None:
    assert [tuple(row.values()) for row in shown(frame, "caches", "cache", "takes", "count", "bytes", "wasted")] == [
        ("dentry", "192", "8", "1.5K", "16"),
        ("kmalloc 64", "64", "20", "1.2K", "80"),
    ]


def test_gfp(frame: Frame) -> None:
    assert [
        tuple(row.values()) for row in shown(frame, "gfp", "gfp", "mask", "sleeps", "asked", "count", "failed")
    ] == [
        ("GFP_KERNEL", "0xcc0", "yes", "Normal", "30", ""),
        ("GFP_ATOMIC", "0x820", "no", "Normal", "", "4"),
    ]


def test_zones(frame: Frame) -> None:
    assert [
        tuple(row.values()) for row in shown(frame, "zones", "asked", "got", "node", "order", "mobility", "failed")
    ] == [
        ("Normal", "Normal", "0", "0", "unmovable", ""),
        ("Normal", "none", "", "3", "", "4"),
    ]


def test_context(frame: Frame) -> None:
    """Sleeping where that is a bug is bad; where it is not, it is not."""
    titles = ("context", "kind", "sleeps", "atomic", "count")
    found = [tuple(row.values()) for row in shown(frame, "context", *titles)]

    assert found == [
        ("process", "page_alloc", "yes", "no", "2"),
        ("softirq", "cache_alloc", "yes", "yes", "8"),
        ("process", "kmalloc", "yes", "no", "20"),
        ("process", "page_alloc", "no", "no", ""),
    ]
    assert [row.level for row in frame.rows("context")] == [PLAIN, BAD, PLAIN, BAD]


def test_failures(frame: Frame) -> None:
    titles = ("site", "kind", "order", "gfp", "failed", "opport.", "failed/s", "count", "module")

    assert [tuple(row.values()) for row in shown(frame, "failures", *titles)] == [
        ("probe+0x9", "page_alloc", "3", "GFP_ATOMIC", "4", "", "1.0", "", "wifi")
    ]


def test_findings(frame: Frame) -> None:
    found = shown(frame, "findings", "severity", "rule", "site", "about")

    assert [tuple(row.values())[:3] for row in found] == [
        ("error", "KM201", "[red]�[2J+0x0"),
        ("error", "KM202", "probe+0x9 [wifi]"),
        ("warning", "KM901", "kmwatch"),
    ]
    assert found[0]["about"].startswith("An allocation that may sleep, where sleeping is a bug.\n\nWhat it sees:")
    assert frame.worst == Part("3", "", BAD)


def test_header(frame: Frame) -> None:
    assert [[part.text for part in line] for line in frame.header] == [
        ["kmwatch", "box", "Linux 6.18.0, 4 CPUs", "watching for 4.0 s"],
        ["10 events/s", "2.7 KiB/s", "wasted 24 B/s (1%)", "failed 4 real, 0 opp."],
        ["cost 6.0% of a CPU (1.0% in the kernel)", "lost 2", "doubles removed 10"],
    ]
    assert frame.header[1][3].level == BAD
    assert frame.header[2][1].level == WARN


def test_a_frame_never_changes(frame: Frame) -> None:
    """A paused screen stays as it is although the counting goes on."""
    known = rows.meta()
    frames = Frames(known)
    first = frames.add(make_batch(known))
    frames.add(make_batch(known, 2.0))

    assert first.total.totals().allocations == 15
    assert first.total.trust.lost == 1
    assert frame.total.totals().allocations == 30


def test_nothing_is_shown_as_nothing() -> None:
    ledger = Ledger(rows.meta())

    assert [build(view, ledger, ledger) for view in VIEWS.values()] == [[]] * 8
    assert header(ledger, ledger, Past())[1][1].text == "0 B/s"


def column(**more: Any) -> Column:
    return Column("title", "doc", lambda _: [], **more)


def test_the_first_in_rank_stay_when_it_is_narrow() -> None:
    columns = [
        column(rank=1, width=10, most=20),
        column(rank=3, width=5),
        column(rank=0),
        column(rank=2, width=6, most=8),
    ]

    assert layout(columns, 10) == [(0, 10)]
    assert layout(columns, 18) == [(0, 10), (3, 6)]
    assert layout(columns, 24) == [(0, 16), (3, 6)]
    assert layout(columns, 25) == [(0, 10), (1, 5), (3, 6)]
    assert layout(columns, 99) == [(0, 20), (1, 5), (3, 8)]


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_what_matters_most_fits_everywhere(view: View) -> None:
    """At 40 characters there is a name and a number; at 79, 80 without the scroll bar, most of the rest."""
    narrow = {view.columns[at].title for at, _ in layout(view.columns, 40)}
    usual = {view.columns[at].title for at, _ in layout(view.columns, 79)}

    assert view.sort in narrow
    assert len(narrow) >= 2
    assert len(usual) >= 4
    assert sorted(c.rank for c in view.columns if c.rank) == sorted({c.rank for c in view.columns if c.rank})


def make_rows(*cells: tuple[str, int]) -> list[Row]:
    return [Row(pair, PLAIN, pair) for pair in cells]


VIEW = View("v", "about", "empty", "n", (column(words=True), replace(column(), title="n")), lambda *_: None)  # type: ignore[arg-type,return-value]


def test_numbers_sort_largest_first_and_words_by_the_alphabet() -> None:
    given = make_rows(("b", 1), ("a", 3), ("c", 2))

    def names(order: Order) -> str:
        return "".join(str(row.cells[0]) for row in arrange(VIEW, given, order)[0])

    assert first_order(VIEW) == Order(1)
    assert [names(Order(1)), names(Order(1, reverse=True))] == ["acb", "bca"]
    assert [names(Order(0)), names(Order(0, reverse=True))] == ["abc", "cba"]


def test_equals_keep_their_order() -> None:
    given = make_rows(("b", 1), ("a", 1), ("c", 1))

    assert [row.cells[0] for row in arrange(VIEW, given, Order(1))[0]] == ["b", "a", "c"]


@pytest.mark.parametrize(
    ("needle", "names"),
    [("", "ab("), ("A", "a"), ("[ab]", "ab"), ("^b$", "b"), ("(", "("), ("z", "")],
)
def test_filter(needle: str, names: str) -> None:
    """A regular expression in any case; what is none is taken literally."""
    given = make_rows(("a", 3), ("b", 2), ("(", 1))
    found, matching = arrange(VIEW, given, Order(1), needle)

    assert "".join(str(row.cells[0]) for row in found) == names
    assert matching == len(names)


def test_no_more_rows_than_anybody_reads() -> None:
    given = make_rows(*((str(at), at) for at in range(4000)))
    found, matching = arrange(VIEW, given, Order(1))

    assert (len(found), matching, found[0].cells[1]) == (MOST_ROWS, 4000, 3999)


def test_details_tell_all(frame: Frame) -> None:
    row = frame.rows("sites")[3]
    page = details(VIEWS["sites"], row)

    assert page.title == "sites: probe+0x9"
    assert {"module": "wifi", "mask": "0x820", "failed": "4", "atomic": "no"}.items() <= dict(page.lines).items()


def test_help_explains_each_column() -> None:
    for view in VIEWS.values():
        lines = dict(help_page(view).lines)
        assert all(lines[column.title] for column in view.columns)


def test_the_header_gets_shorter_and_then_less() -> None:
    parts = [Part("long one", "one", GOOD), Part("long two", "two")]

    assert fit(parts, 18) == [("long one", GOOD), ("long two", PLAIN)]
    assert fit(parts, 17) == [("one", GOOD), ("two", PLAIN)]
    assert fit(parts, 7) == [("one", GOOD)]


def test_cells() -> None:
    assert [per_second(value) for value in (0, 0.25, 12, 12_345)] == ["", "0.2", "12", "12.3k"]
    assert [amount(value) for value in (0, 640, 1536, 2 << 30)] == ["", "640", "1.5K", "2.0G"]
