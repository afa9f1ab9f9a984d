"""What changed between two runs, by function: never by address or offset, so that two builds can be compared."""

from dataclasses import dataclass
from math import isclose

from kmwatch.errors import UsageError
from kmwatch.gate.places import Place, function
from kmwatch.ledger import Ledger
from kmwatch.schema import Kind
from kmwatch.words import meant

MEASURES = {"bytes": "bytes_allocated", "count": "count", "waste": "bytes_wasted", "failures": "failures"}
"""What is compared, and what the ledger calls it; what an order of two runs looks at comes first."""
SECOND = "second"

Sums = dict[str, float]


@dataclass(frozen=True)
class Run:
    """One of the two runs: its sums by function, and what they are divided by.

    units: seconds, or how often the event happened that numbers are told per.
    """

    ledger: Ledger
    units: float
    sums: dict[Place, dict[str, int]]

    def rates(self, place: Place) -> Sums:
        """The sums of a function, each per unit."""
        found = self.sums.get(place)
        return {name: found[name] / self.units if found else 0.0 for name in MEASURES}

    def total(self) -> Sums:
        """The sums of all functions, each per unit."""
        return {name: sum(each[name] for each in self.sums.values()) / self.units for name in MEASURES}


@dataclass(frozen=True)
class Change:
    """A function whose numbers are not the same; state: new, gone, grown or shrunk."""

    place: Place
    state: str
    before: Sums
    after: Sums

    @property
    def weight(self) -> tuple[float, ...]:
        """By this the greatest change comes first."""
        return tuple(-abs(self.after[name] - self.before[name]) for name in MEASURES)


def run_of(ledger: Ledger, per: str, name: str, modules: frozenset[str] = frozenset()) -> Run:
    """A run, told per second, per event of a kind, or per allocation of a function; of these modules, or of all.

    Raises UsageError, naming the run, where there is no such event or none happened.
    """
    every = _sums(ledger)
    chosen = {place: sums for place, sums in every.items() if not modules or place.module in modules}
    return Run(ledger, _units(ledger, every, per, name), chosen)


def changes(before: Run, after: Run) -> list[Change]:
    """Every function whose numbers differ, the greatest change first."""
    found = []
    for place in before.sums.keys() | after.sums.keys():
        old, new = before.rates(place), after.rates(place)
        state = _state(place in before.sums, place in after.sums, old, new)
        if state:
            found.append(Change(place, state, old, new))
    return sorted(found, key=lambda each: (each.weight, each.place))


def _state(was: bool, now: bool, old: Sums, new: Sums) -> str:
    if was != now:
        return "new" if now else "gone"
    for name in MEASURES:  # seconds are measured: what differs in the last digit is the same
        if not isclose(old[name], new[name], rel_tol=1e-9):
            return "grown" if new[name] > old[name] else "shrunk"
    return ""


def _sums(ledger: Ledger) -> dict[Place, dict[str, int]]:
    """Sums by function, each piece of memory counted once; functions of which nothing is left are none."""
    sums: dict[Place, dict[str, int]] = {}
    for group in ledger.groups("site", once=True):
        site = ledger.meta.sites[group["site"]]
        mine = sums.setdefault(Place(function(site.symbol), site.module), dict.fromkeys(MEASURES, 0))
        for name, column in MEASURES.items():
            mine[name] += int(group[column])
    return {place: each for place, each in sums.items() if any(each.values())}


def _units(ledger: Ledger, sums: dict[Place, dict[str, int]], per: str, name: str) -> float:
    if per == SECOND:
        if ledger.seconds <= 0:
            raise UsageError(f"{name} lasted no time, there is nothing per second: choose an event, --per kmalloc")
        return ledger.seconds
    kinds = {kind.name.lower(): kind for kind in Kind}
    symbols = {place.symbol for place in sums}
    if per not in kinds and per not in symbols:
        known = [*kinds, *symbols]
        raise UsageError(
            f"--per: {name} has no event {per!r:.80}{meant(per, known)} give a kind, or a function that allocates"
        )
    times = (
        ledger.events(kinds[per])
        if per in kinds
        else sum(each["count"] for place, each in sums.items() if place.symbol == per)
    )
    if times <= 0:
        raise UsageError(f"--per: {per} never happened in {name}: choose another event")
    return times
