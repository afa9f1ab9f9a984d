"""The golden captures, recorded in a guest: each rule finds what the module did, and nothing in what looks alike."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from kmwatch.findings import PAGE_ALLOCATOR, RULES, RUN, Finding
from kmwatch.ledger import ALLOCATIONS, Ledger
from kmwatch.rules import judge
from kmwatch.schema import Kind
from kmwatch.thresholds import Thresholds
from tests.guest.golden import CAPTURES, GOLDEN, LARGEST, Golden
from tests.live.watching import only
from tests.unit.folded import folded, one_database

TRUTH: dict[str, Any] = json.loads((GOLDEN / "truth.json").read_text())
# What of the evidence says how often it happened; the others have a plain count.
_TIMES = {
    **dict.fromkeys(("KM202", "KM204", "KM205", "KM209", "KM210", "KM305", "KM307", "KM405"), "failures"),
    **dict.fromkeys(("KM203", "KM407"), "opportunistic_failures"),
}
# KM406: no kernel of tests.guest.kernels has such a flag any more, see tests/unit/test_rules_gfp.py. KM6xx speak from
# what is held, looked at again and again: only live, see tests/unit/test_rules_growing.py and test_rules_lifetime.py.
_NO_CAPTURE = {"KM406", *(code for code in RULES if code.startswith("KM6"))}

# lab_fill_block() is how the module makes memory short, and not what it was asked to do.
_OURS = (
    *(f"lab_{op}" for op in ("kmalloc", "kvmalloc", "cache", "alloc_pages", "vmalloc")),
    RUN,
    PAGE_ALLOCATOR,
    "cache kmwatch_lab",
)

_SLOW = Thresholds(vmalloc_rate=300.0)  # an emulated processor does a third of what any other does

each_capture = pytest.mark.parametrize("golden", CAPTURES, ids=lambda golden: golden.name)


@pytest.fixture(scope="module", autouse=True)
def _database() -> Iterator[None]:
    with one_database():
        yield


@pytest.fixture(scope="module")
def ledgers() -> dict[str, Ledger]:
    """The captures' ledgers, by name, as far as a test has asked for them."""
    return {}


@pytest.fixture
def ledger(ledgers: dict[str, Ledger], golden: Golden) -> Ledger:
    """A capture, folded as a report does it."""
    if golden.name not in ledgers:
        ledgers[golden.name] = folded(GOLDEN / f"{golden.name}.kmw")[1]
    return ledgers[golden.name]


def findings(golden: Golden, ledger: Ledger) -> list[Finding]:
    """What the capture's rule finds at the module's functions, or about the capture itself."""
    ledger.thresholds = _SLOW
    found = [each.finding for each in judge(ledger) if each.rule.code == golden.rule]
    return [each for each in found if each.site.startswith(_OURS)]


def counted(ledger: Ledger, symbol: str) -> tuple[int, int]:
    """How many allocations of a function succeeded and failed."""
    groups = [only(ledger, {symbol}, kind).groups("kind") for kind in ALLOCATIONS]
    done, failed, silent = (
        sum(int(each[name].sum()) for each in groups) for name in ("count", "failures", "opportunistic_failures")
    )
    return done, failed + silent


def test_every_rule_that_judges_captures_has_one_that_fires_and_one_that_stays_quiet() -> None:
    names = [golden.name for golden in CAPTURES]

    assert names == [
        f"{code}-{what}" for code in sorted(RULES) if code not in _NO_CAPTURE for what in ("fires", "quiet")
    ]
    assert [*TRUTH] == names
    assert sorted(path.name for path in GOLDEN.iterdir()) == sorted(["truth.json", *(f"{name}.kmw" for name in names)])


@each_capture
def test_it_is_what_the_table_asks_for_and_small(golden: Golden) -> None:
    truth = TRUTH[golden.name]
    finding = dict(zip(("site", "times"), golden.finding, strict=True)) if golden.finding else None

    asked = (golden.kinds, golden.how, golden.on, list(golden.lines))
    assert tuple(truth[name] for name in ("kinds", "how", "on", "lines")) == asked
    assert truth["finding"] == finding
    assert sum(path.stat().st_size for path in (GOLDEN / f"{golden.name}.kmw").iterdir()) <= LARGEST


@each_capture
def test_it_has_every_event_that_the_module_speaks_of(golden: Golden, ledger: Ledger) -> None:
    did = TRUTH[golden.name]["did"]
    lost = ledger.trust.lost

    if golden.how == "log" or golden.kinds == "extfrag":  # neither is of single allocations
        return
    assert ledger.meta.host.kernel == TRUTH[golden.name]["kernel"]
    assert (lost > 0) == (golden.how == "small ring")
    for symbol in {f"lab_{each['op']}" for each in did}:
        own = [each for each in did if f"lab_{each['op']}" == symbol]
        done, failed = counted(ledger, symbol)
        # What failed before a kvmalloc succeeded by other means is not the module's to tell.
        assert done + failed <= sum(each["done"] + each["failed"] for each in own) <= done + failed + lost
        assert failed == sum(each["failed"] + each["vmapped"] for each in own)


@each_capture
def test_its_rule_finds_what_the_module_did_and_no_more(golden: Golden, ledger: Ledger) -> None:
    found = findings(golden, ledger)

    if not golden.finding:
        assert found == []
        return
    symbol, times = golden.finding
    assert [each.site.partition("+")[0] for each in found] == [symbol]
    if times is not None and symbol != RUN:
        assert found[0].evidence[_TIMES.get(golden.rule, "count")] == times
    elif times is not None:
        assert counted(ledger, "lab_kmalloc")[0] <= times <= counted(ledger, "lab_kmalloc")[0] + ledger.trust.lost


def test_other_kinds_are_not_in_them() -> None:
    """They are small because they have what their rule looks at and nothing else."""
    for golden in CAPTURES:
        capture, _ = folded(GOLDEN / f"{golden.name}.kmw")
        assert {Kind(int(key["kind"])).name.lower() for key in capture.keys} <= {*golden.kinds.split(",")}
