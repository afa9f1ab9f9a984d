"""What an event costs, from what the kernel measured; without a kernel."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from kmwatch.schema import KINDS, Kind, Way
from kmwatch.sources import meter
from kmwatch.sources.bpf import Attachment
from kmwatch.sources.meter import LEFT_OUT_SHARE, Load, Meter
from kmwatch.sources.probes import PROBES


class Programs:
    """Programs that ran: by name, nanoseconds and runs."""

    def __init__(self) -> None:
        self.ran: dict[str, tuple[int, int]] = {"kmalloc": (0, 0), "kmalloc_again": (0, 0), "kfree": (0, 0)}
        probes = {each.event: each for each in PROBES}
        self.attachments = (
            Attachment(probes["kmalloc"], Way.RAW),
            Attachment(probes["kmalloc"], Way.AGAIN),
            Attachment(probes["kfree"], Way.RAW),
        )

    def costs(self) -> dict[str, tuple[int, int]]:
        """What they took."""
        return dict(self.ran)


@pytest.fixture
def statistics(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Whether the kernel's statistics are on: what happened to them."""
    happened: list[str] = []

    @contextmanager
    def on() -> Iterator[bool]:
        happened.append("on")
        yield True
        happened.append("off")

    monkeypatch.setattr(meter, "run_time_statistics", on)
    return happened


def metered(programs: Any, patience: float = 0.0) -> Meter:
    return Meter(programs, patience)


def test_a_second_copy_is_no_event_of_its_own(statistics: list[str]) -> None:
    programs = Programs()
    one = metered(programs)
    programs.ran = {"kmalloc": (300, 10), "kmalloc_again": (100, 10), "kfree": (200, 10)}

    assert one.look() == pytest.approx(600e-9)
    assert one.seconds(1_000_000) == pytest.approx(0.030)  # 600 ns for 20 events
    assert statistics == ["on", "off"]
    assert one.look() is None


def test_what_ran_before_is_not_its_business(statistics: list[str]) -> None:
    programs = Programs()
    programs.ran["kfree"] = (1_000_000, 1)
    one = metered(programs)
    programs.ran["kfree"] = (1_000_100, 2)

    assert one.look() == pytest.approx(100e-9)
    assert one.seconds(1) == pytest.approx(100e-9)
    assert statistics == ["on", "off"]


def test_nothing_run_is_nothing_known(statistics: list[str]) -> None:
    one = metered(Programs())

    assert one.look() is None
    assert one.is_measuring
    assert statistics == ["on"]


def test_each_kind_has_its_own_price_as_soon_as_it_ran_often(statistics: list[str]) -> None:
    programs = Programs()
    one = metered(programs)
    programs.ran = {"kmalloc": (200_000, 2000), "kmalloc_again": (60_000, 2000), "kfree": (50_000, 1000)}
    one.look()
    each, again = one.seconds_by_kind(), one.seconds_again()

    assert each[Kind.KMALLOC] == pytest.approx(100e-9)
    assert each[Kind.KFREE] == pytest.approx(50e-9)
    assert again[Kind.KMALLOC] == pytest.approx(30e-9)
    assert again[Kind.KFREE] == 0
    assert each[Kind.PAGE_ALLOC] == pytest.approx(310_000 / 3000 * 1e-9)  # did not run: the mean
    assert statistics == ["on", "off"]


def test_it_measures_as_long_as_that_is_needed_and_never_again(statistics: list[str]) -> None:
    programs = Programs()
    one = metered(programs)
    one.needed = True
    programs.ran["kfree"] = (50_000, 1000)
    one.look()
    assert one.is_measuring

    programs.ran["kfree"] = (150_000, 3000)
    assert one.look(usual=False) == pytest.approx(100e-6)
    assert one.seconds_by_kind()[Kind.KFREE] == pytest.approx(50e-9)  # an interval with events left out tells nothing

    one.needed = False
    one.look()
    assert not one.is_measuring
    one.needed = True
    assert one.look() is None
    assert statistics == ["on", "off"]


def test_a_load_is_charged_for_what_was_kept_and_left_out() -> None:
    kept, left_out, each = np.zeros(KINDS, np.int64), np.zeros(KINDS, np.int64), np.zeros(KINDS)
    kept[Kind.KMALLOC], left_out[Kind.KMALLOC], each[Kind.KMALLOC] = 100, 300, 1e-6
    again, share = np.zeros(KINDS), np.ones(KINDS)

    assert Load(1.0, kept, left_out, each, again).cost() == pytest.approx(100e-6 + 300e-6 * LEFT_OUT_SHARE)
    assert Load(1.0, kept, left_out, each, again).cost_if(share, again=True) == pytest.approx(400e-6)
    assert Load(1.0, kept, left_out, each, again, measured=0.5).cost() == 0.5
    assert Load(1.0, kept, left_out, each, again, measured=0.5).cost_if(share, again=True) == pytest.approx(400e-6)
    assert Load.nothing().cost() == 0

    again[Kind.KMALLOC] = 1e-7
    assert Load(1.0, kept, left_out, each, again).cost() == pytest.approx(100e-6 + 300e-6 * LEFT_OUT_SHARE + 400e-7)
    assert Load(1.0, kept, left_out, each, again).cost_if(share, again=True) == pytest.approx(440e-6)
    assert Load(1.0, kept, left_out, each, again).cost_if(share, again=False) == pytest.approx(400e-6)
