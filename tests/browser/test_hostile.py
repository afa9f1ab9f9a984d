"""Names that are ways out of HTML, scripts and styles are shown as what they are: text."""

from kmwatch.units import printable
from tests.browser.conftest import Open
from tests.browser.driving import Driven
from tests.browser.made import Made, sums
from tests.unit.hostile import NAMES

_OWN = """() => [...document.querySelectorAll('script, img, iframe, object, embed, [onerror], [onmouseover]')].map(
    each => each.tagName)"""
_HAS_ROW = """wanted => [...document.querySelectorAll('#sites-table tbody tr')].filter(
    each => each.id === wanted).length === 1"""
PAGE_SCRIPTS = ["SCRIPT"] * 3  # the data, the libraries, the page's own


def harmless(page: Driven) -> None:
    """Nothing that a name says was made or done."""
    assert page.page.evaluate("() => window.hostile") is None
    assert page.page.evaluate("() => ({}).hostile") is None
    assert page.page.evaluate(_OWN) == PAGE_SCRIPTS
    addresses = page.page.locator("a").evaluate_all("all => all.map(each => each.getAttribute('href'))")
    assert [each for each in addresses if not str(each).startswith("#")] == []
    assert page.heard == []


def test_every_name_is_shown_as_text(opened: Open, hostile_names: Made) -> None:
    page = opened(hostile_names)
    shown = page.page.locator("#sites-table").inner_text()
    while page.page.locator("#sites-after").is_enabled():
        page.page.click("#sites-after")
        shown += page.page.locator("#sites-table").inner_text()

    squeezed = "".join(shown.split())
    assert [name for name in NAMES.values() if "".join(printable(name[:60]).split()) not in squeezed] == []
    assert {each for each in shown if not each.isprintable()} <= {"\n", "\t"}
    assert page.sums() == sums(hostile_names.report)
    harmless(page)
    page.picture("hostile")


def test_names_do_nothing_wherever_the_mouse_goes(opened: Open, hostile_names: Made) -> None:
    """Tips, details and links are made when they are wanted."""
    page = opened(hostile_names)
    for part in ("timeline", "flame", "sizes", "heat", "zones", "sites"):
        section = page.page.locator(f"#{part}")
        section.scroll_into_view_if_needed()
        box = section.bounding_box()
        assert box
        for step in range(1, 24):
            page.page.mouse.move(box["x"] + box["width"] * step / 24, box["y"] + box["height"] * (step % 8 + 1) / 10)
        harmless(page)


def test_names_do_nothing_in_the_flame_graph(opened: Open, hostile_names: Made) -> None:
    page = opened(hostile_names)
    page.page.select_option("#flame-measure", "count")
    frames = page.page.locator("#flame-chart g.frame")
    names = set(frames.evaluate_all("all => all.map(each => each.getAttribute('name'))"))

    assert [name for name in NAMES.values() if not any(printable(name[:60]) in str(each) for each in names)] == []
    for at in range(0, frames.count(), 5):
        frames.nth(at).hover(force=True)
        harmless(page)
    frames.last.click(force=True)
    page.page.fill("#flame-search", NAMES["script"])
    assert 0 < int(page.value("#flame-matched")) < int(page.value("#flame-total"))
    harmless(page)


def test_what_is_asked_for_does_nothing(opened: Open, hostile_names: Made) -> None:
    """The filter, the search and the address come from outside as well."""
    page = opened(hostile_names)
    for name in NAMES.values():
        page.page.fill("#sites-filter", name)
        page.page.fill("#flame-search", name)
        page.page.evaluate("name => { location.hash = 'site=' + name; }", name)
        harmless(page)


def test_a_link_leads_to_each_name(opened: Open, hostile_names: Made) -> None:
    page = opened(hostile_names)
    links = page.page.locator("#findings a[href^='#site=']")
    page.unfold()

    assert links.count() >= len(NAMES)
    for at in range(0, links.count(), 7):
        wanted = links.nth(at).evaluate("each => decodeURIComponent(each.getAttribute('href').slice(1))")
        links.nth(at).click()
        page.page.wait_for_function(_HAS_ROW, arg=wanted)
    harmless(page)
