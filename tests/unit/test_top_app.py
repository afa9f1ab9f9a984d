"""The live screen driven by keys, with a source that gives a batch when it is told to."""

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, Static

from kmwatch.errors import NotPossibleError, UsageError
from kmwatch.views import top
from kmwatch.views.top.app import TopApp
from kmwatch.views.top.feed import Feed
from kmwatch.views.top.overlay import Overlay
from kmwatch.views.top.table import RowTable
from tests.support import wait_until
from tests.unit.top_data import FakeSource

PATIENCE = 10.0  # seconds


class Screen:
    """The running app, with what a person would see."""

    def __init__(self, app: TopApp, pilot: Pilot[None], source: FakeSource, feed: Feed) -> None:
        self.app, self.pilot, self.source, self.feed = app, pilot, source, feed

    async def batch(self) -> None:
        """Let one batch go and wait until it has arrived."""
        before = self.app._latest
        self.source.more()
        await self.until(lambda: self.app._latest is not before)

    async def until(self, condition: object) -> None:
        """Let the app work until the condition holds."""
        assert callable(condition)
        for _ in range(int(PATIENCE / 0.01)):
            await self.pilot.pause(0.01)
            if condition():
                return
        pytest.fail("the app never got there")

    async def press(self, *keys: str) -> None:
        """Press keys and let the app work."""
        await self.pilot.press(*keys)
        await self.pilot.pause()

    def text(self, name: str) -> str:
        """The text of a part of the screen."""
        return str(self.app._main.query_one(f"#{name}", Static).render())

    def table(self) -> list[str]:
        """The lines of the table, without trailing blanks."""
        table = self.app._main.query_one(RowTable)
        return [table.render_line(y).text.rstrip() for y in range(table.size.height)]

    def column(self) -> list[str]:
        """The first word of each row."""
        return [line.split()[0] for line in self.table()[1:] if line]


@asynccontextmanager
async def running(source: FakeSource, size: tuple[int, int] = (80, 24), view: str = "sites") -> AsyncIterator[Screen]:
    """The app on a screen of that size; the source is closed afterwards, as run() does."""
    feed = Feed(source, wanted=view)
    app = TopApp(feed)
    try:
        async with app.run_test(size=size) as pilot:
            yield Screen(app, pilot, source, feed)
    finally:
        feed.close()


@pytest.fixture
async def screen() -> AsyncIterator[Screen]:
    """After one batch, on 80x24."""
    async with running(FakeSource()) as screen:
        await screen.batch()
        yield screen


async def test_the_first_frame_says_what_it_waits_for() -> None:
    async with running(FakeSource()) as screen:
        await screen.until(screen.source.entered.is_set)
        assert screen.text("header") == "kmwatch: compiling and attaching…"
        assert screen.table()[2] == "  compiling and attaching…"


async def test_sites_at_80_by_24(screen: Screen) -> None:
    assert screen.text("header").splitlines()[1] == (
        "10 ev/s            █  2.7K/s           █  waste 1%    fail 2+0        █"
    )
    assert screen.text("tabs") == "1 sites 2 caches 3 gfp 4 zones 5 context 6 failures 7 findings 3 8 outstanding"
    assert screen.table()[:3] == [
        "site                      kind          context       count/s ▼bytes/s  waste/s",
        "probe+0x9                 page_alloc    process           0.5     2.0K",
        "[red]�[2J+0x0             cache_alloc   softirq           2.0      384        4",
    ]
    assert screen.text("footer") == ("4 rows  ? help  Enter more  q quit  s sort  / filter  Space pause  r reverse")


@pytest.mark.parametrize(
    ("key", "first"),
    [
        ("1", "probe+0x9"),
        ("2", "dentry"),
        ("3", "GFP_KERNEL"),
        ("4", "Normal"),
        ("5", "process"),
        ("6", "probe+0x9"),
        ("7", "error"),
        ("8", "load_msg+0x41"),
        ("o", "load_msg+0x41"),
    ],
)
async def test_each_view_has_its_key(screen: Screen, key: str, first: str) -> None:
    await screen.press(key)

    assert screen.column()[0] == first


