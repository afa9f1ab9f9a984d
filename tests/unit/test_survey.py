"""A fleet's survey: nothing ordinary is reported, and of what is planted exactly that; whatever order captures have."""

import random
from dataclasses import replace

import numpy as np
import pytest

from kmwatch.batch import Batch, Host, Meta, Rows, Trust
from kmwatch.findings import RULES, Finding, Found
from kmwatch.fleet import common, sums
from kmwatch.fleet import survey as surveying
from kmwatch.fleet.outliers import Outlier
from kmwatch.fleet.survey import Captures, Kernel, Skipped, Survey
from kmwatch.gate.places import Place
from kmwatch.ledger import Ledger
from kmwatch.rules import judge
from kmwatch.thresholds import DEFAULTS, Thresholds, table
from tests.unit import rows
from tests.unit.fleets import SECONDS, Plant, fleet, scale, survey

BUSY = 3  # the function that is planted: f003, of 200 bytes


def times(factor: float, *numbers: int) -> Plant:
    """On these hosts a function asks so many times as often."""

    def plant(number: int, made: Rows, _known: Meta) -> None:
        if number in numbers:
            factors = np.ones(len(made))
            factors[BUSY] = factor
            scale(made, factors)

    return plant


def failing(made: Rows, known: Meta, count: int, at: int = BUSY) -> Rows:
    """The rows, and so many failures at one of their functions."""
    name = known.sites[made["site"][at]].label
    return np.concatenate([made, rows.rows_of(known, rows.kmalloc(name, 200, failed=1, count=count))])


def fails_on(counts: dict[int, int], hosts: int = 40) -> list[Outlier]:
    """What is told where a function fails so often on these hosts, and on no other."""
    made = Survey(DEFAULTS)
    for number, (name, ledger) in enumerate(fleet(hosts)):
        whole = Ledger(ledger.meta)
        whole.add(Batch(failing(ledger.rows, ledger.meta, counts.get(number, 0)), 1000.0, SECONDS))
        made.add("boot", name, whole, [])
    return list(made.result().outliers)


def far(found: tuple[Outlier, ...] | list[Outlier]) -> set[tuple[str, str, str]]:
    return {(each.host, each.place.label, each.measure) for each in found}


def finding(code: str, site: str, saving: float = 0.0, message: str = "told", **more: str) -> Found:
    return Found(RULES[code], Finding(site, message, "do so", saving=saving, **more))  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(4))
def test_an_ordinary_fleet_has_neither_outliers_nor_changes(seed: int) -> None:
    releases = ("6.12.9", "6.12.30", "6.18.0")
    told = survey(fleet(300, seed=seed, kernel=lambda number: releases[number % 3]))

    assert (told.outliers, told.releases, told.first) == ((), (), ())
    assert told.captures.hosts == 300
    assert told.kernels == tuple(Kernel(release, 100) for release in releases)


def test_what_rules_find_on_an_ordinary_fleet_makes_no_host_different() -> None:
    told = survey(fleet(60, functions=20), judged=True)

    assert [each for each in told.findings if each.hosts < 60]  # some are at a rule's limit
    assert told.first == ()


@pytest.mark.parametrize("seed", range(3))
def test_what_is_planted_is_found_and_nothing_else(seed: int) -> None:
    told = survey(fleet(300, seed=seed, plant=times(60, 17)))

    of_one = {("host-017", "f003", f"{name}_per_second") for name in ("count", "bytes_allocated", "bytes_wasted")}
    assert far(told.outliers) - of_one == set()
    assert ("host-017", "f003", "count_per_second") in far(told.outliers)
    each = next(each for each in told.outliers if each.measure == "count_per_second")
    assert each.hosts == 300
    assert each.times == pytest.approx(each.value / each.median)
    assert each.times > 10
    assert each.spreads > DEFAULTS.outlier_spreads
    assert [one.host for one in told.first] == ["host-017"]


@pytest.mark.parametrize(("factor", "told"), [(3.9, 0), (4.1, 3)])
def test_where_hosts_are_all_the_same_four_times_the_median_are_far(factor: float, told: int) -> None:
    """Spreads of nothing would make any difference a large one."""
    (_, first), made = next(fleet(1)), Survey(DEFAULTS)
    for number in range(20):
        ledger, own = Ledger(first.meta), first.rows.copy()
        if number == 4:
            times(factor, 4)(4, own, first.meta)
        ledger.add(Batch(own, 1000.0, SECONDS))
        made.add("boot", f"host-{number}", ledger, [])

    assert [each.host for each in made.result().outliers] == ["host-4"] * told


def test_a_function_that_fails_on_few_hosts_makes_them_outliers() -> None:
    (one,) = fails_on({5: 600})

    assert one == Outlier("host-005", Place("f003"), "failures_per_second", 10.0, 0.0, None, one.spreads, 40)
    assert far(fails_on({5: 600, 9: 60})) == {(f"host-00{at}", "f003", "failures_per_second") for at in (5, 9)}


