"""What kmalloc was asked for: exactly from single events, and by eighths, honestly, from a ledger."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmwatch.capture.choosing import Choice
from kmwatch.capture.database import ask
from kmwatch.capture.layout import SAMPLE
from kmwatch.capture.reader import Capture
from kmwatch.demand import LARGEST, Array, Demand, by_eighths, requests
from kmwatch.schema import Context
from kmwatch.sources.capture import CaptureSource
from tests.unit.captures import START, at, small_capture, write_capture
from tests.unit.rows import LIMITS, Row, kmalloc, ledger, meta, pages


def listed(asked: Array) -> list[tuple[int, int, int]]:
    """Size, taken, count, of whatever site."""
    return [(size, taken, count) for _, size, taken, count in asked.tolist()]


def of_capture(directory: Path, choice: Choice | None = None) -> Demand:
    """All that a capture asks for."""
    demand = Demand(exact=True)
    with CaptureSource(directory, choice) as source:
        for part in source.demand():
            demand.add(part)
    return demand


def test_a_capture_tells_each_size_with_its_site_and_span(tmp_path: Path) -> None:
    demand = of_capture(small_capture(tmp_path / "a.kmw"))

    assert sorted(listed(demand.requests)) == [(60, 64, 7), (3000, 4096, 1)]
    assert (demand.exact, demand.start, demand.seconds) == (True, START, 3.0)


def test_sql_counts_the_same_in_a_real_capture() -> None:
    """A second witness, by another way through the files."""
    demand, sites = of_capture(SAMPLE), Capture(SAMPLE).meta.sites
    counted = Counter[tuple[str, int, int]]()
    for site, size, taken, count in demand.requests.tolist():
        counted[sites[site].text, size, taken] += count
    query = "select site, requested, allocated, count(*) from events where kind = 'kmalloc' and not failed group by all"

    assert len(counted) > 50
    assert counted == {tuple(each): count for *each, count in ask(Capture(SAMPLE), query).rows(10_000)}


def test_what_failed_and_what_is_no_kmalloc_asked_for_nothing(tmp_path: Path) -> None:
    events = [
        at(0.1, kmalloc("f+0x1", 100, gfp="GFP_ATOMIC", failed=1)),
        at(0.2, kmalloc("f+0x1", 100)),
        at(0.3, kmalloc("f+0x1", 100, context=Context.SOFTIRQ)),
        at(0.4, kmalloc("g+0x1", 100), comm="cat"),
        at(0.5, pages("f+0x1", 3)),
    ]
    directory = write_capture(tmp_path / "a.kmw", [events, []])

    assert listed(of_capture(directory).requests) == [(100, 128, 2), (100, 128, 1)]
    assert listed(of_capture(directory, Choice(sites=lambda site: site.symbol == "g")).requests) == [(100, 128, 1)]
    assert listed(of_capture(directory, Choice(tasks=lambda task: task.comm == "cat")).requests) == [(100, 128, 1)]


def test_a_damaged_segment_is_in_doubt_and_not_in_the_sizes(tmp_path: Path) -> None:
    directory = small_capture(tmp_path / "a.kmw")
    min(directory.glob("events-*.parquet")).write_bytes(b"PAR1")

    demand = of_capture(directory)

    assert listed(demand.requests) == [(60, 64, 3)]
    assert demand.trust.lost == 5


def test_sizes_no_kernel_has_are_cut() -> None:
    asked = requests(*(np.array(each) for each in ([0, 0, 0], [0, 1 << 60, 8], [0, 1, 8], [1, 1, 0])))

    assert listed(asked) == [(LARGEST, 1, 1)]


@pytest.mark.parametrize(
    ("rows", "asked"),
    [
        ([kmalloc("f+0x1", 640, count=9)], [(640, 1024, 9)]),
        # 513 is in the eighth up to 640, 900 in the one up to 1024, of which 900 is known to be the largest.
        ([kmalloc("f+0x1", 513, count=2), kmalloc("f+0x1", 900, count=3)], [(640, 1024, 2), (900, 1024, 3)]),
        # The eighths of 192 are those of 256.
        ([kmalloc("f+0x1", 130, count=2), kmalloc("f+0x1", 192, count=3)], [(160, 192, 2), (192, 192, 3)]),
        ([kmalloc("f+0x1", 640, failed=1), pages("f+0x1", 3)], []),
        ([kmalloc("f+0x1", 5, count=4), kmalloc("f+0x1", 8, count=4)], [(5, 8, 4), (8, 8, 4)]),
    ],
)
def test_a_ledger_tells_sizes_by_eighths(rows: list[Row], asked: list[tuple[int, int, int]]) -> None:
    assert listed(by_eighths(ledger(*rows).rows)) == asked


def test_eighths_that_do_not_add_up_are_not_believed() -> None:
    """They are modulo 2^32."""
    made = ledger(kmalloc("f+0x1", 513, count=1 << 32), kmalloc("f+0x1", 600, count=5))

    assert listed(by_eighths(made.rows)) == [(600, 1024, (1 << 32) + 5)]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 40_000), st.integers(1, 100)), min_size=1, max_size=20))
def test_by_eighths_nothing_is_missing_and_each_takes_what_it_took(sizes: list[tuple[int, int]]) -> None:
    made = by_eighths(ledger(*(kmalloc("f+0x1", size, count=count) for size, count in sizes), known=meta()).rows)

    assert made["count"].sum() == sum(count for _, count in sizes)
    assert [LIMITS.class_for(size) for size in made["size"].tolist()] == made["taken"].tolist()
    assert (made["size"] * made["count"]).sum() >= sum(size * count for size, count in sizes)
    assert made["size"].max() == max(size for size, _ in sizes)
