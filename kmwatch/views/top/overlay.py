"""Pages of text over the live screen: help, and all about one row."""

from typing import ClassVar

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from kmwatch.views.top.frame import Page


class Overlay(ModalScreen[None]):
    """A page that scrolls; Esc, Enter, q or ? closes it."""

    DEFAULT_CSS = """
    Overlay { align: center middle; }
    Overlay > VerticalScroll {
        width: 90%; max-width: 110; height: auto; max-height: 100%; border: round $primary; padding: 0 1;
        scrollbar-size-vertical: 1;
    }
    Overlay Static { height: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,enter,q,question_mark,h", "dismiss", show=False)]

    def __init__(self, page: Page) -> None:
        super().__init__()
        self.page = page

    def compose(self) -> ComposeResult:
        """The text in a box."""
        with VerticalScroll() as box:
            box.border_title = Text(self.page.title)
            box.border_subtitle = "Esc closes"
            yield Static(self._table())

    def on_mount(self) -> None:
        """The arrow keys scroll."""
        self.query_one(VerticalScroll).focus()

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True)
        table.add_column()
        for label, text in self.page.lines:
            table.add_row(Text(label, "bold"), Text(text))
        return table
