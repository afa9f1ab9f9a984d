"""What watching costs in the kernel: measured by the kernel itself until it is known, then charged by the event."""

import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Self

import numpy as np

from kmwatch.schema import KINDS
from kmwatch.sources.bpf import AGAIN, RETURN, Array, Programs, run_time_statistics

LEFT_OUT_SHARE = 0.5
"""What an event that is left out costs of one that is kept: the way to the program stays (0.3 to 0.6 on 6.18)."""

_ENOUGH = 1000  # runs of a program that make a mean


@dataclass(frozen=True)
class Load:
    """An interval of the programs' work.

    seconds: how long it was. kept, left_out: events by kind. each: CPU seconds that a kept one takes, by kind.
    again: CPU seconds that the second copy of its program takes, by kind; 0 where there is none.
    measured: CPU seconds that the kernel measured, None where it did not.
    """

    seconds: float
    kept: Array
    left_out: Array
    each: Array
    again: Array
    measured: float | None = None

    @classmethod
    def nothing(cls) -> Self:
        """An interval in which nothing happened."""
        none = np.zeros(KINDS, np.int64)
        return cls(0.0, none, none, np.zeros(KINDS), np.zeros(KINDS))

    def cost(self) -> float:
        """CPU seconds that it took."""
        return self._charged(self.kept, self.again) if self.measured is None else self.measured

    def cost_if(self, kept_share: Array, *, again: bool) -> float:
        """CPU seconds that it would take if this share of the events were kept, by kind, with or without the copies."""
        return self._charged((self.kept + self.left_out) * kept_share, self.again * again)

    def _charged(self, kept: Array, again: Array) -> float:
        events = self.kept + self.left_out
        return float(((kept + (events - kept) * LEFT_OUT_SHARE) * self.each + events * again).sum())


class Meter:
    """What an event of each kind takes in the programs.

    The kernel's statistics make every BPF program of the machine slower, and only CAP_SYS_ADMIN switches them on: they
    are on for `patience` seconds, until something has run, and as long as they are `needed`. From then on events are
    charged what they took.
    """

    def __init__(self, programs: Programs, patience: float = 0.0) -> None:
        self._programs, self._until = programs, time.monotonic() + patience
        self._statistics, self._open, self.needed = ExitStack(), True, False
        self._mean, self._by_kind, self._again = 0.0, np.zeros(KINDS), np.zeros(KINDS)
        self._names = list(programs.costs())
        self._before = self._costs()
        self._usual = np.zeros_like(self._before)
        self._statistics.enter_context(run_time_statistics())

    @property
    def is_measuring(self) -> bool:
        """Whether the kernel's statistics are on for it."""
        return self._open

    def look(self, *, usual: bool = True) -> float | None:
        """CPU seconds that the kernel measured since the last look, None where it does not measure.

        From `usual` intervals, in which nothing is left out, it learns what an event takes.
        """
        if not self._open:
            return None
        costs = self._costs()
        gained, self._before = costs - self._before, costs
        if usual:
            self._usual += gained
            self._learn()
        if self._mean and time.monotonic() >= self._until and not self.needed:
            self.close()
        return float(gained[:, 0].sum()) / 1e9 if self._mean else None

    def seconds(self, events: int) -> float:
        """CPU seconds that so many events of the usual mix took."""
        return events * self._mean / 1e9

    def seconds_by_kind(self) -> Array:
        """CPU seconds that one event takes, by kind, without second copies."""
        return self._by_kind / 1e9

    def seconds_again(self) -> Array:
        """CPU seconds that the second copy of its program takes for one event, by kind; 0 where it is not known."""
        return self._again / 1e9

    def close(self) -> None:
        """Measure no more; a second call does no harm."""
        self._open = False
        self._statistics.close()

    def _costs(self) -> Array:
        """By program: nanoseconds run, and runs."""
        return np.array([pair for _, pair in sorted(self._programs.costs().items())], np.float64).reshape(-1, 2)

    def _learn(self) -> None:
        by_name = dict(zip(sorted(self._names), self._usual.tolist(), strict=True))
        # A second copy runs for the same event as its first, and so does the program at a return.
        runs = sum(runs for name, (_, runs) in by_name.items() if not name.endswith((AGAIN, RETURN)))
        if not runs:
            return
        self._mean = float(self._usual[:, 0].sum()) / runs
        self._by_kind[:] = self._mean
        for each in self._programs.attachments:
            spent = sum(by_name[name][0] for name in each.programs if name in by_name)
            times = by_name.get(each.programs[0], (0.0, 0.0))[1]
            if times >= _ENOUGH:
                (self._again if each.again else self._by_kind)[list(each.probe.kinds)] = spent / times
