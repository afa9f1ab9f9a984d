"""The time line: what is dragged over it, or set by keys, is what everything below tells of."""

from typing import Any

import pytest

from kmwatch.ledger import Ledger
from kmwatch.views.report import build
from tests.browser.conftest import Open
from tests.browser.driving import Driven
from tests.browser.made import Made, Sums, sums
from tests.browser.test_drawn import bars


def told(ledger: Ledger) -> Sums:
    """The numbers of a part's sites, without those that did nothing in it."""
    return moved(sums(build(ledger, [])))


def moved(numbers: Sums) -> Sums:
    return {name: each for name, each in numbers.items() if any(each.values())}


def once(ledger: Ledger, measure: str) -> int:
    """The sum of a measure, each piece of memory once."""
    facts = ledger.facts
    return int(facts[measure][facts["counted_once"]].sum())


def impossible(ledger: Ledger) -> int:
    """How often memory was asked for with flags that let it sleep where that is a bug."""
    facts = ledger.facts
    return int(facts["count"][facts["sleeping_in_atomic"]].sum())


def holds(page: Driven, ledger: Ledger) -> None:
    """All below the time line tells of this part."""
    assert moved(page.sums()) == told(ledger)
    for measure in ("bytes_allocated", "count", "bytes_wasted"):
        page.page.select_option("#flame-measure", measure)
        assert page.value("#flame-total") == str(once(ledger, measure))
    assert page.value("#heat-impossible") == str(impossible(ledger))


@pytest.mark.parametrize("name", ["sample", "hostile_names"])
def test_a_drag_filters_all_below(opened: Open, request: Any, name: str) -> None:
    what: Made = request.getfixturevalue(name)
    page = opened(what)
    page.drag(0.3, 0.7)
    first, end = page.span()

    assert 0 < first < end < what.slices
    assert abs(first / what.slices - 0.3) < 0.15
    assert abs(end / what.slices - 0.7) < 0.15
    assert told(what.during(first, end)) != told(what.ledger)
    holds(page, what.during(first, end))
    page.picture(f"brushed-{name.replace('_', '-')}")


@pytest.mark.parametrize(("first", "last"), [(0, 0), (10, 20), (57, 59)])
def test_a_drag_chooses_the_slices_that_it_touches(opened: Open, sample: Made, first: int, last: int) -> None:
    page = opened(sample)
    middles = [at for at, _ in bars(page, "#timeline-chart", "one")]
    box = page.page.locator("#timeline-chart").bounding_box()
    assert box
    width, apart = box["width"], middles[1] - middles[0]
    page.drag((middles[first] - apart / 4 - box["x"]) / width, (middles[last] + apart / 4 - box["x"]) / width)

    assert page.span() == (first, last + 1)


def test_a_drag_backwards_is_the_same(opened: Open, sample: Made) -> None:
    page = opened(sample)
    page.drag(0.2, 0.5)
    forwards = page.span()
    page.page.click("#timeline-reset")
    page.drag(0.5, 0.2)

    assert page.span() == forwards


def test_the_whole_is_told_again_after_a_reset(opened: Open, sample: Made) -> None:
    page = opened(sample)
    holds(page, sample.ledger)
    page.drag(0.1, 0.3)
    page.page.click("#timeline-reset")

    assert page.span() == (0, sample.slices)
    assert page.sums() == sums(sample.report)
    holds(page, sample.ledger)


def test_the_span_is_set_by_keys(opened: Open, sample: Made) -> None:
    page = opened(sample)
    page.page.focus("#timeline-from")
    for _ in range(3):
        page.page.keyboard.press("ArrowRight")
    page.page.focus("#timeline-to")
    page.page.keyboard.press("ArrowLeft")

    assert page.span() == (3, sample.slices - 1)
    holds(page, sample.during(3, sample.slices - 1))


def test_the_span_is_in_the_address(opened: Open, sample: Made) -> None:
    page = opened(sample)
    page.drag(0.3, 0.6)
    first, end = page.span()
    fragment = page.page.url.partition("#")[2]
    again = opened(sample, fragment)

    assert again.span() == (first, end)
    holds(again, sample.during(first, end))


@pytest.mark.parametrize(
    "fragment", ["from=x&to=", "from=-5&to=1e9", "from=NaN&to=NaN", "site=nothing", "site=%", "%%%", "x" * 5000]
)
def test_a_fragment_that_means_nothing_shows_the_whole(opened: Open, sample: Made, fragment: str) -> None:
    page = opened(sample, fragment)

    assert page.span() == (0, sample.slices)
    assert page.sums() == sums(sample.report)


@pytest.mark.parametrize("fragment", ["from=9&to=3", "from=1000000&to=1000001", "from=2.7&to=2.8", "to=1", "from=59"])
def test_a_fragment_that_is_odd_chooses_slices_that_there_are(opened: Open, sample: Made, fragment: str) -> None:
    page = opened(sample, fragment)
    first, end = page.span()

    assert 0 <= first < end <= sample.slices
    holds(page, sample.during(first, end))
