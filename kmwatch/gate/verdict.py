"""Findings and numbers held against a budget: which limits there are, what there is of each, which are over."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from kmwatch.findings import RUN, SEVERITIES, Found
from kmwatch.gate.baseline import Known, known_as
from kmwatch.gate.budget import MEASURES, Budget
from kmwatch.gate.places import KERNEL, spot, spot_of
from kmwatch.ledger import Ledger


@dataclass(frozen=True)
class Limit:
    """One limit: what it is of, the most that is allowed (None for no limit), what there is, and its unit."""

    name: str
    most: float | None
    value: float
    unit: str

    @property
    def over(self) -> bool:
        """Whether there is more than allowed."""
        return self.most is not None and self.value > self.most


@dataclass(frozen=True)
class Judged:
    """A finding, whether the baseline has it, and the limit that it counts against."""

    found: Found
    known: bool
    limit: str


@dataclass
class Verdict:
    """The whole of it. gone: what the baseline has and this run has not; unseen: modules that allocated nothing."""

    judged: list[Judged]
    limits: list[Limit]
    gone: list[Known]
    unseen: list[str] = field(default_factory=list)

    @property
    def over(self) -> frozenset[str]:
        """The names of the limits that are exceeded."""
        return frozenset(limit.name for limit in self.limits if limit.over)


@dataclass(frozen=True)
class Scope:
    """What is judged: the codes of rules, and modules ("" is the kernel itself); all modules where none is named."""

    codes: frozenset[str]
    modules: frozenset[str] = frozenset()

    def covers(self, found: Found) -> bool:
        """Whether a finding is of these rules, and about one of these modules or about the run itself."""
        if found.rule.code not in self.codes:
            return False
        spots = spot(found.finding.site), spot_of(found.finding)
        return found.finding.site == RUN or self.has_module(*(each.place.module for each in spots))

    def has_module(self, *names: str) -> bool:
        """Whether one of these is among the modules."""
        return not self.modules or not self.modules.isdisjoint(names)


def weigh(ledger: Ledger, found: Iterable[Found], scope: Scope, known: frozenset[Known], budget: Budget) -> Verdict:
    """Hold what was found, and the numbers, against a budget.

    A finding counts against one limit: that of its rule, the longest code that fits, else that of its severity.
    """
    chosen = [each for each in found if scope.covers(each)]
    judged = [Judged(each, known_as(each) in known, _limit_of(each, budget)) for each in chosen]
    here = {known_as(each) for each in chosen}
    gone = [each for each in sorted(known - here) if each.rule in scope.codes and scope.has_module(each.module)]
    numbers, seen = _numbers(ledger, budget)
    unseen = sorted((scope.modules | {*budget.modules}) - seen - {""})
    return Verdict(judged, [*_counts(judged, budget), *numbers], gone, unseen)


def _limit_of(found: Found, budget: Budget) -> str:
    fitting = [prefix for prefix in budget.rules if found.rule.code.startswith(prefix)]
    return max(fitting, key=len, default=found.severity)


def _counts(judged: list[Judged], budget: Budget) -> list[Limit]:
    """Findings against their limits; severities without one are told all the same."""
    most = {name: budget.severities.get(name) for name in SEVERITIES} | budget.rules
    counts = {name: sum(not each.known and each.limit == name for each in judged) for name in most}
    return [Limit(name, most[name], counts[name], "findings") for name in most]


def _numbers(ledger: Ledger, budget: Budget) -> tuple[list[Limit], set[str]]:
    """The limits of numbers, and the modules that allocated anything."""
    seconds, sums = max(ledger.seconds, 1e-9), dict[str, dict[str, float]]()
    for group in ledger.groups("site", once=True):
        module = ledger.meta.sites[group["site"]].module
        mine = sums.setdefault(module, dict.fromkeys(MEASURES, 0))
        mine["waste"] += int(group["bytes_wasted"]) / seconds
        mine["bytes"] += int(group["bytes_allocated"]) / seconds
        mine["allocations"] += int(group["count"]) / seconds
        mine["failures"] += int(group["failures"])
    nothing = dict.fromkeys(MEASURES, 0.0)
    total = {name: sum(each[name] for each in sums.values()) for name in MEASURES}
    limits = [_number("total", name, most, total) for name, most in budget.total.items()]
    for module, wanted in budget.modules.items():
        of_module = sums.get(module, nothing)
        limits += [_number(module or KERNEL, name, most, of_module) for name, most in wanted.items()]
    return limits, {*sums}


def _number(whose: str, name: str, most: float, sums: dict[str, float]) -> Limit:
    return Limit(f"{whose} {name}", most, round(sums[name], 3), MEASURES[name])
