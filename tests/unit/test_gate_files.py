"""What a gate is told: rules to select, a budget, a baseline, conditions. A mistake is named, with what was meant."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmwatch.errors import BadInputError, KmwatchError, UsageError
from kmwatch.findings import RULES
from kmwatch.gate import baseline, budget, conditions
from kmwatch.gate.places import Place, function, spot, spot_of
from kmwatch.gate.selection import choose
from kmwatch.rules import judge
from kmwatch.schema import Context
from tests.unit.rows import kmalloc, ledger, only

CODES = ("KM101", "KM201", "KM202", "KM301")


@pytest.mark.parametrize(
    ("label", "place", "symbol", "offset"),
    [
        ("drv_irq+0x9 [drv]", Place("drv_irq", "drv"), "drv_irq", 9),
        ("load_msg+0x41", Place("load_msg"), "load_msg", 0x41),
        ("load_msg+0x41/0x90", Place("load_msg"), "load_msg", 0x41),
        ("rx.part.0.isra.0+0x1 [drv]", Place("rx", "drv"), "rx.part.0.isra.0", 1),
        ("rx.cold+0x1", Place("rx"), "rx.cold", 1),
        ("rx.llvm.1234+0x1", Place("rx"), "rx.llvm.1234", 1),
        ("kmwatch", Place("kmwatch"), "kmwatch", None),
        ("a [b] c", Place("a [b] c"), "a [b] c", None),
        ("", Place(""), "", None),
        ("x\n+0x1 [m\n]", Place("x\n", "m\n"), "x\n", 1),
    ],
)
def test_a_label_is_a_function_a_module_and_an_offset(
    label: str, place: Place, symbol: str, offset: int | None
) -> None:
    found = spot(label)
    assert (found.place, found.symbol, found.offset) == (place, symbol, offset)


@settings(deadline=None)  # a busy machine is no failure
@given(st.text(max_size=60))
def test_any_text_is_a_place(text: str) -> None:
    assert isinstance(spot(text).place.label, str)
    assert function(function(text)) == function(text) or "." in text


def test_a_finding_is_at_the_caller_that_a_helper_asked_for() -> None:
    finding = only("KM201", ledger(kmalloc("lab+0x1", 64, context=Context.HARDIRQ)))
    assert spot_of(finding).place == Place("lab")

    finding.evidence["caller"] = "drv_alloc+0x8 [drv]"
    assert spot_of(finding).place == Place("drv_alloc", "drv")
    finding.evidence["caller"] = "unknown"
    assert spot_of(finding).place == Place("lab")


@pytest.mark.parametrize(
    ("select", "ignore", "expected"),
    [
        (None, None, CODES),
        ("KM2", None, ("KM201", "KM202")),
        ("km2, KM301", None, ("KM201", "KM202", "KM301")),
        (None, "KM2", ("KM101", "KM301")),
        ("KM", "KM20", ("KM101", "KM301")),
        ("KM201", "KM3", ("KM201",)),
    ],
)
def test_rules_are_chosen_by_code_or_its_beginning(
    select: str | None, ignore: str | None, expected: tuple[str, ...]
) -> None:
    assert choose(select, ignore, CODES) == {*expected}


@pytest.mark.parametrize(
    ("select", "ignore", "says"),
    [
        ("KM2O1", None, r"--select: no rule begins with 'KM2O1'; did you mean KM201( or KM\d+)?\? `kmwatch rules`"),
        ("", None, "--select: no rule begins with ''"),
        ("KM201,", None, "--select: no rule begins with ''"),
        (None, "waste", "--ignore: no rule begins with 'waste'; `kmwatch rules`"),
        ("KM201", "KM2", "leave no rule"),
    ],
)
def test_a_rule_that_there_is_not_is_refused(select: str | None, ignore: str | None, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        choose(select, ignore, CODES)


def test_a_budget_says_what_is_allowed() -> None:
    text = """
        [findings]
        warning = 3
        [rules]
        km101 = 2
        KM3 = 0
        [total]
        failures = 0
        [modules.my-drv]
        waste = 4096
        allocations = 1.5
        [modules.kernel]
        bytes = 1e6
    """
    assert budget.parse(tomllib.loads(text), "b.toml", CODES) == budget.Budget(
        {"error": 0, "warning": 3},
        {"KM101": 2, "KM3": 0},
        {"failures": 0},
        {"my_drv": {"waste": 4096, "allocations": 1.5}, "": {"bytes": 1e6}},
    )
    assert budget.parse({}, "b.toml", CODES) == budget.Budget()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[finding]\n", r"b.toml: there is no 'finding'; did you mean findings\? choose from findings, rules"),
        ("[findings]\nerrors = 0", r"\[findings\]: there is no 'errors'; did you mean error\?"),
        ("[findings]\nerror = -1", "error is -1, no number"),
        ("[findings]\nerror = true", "error is True, no number"),
        ("[findings]\nerror = 0.5", "error is 0.5, no whole number"),
        ("[findings]\nerror = 'no'", "error is 'no', no whole number"),
        ("[rules]\nKM999 = 1", r"\[rules\]: no rule begins with 'KM999'"),
        ("[modules.drv]\nwast = 1", r"\[modules.drv\]: there is no 'wast'; did you mean waste\?"),
        ("[modules.drv]\nwaste = nan", "waste is nan, no number"),
        ("[modules.drv]\nwaste = inf", "waste is inf, no number"),
        (f"[modules.drv]\nwaste = {10**400}", "no number"),
        ("[modules]\ndrv = 3", r"\[modules.drv\] is no table"),
        ("total = 3", r"\[total\] is no table: write `\[findings\]`"),
        ("[findings", "b.toml is not TOML"),
    ],
)
def test_a_mistake_in_a_budget_is_named(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "b.toml"
    path.write_text(text)
    with pytest.raises(BadInputError, match=says):
        budget.read(path, CODES)


def test_a_budget_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read the budget .*: docs/ci.md"):
        budget.read(tmp_path / "none.toml", CODES)


def test_a_baseline_comes_back_and_holds_no_offset(tmp_path: Path) -> None:
    path = tmp_path / "known.json"
    made = judge(
        ledger(
            kmalloc("drv_irq.isra.0+0x9 [drv]", 100, context=Context.HARDIRQ),
            kmalloc("drv_irq+0x19 [drv]", 100, context=Context.SOFTIRQ),
            kmalloc("big\n\x1b[31m+0x1", 100_000),
        )
    )
    found = [each for each in made if each.rule.code in ("KM201", "KM302")]
    assert len(found) == 3

    assert baseline.write(path, found) == 2
    assert baseline.read(path) == {baseline.known_as(each) for each in found}
    assert baseline.Known("KM201", "drv_irq", "drv") in baseline.read(path)
    assert "+0x" not in path.read_text()
    assert baseline.write(path, []) == 0
    assert baseline.read(path) == frozenset()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"schema": "kmwatch.baseline/9", "findings": []}',
        '{"schema": "kmwatch.baseline/1", "findings": {}}',
        '{"schema": "kmwatch.baseline/1", "findings": [3]}',
        '{"schema": "kmwatch.baseline/1", "findings": [{"rule": "KM201", "symbol": "f"}]}',
        '{"schema": "kmwatch.baseline/1", "findings": [{"rule": "KM201", "symbol": 3, "module": ""}]}',
        "[" * 100_000,
        "\0",
    ],
)
def test_what_is_no_baseline_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "known.json"
    path.write_text(text)
    with pytest.raises(BadInputError, match="--write-baseline"):
        baseline.read(path)


def test_a_baseline_that_cannot_be_read_or_written_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--write-baseline makes one"):
        baseline.read(tmp_path / "none.json")
    with pytest.raises(UsageError, match="cannot write"):
        baseline.write(tmp_path / "none" / "known.json", [])


@settings(deadline=None)  # a busy machine is no failure
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["findings", "rules", "total", "x"]), inner),
    )
)
def test_any_data_is_a_budget_and_a_baseline_or_refused(data: Any) -> None:
    if isinstance(data, dict):
        try:
            budget.parse(data, "b.toml", RULES)
        except KmwatchError as error:
            assert "\n" not in str(error)  # noqa: PT017  # it is the same for all that are refused


@pytest.mark.parametrize(
    ("text", "measure", "number", "share", "equal"),
    [
        ("waste>10%", "waste", 10, True, False),
        (" count >= 1.5 ", "count", 1.5, False, True),
        ("failures>0", "failures", 0, False, False),
        ("bytes>=5 %", "bytes", 5, True, True),
    ],
)
def test_a_condition_is_read(text: str, measure: str, number: float, share: bool, equal: bool) -> None:
    found = conditions.parse(text)
    assert (found.measure, found.number, found.share, found.equal) == (measure, number, share, equal)
    assert conditions.parse(found.text) == found


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("wast>10%", r"there is no 'wast'; did you mean waste\? choose from bytes"),
        ("waste<10", "is no condition: write it as 'waste>10%'"),
        ("waste>", "is no condition"),
        ("waste>-1", "is no condition"),
        ("waste>1e9", "is no condition"),
        ("waste>10%%", "is no condition"),
        ("", "is no condition"),
        ("waste>" + "9" * 400, "is no condition"),
    ],
)
def test_what_is_no_condition_is_refused_with_an_example(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        conditions.parse(text)


def test_the_budget_of_the_documentation_is_one(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "ci.md").read_text()
    text = page.partition("```toml\n")[2].partition("```")[0]
    (tmp_path / "b.toml").write_text(text)

    assert budget.read(tmp_path / "b.toml", RULES).modules
