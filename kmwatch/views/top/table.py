"""A table that draws only the rows on the screen. It shows what it is given, and knows which row was chosen."""

from collections.abc import Sequence
from typing import ClassVar

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from kmwatch.views.top.catalog import BAD, WARN, Row, View
from kmwatch.views.top.columns import GAP, Column, layout
from kmwatch.views.top.frame import Order

STYLES = {BAD: Style(color="bright_red"), WARN: Style(color="yellow")}
_SORTED, _NOTE = Style(bold=True, underline=True), Style(italic=True)


def cell(column: Column, text: str, width: int) -> str:
    """A text in exactly `width` characters; what does not fit ends in an ellipsis, or is the latest of blocks."""
    if column.latest:
        return text[-width:].ljust(width)
    if cell_len(text) > width:
        return set_cell_size(text, width - 1) + "…"
    padding = " " * (width - cell_len(text))
    return text + padding if column.words else padding + text


class RowTable(ScrollView, can_focus=True):
    """A heading and rows below it; the arrow keys choose a row, which keeps being chosen wherever it moves."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"table--heading", "table--chosen"}
    DEFAULT_CSS = """
    RowTable { height: 1fr; scrollbar-size-vertical: 1; scrollbar-gutter: stable; overflow-x: hidden; }
    RowTable > .table--heading { background: $panel; text-style: bold; }
    RowTable > .table--chosen { background: $primary; color: $text; text-style: bold; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", show=False),
        Binding("down", "move(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
        Binding("home,ctrl+home", "first", show=False),
        Binding("end,ctrl+end", "last", show=False),
        Binding("enter", "choose", show=False),
    ]

    class Chosen(Message):
        """Enter, or a click on the chosen row."""

        def __init__(self, row: Row) -> None:
            super().__init__()
            self.row = row

    class HeadingClicked(Message):
        """A click on a column's heading."""

        def __init__(self, column: int) -> None:
            super().__init__()
            self.column = column

    def __init__(self) -> None:
        super().__init__()
        self._view: View | None = None
        self._rows: Sequence[Row] = ()
        self._order, self._note = Order(0), ""
        self._cursor = 0
        self._follow: tuple[object, ...] | None = None  # the chosen row's key, once the user has chosen one

    @property
    def columns(self) -> list[tuple[int, int]]:
        """The columns on the screen: index and width."""
        return layout(self._view.columns, self._width) if self._view else []

    @property
    def _width(self) -> int:
        """Characters beside the scroll bar, whose place is always kept free."""
        return self.scrollable_content_region.width

    def show(self, view: View, rows: Sequence[Row], order: Order, note: str = "") -> None:
        """Show rows; `note` is what to say where there is none."""
        if view is not self._view:
            self._cursor, self._follow = 0, None
            self.scroll_to(y=0, animate=False)
        self._view, self._rows, self._order, self._note = view, rows, order, note
        if self._follow is not None:
            self._cursor = next((at for at, row in enumerate(rows) if row.key == self._follow), self._cursor)
        self._cursor = max(0, min(self._cursor, len(rows) - 1))
        self.virtual_size = Size(self._width, len(rows) + 1)
        if self._follow is not None:
            self._keep_visible()
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """Draw a line of the screen: the heading, a row, or nothing."""
        if y == 0:
            return self._heading()
        at = self.scroll_offset.y + y - 1
        if self._view is None or (not self._rows and y == 2):
            note = f"  {self._note}" if y == 2 else ""
            return self._strip([Segment(note, _NOTE)])
        if at >= len(self._rows):
            return self._strip([])
        row = self._rows[at]
        chosen = at == self._cursor and self.has_focus
        style = self.get_component_rich_style("table--chosen") if chosen else STYLES.get(row.level, Style())
        columns = self._view.columns
        texts = [cell(columns[each], columns[each].show(row.cells[each]), width) for each, width in self.columns]
        return self._strip([Segment((" " * GAP).join(texts), style)], style if chosen else None)

    def _heading(self) -> Strip:
        """The titles; the mark of the sorted one may stand in the gap beside it."""
        plain = self.get_component_rich_style("table--heading")
        segments: list[Segment] = []
        stolen = 0
        for at, width in self.columns:
            column = self._view.columns[at] if self._view else None
            if column is None:
                continue
            text, style, before, room = column.title, plain, (GAP if segments else 0) - stolen, width
            stolen = 0
            if at == self._order.column:
                mark, style = "▲" if column.words != self._order.reverse else "▼", plain + _SORTED
                text = f"{text}{mark}" if column.words else f"{mark}{text}"
                if cell_len(text) > width:
                    stolen, before = (1, before) if column.words else (0, before - 1)
                    room += 1
            segments += [Segment(" " * before, plain), Segment(cell(column, text, room), style)]
        return self._strip(segments, plain)

    def _strip(self, segments: list[Segment], fill: Style | None = None) -> Strip:
        strip = Strip(segments).adjust_cell_length(self._width, fill)
        return strip.apply_style(self.rich_style)

    def on_click(self, event: events.Click) -> None:
        """A heading sorts; a row is chosen, and opened when it is already."""
        if event.y > 0:
            at = self.scroll_offset.y + event.y - 1
            if at == self._cursor:
                self.action_choose()
            elif at < len(self._rows):
                self._choose_at(at)
            return
        left = 0
        for column, width in self.columns:
            if left <= event.x < left + width:
                self.post_message(self.HeadingClicked(column))
            left += width + GAP

    def on_resize(self) -> None:
        """Other columns may fit now."""
        self.virtual_size = Size(self._width, len(self._rows) + 1)
        self.refresh()

    def action_move(self, by: int) -> None:
        """Choose the row that many rows on."""
        self._choose_at(self._cursor + by)

    def action_page(self, by: int) -> None:
        """Choose the row that many screens on."""
        self._choose_at(self._cursor + by * max(1, self.size.height - 2))

    def action_first(self) -> None:
        """Choose the first row, and stay at the top whichever row that is."""
        self._choose_at(0)
        self._follow = None

    def action_last(self) -> None:
        """Choose the last row."""
        self._choose_at(len(self._rows) - 1)

    def action_choose(self) -> None:
        """Open the chosen row."""
        if self._rows:
            self.post_message(self.Chosen(self._rows[self._cursor]))

    def _choose_at(self, at: int) -> None:
        if self._rows:
            self._cursor = max(0, min(at, len(self._rows) - 1))
            self._follow = self._rows[self._cursor].key
            self._keep_visible()
            self.refresh()

    def _keep_visible(self) -> None:
        """Scroll as little as needed; the heading covers the first line."""
        top, height = self.scroll_offset.y, max(1, self.size.height - 1)
        if self._cursor < top:
            self.scroll_to(y=self._cursor, animate=False)
        elif self._cursor >= top + height:
            self.scroll_to(y=self._cursor - height + 1, animate=False)
