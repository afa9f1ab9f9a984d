"""The gate: what programs and code cost, in numbers that no other load on the machine changes, stays what it was.

What is wanted is accepted by `python -m tests.cost --write` (as root for instructions), and stands in the commit.
"""

import pytest

from tests import cost

_MOST = 0.05  # of what is committed, in either direction: what became cheaper is to be kept as well
_ACCEPT = "`python -m tests.cost --write` accepts it, as root where it is instructions; the commit says why"


def changed(found: cost.Counts, accepted: cost.Counts) -> list[str]:
    """What is not as accepted, a line each."""
    return [
        f"{name}: {found.get(name, 'gone')}, accepted {accepted.get(name, 'nowhere')}; {_ACCEPT}"
        for name in sorted(found.keys() | accepted.keys())
        if abs(found.get(name, 0) - accepted.get(name, 0)) > _MOST * accepted.get(name, 0)
    ]


@pytest.mark.live
def test_programs_have_as_many_instructions_as_accepted() -> None:
    accepted = cost.committed()["instructions"]
    if cost.machine() not in accepted:
        pytest.skip(f"no numbers for {cost.machine()}, only for {'; '.join(accepted)}")

    found = cost.instructions()

    assert found.keys() == accepted[cost.machine()].keys()
    assert all(min(each.values()) > 1 for each in found.values())
    assert [line for name, each in found.items() for line in changed(each, accepted[cost.machine()][name])] == []


def test_as_many_functions_are_called_as_accepted() -> None:
    assert changed(cost.calls(), cost.committed()["calls"]) == []


def test_more_events_take_no_more_calls() -> None:
    assert cost.calls(times=50) == cost.calls()


def test_a_change_in_either_direction_is_told_and_how_to_accept_it() -> None:
    assert changed({"fold": 105}, {"fold": 100}) == changed({"fold": 95}, {"fold": 100}) == []
    (line,) = changed({"fold": 106}, {"fold": 100})
    assert line.startswith("fold: 106, accepted 100; `python -m tests.cost --write`")
    assert len(changed({"fold": 94, "new": 1}, {"fold": 100, "old": 1})) == 3
