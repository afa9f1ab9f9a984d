"""Pages over the live screen: help, and all about one row."""

from collections.abc import Iterator, Sequence
from typing import ClassVar

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from kmwatch.views.top.about import About, SizeClass, Stack, Told
from kmwatch.views.top.frame import Frame, Page

_CLOSES = "Esc closes"
_BAR = 28  # characters of the longest bar
_SHORT = 24  # characters of a text that needs no line of its own


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
            box.border_subtitle = _CLOSES
            yield Static(self._content())

    def on_mount(self) -> None:
        """The arrow keys scroll."""
        self.query_one(VerticalScroll).focus()

    def _content(self) -> RenderableType:
        return _grid(self.page.lines)


class Panel(Overlay):
    """All about something, as it is in the frame on the screen; it stays as it was where the frame has it no more."""

    def __init__(self, told: Told, about: About) -> None:
        super().__init__(about.page)
        self._told, self.about = told, about

    def show(self, frame: Frame) -> None:
        """Show what it has become."""
        box, about = self.query_one(VerticalScroll), self._told(frame)
        box.border_subtitle = _CLOSES if about else f"not there any more, this was the last of it · {_CLOSES}"
        if about and about != self.about:
            self.about, self.page = about, about.page
            self.query_one(Static).update(self._content())

    def _content(self) -> RenderableType:
        about = self.about
        if not (about.sizes or about.stacks):
            return super()._content()
        parts = [*_facts(self.page.lines), *_sizes(about.sizes), *_stacks(about.stacks, about.more)]
        return Group(*parts, *_flags(about.flags))


def _grid(lines: Sequence[tuple[str, str]]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column()
    for label, text in lines:
        table.add_row(Text(label, "bold"), Text(text))
    return table


def _heading(text: str, more: str = "") -> Text:
    return Text.assemble("\n", (text, "bold underline"), (f"  {more}", "italic") if more else "")


def _facts(lines: Sequence[tuple[str, str]]) -> Iterator[RenderableType]:
    """Labelled texts: long ones a line each, short ones side by side."""
    long = [(label, text) for label, text in lines if len(text) > _SHORT]
    few = [(label, text) for label, text in lines if len(text) <= _SHORT]
    width = max((len(label) for label, _ in lines), default=0)
    if long:
        yield _grid([(label.ljust(width), text) for label, text in long])
    if few:
        told = [Text.assemble((label.ljust(width), "bold"), "  ", text) for label, text in few]
        yield Columns(told, padding=(0, 2), equal=True, column_first=True)


def _sizes(classes: Sequence[SizeClass]) -> Iterator[RenderableType]:
    if not classes:
        return
    yield _heading("sizes", "eighths of the class; bars are bytes taken, ░ surely wasted")
    for each in classes:
        yield Text.assemble((each.name, "bold"), "  ", each.told)
        table = Table.grid(padding=(0, 2, 0, 0))
        for _ in range(3):
            table.add_column(justify="right", no_wrap=True, min_width=9)
        table.add_column(no_wrap=True, min_width=_BAR)
        for bar in each.bars:
            long = max(round(bar.length * _BAR), 1)
            wasted = round(long * bar.wasted)
            blocks = Text.assemble("█" * (long - wasted), ("░" * wasted, "dim"))
            table.add_row(bar.sizes, bar.requests, bar.taken, blocks)
        yield table


def _stacks(stacks: Sequence[Stack], more: str) -> Iterator[RenderableType]:
    if not stacks:
        return
    yield _heading("stacks", "by their part of the events, the caller below what it calls")
    table = Table.grid(padding=(0, 2, 0, 0), expand=True)
    for width in (4, 6):
        table.add_column(justify="right", no_wrap=True, width=width)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)  # a long name leaves the others their place
    for stack in stacks:
        table.add_row(Text(stack.part, "bold"), stack.events, Text("\n".join(stack.frames)))
    yield table
    if more:
        yield Text(more, "italic")


def _flags(flags: Sequence[tuple[str, str]]) -> Iterator[RenderableType]:
    if flags:
        yield _heading("GFP flags")
        yield _grid(flags)
