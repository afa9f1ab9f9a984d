"""Conditions on what changed: `waste>10%`, `failures>=1`."""

import re
from dataclasses import dataclass

from kmwatch.errors import UsageError
from kmwatch.gate.changes import MEASURES, Run
from kmwatch.words import meant

_FORM = re.compile(r"\s*(?P<measure>[a-z]+)\s*(?P<order>>=|>)\s*(?P<number>\d{1,15}(?:\.\d{1,9})?)\s*(?P<share>%?)\s*")
_EXAMPLE = "write it as 'waste>10%' or 'failures>=1'"


@dataclass(frozen=True)
class Condition:
    """How much a measure may grow, over all functions that are compared; share: the number is in percent."""

    text: str
    measure: str
    number: float
    share: bool
    equal: bool

    def growth(self, before: Run, after: Run) -> float:
        """How much more there is after than before, in percent or per unit; from nothing to something is infinite."""
        old, new = before.total()[self.measure], after.total()[self.measure]
        if not self.share:
            return round(new - old, 9)
        if not old:
            return float("inf") if new else 0.0
        return round((new - old) / old * 100, 9)

    def holds(self, before: Run, after: Run) -> bool:
        """Whether it grew by more than the number, or by as much where that is asked."""
        grown = self.growth(before, after)
        return grown > self.number or (self.equal and grown == self.number)


def parse(text: str) -> Condition:
    """The condition that a text says; UsageError with an example for anything else."""
    match = _FORM.fullmatch(text)
    if not match:
        raise UsageError(f"--fail-on {text!r:.60} is no condition: {_EXAMPLE}")
    if match["measure"] not in MEASURES:
        near = meant(match["measure"], MEASURES)
        raise UsageError(f"--fail-on: there is no {match['measure']!r:.40}{near} choose from {', '.join(MEASURES)}")
    text = f"{match['measure']}{match['order']}{match['number']}{match['share']}"
    return Condition(text, match["measure"], float(match["number"]), bool(match["share"]), match["order"] == ">=")
