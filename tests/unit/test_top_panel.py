"""The panel with all about a row, driven by keys: live, and over a capture that is sought in."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from textual.containers import VerticalScroll

from kmwatch.batch import Batch
from kmwatch.schema import Kind
from kmwatch.views.top.app import TopApp
from kmwatch.views.top.overlay import Overlay, Panel
from tests.unit import test_top_replay as replayed
from tests.unit.captures import small_capture
from tests.unit.test_top_app import Screen, running
from tests.unit.top_data import FakeSource, with_stacks

HOSTILE = "[bold]\x1b[2J</script>\u202e" + "x" * 4000


class Stacked(FakeSource):
    """Each batch has stacks: a hostile one, and a deep one."""

    def __iter__(self) -> Iterator[Batch]:
        for batch in super().__iter__():
            deep = ("load_msg+0x41", *(f"caller_{at}+0x1" for at in range(40)))
            yield with_stacks(self.meta, batch, {deep: 1, ("load_msg+0x41", f"{HOSTILE}+0x1 [bad]"): 4})


@pytest.fixture
async def screen() -> AsyncIterator[Screen]:
    """After one batch, on 80x24, with the third row chosen: that of load_msg."""
    async with running(Stacked()) as screen:
        await screen.batch()
        await screen.press("down", "down")
        yield screen


def panel(app: TopApp) -> Panel:
    assert isinstance(app.screen, Panel)
    return app.screen


def lines(app: TopApp) -> list[str]:
    """What is on the screen, in the box of the panel."""
    box = app.screen.query_one(VerticalScroll).region
    strips = app.screen._compositor.render_strips()[box.y : box.bottom]
    return [strip.crop(box.x, box.right).text for strip in strips]


def subtitle(app: TopApp) -> str:
    return str(app.screen.query_one(VerticalScroll).border_subtitle)


async def test_enter_tells_sizes_and_stacks_and_flags(screen: Screen) -> None:
    await screen.press("enter")
    text = [line.strip("│ ▁").rstrip() for line in lines(screen.app)]
    at = text.index("sizes  eighths of the class; bars are bytes taken, ░ surely wasted")

    assert lines(screen.app)[0].startswith("╭─ sites: load_msg+0x41 ─")
    assert any(line.startswith("site     load_msg+0x41") for line in text)
    assert text[at + 1 : at + 3] == [
        "kmalloc 64  10 of 60 bytes; wasted 40 of 640, 6%",
        f"60         10        640  {'█' * 26}░░",
    ]
    assert [(stack.part, stack.events) for stack in panel(screen.app).about.stacks] == [("80%", "8"), ("20%", "2")]
    assert dict(panel(screen.app).about.flags)["__GFP_DIRECT_RECLAIM"]


async def test_names_are_text_and_nothing_else(screen: Screen) -> None:
    """No markup, no control characters, and no more of a name than a line."""
    await screen.press("enter")
    before, found = [line for line in lines(screen.app) if "load_msg" in line or "[bold]" in line][-3:-1]

    assert before.split() == ["│", "80%", "8", "load_msg", "│"]
    assert found.lstrip("│ ").startswith("[bold]�[2J</script>�xxx")
    assert found.rstrip("│ ▁▂▃▄▅▆▇█").endswith("x…")


async def test_a_long_one_scrolls_and_keeps_its_place(screen: Screen) -> None:
    """Also when the next refresh has come."""
    await screen.press("enter", "end")
    box = screen.app.screen.query_one(VerticalScroll)
    await screen.until(lambda: box.scroll_y > 0 and box.scroll_y == box.max_scroll_y)
    place = box.scroll_y
    await screen.batch()
    await screen.press("down")

    assert box.scroll_y == place
    assert any("reclaim" in line.lower() for line in lines(screen.app))


async def test_it_goes_on_with_what_is_on_the_screen(screen: Screen) -> None:
    await screen.press("enter")
    assert dict(panel(screen.app).page.lines)["count"] == "10"
    await screen.batch()
    assert dict(panel(screen.app).page.lines)["count"] == "20"
    assert panel(screen.app).about.sizes[0].told.startswith("20 of 60 bytes")
    assert subtitle(screen.app) == "Esc closes"


async def test_the_sizes_of_all(screen: Screen) -> None:
    await screen.press("z")
    assert panel(screen.app).page.title == "sizes that kmalloc was asked for"
    assert any("kmalloc 64  10 of 60 bytes" in line for line in lines(screen.app))
    await screen.press("escape")
    assert not isinstance(screen.app.screen, Overlay)


async def test_before_the_first_frame_there_is_nothing_to_open() -> None:
    async with running(Stacked()) as screen:
        await screen.press("z", "enter")
        assert not isinstance(screen.app.screen, Overlay)


@pytest.mark.parametrize("size", [(40, 10), (80, 24), (100, 30), (200, 60)])
async def test_it_fits_whatever_the_size(size: tuple[int, int]) -> None:
    """Also after the terminal has another one."""
    async with running(Stacked(), size) as screen:
        await screen.batch()
        for key in "12345678":
            await screen.press(key, "enter")
            assert panel(screen.app).page.title.startswith(screen.app.view.name)
            assert screen.app.screen.query_one(VerticalScroll).region.right <= size[0]
            await screen.press("escape")
        await screen.press("z")
        await screen.pilot.resize_terminal(60, 20)
        await screen.pilot.pause()
        assert max(map(len, lines(screen.app))) == 54
        assert any("kmalloc 64" in line for line in lines(screen.app))


async def test_what_is_sought_away_stays_as_it_was_last(tmp_path: Path) -> None:
    """The wifi driver's requests come at 1.5 s and 2.4 s; time goes back before the first, and on again."""
    async with replayed.running(small_capture(tmp_path / "small.kmw")) as screen:
        await screen.settled()
        await screen.press("space", "end")
        await screen.press("6", "enter")
        assert panel(screen.app).page.title == "failures: probe+0x9"
        before = panel(screen.app).about
        screen.source.seek(0.75)
        await screen.settled()
        assert subtitle(screen.app) == "not there any more, this was the last of it · Esc closes"
        assert panel(screen.app).about == before
        screen.source.seek(2.0)
        await screen.settled()
        assert subtitle(screen.app) == "Esc closes"


async def test_stacks_are_those_of_the_place_in_time(tmp_path: Path) -> None:
    """By 0.8 s there were 4 messages, by 3 s 7; sought forth and back each is counted once."""
    async with replayed.running(small_capture(tmp_path / "small.kmw")) as screen:
        await screen.settled()
        await screen.press("space")
        sites = screen.source.meta.sites
        for place, messages in ((0.8, 4), (3.0, 7), (1.25, 4), (2.5, 7), (0.0, 0)):
            screen.source.seek(place)
            await screen.settled()
            assert screen.app.frame
            stacked = screen.app.frame.total.stacked
            asked = stacked[stacked["kind"] == Kind.KMALLOC]
            of_messages = [sites[at].symbol == "load_msg" for at in asked["site"].tolist()]
            assert (place, asked["count"][of_messages].sum()) == (place, messages)
