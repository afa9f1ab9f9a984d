"""The table of sites: every number is the report's, and sorting, filtering and links lead where they say."""

from typing import Any
from urllib.parse import quote

import pytest

from tests.browser.conftest import Open
from tests.browser.driving import NUMBERS, Driven
from tests.browser.made import Made, sums

WORDS = ("kind", "site", "gfp", "context")
"""Columns of words, by their names in the report."""

_GROUNDS = """rows => rows.map(row => [row, row.cells[0]].map(
    each => getComputedStyle(each).backgroundColor + getComputedStyle(each).boxShadow + getComputedStyle(each).outline
).join())"""
"""What rows are marked by: how they and their first cells are drawn."""


def ids(what: Made, chosen: Any = lambda _: True) -> list[str]:
    """The ids of the sites that are chosen, in the order of the report."""
    return [name for name, site in zip(sums(what.report), what.report["sites"], strict=True) if chosen(site)]


def test_all_sites_have_the_numbers_of_the_report(opened: Open, sample: Made) -> None:
    page = opened(sample)

    assert page.sums() == sums(sample.report)
    assert page.value("#sites-count") == str(len(sample.report["sites"]))


def test_all_sites_have_the_words_of_the_report(opened: Open, sample: Made) -> None:
    shown = [{column: cells[column] for column in WORDS} for _, cells in opened(sample).rows()]

    assert shown == [{column: site[column] for column in WORDS} for site in sample.report["sites"]]


@pytest.mark.parametrize("column", NUMBERS)
def test_a_number_sorts_as_python_does(opened: Open, sample: Made, column: str) -> None:
    page = opened(sample)
    page.sort("kind")  # of what is sorted already, a click changes the direction
    for _ in range(2):
        direction = page.sort(column)
        values = [int(cells[column]) for _, cells in page.rows()]
        assert values == sorted(values, reverse=direction == "descending")
        assert sorted(values) == sorted(site[column] for site in sample.report["sites"])


@pytest.mark.parametrize("column", WORDS)
def test_words_sort_both_ways(opened: Open, sample: Made, column: str) -> None:
    page = opened(sample)
    seen = {}
    for _ in range(2):
        direction = page.sort(column)
        seen[direction] = [cells[column] for _, cells in page.rows()]

    assert seen.keys() == {"ascending", "descending"}
    assert seen["ascending"] == sorted(seen["ascending"])
    assert seen["descending"] == sorted(seen["descending"], reverse=True)


def test_one_column_says_that_it_is_sorted(opened: Open, sample: Made) -> None:
    page = opened(sample)

    for column in ("count", "bytes_wasted", "kind"):
        page.sort(column)
        sorted_by = page.page.locator("#sites-table th[aria-sort]:not([aria-sort=none])")
        assert [each.get_attribute("data-column") for each in sorted_by.all()] == [column]


def test_a_header_is_sorted_by_with_the_keyboard(opened: Open, sample: Made) -> None:
    page = opened(sample)
    page.page.locator('#sites-table th[data-column="count"] button').focus()
    page.page.keyboard.press("Enter")

    values = [int(cells["count"]) for _, cells in page.rows()]
    assert values == sorted(values, reverse=True)
    page.page.locator('#sites-table th[data-column="count"] button').focus()
    page.page.keyboard.press("Space")
    assert [int(cells["count"]) for _, cells in page.rows()] == sorted(values)


def shown(page: Driven, text: str) -> list[str]:
    """The ids that a filter leaves."""
    page.page.fill("#sites-filter", text)
    rows = [name for name, _ in page.rows()]
    assert page.value("#sites-count") == str(len(rows))
    return rows


def test_the_filter_leaves_what_has_the_word(opened: Open, sample: Made) -> None:
    page = opened(sample)
    symbol = sample.report["sites"][0]["symbol"]

    assert shown(page, symbol) == ids(sample, lambda site: symbol in site["site"])
    assert shown(page, "kind:page_alloc") == ids(sample, lambda site: site["kind"] == "page_alloc")
    assert shown(page, "context:process kind:kmalloc") == ids(
        sample, lambda site: "process" in site["context"] and site["kind"] == "kmalloc"
    )
    assert shown(page, "no such function") == []
    assert shown(page, "") == ids(sample)


def test_a_link_to_a_site_opens_at_its_row(opened: Open, sample: Made) -> None:
    """Even to one that is far down in the table."""
    wanted = ids(sample)[-3]
    page = opened(sample, f"site={quote(wanted.removeprefix('site='), safe='')}")
    row = page.page.locator(f'[id="{wanted}"]')
    box, window = row.bounding_box(), page.page.viewport_size

    assert box
    assert window
    assert 0 <= box["y"] < window["height"]
    colours = page.page.locator("#sites-table tbody tr").evaluate_all(_GROUNDS)
    assert colours.count(row.evaluate_all(_GROUNDS)[0]) == 1
    page.picture("deep-link", whole=False)


def test_much_can_be_read_without_scripts(opened: Open, sample: Made) -> None:
    page = opened(sample, java_script_enabled=False).page
    rows = page.locator("#sites-table tbody tr")

    assert rows.count() == min(20, len(sample.report["sites"]))
    for at, site in enumerate(sample.report["sites"][: rows.count()]):
        assert site["site"] in rows.nth(at).inner_text()
    told = page.locator("#findings").inner_text()
    assert [each["rule"] for each in sample.report["findings"] if each["rule"] not in told] == []
    assert sample.report["host"]["kernel"] in page.locator("#verdict").inner_text()
