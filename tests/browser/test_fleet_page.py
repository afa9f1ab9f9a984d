"""The page of a fleet: it runs nothing, whatever names are in it, and can be read by everyone."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kmwatch.views import fleet, fleet_page, report
from tests.browser.conftest import PATIENCE
from tests.browser.driving import Driven
from tests.browser.test_looks import PHONE, WIDE, brightness, faults
from tests.unit.test_fleet_views import HOW, SECTIONS, everything, hostile_survey

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One in which every list has something, and one in which every name is a way out of some format."""
    surveyed, ledger = everything()
    told = {"planted": fleet.build(surveyed, report.build(ledger, [])), "hostile": fleet.build(*hostile_survey())}
    files = {name: tmp_path_factory.mktemp("fleet") / f"{name}.html" for name in told}
    for name, data in told.items():
        files[name].write_text(fleet_page.render(data, HOW), encoding="utf-8")
    return files


@pytest.fixture(params=["planted", "hostile"])
def name(request: pytest.FixtureRequest) -> str:
    """Which of them."""
    return str(request.param)


@pytest.fixture(params=[{"color_scheme": "light"}, {"color_scheme": "dark"}, {"viewport": PHONE, "is_mobile": True}])
def shown(browser: "Browser", pages: dict[str, Path], name: str, request: pytest.FixtureRequest) -> Iterator[Driven]:
    """An open page, which must have been silent; scripts could run in it."""
    context: Any = {"viewport": {"width": 1280, "height": 900}, "offline": True, **request.param}
    own = browser.new_context(**context)
    own.set_default_timeout(PATIENCE)
    driven = Driven(own.new_page(), pages[name].as_uri())
    driven.open(scripts=False)
    yield driven
    own.close()
    assert (driven.heard, driven.foreign) == ([], [])


def test_all_of_it_is_shown_to_everyone(shown: Driven, name: str) -> None:
    page = shown.page

    assert page.evaluate("() => window.hostile") is None
    assert page.locator("main > section").evaluate_all("all => all.map(each => each.id)") == SECTIONS
    assert page.evaluate(WIDE) == []
    assert page.evaluate("() => document.documentElement.scrollWidth - innerWidth") <= 0
    dark = brightness(shown.colour("section", "backgroundColor")) < 80
    assert dark == page.evaluate("() => matchMedia('(prefers-color-scheme: dark)').matches")
    assert json.dumps(faults(shown), indent=1) == "{}"
    size = page.viewport_size
    assert size
    shown.picture(f"fleet-{name}-{size['width']}-{'dark' if dark else 'light'}")
