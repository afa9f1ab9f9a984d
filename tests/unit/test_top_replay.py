"""The live screen over a capture: the time line, and its keys, with a clock that only a test moves."""

import re
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, Static

from kmwatch.sources.replay import ReplaySource
from kmwatch.views.top.app import TopApp
from kmwatch.views.top.catalog import VIEWS
from kmwatch.views.top.feed import Feed
from kmwatch.views.top.frame import help_page
from kmwatch.views.top.overlay import Overlay
from kmwatch.views.top.playback import Playable, TimeLine, clock_at, line_parts, speed_text
from kmwatch.views.top.table import RowTable
from tests.unit.captures import START, small_capture
from tests.unit.replays import PATIENCE, Held, ManualClock, long_capture
from tests.unit.top_data import FakeSource


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One kmalloc in each of 20 seconds."""
    return long_capture(tmp_path_factory.mktemp("captures") / "long.kmw")


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Clocks show the same everywhere."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


class Screen:
    """The running app over a capture, with what a person would see."""

    def __init__(
        self, app: TopApp, pilot: Pilot[None], capture: Held, source: ReplaySource, clock: ManualClock
    ) -> None:
        self.app, self.pilot, self.capture, self.source, self.clock = app, pilot, capture, source, clock

    async def until(self, condition: Callable[[], object]) -> None:
        """Let the app work until the condition holds."""
        for _ in range(int(PATIENCE / 0.01)):
            await self.pilot.pause(0.01)
            if condition():
                return
        pytest.fail("the app never got there")

    async def settled(self) -> None:
        """Wait until the source waits, and the screen shows what it gave."""
        await self.until(lambda: self.clock.waits and abs(self.shown() - self.source.position) < 1e-6)

    async def tick(self, seconds: float) -> None:
        """Let time pass, and what follows from that happen."""
        self.clock.tick(seconds)
        await self.settled()

    async def press(self, *keys: str) -> None:
        """Press keys, and let what follows happen."""
        await self.pilot.press(*keys)
        await self.settled()

    def shown(self) -> float:
        """The seconds that the numbers on the screen are of."""
        return self.app.frame.total.seconds if self.app.frame else -1.0

    def line(self) -> str:
        """The time line."""
        return self.app._main.query_one(TimeLine).render().plain

    def words(self) -> list[str]:
        """Its position, length, speed and state."""
        words = re.sub(r" s\b|[━─●]", "", self.line()).split()
        return [*words[:3], " ".join(words[3:-2])]

    def text(self, name: str) -> str:
        """The text of a part of the screen."""
        return str(self.app._main.query_one(f"#{name}", Static).render())

    def count(self) -> int:
        """All events of the frame on the screen."""
        return self.app.frame.total.events() if self.app.frame else -1


@asynccontextmanager
async def running(path: Path, size: tuple[int, int] = (100, 24)) -> AsyncIterator[Screen]:
    """The app over a capture."""
    clock, capture = ManualClock(), Held(path, stacks=True)
    source = ReplaySource(capture, 1.0, 1.0, clock)
    feed = Feed(source)
    app = TopApp(feed)
    try:
        async with app.run_test(size=size) as pilot:
            yield Screen(app, pilot, capture, source, clock)
    finally:
        feed.close()
    assert feed.error is None


@pytest.fixture
async def screen(recorded: Path) -> AsyncIterator[Screen]:
    """At the beginning, on 100x24."""
    async with running(recorded) as screen:
        await screen.settled()
        yield screen


async def test_it_plays_from_the_beginning(screen: Screen) -> None:
    assert screen.line() == (
        "0.0 s ●───────────────────────────────────────────────── 20 s    1x  playing     2023-11-14 22:13:20"
    )
    assert "the first 0.0 s of a capture" in screen.text("header")
    await screen.tick(1.0)
    await screen.tick(1.0)
    assert screen.line() == (
        "2.0 s ━━━━━●──────────────────────────────────────────── 20 s    1x  playing     2023-11-14 22:13:22"
    )
    assert "the first 2.0 s of a capture" in screen.text("header")
    assert (
        screen.text("header").splitlines()[1].startswith("1.0 ev/s          ██  64/s            ██  waste 6%    fail")
    )
    assert screen.count() == 2


async def test_space_holds_time(screen: Screen) -> None:
    await screen.press("space")
    assert screen.words() == ["0.0", "20", "1x", "paused"]
    await screen.tick(60.0)
    assert screen.words() == ["0.0", "20", "1x", "paused"]
    await screen.press("space")
    await screen.tick(1.0)
    assert screen.words() == ["1.0", "20", "1x", "playing"]


@pytest.mark.parametrize(
    ("keys", "position", "state"),
    [
        (["right"], 5, "paused"),
        (["right", "right", "right", "left"], 10, "paused"),
        (["left"], 0, "paused"),
        (["end"], 20, "at the end"),
        (["end", "right"], 20, "at the end"),
        (["end", "left"], 15, "paused"),
        (["end", "home"], 0, "paused"),
    ],
)
async def test_keys_seek(screen: Screen, keys: list[str], position: int, state: str) -> None:
    """Also while it is paused, and keys that come fast add up."""
    await screen.press("space")
    await screen.press(*keys)

    assert screen.words()[::3] == [f"{position:.1f}" if position < 10 else f"{position}", state]
    assert (screen.count(), screen.shown()) == (position, position)
    assert screen.text("header").splitlines()[1].startswith("1.0 ev/s" if position else "0 ev/s")


@pytest.mark.parametrize(("x", "position"), [(0, 0.0), (49, 20.0), (25, 500 / 49), (50, 0.0), (-1, 0.0)])
async def test_a_click_on_the_bar_seeks(screen: Screen, x: int, position: float) -> None:
    """Its first character is the beginning, its last the end; beside it there is nothing."""
    await screen.pilot.click(TimeLine, offset=(6 + x, 0))
    await screen.settled()

    assert screen.source.position == pytest.approx(position)
    assert screen.count() == round(position)


async def test_the_end_is_not_the_end_of_the_screen(screen: Screen) -> None:
    await screen.press("end")
    await screen.tick(10.0)
    assert screen.words() == ["20", "20", "1x", "at the end"]
    await screen.press("left")
    assert screen.words() == ["15", "20", "1x", "playing"]
    await screen.tick(1.0)
    assert screen.count() == 16


async def test_while_it_seeks_it_says_so(screen: Screen) -> None:
    """The numbers stay those of before until all of the new ones are there: here the last second is awaited."""
    folds: list[None] = []
    reached, go = threading.Event(), threading.Event()

    def hook() -> None:
        folds.append(None)
        if len(folds) == 2:
            reached.set()
            assert go.wait(PATIENCE)

    screen.capture.hook = hook  # type: ignore[method-assign]
    await screen.pilot.press("end")
    await screen.until(reached.is_set)
    try:
        assert screen.words() == ["20", "20", "1x", "seeking"]
        assert screen.count() == 0
    finally:
        go.set()
    await screen.settled()
    assert screen.words() == ["20", "20", "1x", "at the end"]
    assert screen.count() == 20


async def test_speed(screen: Screen) -> None:
    await screen.press("plus", "plus", "plus", "minus")
    assert screen.words()[2] == "4x"
    await screen.tick(0.25)
    assert screen.count() == 1
    await screen.press("minus", "minus", "minus")
    assert screen.words()[2] == "1/2x"
    await screen.tick(1.9)
    assert screen.count() == 1
    await screen.tick(0.1)
    assert screen.count() == 2


async def test_a_filter_and_a_page_keep_their_keys(screen: Screen) -> None:
    await screen.press("slash", "f", "minus", "plus", "home", "x", "end", "left", "y")
    assert screen.app.query_one(Input).value == "xf-y+"
    await screen.press("escape", "question_mark", "end", "right")
    assert isinstance(screen.app.screen, Overlay)
    assert screen.words() == ["0.0", "20", "1x", "playing"]


async def test_rows_are_chosen_and_views_opened_as_ever(screen: Screen) -> None:
    await screen.press("right", "2", "ctrl+end")

    table = screen.app.query_one(RowTable)
    assert table.render_line(1).text.split()[:2] == ["kmalloc", "64"]
    assert screen.words()[0] == "5.0"


async def test_the_findings_are_those_of_the_new_place(tmp_path: Path) -> None:
    """What may not sleep sleeps at 1.0 s, and a request fails at 1.5 s."""
    async with running(small_capture(tmp_path / "small.kmw")) as screen:
        await screen.settled()
        await screen.press("space")
        for place, findings in ((3.0, "2"), (0.0, ""), (2.25, "2"), (1.25, "1"), (3.0, "2"), (0.75, ""), (2.0, "2")):
            screen.source.seek(place)
            await screen.settled()
            assert screen.app.frame
            assert (place, screen.app.frame.worst.text) == (place, findings)


@pytest.mark.parametrize("width", [160, 80, 60, 50, 40])
async def test_the_line_fits(recorded: Path, width: int) -> None:
    async with running(recorded, (width, 12)) as screen:
        await screen.settled()
        assert len(screen.line()) == width
        assert "playing" in screen.line()
        assert len(screen.text("footer")) <= width
        await screen.pilot.resize_terminal(20, 5)
        await screen.pilot.pause()
        assert not screen.app._main.query_one(TimeLine).display


@dataclass
class Fixed:
    """A source that stands somewhere."""

    position: float
    end: float
    begin: float = 0.0
    speed: float = 1.0
    paused: bool = False
    seeking: bool = False
    at_end: bool = False

    @property
    def length(self) -> float:
        """From begin to end."""
        return self.end - self.begin

    def stay(self) -> None:
        """As any."""

    pause = resume = faster = slower = stay

    def seek(self, seconds: float) -> None:
        """As any."""


def test_narrow_terminals_drop_parts_in_order() -> None:
    source = Fixed(65.0, 600.0, speed=64.0, at_end=True)
    assert isinstance(source, Playable)

    assert [(width, *line_parts(source, START, width)[1:]) for width in (100, 80, 64, 56, 50, 40)] == [
        (100, 37, " 10 min 00 s   64x  at the end  2023-11-14 22:14:25"),
        (80, 17, " 10 min 00 s   64x  at the end  2023-11-14 22:14:25"),
        (64, 12, " 10 min 00 s   64x  at the end  22:14:25"),
        (56, 14, " 10 min 00 s   64x  at the end"),
        (50, 21, "  64x  at the end"),
        (40, 17, " at the end"),
    ]


def test_the_clock_is_left_out_where_it_is_not_known() -> None:
    assert line_parts(Fixed(1.0, 9.0), 0.0, 100)[2] == " 9.0 s    1x  playing   "
    assert clock_at(1e300, 0.0) == clock_at(float("nan"), 0.0) == ("", "")


@pytest.mark.parametrize(
    ("speed", "text"), [(1, "1x"), (64, "64x"), (1 / 8, "1/8x"), (0.3, "0.3x"), (1.5, "1.5x"), (float("inf"), "max")]
)
def test_speeds_as_text(speed: float, text: str) -> None:
    assert speed_text(speed) == text


def test_keys_are_explained_only_where_they_do_something() -> None:
    live, replayed = (dict(help_page(VIEWS["sites"], replayed=each).lines) for each in (False, True))

    assert {"← →", "Home End", "- +"} <= replayed.keys()
    assert not {"← →", "Home End", "- +"} & live.keys()
    assert (live["Space"], replayed["Space"]) == (
        "pause: the screen stands still, the counting goes on",
        "pause: time stands still, and goes on",
    )
    assert (live["q"], replayed["q"]) == ("quit: all programs are detached", "quit")


async def test_the_footer_tells_of_the_keys_of_a_replay(screen: Screen) -> None:
    assert "Space pause  ← → seek  - + speed" in screen.text("footer")


async def test_a_live_source_has_no_time_line() -> None:
    """And the arrow keys, Home and End are the table's."""
    source = FakeSource()
    feed = Feed(source)
    app = TopApp(feed)
    try:
        async with app.run_test(size=(80, 24)) as pilot:
            source.more()
            while app.frame is None:
                await pilot.pause(0.01)
            await pilot.press("left", "right", "minus", "plus", "end", "enter")
            assert not app._main.query(TimeLine)
            assert isinstance(app.screen, Overlay)
            assert app.screen.page.title == "sites: probe+0x9"
            assert dict(app.screen.page.lines)["gfp"] == "GFP_ATOMIC"
    finally:
        feed.close()
