"""How the page looks: light and dark, on a phone, on paper, to who uses keys or a screen reader."""

import json
import re
import zlib
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import Open
from tests.browser.driving import PICTURES, Driven
from tests.browser.made import Made

PHONE = {"width": 360, "height": 740}
SECTIONS = ("verdict", "findings", "timeline", "flame", "sizes", "heat", "zones", "sites", "trust", "how")
WIDE = """() => [...document.querySelectorAll('body *')].filter(
    each => each.getBoundingClientRect().right > innerWidth + 1 && !each.closest('.scroll, nav, svg, .frames, details'))
    .map(each => each.tagName + '#' + each.id + '.' + each.className).slice(0, 5)"""


def brightness(colour: tuple[int, ...]) -> float:
    """From 0, black, to 255."""
    return sum(colour[:3]) / 3


def is_dark(page: Driven) -> bool:
    """Whether light text stands on dark ground, in the page and in its charts."""
    ground, ink = brightness(page.colour("section", "backgroundColor")), brightness(page.colour("h2"))
    axis = brightness(page.colour("#timeline-chart svg text", "fill"))
    assert (ground < 80) == (ink > 150) == (axis > 120)
    return ground < 80


def test_sections_stand_in_order(opened: Open, sample: Made) -> None:
    found = opened(sample).page.locator("main > section").evaluate_all("all => all.map(each => each.id)")

    assert tuple(found) == SECTIONS


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_colours_are_those_of_the_system(opened: Open, sample: Made, scheme: str) -> None:
    page = opened(sample, color_scheme=scheme)

    assert is_dark(page) == (scheme == "dark")
    page.picture(scheme)


def test_the_button_changes_the_colours_both_ways(opened: Open, sample: Made) -> None:
    page = opened(sample, color_scheme="dark")
    page.page.click("#theme")
    assert not is_dark(page)
    page.page.focus("#theme")
    page.page.keyboard.press("Enter")
    assert is_dark(page)


def test_the_colours_change_with_the_system(opened: Open, sample: Made) -> None:
    page = opened(sample)
    page.page.emulate_media(color_scheme="dark")
    page.page.wait_for_selector("html[data-theme=dark]")

    assert is_dark(page)


@pytest.mark.parametrize("name", ["sample", "hostile_names"])
def test_a_phone_never_scrolls_sideways(opened: Open, request: Any, name: str) -> None:
    page = opened(request.getfixturevalue(name), viewport=PHONE, has_touch=True, is_mobile=True, device_scale_factor=2)
    widths = page.page.evaluate("() => [document.documentElement.scrollWidth, innerWidth]")

    assert page.page.evaluate(WIDE) == []
    assert widths == [360, 360]
    page.picture(f"phone-{name.replace('_', '-')}")


def test_all_is_drawn_anew_for_another_width(opened: Open, sample: Made) -> None:
    page = opened(sample)
    page.page.set_viewport_size({"width": 500, "height": 800})
    page.page.wait_for_function(
        "() => document.querySelector('#timeline-chart svg').getBoundingClientRect().width < 500"
    )

    for chart in ("timeline-chart", "flame-chart", "sizes-bytes", "heat-chart", "zones-chart"):
        box = page.page.locator(f"#{chart} svg").first.bounding_box()
        assert box
        assert 200 < box["width"] <= 500, chart
    assert page.page.evaluate("() => document.documentElement.scrollWidth") == 500


def test_paper_is_white_and_has_all_but_the_controls(opened: Open, sample: Made) -> None:
    page = opened(sample, color_scheme="dark")
    PICTURES.mkdir(parents=True, exist_ok=True)
    file = PICTURES / "print.pdf"
    page.page.pdf(path=file, format="A4", print_background=True)

    assert pages_of(file) < 12
    page.page.emulate_media(media="print")
    page.page.evaluate("() => dispatchEvent(new Event('beforeprint'))")  # as printing does
    for hidden in ("header", "#theme", "#timeline .controls", "#flame .controls"):
        assert not page.page.locator(hidden).first.is_visible(), hidden
    for shown in SECTIONS:
        assert page.page.locator(f"#{shown} :is(h1, h2)").first.is_visible(), shown
    assert brightness(page.colour("section", "backgroundColor")) > 200
    assert brightness(page.colour("h2")) < 100
    page.picture("print")


def pages_of(file: Path) -> int:
    """How many pages a PDF has."""
    data = file.read_bytes()
    packed = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", data, re.DOTALL)
    whole = data + b"".join(zlib.decompressobj().decompress(each) for each in packed if each.startswith(b"\x78"))
    return len(re.findall(rb"/Type\s*/Page\b", whole))


def test_tab_goes_through_the_controls_in_their_order(opened: Open, sample: Made) -> None:
    page = opened(sample, "from=5&to=20")  # else there is nothing to reset
    seen = []
    for _ in range(120):
        page.page.keyboard.press("Tab")
        seen.append(page.page.evaluate("() => document.activeElement.id || document.activeElement.tagName"))
        if seen[-1] in ("BODY", "sites-after"):
            break
    wanted = (
        "theme", "timeline-from", "timeline-to", "timeline-reset", "flame-measure", "flame-layout", "flame-search",
        "flame-reset", "flame-chart", "sites-filter",
    )  # fmt: skip

    assert [name for name in seen if name in wanted] == list(wanted)


def test_what_has_the_focus_is_seen(opened: Open, sample: Made) -> None:
    page = opened(sample)
    for control in ("#theme", "#timeline-from", "#flame-search", "#flame-chart", "#sites-filter"):
        page.page.focus(control)
        page.page.keyboard.press("Shift")  # what the keyboard focused
        outline = page.page.locator(control).evaluate("each => getComputedStyle(each).outlineStyle")
        assert outline != "none", control


@pytest.mark.parametrize(
    ("name", "scheme"), [("sample", "light"), ("hostile_names", "light"), ("hostile_names", "dark")]
)
def test_axe_finds_nothing_serious(opened: Open, request: Any, scheme: str, name: str) -> None:
    page = opened(request.getfixturevalue(name), color_scheme=scheme)

    assert json.dumps(faults(page), indent=1) == "{}"


def faults(page: Driven) -> dict[str, list[str]]:
    """What axe finds serious or critical in a page, all of it unfolded: elements by rule."""
    from axe_playwright_python.sync_playwright import Axe

    page.unfold()
    found = Axe().run(page.page).response["violations"]
    return {
        each["id"]: [node["html"][:200] for node in each["nodes"]][:5]
        for each in found
        if each["impact"] in ("serious", "critical")
    }