@pytest.mark.parametrize("counts", [{5: 9}, dict.fromkeys(range(9), 600), dict.fromkeys(range(40), 600)])
def test_a_few_failures_or_those_of_many_hosts_are_no_outliers(counts: dict[int, int]) -> None:
    assert fails_on(counts) == []


def test_what_more_than_a_tenth_of_the_hosts_do_is_no_outlier() -> None:
    few, many = (survey(fleet(100, plant=times(60, *range(count)))) for count in (3, 11))

    assert {each.host for each in few.outliers} == {"host-000", "host-001", "host-002"}
    assert many.outliers == ()


@pytest.mark.parametrize(("hosts", "told"), [(7, 0), (8, 3)])
def test_of_few_hosts_nothing_tells_what_is_usual(hosts: int, told: int) -> None:
    assert len(survey(fleet(hosts, plant=times(4000, 2))).outliers) == told


def test_waste_is_an_outlier_by_its_share() -> None:
    def plant(number: int, made: Rows, _known: Meta) -> None:
        if number == 7:
            made["bytes_requested"][5] = made["bytes_allocated"][5] // 20

    (one,) = survey(fleet(50, plant=plant)).outliers
    assert (one.host, one.place, one.measure) == ("host-007", Place("f005", "drv"), "waste_share")
    assert (one.value, one.median) == (pytest.approx(0.95, abs=0.01), pytest.approx(1 - 700 / 1024, abs=0.01))


def test_thresholds_of_nothing_tell_more_and_break_nothing() -> None:
    names = [each.name for each in table() if each.name.startswith(("outlier_", "release_", "rare_"))]
    made = Survey(Thresholds(**dict.fromkeys(names, 0.0)))
    for name, ledger in fleet(6, functions=5, kernel=lambda number: f"6.{number % 2}"):
        made.add("boot", name, ledger, [])

    told = made.result()
    assert len(names) == 13
    assert {each.host for each in told.outliers} == {f"host-{at:03}" for at in range(6)}


def test_what_is_too_little_to_matter_is_no_outlier() -> None:
    def plant(number: int, made: Rows, known: Meta) -> None:
        scale(made, np.full(len(made), 1e-4))
        times(100, 17)(number, made, known)

    assert survey(fleet(100, plant=plant)).outliers == ()


def test_a_moment_tells_no_rate_and_an_address_no_function() -> None:
    made = Survey(DEFAULTS)
    for number, (name, ledger) in enumerate(fleet(20, plant=times(60, 2))):
        ledger.seconds = 0.5 if number == 2 else ledger.seconds
        ledger.meta.sites[:] = [replace(each, symbol="unknown") if each.symbol == "f007" else each
                                for each in ledger.meta.sites]  # fmt: skip
        made.add("boot", name, ledger, [])

    assert made.result().outliers == ()
    assert "f007" not in {place.symbol for place in made._table.sums().places}


def test_neither_order_nor_parts_make_a_difference() -> None:
    """Captures come in any order, a host's own in several parts, and an engine has rows in an order of its own."""
    plain, mixed = Survey(DEFAULTS), Survey(DEFAULTS)
    captures = list(fleet(40, functions=20, plant=times(60, 17), kernel=lambda number: f"6.{number % 2}"))
    shuffle = random.Random(1)  # noqa: S311
    parts = [(name, part, ledger) for name, ledger in captures for part in (0, 1)]
    for name, part, ledger in parts:
        plain.add(f"{name}/{part}", name, _half(ledger, part), judge(ledger))
    plain.skip("a", "cut"), plain.skip("b", "cut")
    shuffle.shuffle(parts)
    for name, part, ledger in parts:
        half = _half(ledger, part)
        half.rows = half.rows[np.random.default_rng(part).permutation(len(half.rows))]
        half.__dict__.pop("facts", None)
        found = judge(ledger)
        shuffle.shuffle(found)
        mixed.add(f"{name}/{part}", name, half, found)
    mixed.skip("b", "cut"), mixed.skip("a", "cut")

    told = plain.result()
    assert told == mixed.result()
    assert (len(told.outliers), told.captures.count, told.captures.hosts) == (3, 80, 40)
    assert told.captures.seconds == pytest.approx(40 * SECONDS)


def _half(ledger: Ledger, part: int) -> Ledger:
    """The even rows of a ledger, or the odd ones, in a third or two thirds of its time."""
    made = Ledger(ledger.meta)
    made.add(Batch(ledger.rows[part::2], 1000.0, SECONDS * (1 + part) / 3))
    return made