async def test_tab_goes_through_the_views_and_round(screen: Screen) -> None:
    await screen.press("tab")
    assert screen.app.view.name == "caches"
    await screen.press("shift+tab", "shift+tab")
    assert screen.app.view.name == "outstanding"


async def test_a_click_on_a_tab_opens_it(screen: Screen) -> None:
    await screen.pilot.click("#tabs", offset=(12, 0))
    await screen.pilot.pause()

    assert screen.app.view.name == "caches"


async def test_sorting_by_key(screen: Screen) -> None:
    """From bytes/s on to waste/s, round to the site, and reversed; back with <."""
    assert screen.column() == ["probe+0x9", "[red]�[2J+0x0", "load_msg+0x41", "probe+0x9"]
    await screen.press("s")
    assert screen.column()[0] == "load_msg+0x41"
    await screen.press("s")
    assert screen.column()[0] == "[red]�[2J+0x0"
    await screen.press("r")
    assert screen.column()[0] == "probe+0x9"
    await screen.press("less_than_sign")
    assert screen.column()[0] == "load_msg+0x41"


async def test_sorting_by_a_click_on_a_heading(screen: Screen) -> None:
    await screen.pilot.click(RowTable, offset=(2, 0))
    await screen.pilot.pause()
    assert screen.column()[0] == "[red]�[2J+0x0"
    await screen.pilot.click(RowTable, offset=(2, 0))
    await screen.pilot.pause()
    assert screen.column()[0] == "probe+0x9"


async def test_filter_while_typing(screen: Screen) -> None:
    """Keys go into the filter while it is open; Enter keeps it, Esc clears it."""
    await screen.press("slash", *"LOAD|zzz")
    assert screen.column() == ["load_msg+0x41"]
    await screen.press("enter")
    assert screen.text("footer").startswith("1 row match “LOAD|zzz” (Esc: all)")
    await screen.press("escape")
    assert len(screen.column()) == 4


async def test_a_bad_expression_is_taken_literally(screen: Screen) -> None:
    await screen.press("slash", "left_square_bracket", "r")

    assert screen.app.query_one(Input).value == "[r"
    assert screen.column() == ["[red]�[2J+0x0"]


async def test_pause_holds_the_screen_and_not_the_counting(screen: Screen) -> None:
    await screen.press("space")
    before = screen.table()
    await screen.batch()
    await screen.press("2", "1")
    assert screen.text("header").startswith("PAUSED  kmwatch  box")
    assert screen.table() == before
    assert "watching for 2.0 s" in screen.text("header")
    await screen.press("space")
    assert "watching for 4.0 s" in screen.text("header")


async def test_help_and_back(screen: Screen) -> None:
    await screen.press("question_mark")
    assert isinstance(screen.app.screen, Overlay)
    assert screen.app.screen.page.title == "help"
    await screen.press("escape")
    assert not isinstance(screen.app.screen, Overlay)


async def test_enter_tells_what_to_do_about_a_finding(screen: Screen) -> None:
    await screen.press("7", "down", "enter")

    assert isinstance(screen.app.screen, Overlay)
    lines = dict(screen.app.screen.page.lines)
    assert lines["rule"] == "KM202"
    assert lines["advice"].startswith("allocate ahead in process context")
    assert lines["about"].startswith("An allocation that cannot wait has failed.")


async def test_the_chosen_row_stays_chosen_when_it_moves(screen: Screen) -> None:
    await screen.press("down", "down", "r")
    await screen.press("enter")

    assert isinstance(screen.app.screen, Overlay)
    assert screen.app.screen.page.title == "sites: load_msg+0x41"


@pytest.mark.parametrize("size", [(100, 40), (40, 10), (160, 50)])
async def test_other_sizes(size: tuple[int, int]) -> None:
    """Every view, and nothing wider than the screen."""
    async with running(FakeSource(), size) as screen:
        await screen.batch()
        for key in "12345678":
            await screen.press(key)
            assert screen.column()
            assert max(map(len, screen.table())) < size[0]
            assert len(screen.text("tabs")) <= size[0]
            assert max(map(len, screen.text("header").splitlines())) <= size[0]
            assert len(screen.text("footer")) <= size[0]


