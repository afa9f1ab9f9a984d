"""The live screen itself: keys in, frames shown. Every number comes from the frame."""

import asyncio
from typing import ClassVar

from rich.style import Style
from rich.text import Text
from textual import events
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.screen import Screen
from textual.widgets import Input, Static

from kmwatch.views.top.about import Told, all_sizes, of_row
from kmwatch.views.top.catalog import GOOD, VIEWS, View
from kmwatch.views.top.feed import Feed
from kmwatch.views.top.frame import Frame, Order, arrange, first_order, fit, help_page
from kmwatch.views.top.overlay import Overlay, Panel
from kmwatch.views.top.playback import BINDINGS, FOOTER, TimeLine
from kmwatch.views.top.table import STYLES, RowTable

SMALLEST = (40, 10)
"""Columns and lines below which nothing can be read."""

_FOOTER = (
    ("?", "help"), ("Enter", "more"), ("q", "quit"), ("s", "sort"), ("/", "filter"), ("Space", "pause"),
    ("r", "reverse"), ("z", "sizes"),
)  # fmt: skip
_PARTS: dict[str, str | Style] = {**STYLES, GOOD: "bold"}


class TopApp(App[None]):
    """Shows the frames of a feed, the view that it was told to build first; leaves when the feed ends."""

    CSS = """
    Screen { layout: vertical; }
    #header { height: 3; }
    #tabs, #footer { height: 1; }
    #filter { height: 1; border: none; padding: 0; display: none; }
    #filter:focus { border: none; }
    #small { display: none; }
    .filtering #filter { display: block; }
    .filtering #footer { display: none; }
    .small #header, .small #tabs, .small RowTable, .small #footer, .small #filter,
    .small TimeLine { display: none; }
    .small #small { display: block; }
    """
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(str(at), f"view('{name}')", show=False) for at, name in enumerate(VIEWS, 1)),
        Binding("o", "view('outstanding')", show=False),
        Binding("tab", "next_view(1)", show=False, priority=True),
        Binding("shift+tab", "next_view(-1)", show=False, priority=True),
        Binding("s,greater_than_sign", "sort(1)", show=False),
        Binding("less_than_sign", "sort(-1)", show=False),
        Binding("r", "reverse", show=False),
        Binding("slash", "filter", show=False),
        Binding("escape", "clear_filter", show=False),
        Binding("space", "pause", show=False),
        Binding("z", "sizes", show=False),
        Binding("question_mark,h", "help", show=False),
        Binding("q", "quit", show=False),
        Binding("ctrl+c,ctrl+q", "quit", show=False, priority=True),
        *BINDINGS,
    ]

    class Refreshed(Message):
        """The feed has a new frame, or has ended."""

        def __init__(self, frame: Frame | None) -> None:
            super().__init__()
            self.frame = frame

    def __init__(self, feed: Feed) -> None:
        super().__init__()
        self._feed = feed
        self.view: View = VIEWS[feed.wanted]
        self.orders = {name: first_order(view) for name, view in VIEWS.items()}
        self.frame: Frame | None = None
        """What is on the screen."""
        self.paused = False
        self._time_line = TimeLine(feed.playback, feed.meta.start) if feed.playback else None
        self._starting = "reading the capture…" if feed.playback else "compiling and attaching…"
        self._leaving = False
        self._events: asyncio.AbstractEventLoop | None = None
        self._latest: Frame | None = None
        self._needle = ""
        self._matching = 0

    def compose(self) -> ComposeResult:
        """Header, time line, tabs, table, and one line for keys or the filter."""
        yield Static(id="header")
        if self._time_line:
            yield self._time_line
        yield Static(id="tabs")
        yield RowTable()
        yield Static(id="footer")
        yield Input(id="filter", placeholder="filter: part of a name, or a regular expression")
        yield Static(id="small")

    def on_mount(self) -> None:
        """Show the first frame, then begin to open the source."""
        self._events = asyncio.get_running_loop()
        if self._leaving:
            self.exit()
            return
        self.query_one(RowTable).focus()
        self._show()
        self.call_after_refresh(self._feed.start, lambda frame: self.post_message(self.Refreshed(frame)))

    def leave(self) -> None:
        """Leave as soon as possible; may be called by a signal handler, also before the screen is up."""
        self._leaving = True
        if self._events:
            self._events.call_soon_threadsafe(self.exit)

    def on_unmount(self) -> None:
        """The feed must not post to an app that is gone."""
        self._feed.mute()

    def on_top_app_refreshed(self, message: Refreshed) -> None:
        """Show the new frame, unless the screen is to stand still."""
        if message.frame is None:
            self.exit()
            return
        self._latest = message.frame
        if not self.paused:
            self.frame = message.frame
            self._show()

    def on_resize(self, event: events.Resize) -> None:
        """Other columns and parts of the header may fit now."""
        width, height = event.size
        small = width < SMALLEST[0] or height < SMALLEST[1]
        self._main.set_class(small, "small")
        text = f"{width}x{height}: kmwatch top needs {SMALLEST[0]}x{SMALLEST[1]}"
        self._static("small").update(Text(text))
        self.call_after_refresh(self._show_frame)

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter while typing."""
        self._needle = event.value
        self._show()

    def on_input_submitted(self) -> None:
        """Keep the filter, go back to the rows."""
        self._close_filter()

    def on_click(self, event: events.Click) -> None:
        """A click on a tab opens its view."""
        if event.widget is self._static("tabs"):
            for name, start, end in self._tab_spans():
                if start <= event.x < end:
                    self.action_view(name)

    def on_row_table_heading_clicked(self, message: RowTable.HeadingClicked) -> None:
        """Sort by that column; again, the other way round."""
        now = self.orders[self.view.name]
        same = now.column == message.column
        self.orders[self.view.name] = Order(message.column, reverse=same and not now.reverse)
        self._show()

    def on_row_table_chosen(self, message: RowTable.Chosen) -> None:
        """Show all about the row."""
        self._open(of_row(self.view, message.row.key))

    def action_view(self, name: str) -> None:
        """Open a view."""
        self.view = VIEWS[name]
        self._feed.wanted = name
        self._show()

    def action_next_view(self, by: int) -> None:
        """Open the view beside this one."""
        names = list(VIEWS)
        self.action_view(names[(names.index(self.view.name) + by) % len(names)])

    def action_sort(self, by: int) -> None:
        """Sort by the column on the screen beside this one."""
        shown = [at for at, _ in self._table().columns]
        now = self.orders[self.view.name].column
        place = shown.index(now) + by if now in shown else 0
        self.orders[self.view.name] = Order(shown[place % len(shown)])
        self._show()

    def action_reverse(self) -> None:
        """Turn the order round."""
        now = self.orders[self.view.name]
        self.orders[self.view.name] = Order(now.column, not now.reverse)
        self._show()

    def action_filter(self) -> None:
        """Open the filter."""
        self._main.add_class("filtering")
        self._input().focus()

    def action_clear_filter(self) -> None:
        """Show all rows again."""
        self._input().value = ""
        self._close_filter()

    def action_pause(self) -> None:
        """Hold the screen, or let it go on with the latest frame; hold the time of what is replayed."""
        if self._time_line:
            self._time_line.act("pause")
            return
        self.paused = not self.paused
        if not self.paused:
            self.frame = self._latest
        self._show()

    def action_play(self, what: str) -> None:
        """Go elsewhere in what is replayed, or change its speed."""
        if self._time_line:
            self._time_line.act(what)

    def action_sizes(self) -> None:
        """Show what sizes were asked for, by whomever."""
        self._open(all_sizes)

    def _open(self, told: Told) -> None:
        if self.frame and (about := told(self.frame)):
            self.push_screen(Panel(told, about))

    def action_help(self) -> None:
        """Show the keys and what the columns mean."""
        self.push_screen(Overlay(help_page(self.view, replayed=self._time_line is not None)))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002  # Textual's signature
        """Tab and the keys of the time line do nothing below a page of text or in the filter."""
        if action not in ("next_view", "play"):
            return True
        there = action == "next_view" or self._time_line is not None
        return there and len(self.screen_stack) == 1 and not self._input().has_focus

    def _close_filter(self) -> None:
        self._main.remove_class("filtering")
        self._table().focus()
        self._show()

    def _show(self) -> None:
        self._show_rows()
        self._show_frame()
        if self.frame and isinstance(self.screen, Panel):
            self.screen.show(self.frame)

    def _show_rows(self) -> None:
        order = self.orders[self.view.name]
        if self.frame is None:
            self._table().show(self.view, [], order, self._starting)
            return
        rows, self._matching = arrange(self.view, self.frame.rows(self.view.name), order, self._needle)
        self._table().show(
            self.view, rows, order, "nothing matches the filter" if self._needle else self.frame.empty(self.view)
        )

    def _show_frame(self) -> None:
        """Header, tabs and footer."""
        width = self.size.width
        pause = Text("PAUSED  ", "reverse bold") if self.paused else Text()
        lines = []
        for parts in self.frame.header if self.frame else []:
            line = Text("  ").join(Text(text, _PARTS.get(level, "")) for text, level in fit(parts, width - len(pause)))
            lines.append(Text.assemble(pause, line))
            pause = Text()
        self._static("header").update(Text("\n").join(lines) if lines else Text(f"kmwatch: {self._starting}"))
        if self._time_line:
            self._time_line.refresh()
        self._static("tabs").update(self._tabs())
        self._static("footer").update(self._footer())

    def _tab_spans(self) -> list[tuple[str, int, int]]:
        """Where each tab stands: name, first character, and the one after its last."""
        spans, left = [], 0
        for name, text, _ in self._tab_texts():
            spans.append((name, left, left + len(text)))
            left += len(text) + 1
        return spans

    def _tab_texts(self) -> list[tuple[str, str, str]]:
        """Each tab as name, text and style; where there is little room without blanks, or with one name only."""
        worst = self.frame.worst if self.frame else None
        badge = f" {worst.text}" if worst and worst.text else ""
        full = {name: f" {at} {name}{badge if name == 'findings' else ''} " for at, name in enumerate(VIEWS, 1)}
        dense = {name: text.strip() for name, text in full.items()}
        short = {name: text if name == self.view.name else text[0] for name, text in dense.items()}
        fitting = (
            texts for texts in (full, dense) if sum(map(len, texts.values())) + len(texts) - 1 <= self.size.width
        )
        texts = next(fitting, short)
        level = STYLES.get(worst.level, "") if worst else ""
        styles = {
            name: "reverse bold" if name == self.view.name else str(level) if name == "findings" else ""
            for name in VIEWS
        }
        return [(name, text, styles[name]) for name, text in texts.items()]

    def _tabs(self) -> Text:
        return Text(" ").join(Text(text, style) for _, text, style in self._tab_texts())

    def _footer(self) -> Text:
        shown = f"{self._matching} row{'s' if self._matching != 1 else ''}" if self.frame else ""
        if self._needle:
            shown = f"{shown} match “{self._needle}” (Esc: all)"
        text = Text.assemble((shown, "italic"))
        for key, word in (*_FOOTER[:6], *FOOTER, *_FOOTER[6:]) if self._time_line else _FOOTER:
            if len(text) + len(key) + len(word) + 3 <= self.size.width:
                text.append("  " if len(text) else "").append(key, "bold").append(f" {word}")
        return text

    @property
    def _main(self) -> Screen[object]:
        """The screen below any page of text."""
        return self.screen_stack[0]

    def _static(self, name: str) -> Static:
        return self._main.query_one(f"#{name}", Static)

    def _input(self) -> Input:
        return self._main.query_one(Input)

    def _table(self) -> RowTable:
        return self._main.query_one(RowTable)
