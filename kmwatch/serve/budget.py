"""The overhead budget: what is left out so that the programs' share of CPU time stays below a limit. Pure policy."""

from dataclasses import dataclass

import numpy as np

from kmwatch.ledger import FREES
from kmwatch.schema import KINDS, Kind
from kmwatch.sources.meter import Load
from kmwatch.sources.sampling import SAMPLED

_CALM = 0.7  # of the limit: what the step below may cost at most before it is tried
_ROOM = 0.8  # of the limit: what a step is chosen to stay below
_SOON = 10.0  # seconds above the limit: less is a burst, of which nothing would be left when it is acted on
_WAIT, _LONGEST_WAIT = 60.0, 3600.0  # seconds that it must have been calm; twice as long after each relapse


@dataclass(frozen=True)
class Step:
    """What is left out: kinds altogether, and of SAMPLED all but one event of 2^bits.

    again: whether second copies of programs see what comes while these run (bpf/again.h).
    """

    words: str
    dropped: tuple[Kind, ...] = ()
    bits: int = 0
    again: bool = False

    @property
    def sample_ratio(self) -> float:
        """The share of SAMPLED events that is kept."""
        return 2.0**-self.bits

    def kept_share(self) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
        """The share of events that is kept, by kind."""
        share = np.ones(KINDS)
        share[list(SAMPLED)] = self.sample_ratio
        share[list(self.dropped)] = 0.0
        return share


_RELEASES = tuple(kind for kind in FREES if kind in (Kind.KFREE, Kind.CACHE_FREE, Kind.PAGE_FREE))

STEPS = (
    Step("every event is counted", again=True),
    Step("no second copies of programs: some ten events of a million are lost, until the next start"),
    Step("releases are left out", _RELEASES),
    *(
        Step(f"one allocation of {1 << bits} is looked at, releases are left out", _RELEASES, bits)
        for bits in (2, 4, 6, 8)
    ),
)
"""In this order: copies are half of the cost and find the fewest events; no finding is judged by releases; the rest is
estimated from the allocations that are looked at."""


class Budget:
    """Chooses the step after each interval.

    Up soon, as far as it takes; down one step at a time, when the step below would have stayed well under the limit
    for a while. A step down that had to be taken back makes that while longer. The way back ends before the copies:
    it takes privileges to attach them.

    Args:
        limit: the share of all CPU time that the programs may take, 0 to 1.
        cpus: how many CPUs share the time.
    """

    def __init__(self, limit: float, cpus: int) -> None:
        self.limit, self._cpus = limit, cpus
        self.step, self.ratio = 0, 0.0
        self._lowest = 0
        self._over_since: float | None = None
        self._calm_since: float | None = None
        self._lowered_at, self._wait = -np.inf, _WAIT

    @property
    def chosen(self) -> Step:
        """What is left out now."""
        return STEPS[self.step]

    @property
    def is_near(self) -> bool:
        """Whether the cost must be known well: above half of the limit, or where something is left out."""
        return self.step > self._lowest or self.ratio > self.limit / 2

    def decide(self, load: Load, now: float) -> bool:
        """Look at an interval that ended `now` (seconds of any clock that only grows); true where the step changes."""
        if load.seconds <= 0:
            return False
        self.ratio = load.cost() / (load.seconds * self._cpus)
        began, before = now - load.seconds, self.step
        over = self.ratio > self.limit
        calm = not over and self.step > self._lowest and self._share_at(self.step - 1, load) < _CALM * self.limit
        self._over_since = _since(self._over_since, began, holds=over)
        self._calm_since = _since(self._calm_since, began, holds=calm)
        if self._over_since is not None and now - self._over_since >= _SOON:
            self._raise(load, now)
            self._over_since = None
        elif self._calm_since is not None and now - self._calm_since >= self._wait:
            self.step, self._lowered_at, self._calm_since = self.step - 1, now, None
        return self.step != before

    def _raise(self, load: Load, now: float) -> None:
        if self.step + 1 == len(STEPS):
            return
        relapsed = now - self._lowered_at <= self._wait
        self._wait = min(2 * self._wait, _LONGEST_WAIT) if relapsed else _WAIT
        further = range(self.step + 1, len(STEPS))
        enough = (step for step in further if self._share_at(step, load) <= _ROOM * self.limit)
        self.step, self._lowest = next(enough, further[-1]), 1

    def _share_at(self, step: int, load: Load) -> float:
        chosen = STEPS[step]
        return load.cost_if(chosen.kept_share(), again=chosen.again) / (load.seconds * self._cpus)


def _since(before: float | None, began: float, *, holds: bool) -> float | None:
    """Since when something holds, told of an interval that `began` then; None where it does not."""
    if not holds:
        return None
    return began if before is None else before