async def test_a_terminal_that_shrinks_says_so(screen: Screen) -> None:
    await screen.pilot.resize_terminal(20, 5)
    await screen.pilot.pause()
    assert screen.app.query_one("#small").display
    assert screen.text("small") == "20x5: kmwatch top needs 40x10"
    await screen.pilot.resize_terminal(80, 24)
    await screen.pilot.pause()
    assert not screen.app.query_one("#small").display
    assert screen.column()


@pytest.mark.parametrize("key", ["q", "ctrl+c", "ctrl+q"])
async def test_quitting_closes_the_source(screen: Screen, key: str) -> None:
    await screen.press("slash" if key != "q" else "1", key)
    await screen.until(lambda: not screen.app.is_running)
    screen.feed.close()

    assert screen.source.left.is_set()
    assert screen.feed.error is None


@pytest.mark.parametrize("opens", [True, False])
async def test_an_error_of_the_source_ends_the_app(opens: bool) -> None:
    """Where it does not open, and where it fails later."""
    source = FakeSource(NotPossibleError("the kernel says no"), opens=opens)
    async with running(source) as screen:
        source.more()
        await screen.until(lambda: not screen.app.is_running)

    assert screen.feed.error is source.error
    assert source.left.is_set() is opens


async def test_a_signal_before_the_screen_is_up_is_not_lost() -> None:
    """Nothing is opened then."""
    source = FakeSource()
    feed = Feed(source)
    app = TopApp(feed)
    app.leave()
    async with app.run_test() as pilot:
        await pilot.pause()
    feed.close()

    assert not source.entered.is_set()


def test_a_feed_that_nobody_listens_to_still_closes() -> None:
    source = FakeSource()
    heard: list[object] = []
    feed = Feed(source)
    feed.start(heard.append)
    feed.mute()
    source.more()
    feed.close()

    assert heard == []
    assert source.left.is_set()


def test_the_source_is_read_in_one_thread_of_its_own() -> None:
    """Whoever opens it closes it: BCC wants that."""
    threads: list[int] = []
    source = FakeSource()
    feed = Feed(source, lambda: threads.append(threading.get_ident()))
    feed.start(lambda _: threads.append(threading.get_ident()))
    source.more()
    wait_until(lambda: len(threads) == 2, PATIENCE, "the first frame")
    feed.close()

    assert len(set(threads)) == 1
    assert threads[0] != threading.get_ident()


class Stream:
    """A standard stream that is a terminal, or is not."""

    closed = False

    def __init__(self, *, terminal: bool) -> None:
        self._terminal = terminal

    def isatty(self) -> bool:
        """As made."""
        return self._terminal


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """A terminal of 80x24, which a test may spoil."""
    for name in ("__stdin__", "__stdout__", "__stderr__"):
        monkeypatch.setattr(f"sys.{name}", Stream(terminal=True))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("os.get_terminal_size", lambda _: (80, 24))
    return monkeypatch


def test_a_terminal_will_do(terminal: pytest.MonkeyPatch) -> None:
    top.refuse_terminal()
    terminal.setattr("os.get_terminal_size", lambda _: (40, 10))
    top.refuse_terminal()


@pytest.mark.parametrize("name", ["__stdin__", "__stdout__", "__stderr__"])
def test_no_terminal_is_refused(terminal: pytest.MonkeyPatch, name: str) -> None:
    terminal.setattr(f"sys.{name}", Stream(terminal=False))

    with pytest.raises(UsageError, match="--once"):
        top.run(FakeSource())


@pytest.mark.parametrize("size", [(20, 5), (39, 10), (40, 9)])
def test_a_small_terminal_is_refused(terminal: pytest.MonkeyPatch, size: tuple[int, int]) -> None:
    terminal.setattr("os.get_terminal_size", lambda _: size)

    with pytest.raises(
        UsageError, match=f"the terminal is {size[0]}x{size[1]}; kmwatch top needs at least 40x10: enlarge"
    ):
        top.run(FakeSource())


def test_a_dumb_terminal_is_refused(terminal: pytest.MonkeyPatch) -> None:
    terminal.setenv("TERM", "dumb")

    with pytest.raises(UsageError, match="TERM is dumb"):
        top.run(FakeSource())
