"""Findings of the last minutes: they come, they go, and judging has its price."""

from collections.abc import Iterator

import pytest

from kmwatch.batch import Batch
from kmwatch.findings import RULES, Finding, Rule
from kmwatch.ledger import Ledger
from kmwatch.schema import Context
from kmwatch.serve.window import Window
from kmwatch.thresholds import DEFAULTS
from tests.unit import rows
from tests.unit.counted import series

KM201 = ("KM201", "sleeping-allocation-in-atomic-context", "error")
META = rows.meta()


def bad(seconds: float = 5.0) -> Batch:
    return rows.batch(META, rows.kmalloc("drv_irq+0x1", 64, context=Context.HARDIRQ), seconds=seconds)


def good(seconds: float = 5.0) -> Batch:
    return rows.batch(META, rows.kmalloc("f+0x1", 64), seconds=seconds)


def findings(window: Window) -> dict[tuple[str, ...], float]:
    return series({"findings": window.family()}, "findings")


@pytest.fixture
def window() -> Window:
    return Window(META, 50.0, clock=lambda: 0.0)


def test_every_rule_is_there_at_0(window: Window) -> None:
    assert findings(window) == {(each.code, each.name, each.severity): 0 for each in RULES.values()}


def test_a_finding_holds_for_the_window_and_ends_with_it(window: Window) -> None:
    assert window.add(bad())
    held = []
    for _ in range(12):
        held.append(findings(window)[KM201])
        window.add(good())
    assert held == [1] * 10 + [0] * 2


def test_it_is_judged_when_a_part_is_full(window: Window) -> None:
    assert [window.add(bad(2.0)) for _ in range(4)] == [False, False, True, False]
    assert window.ledger().seconds == 8.0


def test_the_window_is_as_long_as_it_says(window: Window) -> None:
    for _ in range(100):
        window.add(good())
    made = window.ledger()
    assert made.seconds == 50.0
    assert made.events() == 10


def test_judging_takes_a_hundredth_of_the_time_at_most() -> None:
    def clock() -> Iterator[float]:
        now = 0.0
        while True:  # each judgement takes a second
            yield now
            now += 1.0

    ticks = clock()
    window = Window(META, 50.0, clock=lambda: next(ticks))
    judged = [window.add(bad()) for _ in range(60)]
    assert [at for at, each in enumerate(judged) if each] == [0, 20, 40]


def test_another_source_begins_with_nothing_found(window: Window) -> None:
    window.add(bad())
    window.follow(rows.meta(), DEFAULTS)
    assert findings(window)[KM201] == 0
    assert not len(window.ledger().rows)


def test_a_rule_that_raises_is_said_once_and_the_others_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(_: Ledger) -> Iterator[Finding]:
        yield Finding("f+0x1", "found before it raised", "")
        raise ZeroDivisionError("by \x1b zero")

    monkeypatch.setitem(RULES, "KM101", Rule("KM101", "breaks", "notice", "0.2", check))
    notes: list[str] = []
    window = Window(META, 50.0, clock=lambda: 0.0, notes=notes)

    assert [window.add(bad()) for _ in range(3)] == [True] * 3
    assert (findings(window)["KM101", "breaks", "notice"], findings(window)[KM201]) == (0, 1)
    assert notes == ["rule KM101 breaks cannot judge and counts as 0 then: ZeroDivisionError: by \ufffd zero"]
