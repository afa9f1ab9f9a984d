"""A verdict: which findings count against which limit, and the forms that other programs read."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema
import pytest

from kmwatch.batch import Trust
from kmwatch.findings import RULES
from kmwatch.gate.baseline import Known, known_as
from kmwatch.gate.budget import Budget
from kmwatch.gate.verdict import Scope, Verdict, weigh
from kmwatch.ledger import Ledger
from kmwatch.rules import judge
from kmwatch.schema import Context
from kmwatch.views import check, junit, sarif
from tests.unit.rows import kmalloc, ledger
from tests.unit.test_report import everything

ALL = frozenset(RULES)
SOME = frozenset({"KM101", "KM201", "KM202", "KM901"})  # so that a new rule changes nothing here
SCHEMA = json.loads((Path(__file__).parents[1] / "data" / "sarif" / "sarif-2.1.0-rtm.5.json").read_text())
HOSTILE = 'x](http://a) {0} <b>&"\x00\x1b[31m\ud800\ufffe]]>\n\t+0x1 [m<\x08>]'


def run() -> Ledger:
    """Two errors and a warning of a driver, an error of the kernel, and what is over nothing; 2 seconds."""
    return ledger(
        kmalloc("drv_irq+0x9 [drv]", 64, context=Context.HARDIRQ, count=3),
        kmalloc("drv_open+0x9 [drv]", 64, context=Context.RCU),
        kmalloc("drv_open+0x9 [drv]", 161, count=1000),
        kmalloc("core+0x1", 64, context=Context.HARDIRQ),
        kmalloc("drv_tx+0x1 [drv]", 64, gfp="GFP_ATOMIC", failed=1, count=2),
        seconds=2.0,
    )


def verdict(made: Ledger, budget: Budget | None = None, scope: Scope | None = None, *known: Known) -> Verdict:
    return weigh(made, judge(made), scope or Scope(SOME), frozenset(known), budget or Budget())


def limits(found: Verdict) -> dict[str, tuple[float | None, float]]:
    return {each.name: (each.most, each.value) for each in found.limits}


def data_of(made: Ledger, budget: Budget | None = None, *known: Known) -> dict[str, Any]:
    return check.build(made, verdict(made, budget, None, *known), "a.kmw", "known.json" if known else None, {})


def test_without_a_budget_no_error_is_allowed_and_the_rest_is() -> None:
    found = verdict(run())

    assert limits(found) == {"error": (0, 4), "warning": (None, 1), "notice": (None, 0)}
    assert found.over == {"error"}
    assert verdict(ledger(kmalloc("f+0x1", 161, count=1000))).over == frozenset()


@pytest.mark.parametrize(
    ("budget", "expected", "over"),
    [
        (Budget({"error": 4, "warning": 0}), {"error": (4, 4), "warning": (0, 1)}, {"warning"}),
        (Budget({"error": 1}, {"KM201": 3}), {"error": (1, 1), "KM201": (3, 3)}, set()),
        (Budget({"error": 0}, {"KM2": 9, "KM202": 0}), {"error": (0, 0), "KM2": (9, 3), "KM202": (0, 1)}, {"KM202"}),
        (
            Budget({}, {}, {"failures": 1, "allocations": 502.5}),
            {"total failures": (1, 2), "total allocations": (502.5, 502.5)},
            {"total failures"},
        ),
        (Budget({}, {}, {}, {"drv": {"waste": 15_500}}), {"drv waste": (15_500, 15_500)}, set()),
        (Budget({}, {}, {}, {"drv": {"waste": 15_499}}), {"drv waste": (15_499, 15_500)}, {"drv waste"}),
        (Budget({}, {}, {}, {"": {"bytes": 0}}), {"kernel bytes": (0, 32)}, {"kernel bytes"}),
        (Budget({}, {}, {}, {"other": {"bytes": 0}}), {"other bytes": (0, 0)}, set()),
    ],
)
def test_each_finding_counts_against_the_limit_nearest_to_it(
    budget: Budget, expected: dict[str, Any], over: set[str]
) -> None:
    found = verdict(run(), budget)

    assert expected.items() <= limits(found).items()
    assert found.over == over


def test_a_scope_leaves_out_other_modules_and_rules_but_not_doubt() -> None:
    def rules_of(scope: Scope) -> list[tuple[str, str]]:
        made = ledger(kmalloc("core+0x1", 64, context=Context.HARDIRQ), trust=Trust(lost=9))
        return [(one.found.rule.code, one.found.finding.site) for one in verdict(made, None, scope).judged]

    assert rules_of(Scope(SOME)) == [("KM201", "core+0x1"), ("KM901", "kmwatch")]
    assert rules_of(Scope(SOME, frozenset({"drv"}))) == [("KM901", "kmwatch")]
    assert rules_of(Scope(SOME, frozenset({""}))) == [("KM201", "core+0x1"), ("KM901", "kmwatch")]
    assert rules_of(Scope(frozenset({"KM201"}))) == [("KM201", "core+0x1")]


def test_modules_that_did_nothing_are_told() -> None:
    found = verdict(run(), Budget({}, {}, {}, {"other": {"waste": 1}}), Scope(SOME, frozenset({"drv", "absent", ""})))

    assert found.unseen == ["absent", "other"]


def test_known_findings_do_not_count_and_gone_ones_are_told() -> None:
    known = [known_as(each.found) for each in verdict(run()).judged]
    old = Known("KM201", "drv_old", "drv"), Known("KM101", "core_old", "")

    found = verdict(run(), None, None, *known, *old)
    assert (found.over, [each.known for each in found.judged]) == (frozenset(), [True] * 5)
    assert found.gone == sorted(old)
    assert verdict(run(), None, Scope(frozenset({"KM201"})), *old).gone == [old[0]]
    assert verdict(run(), None, Scope(SOME, frozenset({""})), *old).gone == [old[1]]


def test_known_findings_stay_known_at_another_offset_and_in_another_part_of_the_function() -> None:
    moved = ledger(kmalloc("drv_irq.part.0+0x77 [drv]", 64, context=Context.HARDIRQ))

    assert verdict(moved, None, None, Known("KM201", "drv_irq", "drv")).over == frozenset()
    assert verdict(moved, None, None, Known("KM201", "drv_irq", "")).over == {"error"}


def test_the_data_says_all_that_the_views_need() -> None:
    data = data_of(run(), None, Known("KM201", "drv_irq", "drv"), Known("KM201", "old", "drv"))

    assert (data["schema"], data["passed"], data["events"], data["lost"]) == ("kmwatch.check/1", False, 1007, 0)
    states = {(one["rule"], one["symbol"]): (one["known"], one["counts"]) for one in data["findings"]}
    assert states == {
        ("KM201", "drv_irq"): (True, False),
        ("KM201", "drv_open"): (False, True),
        ("KM201", "core"): (False, True),
        ("KM202", "drv_tx"): (False, True),
        ("KM101", "drv_open"): (False, False),
    }
    assert data["gone"] == [{"rule": "KM201", "symbol": "old", "module": "drv"}]
    assert json.loads(json.dumps(data)) == data


def sarif_of(data: dict[str, Any]) -> dict[str, Any]:
    made = json.loads(json.dumps(sarif.build(data, ALL)))
    jsonschema.Draft4Validator(SCHEMA).validate(made)
    return dict(made["runs"][0])


def test_sarif_has_every_rule_and_every_finding_and_is_valid() -> None:
    data = data_of(everything())
    log = sarif_of(data)
    rules, results = log["tool"]["driver"]["rules"], log["results"]

    assert [each["id"] for each in rules] == sorted(RULES)
    assert all(each[part]["text"] for each in rules for part in ("shortDescription", "fullDescription", "help"))
    levels = {"error": "error", "warning": "warning", "notice": "note"}
    assert [each["defaultConfiguration"]["level"] for each in rules] == [
        levels[RULES[code].severity] for code in sorted(RULES)
    ]
    assert [(each["ruleId"], each["level"]) for each in results] == [
        (each["rule"], levels[each["severity"]]) for each in data["findings"]
    ]
    assert all(rules[each["ruleIndex"]]["id"] == each["ruleId"] for each in results)
    assert {each.get("baselineState") for each in results} == {None}


def test_sarif_tells_where_by_function_and_module_and_by_line_where_that_is_known() -> None:
    made = run()
    (code,) = {check.code_of(each.finding) for each in judge(made) if each.finding.site.startswith("drv_irq")}
    assert code
    lines = {code: (str(Path.cwd() / "src" / "my drv.c"), 7)}
    data = check.build(made, verdict(made), "a.kmw", None, lines)
    first, *others = sarif_of(data)["results"]

    assert first["locations"] == [
        {
            "logicalLocations": [{"name": "drv_irq", "kind": "function"}, {"name": "drv", "kind": "module"}],
            "physicalLocation": {"artifactLocation": {"uri": "src/my%20drv.c"}, "region": {"startLine": 7}},
        }
    ]
    assert all("physicalLocation" not in each["locations"][0] for each in others)
    data["findings"][0]["file"] = "/usr/src/linux/mm/slub.c"
    uri = sarif_of(data)["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert uri == "file:///usr/src/linux/mm/slub.c"


def test_sarif_gives_doubt_about_the_run_no_place() -> None:
    (result,) = sarif_of(data_of(ledger(kmalloc("f+0x1", 64), trust=Trust(lost=9))))["results"]

    assert (result["ruleId"], result["locations"]) == ("KM901", [])


def test_a_fingerprint_outlives_offsets_and_numbers_and_no_more() -> None:
    def prints(*sites: str) -> list[str]:
        made = ledger(*(kmalloc(site, 64, context=Context.HARDIRQ) for site in sites))
        return [each["partialFingerprints"][sarif.FINGERPRINT] for each in sarif_of(data_of(made))["results"]]

    assert prints("f+0x1 [m]") == prints("f.isra.0+0x77 [m]")
    assert len({*prints("f+0x1 [m]"), *prints("g+0x1 [m]"), *prints("f+0x1 [n]"), *prints("f+0x1")}) == 4


def test_sarif_says_what_is_known() -> None:
    results = sarif_of(data_of(run(), None, Known("KM201", "drv_irq", "drv")))["results"]

    assert [(each["baselineState"], "suppressions" in each) for each in results] == [
        ("unchanged", True), *[("new", False)] * 4,
    ]  # fmt: skip


def cases(text: str) -> dict[str, ET.Element]:
    return {case.attrib["name"]: case for case in ET.fromstring(text).iter("testcase")}  # noqa: S314  # our own


def test_junit_has_a_case_for_each_rule_and_each_number() -> None:
    budget = Budget({"error": 0, "warning": 9}, {}, {}, {"drv": {"waste": 10, "bytes": 1e9}})
    text = junit.build(data_of(run(), budget), ALL)
    found = cases(text)

    assert [*found] == [*(f"{code} {RULES[code].name}" for code in sorted(RULES)), "drv waste", "drv bytes"]
    assert [name for name, case in found.items() if case.find("failure") is not None] == [
        "KM201 sleeping-allocation-in-atomic-context", "KM202 atomic-allocation-failure", "drv waste",
    ]  # fmt: skip
    assert "drv_open+0x9 [drv]" in (found["KM101 kmalloc-rounding-waste"].findtext("system-out") or "")
    suites = ET.fromstring(text)  # noqa: S314  # our own
    assert [(each.attrib["tests"], each.attrib["failures"]) for each in suites] == [(str(len(RULES)), "2"), ("2", "1")]


def test_hostile_names_break_no_form() -> None:
    data = data_of(ledger(kmalloc(HOSTILE, 64, context=Context.HARDIRQ)), Budget(modules={HOSTILE: {"waste": 0}}))
    # The helper of the tests takes labels apart in its own way: what a view gets must not depend on it.
    data["findings"][0] |= {"site": HOSTILE, "symbol": HOSTILE, "module": HOSTILE, "message": HOSTILE}

    text = junit.build(data, ALL)
    failure = cases(text)["KM201 sleeping-allocation-in-atomic-context"].find("failure")
    assert failure is not None
    assert '<b>&"' in failure.attrib["message"]
    assert "\x1b" not in text
    text.encode()

    (result,) = sarif_of(data)["results"]
    assert "](" not in result["message"]["text"]
    assert "{{0}}" in result["message"]["text"]
    assert result["message"]["text"].isprintable()
