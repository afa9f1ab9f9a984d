"""What changed between releases: only what moved clearly, on enough hosts, and from which release on."""

from collections.abc import Callable

import numpy as np
import pytest

from kmwatch.batch import Batch, Host, Meta, Rows
from kmwatch.fleet.releases import Move
from kmwatch.fleet.survey import Survey, Surveyed
from kmwatch.fleet.versions import version_key
from kmwatch.gate.places import Place
from kmwatch.ledger import Ledger
from kmwatch.thresholds import DEFAULTS
from tests.unit import rows
from tests.unit.fleets import SECONDS, fleet, scale, survey

PLANTED, SHARE = 7, 1 - 1500 / 2048  # f007 asks for 1500 bytes and takes 2048
OLD, NEW, LATER = "6.12.9", "6.12.30", "6.18.0-rc2"


def wastes_more(made: Rows, share: float, at: int = PLANTED) -> None:
    """Of what a function takes it wastes this share."""
    made["bytes_requested"][at] = made["bytes_allocated"][at] * (1 - share)


def by_kernel(release: Callable[[int], str], change: Callable[[int, Rows], None], hosts: int = 60) -> Surveyed:
    """A fleet of which some hosts have another release, and what differs on them."""

    def plant(number: int, made: Rows, _known: Meta) -> None:
        change(number, made)

    return survey(fleet(hosts, functions=20, plant=plant, kernel=release))


def thirds(number: int) -> str:
    return (OLD, NEW, LATER)[number % 3]


def from_new_on(number: int, made: Rows) -> None:
    """More of it is wasted since the second of the three releases."""
    if thirds(number) != OLD:
        wastes_more(made, 0.6)


def test_a_function_that_wastes_more_is_told_from_the_release_on_that_brought_it() -> None:
    (move,) = by_kernel(thirds, from_new_on).releases

    assert move == Move(
        Place("f007"), "kernel", "waste_share", OLD, NEW, 20, 20, move.old, move.new, move.change, move.errors
    )
    assert (move.old, move.new) == (pytest.approx(SHARE, abs=0.001), pytest.approx(0.6, abs=0.001))
    assert move.change == pytest.approx(0.6 / SHARE - 1, abs=0.01)
    assert move.errors > DEFAULTS.release_errors


def test_a_fall_is_told_as_well() -> None:
    def fewer(number: int, made: Rows) -> None:
        wastes_more(made, 0.6 if number % 2 else 0.2)

    (move,) = by_kernel(lambda number: (NEW, OLD)[number % 2], fewer).releases
    assert (move.before, move.after, move.change) == (OLD, NEW, pytest.approx(-2 / 3, abs=0.01))


def test_larger_allocations_are_told_and_more_of_them_are_not() -> None:
    def change(number: int, made: Rows) -> None:
        if number % 2:
            made["bytes_allocated"][PLANTED] *= 2
            made["bytes_requested"][PLANTED] *= 2
            scale(made, np.where(np.arange(len(made)) == 8, 30.0, 1.0))

    (move,) = by_kernel(lambda number: (OLD, NEW)[number % 2], change).releases
    assert (move.place, move.measure) == (Place("f007"), "bytes_per_allocation")
    assert (move.old, move.new, move.change) == (2048.0, 4096.0, 1.0)


def test_failures_that_a_release_brings_have_no_change_in_percent() -> None:
    made = Survey(DEFAULTS)
    for number, (name, ledger) in enumerate(fleet(20, functions=10, kernel=lambda number: (OLD, NEW)[number % 2])):
        count = int(ledger.rows["count"][PLANTED]) // 9 * (number % 2)
        failed = rows.rows_of(ledger.meta, rows.kmalloc("f007+0x7", 700, failed=1, count=count))
        whole = Ledger(ledger.meta)
        whole.add(Batch(np.concatenate([ledger.rows, failed]), 1000.0, SECONDS))
        made.add("boot", name, whole, [])

    (move,) = made.result().releases
    assert (move.measure, move.old, move.change) == ("failures_per_thousand", 0.0, None)
    assert move.new == pytest.approx(100, abs=1)


