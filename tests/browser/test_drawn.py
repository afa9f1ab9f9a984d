"""Charts are drawn from the data: what has more is higher, and what is not there is not drawn."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

from kmwatch.ledger import ALLOCATIONS, MAPPINGS
from kmwatch.schema import Kind
from tests.browser.conftest import Open
from tests.browser.driving import Driven
from tests.browser.made import Made

_BARS = """([chart, paint]) => {
    const probe = document.createElement('i');
    probe.style.color = getComputedStyle(document.documentElement).getPropertyValue('--' + paint);
    document.body.append(probe);
    const wanted = getComputedStyle(probe).color;
    probe.remove();
    const legend = document.querySelector(chart).getBoundingClientRect().top + 24;
    return [...document.querySelectorAll(chart + ' svg path')]
        .filter(each => getComputedStyle(each).fill === wanted)
        .map(each => each.getBoundingClientRect())
        .filter(box => box.width > 1 && box.bottom > legend)
        .map(box => [box.left + box.width / 2, box.height]);
}"""


def bars(page: Driven, chart: str, paint: str) -> list[tuple[float, float]]:
    """Of each bar of a colour of the theme: its middle and its height in pixels, from the left."""
    return sorted((at, height) for at, height in page.page.evaluate(_BARS, [chart, paint]))


def heights(found: list[tuple[float, float]]) -> Any:
    """Heights as shares of the highest."""
    values = np.array([height for _, height in found])
    return values / values.max()


def rates(what: Made, measure: str) -> Any:
    """By slice what happened in a second, as shares of the most."""
    sums = []
    for at in range(what.slices):
        facts = what.during(at, at + 1).facts
        sums.append(int(facts[measure][facts["counted_once"]].sum()))
    timeline, whole = what.ledger.timeline, what.ledger.seconds
    assert timeline
    lengths = np.full(what.slices, timeline.length)
    lengths[-1] = whole - timeline.length * (what.slices - 1) or timeline.length
    values = np.array(sums) / lengths
    return values / values.max()


@pytest.mark.parametrize(("measure", "paint"), [("count", "one"), ("bytes_allocated", "two")])
def test_the_time_line_has_the_rate_of_each_slice(opened: Open, sample: Made, measure: str, paint: str) -> None:
    found = bars(opened(sample), "#timeline-chart", paint)
    expected = rates(sample, measure)

    assert len(found) == sample.slices
    assert heights(found) == pytest.approx(expected, abs=0.05)
    assert np.corrcoef(heights(found), expected)[0, 1] > 0.99


def test_size_classes_are_as_high_as_what_they_took(opened: Open, sample: Made) -> None:
    groups = sample.ledger.groups("bytes_alloc", kinds=(Kind.KMALLOC,))
    groups = np.sort(groups[groups["count"] > 0], order="bytes_alloc")
    page = opened(sample)
    asked, wasted = bars(page, "#sizes-bytes", "one"), bars(page, "#sizes-bytes", "bad")
    names = page.page.locator("#sizes-bytes svg text").all_text_contents()

    assert {f"{size:,}".replace(",", " ") for size in groups["bytes_alloc"].tolist()} <= set(names)
    assert heights(asked) == pytest.approx(groups["bytes_requested"] / groups["bytes_requested"].max(), abs=0.03)
    assert max(height for _, height in wasted) > 0


def test_the_heat_map_has_a_cell_for_each_flags_and_context(opened: Open, sample: Made) -> None:
    cells: Counter[tuple[str, str]] = Counter()
    for site in sample.report["sites"]:
        if site["count"] and (site["counted_once"] or site["kind"] in {kind.name.lower() for kind in MAPPINGS}):
            cells[site["gfp"], site["context"]] += site["count"]
    page = opened(sample)
    told = page.page.locator("#heat-chart svg text").all_text_contents()

    assert sum(cells.values()) > 0
    starts = tuple(text.rstrip(".…") for text in told if text.endswith(("...", "…")))
    assert {name for cell in cells for name in cell if name not in told and not name.startswith(starts)} == set()
    numbers = [text for text in told if text.removesuffix("k").replace(".", "").isdigit()]
    assert len(numbers) == len(cells)
    assert {str(count) for count in cells.values() if count < 9999} <= set(numbers)


def test_what_is_impossible_is_said_in_words(opened: Open, hostile_names: Made, sample: Made) -> None:
    """Not by red alone."""
    page = opened(hostile_names)
    told = page.page.locator("#heat-chart svg text").all_text_contents()

    assert [text for text in told if "sleeps" in text]
    assert int(page.value("#heat-impossible")) == sum(
        site["count"] for site in hostile_names.report["sites"] if site["may_sleep"] and site["atomic"]
    )
    assert bars(page, "#heat-chart", "bad")
    quiet = opened(sample)
    assert quiet.value("#heat-impossible") == "0"
    assert bars(quiet, "#heat-chart", "bad") == []


def test_orders_have_bars(opened: Open, sample: Made, hostile_names: Made) -> None:
    orders = {site["order"] for site in sample.report["sites"] if site["kind"] == "page_alloc" and site["count"]}
    page = opened(sample)

    assert orders
    assert len([height for _, height in bars(page, "#zones-chart", "one") if height > 1]) == len(orders)
    failed = opened(hostile_names)
    assert [height for _, height in bars(failed, "#zones-chart", "bad") if height > 5]


def test_each_row_has_its_line(opened: Open, sample: Made) -> None:
    page = opened(sample)
    lines = page.page.locator("#sites-table tbody tr .spark path.over")

    assert lines.count() == page.page.locator("#sites-table tbody tr").count()
    shapes = {str(lines.nth(at).get_attribute("d")) for at in range(lines.count())}
    assert len(shapes) > 5


def test_there_is_something_of_each_kind_to_draw(sample: Made) -> None:
    """Else the tests above would hold nothing."""
    kinds = {site["kind"] for site in sample.report["sites"]}

    assert {kind.name.lower() for kind in ALLOCATIONS} <= kinds
    assert sample.slices > 10
