"""What changed between two ledgers: by function, per second or per event, the same whichever way it is asked."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmwatch.batch import Trust
from kmwatch.errors import UsageError
from kmwatch.gate.changes import SECOND, Change, changes, run_of
from kmwatch.gate.conditions import parse
from kmwatch.gate.places import Place
from kmwatch.ledger import Ledger
from kmwatch.schema import Kind
from kmwatch.views import diff
from tests.unit.rows import kmalloc, ledger, row

LEDGERS = st.builds(
    lambda made, seconds: ledger(*made, seconds=seconds),
    st.lists(
        st.builds(
            lambda name, part, offset, asked, count, failed: kmalloc(
                f"{name}{part}+{offset:#x} [drv]", asked, count=count, failed=failed
            ),
            st.sampled_from(["a", "b", "c"]),
            st.sampled_from(["", ".part.0", ".isra.0.cold"]),
            st.integers(0, 3),
            st.sampled_from([8, 33, 5000]),
            st.integers(1, 50),
            st.sampled_from([0, 0, 1]),
        ),
        max_size=6,
    ),
    st.sampled_from([0.1, 1.0, 3.0, 7.77]),
)


def between(before: Ledger, after: Ledger, per: str = SECOND) -> list[Change]:
    return changes(run_of(before, per, "A"), run_of(after, per, "B"))


@settings(deadline=None)  # a busy machine is no failure
@given(LEDGERS)
def test_nothing_changed_between_a_ledger_and_itself(made: Ledger) -> None:
    assert between(made, made) == []


@settings(deadline=None)  # a busy machine is no failure
@given(LEDGERS, LEDGERS)
def test_the_other_way_round_it_is_the_same_reversed(one: Ledger, other: Ledger) -> None:
    opposite = {"new": "gone", "gone": "new", "grown": "shrunk", "shrunk": "grown"}
    there, back = between(one, other), between(other, one)

    assert {each.place: (opposite[each.state], each.after, each.before) for each in there} == {
        each.place: (each.state, each.before, each.after) for each in back
    }


@settings(deadline=None)  # a busy machine is no failure
@given(LEDGERS, st.integers(2, 5))
def test_a_run_twice_as_long_with_twice_as_much_is_the_same(made: Ledger, times: int) -> None:
    longer = Ledger(made.meta)
    longer.rows = made.rows.copy()
    for name in ("count", "bytes_requested", "bytes_allocated"):
        longer.rows[name] *= times
    longer.seconds = made.seconds * times

    assert between(made, longer) == []


def test_offsets_addresses_and_parts_of_a_function_do_not_matter() -> None:
    before = ledger(kmalloc("f+0x1 [m]", 64, count=2), kmalloc("f+0x9 [m]", 64))
    after = ledger(kmalloc("f.part.0+0x77 [m]", 64, count=3))

    assert between(before, after) == []
    (gone, new) = sorted(between(before, ledger(kmalloc("f+0x1 [n]", 64, count=3))), key=lambda each: each.state)
    assert (gone.place, gone.state, new.place, new.state) == (Place("f", "m"), "gone", Place("f", "n"), "new")


def test_what_changed_most_comes_first() -> None:
    before = ledger(kmalloc("a+0x1", 64), kmalloc("b+0x1", 64, count=50), kmalloc("c+0x1", 64))
    after = ledger(kmalloc("a+0x1", 64, count=3), kmalloc("d+0x1", 4096), kmalloc("c+0x1", 64))

    assert [(each.place.symbol, each.state) for each in between(before, after)] == [
        ("d", "new"), ("b", "gone"), ("a", "grown"),
    ]  # fmt: skip


def test_failures_alone_are_a_change() -> None:
    failing = ledger(kmalloc("a+0x1", 64), kmalloc("a+0x1", 64, failed=1))

    (change,) = between(ledger(kmalloc("a+0x1", 64)), failing)
    assert (change.state, change.after["failures"]) == ("grown", 1)


def test_per_event_divides_by_how_often_it_happened() -> None:
    before = ledger(kmalloc("tx+0x1", 64, count=10), kmalloc("copy+0x1", 64, count=20), row(Kind.KFREE, count=5))
    after = ledger(kmalloc("tx+0x1", 64, count=30), kmalloc("copy+0x1", 64, count=60), row(Kind.KFREE, count=15))

    assert between(before, after, "tx") == between(before, after, "kfree") == between(before, after, "kmalloc") == []
    assert len(between(before, after)) == 2


@pytest.mark.parametrize(
    ("per", "says"),
    [
        ("xmut", r"--per: A has no event 'xmut'; did you mean xmit\? give a kind"),
        ("vmalloc", "vmalloc never happened in A: choose"),
    ],
)
def test_an_event_that_there_is_not_is_refused(per: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        run_of(ledger(kmalloc("xmit+0x1", 64)), per, "A")


def test_no_time_is_no_rate() -> None:
    with pytest.raises(UsageError, match="A lasted no time, there is nothing per second: choose an event"):
        run_of(ledger(kmalloc("tx+0x1", 64), seconds=0.0), SECOND, "A")


@pytest.mark.parametrize(
    ("text", "before", "after", "holds"),
    [
        ("bytes>10%", 100, 110, False),
        ("bytes>=10%", 100, 110, True),
        ("bytes>10%", 100, 111, True),
        ("bytes>=0%", 100, 100, True),
        ("bytes>0%", 100, 99, False),
        ("bytes>999%", 0, 1, True),
        ("bytes>=0%", 0, 0, True),
        ("count>10", 100, 110, False),
        ("count>=10", 100, 110, True),
        ("failures>0", 100, 110, False),
    ],
)
def test_a_condition_holds_on_the_sum(text: str, before: int, after: int, holds: bool) -> None:
    runs = [
        run_of(ledger(*([kmalloc("a+0x1", 64, count=count)] if count else [])), SECOND, "A")
        for count in (before, after)
    ]
    assert parse(text).holds(*runs) is holds


def test_the_data_is_json_and_tells_doubt() -> None:
    before = run_of(ledger(kmalloc("site-1", 64)), SECOND, "A")
    after = run_of(ledger(kmalloc("b+0x1", 64), trust=Trust(lost=1)), SECOND, "B")
    before.ledger.meta.doubts.append("it was cut")

    data = diff.build([("A", before), ("B", after)], SECOND, changes(before, after), [parse("failures>0")])
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert data["notes"] == [
        "A: it was cut",
        "A: 1 functions have no name, and no partner in the other run",
        "B: 1 of 2 events are not counted",
    ]
    grown = diff.build([("A", run_of(ledger(), SECOND, "A")), ("B", after)], SECOND, [], [parse("bytes>1%")])
    assert grown["conditions"] == [{"text": "bytes>1%", "holds": True, "growth": None}]
    json.dumps(grown, allow_nan=False)