def test_captures_are_counted_with_what_they_lost_and_those_that_were_no_use() -> None:
    made = Survey(DEFAULTS)
    for host, release in (("b", "6.12.9"), ("b", "6.12.30"), ("a", "6.12.30")):
        known = rows.meta(host=Host("box", release, "boot", 4))
        ledger = rows.ledger(
            rows.kmalloc("f+0x1", 64, count=5), known=known, seconds=2.5, trust=Trust(lost=2, map_full=1)
        )
        made.add(f"{host}/{release}", host, ledger, [])
    made.add("imported/one", "", rows.ledger(known=rows.meta(host=Host("box", "5.10", "boot", 4))), [])
    made.skip("c/boot", "no meta.json")

    told = made.result()
    assert told.captures == Captures(4, 3, 15, 9, 8.5)
    assert told.kernels == (Kernel("5.10", 1), Kernel("6.12.9", 1), Kernel("6.12.30", 2))
    assert told.skipped == (Skipped("c/boot", "no meta.json"),)


def test_nothing_at_all_is_surveyed_as_well() -> None:
    told = Survey(DEFAULTS).result()

    assert told.captures == Captures(0, 0, 0, 0, 0.0)
    assert (told.kernels, told.findings, told.outliers, told.releases, told.first) == ((), (), (), (), ())


def test_findings_are_told_by_rule_and_function_whatever_the_offset() -> None:
    made, empty = Survey(DEFAULTS), rows.ledger()
    here = [finding("KM101", "f.part.0+0x1 [drv]", 100.25), finding("KM101", "f+0x9 [drv]", 50.0, "less")]
    made.add("a/1", "a", empty, here)
    made.add("a/2", "a", empty, here[:1])
    made.add("b/1", "b", empty, [finding("KM101", "f+0x3 [drv]", 1.0, severity="error")])
    made.add("c/1", "c", empty, [finding("KM202", "g+0x3")])
    made.add("d/1", "d", empty, [])

    one, other = made.result().findings
    assert (one.rule, one.name, one.place) == ("KM101", "kmalloc-rounding-waste", Place("f", "drv"))
    assert (one.severity, one.hosts, one.share, one.first) == ("error", 2, 0.5, ("a", "b"))
    assert one.saving == pytest.approx(151.2)  # of a host with several captures the one that saves most
    assert (one.host, one.site, one.message, one.advice) == ("b", "f+0x3 [drv]", "told", "do so")
    assert (other.rule, other.hosts, other.share, other.first) == ("KM202", 1, 0.25, ("c",))


def test_what_is_kept_of_a_capture_has_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sums, "LARGEST", 3)
    monkeypatch.setattr(common, "MOST", 2)
    made = Survey(DEFAULTS)
    large = [rows.kmalloc(f"large{at}+0x1", 8192, count=9 - at) for at in range(6)]
    small = [rows.kmalloc(f"small{at}+0x1", 8, failed=1, count=at) for at in range(1, 6)]
    ledger = rows.ledger(*large, *small)
    made.add("boot", "a", ledger, [finding("KM101", f"f{at}+0x1", float(at)) for at in range(5)])

    kept = {place.symbol for place in made._table.sums().places}
    assert kept == {"large0", "large1", "large2", "small3", "small4", "small5"}
    assert [each.place.symbol for each in made.result().findings] == ["f4", "f3"]


def test_how_many_rows_are_compared_at_a_time_makes_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Survey(DEFAULTS)
    for name, ledger in fleet(40, functions=20, plant=times(60, 17), kernel=lambda number: f"6.{number % 2}"):
        if ledger.meta.host.kernel == "6.1":
            ledger.rows["bytes_requested"][5] //= 3
            ledger.__dict__.pop("facts", None)
        made.add("boot", name, ledger, [])
    at_once, hosts = made.result(), made._table.sums()
    assert len(list(hosts.blocks())) == 1

    monkeypatch.setattr(sums, "BLOCK", 100)
    blocks = list(hosts.blocks())
    assert [len(rows) for rows in blocks] == [80] * 10  # two functions of 40 hosts
    assert made.result() == at_once
    assert len(at_once.outliers) == 3
    assert [each.place.symbol for each in at_once.releases] == ["f005"]


def test_what_is_told_has_bounds_and_says_what_it_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surveying, "MOST", 2)
    made = Survey(DEFAULTS)
    for name, ledger in fleet(20, plant=times(4000, 2)):
        made.add("boot", name, ledger, [finding("KM101", f"f{at}+0x1", float(at)) for at in range(5)])

    told = made.result()
    assert (len(told.findings), len(told.outliers)) == (2, 2)
    assert told.more == {"findings": 3, "outliers": 1, "releases": 0}


def test_a_host_takes_about_as_much_as_is_said() -> None:
    (name, ledger), made = next(fleet(1, functions=1000)), Survey(DEFAULTS)
    made.add("boot", name, ledger, [])

    (kept,) = made._table._kept.values()
    assert (len(kept), kept.nbytes) == (1000, 40_000)
