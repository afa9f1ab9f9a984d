#!/usr/bin/env python3
"""Make docs/report-light.png and report-dark.png from the real thing: the page of this kernel, while a process works.

sudo .venv/bin/python -m scripts.screenshot_page

Where this machine does not let kmwatch trace, the page is that of the bundled capture.
"""

import multiprocessing
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from kmwatch.capture.layout import SAMPLE
from kmwatch.cli.sources import Detail, Part, open_source, whole_ledger
from kmwatch.errors import NotPossibleError
from kmwatch.rules import judge
from kmwatch.sources.workload import Workload
from kmwatch.views import page
from scripts.screenshot import work
from tests.support import chromium

if TYPE_CHECKING:
    from playwright.sync_api import ViewportSize

    from kmwatch.ledger import Ledger

Scheme = Literal["light", "dark"]

SECONDS = 30
COMMAND = f"kmwatch report live -d {SECONDS} --html report.html"
SIZE: "ViewportSize" = {"width": 1000, "height": 950}
PARTS: dict[Scheme, str] = {"light": "verdict", "dark": "timeline"}
DOCS = Path(__file__).parents[1] / "docs"


def watched(source: str) -> "Ledger":
    """What a source tells in so many seconds."""
    detail = Detail(stacks="sampled", sliced=True)
    with Workload((), SECONDS) as workload:
        opened = open_source(source, Part(), SECONDS / 50, workload.finished, detail)
        opened.meta.host = replace(opened.meta.host, hostname="host")
        return whole_ledger(opened, workload.start, sliced=True)


def busy() -> "Ledger":
    """This kernel while a child process works; the bundled capture where tracing is forbidden."""
    worker = multiprocessing.get_context("spawn").Process(target=work, daemon=True)
    worker.start()
    try:
        return watched("live")
    except NotPossibleError as error:
        sys.stderr.write(f"screenshot: {error}; taking the bundled capture\n")
        return watched(str(SAMPLE))
    finally:
        worker.terminate()


def pictures(file: Path) -> None:
    """The beginning of the page in light colours, and in dark ones what is drawn below it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium())
        for scheme, part in PARTS.items():
            shown = browser.new_context(viewport=SIZE, color_scheme=scheme, offline=True).new_page()
            shown.goto(file.as_uri())
            shown.wait_for_selector('html[data-ready="true"]', state="attached")
            shown.select_option("#flame-measure", "bytes_allocated")
            shown.wait_for_timeout(500)  # frames move for a moment
            shown.evaluate("part => document.getElementById(part).scrollIntoView()", part)
            shown.screenshot(path=DOCS / f"report-{scheme}.png")
        browser.close()


def main() -> None:
    """Watch, make the page, and take its pictures."""
    ledger = busy()
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "report.html"
        how = {"command": COMMAND, "made": time.time()}
        file.write_text(page.render(page.build(ledger, judge(ledger), how)), encoding="utf-8")
        pictures(file)


if __name__ == "__main__":
    main()
