"""One browser for all, and what holds for every page that it opens: it is silent and fetches nothing."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from kmwatch.capture.layout import SAMPLE
from tests.browser import made
from tests.browser.driving import Driven
from tests.browser.made import Made
from tests.support import chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser

Open = Callable[..., Driven]
PATIENCE = 30_000  # milliseconds


@pytest.fixture(scope="package")
def browser() -> Iterator["Browser"]:
    """The distribution's Chromium. It is closed before other tests want an event loop: Playwright runs in one."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium())
        yield started
        started.close()


@pytest.fixture(scope="package")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The page of the bundled capture."""
    return made.by_command(SAMPLE, tmp_path_factory.mktemp("sample") / "sample.html")


@pytest.fixture(scope="package")
def hostile_names(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The page in which every name is a way out of some format."""
    return made.of_hostile_names(tmp_path_factory.mktemp("hostile"))


@pytest.fixture(scope="package")
def very_much(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The page of 5 000 sites and 100 000 stacks."""
    return made.of_very_much(tmp_path_factory.mktemp("large"))


@pytest.fixture
def opened(browser: "Browser") -> Iterator[Open]:
    """Opens a page: `opened(made, fragment="site=…", **of the context)`. At the end each must have been silent."""
    pages: list[Driven] = []

    def open_page(what: Made, fragment: str = "", **context: Any) -> Driven:
        own = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, "offline": True, **context})
        own.set_default_timeout(PATIENCE)
        driven = Driven(own.new_page(), what.url)
        pages.append(driven)
        driven.open(fragment, scripts=context.get("java_script_enabled", True))
        return driven

    yield open_page
    for driven in pages:
        driven.page.context.close()
    assert [driven.heard for driven in pages if driven.heard] == []
    assert [driven.foreign for driven in pages if driven.foreign] == []
