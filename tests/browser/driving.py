"""A page as a person uses it: by mouse and keys, and what is seen of it. What it says and asks for is kept."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Page

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / ".cache" / "browser"
"""Where pictures are left for a person to look at."""

NUMBERS = ("count", "bytes_allocated", "bytes_wasted", "failures", "opportunistic_failures")
"""Columns of the table of sites that are numbers of the report."""

_ROWS = """() => {
    const columns = [...document.querySelectorAll('#sites-table thead th')].map(head => head.dataset.column ?? 'more');
    const told = cell => cell.dataset.value ?? (cell.querySelector('code') ?? cell).textContent;
    return [...document.querySelectorAll('#sites-table tbody tr[id]')].map(
        row => [row.id, Object.fromEntries([...row.cells].map((cell, at) => [columns[at], told(cell)]))]);
}"""

_UNFOLD = """all => all.filter(each => !each.parentElement.open).forEach(each => each.click())"""
_UNFOLDED = "() => document.querySelector('#findings-more:not([open]), #findings-more ol:empty') === null"
"""Browsers tell a page later that something was unfolded, and only then is it filled."""

_FIRST_CHART = 50
"""Pixels from the top of the time line's drawing to the middle of its first chart."""

Row = tuple[str, dict[str, str]]
"""A row of the table of sites: its id, and the number or the words of each cell by column."""


class Driven:
    """An open page.

    heard: what it said on the console, its errors, and its dialogs. requests: every address that it asked for.
    """

    def __init__(self, page: "Page", url: str) -> None:
        self.page, self.url = page, url
        self.heard: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda message: self.heard.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.heard.append(f"error: {error}"))
        page.on("dialog", self._dismiss)
        page.context.on("request", lambda request: self.requests.append(request.url))
        page.context.on("page", lambda other: self.heard.append(f"window: {other.url}"))

    def _dismiss(self, dialog: Any) -> None:
        self.heard.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    @property
    def foreign(self) -> list[str]:
        """What it asked for beside itself."""
        return [url for url in self.requests if url.partition("#")[0] != self.url]

    def open(self, fragment: str = "", *, scripts: bool = True) -> None:
        """Load it and wait until all is drawn, which takes scripts."""
        self.page.goto(f"{self.url}#{fragment}" if fragment else self.url)
        if scripts:
            self.page.wait_for_selector('html[data-ready="true"]', state="attached")

    def unfold(self) -> None:
        """Click all that is folded, and wait until it is filled."""
        self.page.locator("summary").evaluate_all(_UNFOLD)
        self.page.wait_for_function(_UNFOLDED)

    def value(self, selector: str, name: str = "value") -> str:
        """A data attribute of an element."""
        return str(self.page.locator(selector).get_attribute(f"data-{name}"))

    def shown_rows(self) -> list[Row]:
        """The rows of the table that are there now."""
        return [(name, cells) for name, cells in self.page.evaluate(_ROWS)]

    def rows(self) -> list[Row]:
        """The rows of all its pages, from the first."""
        before, after = self.page.locator("#sites-before"), self.page.locator("#sites-after")
        while before.is_enabled():
            before.click()
        rows = self.shown_rows()
        while after.is_enabled():
            after.click()
            rows += self.shown_rows()
        return rows

    def sums(self) -> dict[str, dict[str, int]]:
        """The numbers of all rows, by id; each once."""
        rows = self.rows()
        assert len({name for name, _ in rows}) == len(rows)
        return {name: {column: int(cells[column]) for column in NUMBERS} for name, cells in rows}

    def sort(self, column: str) -> str:
        """Sort by a column and return the direction."""
        self.page.locator(f'#sites-table th[data-column="{column}"] button').click()
        return str(self.page.locator(f'#sites-table th[data-column="{column}"]').get_attribute("aria-sort"))

    def drag(self, first: float, last: float) -> None:
        """Drag the mouse over the chart of the time line, from and to shares of its width."""
        chart = self.page.locator("#timeline-chart")
        chart.scroll_into_view_if_needed()
        box = chart.bounding_box()
        assert box
        middle = box["y"] + _FIRST_CHART
        self.page.mouse.move(box["x"] + first * box["width"], middle)
        self.page.mouse.down()
        self.page.mouse.move(box["x"] + (first + last) / 2 * box["width"], middle, steps=4)
        self.page.mouse.move(box["x"] + last * box["width"], middle, steps=4)
        self.page.mouse.up()

    def span(self) -> tuple[int, int]:
        """The slices that are chosen: the first, and the first that is not."""
        return int(self.value("#timeline-range", "from")), int(self.value("#timeline-range", "to"))

    def colour(self, selector: str, name: str = "color") -> tuple[int, ...]:
        """A computed colour, as red, green, blue (0 to 255) and whatever follows."""
        shown = self.page.locator(selector).first.evaluate("(each, name) => getComputedStyle(each)[name]", name)
        return tuple(int(float(part)) for part in str(shown).partition("(")[2].rstrip(")").split(","))

    def picture(self, name: str, *, whole: bool = True) -> Path:
        """A picture for a person, in `.cache/browser/`."""
        PICTURES.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=PICTURES / f"{name}.png", full_page=whole)
        return PICTURES / f"{name}.png"
