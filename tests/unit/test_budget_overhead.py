"""The overhead budget against a simulated clock: up soon, down slowly, and never to and fro."""

import itertools

import numpy as np
import pytest

from kmwatch.schema import KINDS, Kind
from kmwatch.serve.budget import STEPS, Budget
from kmwatch.sources.meter import Load
from kmwatch.sources.sampling import SAMPLED

INTERVAL, CPUS, EACH = 5.0, 4, 100e-9


def load(share: float, step: int = 0, *, releases: float = 0.5, again: float = 0.0) -> Load:
    """An interval that would take this share of all CPU time if nothing were left out, as it is at a step.

    Second copies take `again` times that on top.
    """
    events = share * INTERVAL * CPUS / EACH
    wanted = np.zeros(KINDS)
    wanted[Kind.KFREE], wanted[Kind.KMALLOC] = events * releases, events * (1 - releases)
    kept = np.rint(wanted * STEPS[step].kept_share()).astype(np.int64)
    copies = np.full(KINDS, EACH * again * STEPS[step].again)
    return Load(INTERVAL, kept, np.rint(wanted).astype(np.int64) - kept, np.full(KINDS, EACH), copies)


class Clock:
    """Intervals one after another, each with a load."""

    def __init__(self, limit: float = 0.01, again: float = 0.0) -> None:
        self.budget, self.now, self._again = Budget(limit, CPUS), 0.0, again
        self.steps: list[int] = []

    def pass_time(self, seconds: float, share: float) -> int:
        """So many seconds of a load; the step at their end."""
        for _ in range(int(seconds / INTERVAL)):
            self.now += INTERVAL
            before = self.budget.step
            assert self.budget.decide(load(share, before, again=self._again), self.now) == (self.budget.step != before)
            self.steps.append(self.budget.step)
        return self.budget.step


def test_below_the_limit_nothing_is_left_out() -> None:
    clock = Clock()

    assert clock.pass_time(3600, 0.0099) == 0
    assert clock.budget.ratio == pytest.approx(0.0099)
    assert STEPS[0].kept_share().tolist() == [1.0] * KINDS
    assert STEPS[0].sample_ratio == 1


def test_a_burst_is_over_before_it_is_acted_on() -> None:
    clock = Clock()
    for _ in range(10):
        assert clock.pass_time(5, 0.05) == 0
        assert clock.pass_time(5, 0.001) == 0


def test_steps_get_smaller_and_kinds_go_first() -> None:
    shares = [step.kept_share() for step in STEPS]

    assert [step.again for step in STEPS] == [True] + [False] * (len(STEPS) - 1)
    assert (shares[0] == shares[1]).all()
    for earlier, later in itertools.pairwise(shares[1:]):
        assert (later <= earlier).all()
        assert (later < earlier).any()
    assert [bool(step.bits) for step in STEPS] == [False, False, False, True, True, True, True]
    assert {kind for step in STEPS for kind in step.dropped}.isdisjoint(SAMPLED)
    # Failures and pressure are never left out whole.
    assert all(share[kind] == 1 for share in shares for kind in (Kind.OOM_VICTIM, Kind.DIRECT_RECLAIM, Kind.VMALLOC))


def test_it_goes_as_far_as_it_takes_at_once() -> None:
    light, heavy, hopeless = Clock(), Clock(), Clock()

    assert light.pass_time(10, 0.0101) == 2  # releases are half of it, and cost half when they are left out
    assert heavy.pass_time(10, 0.0135) == 3
    assert hopeless.pass_time(10, 0.5) == len(STEPS) - 1
    assert hopeless.pass_time(600, 0.5) == len(STEPS) - 1
    assert light.pass_time(60, 0.0101) == 2
    assert light.budget.ratio <= light.budget.limit


def test_what_is_measured_counts_more_than_what_was_expected() -> None:
    """The steps cost more than they should: the next one is taken."""
    budget = Budget(0.01, CPUS)
    spent = 0.02 * INTERVAL * CPUS
    for at in range(1, 13):
        base = load(0.0101, budget.step)
        budget.decide(Load(base.seconds, base.kept, base.left_out, base.each, base.again, spent), at * INTERVAL)

    assert budget.step == len(STEPS) - 1
    assert budget.ratio == pytest.approx(0.02)


def test_it_comes_back_step_by_step_when_it_was_calm_for_a_while() -> None:
    clock = Clock()
    assert clock.pass_time(10, 0.03) == len(STEPS) - 1
    clock.steps.clear()

    assert clock.pass_time(55, 0.0001) == len(STEPS) - 1
    assert clock.pass_time(600, 0.0001) == 1
    falls = [at for at, (one, two) in enumerate(zip(clock.steps, clock.steps[1:], strict=False)) if two < one]
    assert len(falls) == len(STEPS) - 2
    assert min(np.diff(falls)) * INTERVAL >= 60


def test_just_below_the_limit_it_does_not_come_back() -> None:
    """What the step below would have cost decides, and not what this one does."""
    clock = Clock()
    clock.pass_time(10, 0.0101)
    assert clock.pass_time(3600, 0.0095) == 2
    assert clock.pass_time(3600, 0.0065) == 1


def test_a_load_that_comes_and_goes_makes_it_wait_longer_each_time() -> None:
    clock = Clock()
    for _ in range(40):
        clock.pass_time(70, 0.0001)
        clock.pass_time(10, 0.0101)
    changes = int(np.count_nonzero(np.diff(clock.steps)))

    assert changes < 20, "40 swings of the load, and as many of kmwatch"
    assert clock.pass_time(4000, 0.0001) == 1


def test_copies_go_first_and_for_good() -> None:
    clock = Clock(again=1.0)

    assert clock.pass_time(3600, 0.0049) == 0
    assert clock.pass_time(10, 0.0060) == 1
    assert clock.budget.ratio == pytest.approx(0.012)
    assert clock.pass_time(7200, 0.0001) == 1
    assert clock.budget.ratio == pytest.approx(0.0001)
    assert not clock.budget.is_near  # nothing can come back: there is nothing to be measured for


def test_near_the_limit_the_cost_must_be_known_well() -> None:
    clock = Clock()
    clock.pass_time(5, 0.004)
    assert not clock.budget.is_near
    clock.pass_time(5, 0.006)
    assert clock.budget.is_near
    clock.pass_time(10, 0.02)
    clock.pass_time(5, 0.0001)
    assert clock.budget.is_near  # something is left out


def test_an_interval_of_no_length_decides_nothing() -> None:
    budget = Budget(0.01, CPUS)

    assert not budget.decide(Load.nothing(), 0.0)
    assert budget.ratio == 0