@pytest.mark.parametrize("share", [0.31, 0.4])
def test_a_change_that_is_small_or_within_the_spread_of_hosts_is_not_told(share: float) -> None:
    """The first is a seventh more; the second is half as much again, and hosts differ by a third among themselves."""
    random = np.random.default_rng(3)

    def change(number: int, made: Rows) -> None:
        noise = random.lognormal(0, 0.3) if share == 0.4 else 1.0
        wastes_more(made, min((share if number % 2 else SHARE) * noise, 0.95))

    assert by_kernel(lambda number: (OLD, NEW)[number % 2], change).releases == ()


def test_captures_that_are_shorter_on_one_release_are_no_change() -> None:
    """Of a few allocations, large ones among them, each host has a ratio of its own; and none of them may fail."""
    random = np.random.default_rng(5)
    made = Survey(DEFAULTS)
    for number in range(60):
        count = 5000 if number < 50 else 25
        large, failed = int(random.binomial(count, 0.1)), int(random.binomial(count, 0.01))
        known = rows.meta(host=Host("box", OLD if number < 50 else NEW, "boot", 4))
        given = (
            rows.kmalloc("f+0x1", 64, count=count - large),
            rows.kmalloc("f+0x1", 9000, count=large),
            rows.kmalloc("f+0x1", 64, failed=1, count=failed),
        )
        made.add("boot", f"host-{number}", rows.ledger(*given, known=known), [])

    assert made.result().releases == ()


@pytest.mark.parametrize(("rare", "told"), [(4, 0), (5, 1)])
def test_enough_hosts_must_have_both_releases(rare: int, told: int) -> None:
    def change(number: int, made: Rows) -> None:
        if number < rare:
            wastes_more(made, 0.6)

    assert len(by_kernel(lambda number: NEW if number < rare else OLD, change).releases) == told


def test_a_release_that_few_hosts_have_is_passed_over() -> None:
    """Before and after are the nearest releases of which something is known."""

    def release(number: int) -> str:
        return "6.12.10" if number < 3 else thirds(number)

    (move,) = by_kernel(release, from_new_on).releases
    assert (move.before, move.after) == (OLD, NEW)


def test_a_host_that_was_upgraded_counts_on_both_sides() -> None:
    made = Survey(DEFAULTS)
    for release, share in ((OLD, 0.3), (NEW, 0.6)):
        for name, ledger in fleet(6, functions=10, kernel=lambda _, release=release: release):  # type: ignore[misc]
            wastes_more(ledger.rows, share)
            ledger.__dict__.pop("facts", None)
            made.add(f"{name}/{release}", name, ledger, [])

    (move,) = made.result().releases
    assert (move.hosts_before, move.hosts_after) == (6, 6)
    assert made.result().captures.hosts == 6


def test_a_module_is_compared_by_its_own_versions() -> None:
    """Two kernels have both versions of the driver, in equal parts: it is not the kernel."""

    def plant(number: int, made: Rows, known: Meta) -> None:
        known.modules["drv"] = ("1.9", "1.10")[number % 2]
        known.modules["other"] = ("1", "2")[number % 2]
        if number % 2:
            wastes_more(made, 0.9, at=5)

    (move,) = survey(fleet(60, functions=20, plant=plant, kernel=lambda number: (OLD, NEW)[number // 2 % 2])).releases
    assert (move.place, move.subject, move.before, move.after) == (Place("f005", "drv"), "drv", "1.9", "1.10")
    assert (move.hosts_before, move.hosts_after) == (30, 30)


def test_releases_are_in_order_by_their_numbers() -> None:
    wanted = [
        "", "mainline", "5.10.0", "6.1", "6.1.9-1-amd64", "6.12-rc3", "6.12", "6.12.9", "6.12.30", "6.12.30-generic",
        "6.12.30-generic2", "6.18.0-rc2-next", "6.18.0", "6.18.0-1", "10.0",
    ]  # fmt: skip

    mixed = wanted[1::2] + wanted[::2]
    assert sorted(mixed, key=version_key) == wanted


@pytest.mark.parametrize("version", ["9" * 5000, "6." * 2000, "٣.٤", "²", "</script>", "\x00\n", "6.12.\u202e9"])
def test_any_text_is_a_release(version: str) -> None:
    assert sorted([version, "6.12"], key=version_key)
    made = Survey(DEFAULTS)
    for name, ledger in fleet(2, functions=5, kernel=lambda number: (version, OLD)[number]):
        ledger.meta.modules["drv"] = version
        made.add("boot", name, ledger, [])

    assert {each.release for each in made.result().kernels} == {version, OLD}
