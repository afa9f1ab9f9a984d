"""The page of a busy machine with many drivers: small enough to be attached, and quick enough to be used."""

import pytest

from tests.browser.conftest import Open
from tests.browser.driving import Driven
from tests.browser.made import Made

MOST_BYTES = 3_000_000
MOST_MILLISECONDS = 2000
TRIES = 4

_READY = """() => new Promise(done => {
    const look = () => {
        if (document.documentElement.dataset.ready === 'true') done(performance.now());
        else setTimeout(look, 5);
    };
    look();
})"""
_ANSWER = """([selector, type, value]) => new Promise(done => {
    const before = performance.now();
    const place = document.querySelector(selector);
    if (value !== null) place.value = value;
    place.dispatchEvent(new Event(type, {bubbles: true}));
    requestAnimationFrame(() => setTimeout(() => done(performance.now() - before)));
})"""
"""How long it takes until an event has been answered and drawn, in milliseconds."""


def took(page: Driven, selector: str, event: str, value: str | None = None) -> float:
    """Milliseconds, measured in the browser."""
    return float(page.page.evaluate(_ANSWER, [selector, event, value]))


def test_it_can_be_attached(very_much: Made) -> None:
    assert len(very_much.report["sites"]) == 5000
    assert len(very_much.ledger.meta.stacks) == 100_000
    assert very_much.file.stat().st_size < MOST_BYTES


def times(page: Driven) -> dict[str, float]:
    """Milliseconds from opening the file until it is drawn, and from each event until it is answered."""
    page.page.reload(wait_until="commit")
    return {
        "ready": float(page.page.evaluate(_READY)),
        "sort": took(page, '#sites-table th[data-column="count"] button', "click"),
        "filter": took(page, "#sites-filter", "input", "kind:kmalloc skb"),
        "slider": took(page, "#timeline-from", "input", "20"),
        "reset": took(page, "#timeline-reset", "click"),
        "measure": took(page, "#flame-measure", "change", "count"),
        "search": took(page, "#flame-search", "input", "inode"),
    }


def test_it_is_ready_and_answers_soon(opened: Open, very_much: Made) -> None:
    """At the best of some tries: other work on the machine is no fault of the page."""
    page = opened(very_much)
    best = times(page)
    for _ in range(TRIES):
        if max(best.values()) < MOST_MILLISECONDS:
            break
        best = {name: min(best[name], took) for name, took in times(page).items()}

    assert {name: round(value) for name, value in best.items() if value >= MOST_MILLISECONDS} == {}
    assert best["ready"] > 10


@pytest.mark.parametrize("column", ["count", "bytes_wasted"])
def test_a_sort_of_all_is_right(opened: Open, very_much: Made, column: str) -> None:
    page = opened(very_much)
    page.sort(column)
    assert page.value("#sites-count") == "5000"
    first = [int(cells[column]) for _, cells in page.shown_rows()]

    assert first == sorted((site[column] for site in very_much.report["sites"]), reverse=True)[: len(first)]


def test_a_span_of_all_is_right(opened: Open, very_much: Made) -> None:
    page = opened(very_much, "from=10&to=12")
    facts = very_much.during(10, 12).facts

    page.page.select_option("#flame-measure", "bytes_allocated")
    assert page.value("#flame-total") == str(int(facts["bytes_allocated"][facts["counted_once"]].sum()))
    page.picture("large")
