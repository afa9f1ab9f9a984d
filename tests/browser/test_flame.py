"""The flame graph: frames are as wide as their share, and searching, zooming and the keys do what they say."""

from collections import Counter

import pytest

from kmwatch.ledger import MEASURES
from kmwatch.profile import profile
from tests.browser.conftest import Open
from tests.browser.driving import Driven
from tests.browser.made import Made
from tests.support import wait_until

Path = tuple[str, ...]
_FRAMES = """async () => {
    await new Promise(requestAnimationFrame);
    return [...document.querySelectorAll('#flame-chart g.frame')].map(frame => {
        const box = frame.querySelector('rect').getBoundingClientRect();
        return [frame.getAttribute('name'), Math.round(box.top), box.left, box.width];
    });
}"""


def paths(what: Made, measure: str) -> dict[Path, int]:
    """What came by each path, outermost first, as Python has it."""
    known = profile(what.ledger)
    names = [f"{each.name} [{each.module}]" if each.module else each.name for each in known.frames]
    values = known.values()[:, MEASURES.index(measure)].tolist()
    sums: Counter[Path] = Counter()
    for path, value in zip(known.paths, values, strict=True):
        sums[tuple(names[at] for at in path)] += value
    return dict(sums)


def frames(page: Driven) -> list[tuple[str, int, float, float]]:
    """Name, top, left and width of each frame that is drawn, in pixels, once all stand still: they grow from 0."""
    seen: list[list[tuple[str, int, float, float]]] = [[]]

    def stand_still() -> bool:
        drawn = page.page.evaluate(_FRAMES)
        seen.append([(name, top, left, width) for name, top, left, width in drawn if width > 0])
        return seen[-1] != [] and seen[-1] == seen[-2]

    wait_until(stand_still, 20, "the frames to stand still")
    return seen[-1]


def row(page: Driven, depth: int) -> dict[str, float]:
    """The widths of the frames that are so deep, as shares of the whole; of one name together."""
    drawn = frames(page)
    tops = sorted({top for _, top, _, _ in drawn})
    whole = max(width for _, top, _, width in drawn if top == tops[0])
    shares: dict[str, float] = {}
    for name, top, _, width in drawn:
        if top == tops[depth]:
            shares[name] = shares.get(name, 0.0) + width / whole
    return shares


def becomes(page: Driven, widths: dict[str, float]) -> None:
    """Frames move for a moment."""
    wait_until(lambda: row(page, 1) == pytest.approx(widths, abs=0.002), 20, "the widths from before")


@pytest.mark.parametrize("measure", ["bytes_wasted", "bytes_allocated", "count"])
def test_frames_are_as_wide_as_their_share(opened: Open, sample: Made, measure: str) -> None:
    page = opened(sample)
    page.page.select_option("#flame-measure", measure)
    known = paths(sample, measure)
    total = sum(known.values())

    assert page.value("#flame-total") == str(total)
    for depth in range(1, 5):
        shares: Counter[str] = Counter()
        for path, value in known.items():
            if len(path) >= depth:
                shares[path[depth - 1]] += value
        drawn = row(page, depth)
        wide = {name for name, value in shares.items() if value / total > 0.01}
        assert wide <= drawn.keys() <= shares.keys()
        assert {name: round(drawn[name], 2) for name in wide} == {
            name: pytest.approx(shares[name] / total, abs=0.01) for name in wide
        }


def test_a_search_says_the_share_and_marks_the_frames(opened: Open, sample: Made) -> None:
    page = opened(sample)
    page.page.select_option("#flame-measure", "bytes_allocated")
    known = paths(sample, "bytes_allocated")
    word = "vfs_"
    matching = sum(value for path, value in known.items() if any(word in name for name in path))
    assert 0 < matching < sum(known.values())

    page.page.fill("#flame-search", word)
    assert page.value("#flame-matched") == str(matching)
    assert page.page.locator("#flame-matched").inner_text() == f"{matching / sum(known.values()):.1%} matched"
    fills = page.page.locator("#flame-chart g.frame").evaluate_all(
        "all => all.map(each => [each.getAttribute('name'), each.querySelector('rect').getAttribute('fill')])"
    )
    marked, others = ({fill for name, fill in fills if (word in name) == found} for found in (True, False))
    assert len(marked) == 1
    assert not marked & others
    page.picture("searched")

    page.page.fill("#flame-search", "")
    assert page.page.locator("#flame-matched").inner_text() == ""


def test_a_click_zooms_and_the_button_resets(opened: Open, sample: Made) -> None:
    page = opened(sample)
    page.page.select_option("#flame-measure", "count")
    before = row(page, 1)
    name = min((each for each in before if before[each] > 0.05), key=before.__getitem__)

    page.page.locator("#flame-chart g.frame").and_(page.page.locator(f'[name="{name}"]')).first.click()
    wait_until(lambda: row(page, 1)[name] == pytest.approx(1, abs=0.002), 20, "the frame to be as wide as all")
    page.page.click("#flame-reset")
    becomes(page, before)


def test_keys_go_from_frame_to_frame(opened: Open, sample: Made) -> None:
    page = opened(sample)
    page.page.select_option("#flame-measure", "count")
    before, names = row(page, 1), set(row(page, 1))
    page.page.focus("#flame-chart")
    said = []
    for key in ("ArrowDown", "ArrowDown", "ArrowDown"):
        page.page.keyboard.press(key)
        said.append(page.page.locator("#flame-details").inner_text())

    assert len(set(said)) == 3
    assert any(said[1].startswith(name) for name in names)
    page.page.keyboard.press("Enter")
    wait_until(lambda: row(page, 1) != pytest.approx(before, abs=0.002), 20, "it to zoom")
    page.page.keyboard.press("Escape")
    becomes(page, before)


def test_it_stands_on_its_head_as_a_flame_graph(opened: Open, sample: Made) -> None:
    page = opened(sample)

    def wide() -> dict[str, int]:
        return {name: top for name, top, _, width in frames(page) if width > 500}

    icicle = wide()
    page.page.select_option("#flame-layout", "flame")

    assert icicle["all"] == min(icicle.values())
    # Frames grow for a moment.
    wait_until(lambda: wide().keys() == icicle.keys(), 20, "the same frames to be drawn")
    flame = wide()
    assert flame["all"] == max(flame.values())


def test_what_failed_has_stacks_of_its_own(opened: Open, hostile_names: Made) -> None:
    page = opened(hostile_names)
    page.page.select_option("#flame-measure", "failures")

    assert page.value("#flame-total") == str(sum(paths(hostile_names, "failures").values()))
    assert int(page.value("#flame-total")) > 0
    assert {name for name, *_ in frames(page) if name.startswith("[")} >= {"[page_alloc]"}
