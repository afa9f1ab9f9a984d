"""Where to look first: at hosts that have what few others have, and why."""

import pytest

from kmwatch.findings import RULES, Finding, Found
from kmwatch.fleet.ranking import First
from kmwatch.fleet.survey import Survey
from kmwatch.thresholds import DEFAULTS
from tests.unit import rows
from tests.unit.fleets import fleet
from tests.unit.test_survey import finding, times


def ranked(hosts: int, found: dict[int, list[Found]]) -> tuple[First, ...]:
    """Of so many hosts, of which some have findings."""
    made = Survey(DEFAULTS)
    for number in range(hosts):
        made.add("boot", f"h{number:02}", rows.ledger(), found.get(number, []))
    return made.result().first


def test_what_is_worse_counts_more_and_is_told_first() -> None:
    error, warning, notice = (finding(code, "f+0x1 [drv]") for code in ("KM202", "KM210", "KM901"))

    assert ranked(30, {3: [notice, warning], 5: [notice, error], 7: [warning]}) == (
        First(
            "h05", 9, ("error KM202 atomic-allocation-failure at f [drv]", f"notice KM901 {_name('KM901')} at f [drv]")
        ),
        First("h03", 5, ("warning KM210 retry-storm at f [drv]", f"notice KM901 {_name('KM901')} at f [drv]")),
        First("h07", 4, ("warning KM210 retry-storm at f [drv]",)),
    )


def _name(code: str) -> str:
    return RULES[code].name


def test_what_more_than_a_tenth_of_the_hosts_have_is_no_reason() -> None:
    error = [finding("KM202", "f+0x1")]

    assert [each.host for each in ranked(30, dict.fromkeys(range(3), error))] == ["h00", "h01", "h02"]
    assert ranked(30, dict.fromkeys(range(4), error)) == ()


@pytest.mark.parametrize(("hosts", "told"), [(1, []), (2, ["h00"]), (5, ["h00"])])
def test_of_few_hosts_one_may_differ_and_a_single_one_does_not(hosts: int, told: list[str]) -> None:
    assert [each.host for each in ranked(hosts, {0: [finding("KM202", "f+0x1")]})] == told


def test_what_would_save_bytes_is_a_matter_of_degree_and_no_reason() -> None:
    assert ranked(30, {3: [finding("KM101", "f+0x1", 5e6)]}) == ()


def test_ten_hosts_are_named_at_most_and_few_reasons_of_each() -> None:
    many = {number: [finding("KM202", f"f{number}_{at}+0x1") for at in range(number + 1)] for number in range(12)}
    told = ranked(30, many)

    assert [each.host for each in told] == [f"h{number:02}" for number in range(11, 1, -1)]
    assert (told[0].score, len(told[0].reasons), told[0].reasons[-1]) == (12 * 8, 6, "7 more")
    assert len(told[-1].reasons) == 3


def test_an_outlier_counts_once_for_a_function_by_what_is_worst_of_it() -> None:
    made = Survey(DEFAULTS)
    for name, ledger in fleet(100, plant=times(300, 17)):
        made.add("boot", name, ledger, [])

    told = made.result()
    assert {each.measure for each in told.outliers} == {
        "count_per_second", "bytes_allocated_per_second", "bytes_wasted_per_second",
    }  # fmt: skip
    (one,) = told.first
    assert (one.host, one.score, len(one.reasons)) == ("host-017", 4, 1)
    assert one.reasons[0].startswith("f003: wasted ")
    assert " times the median of " in one.reasons[0]


def test_a_long_name_is_cut_in_a_reason() -> None:
    long = Found(RULES["KM202"], Finding("x" * 4096 + "+0x1", "told", "do so"))

    ((reason,),) = (each.reasons for each in ranked(30, {3: [long]}))
    assert reason.endswith("at " + "x" * 120 + "…")
