"""Which hosts to look at first, and why: those that have what few others have, the worst of it first."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from kmwatch.fleet.common import Findings
from kmwatch.fleet.measures import MEASURES, factor
from kmwatch.fleet.outliers import Outlier
from kmwatch.gate.places import Place
from kmwatch.thresholds import Thresholds

HOSTS = 10
"""That are named."""

WEIGHTS = {"error": 8, "warning": 4, "notice": 1}
"""What a finding that few hosts have counts, by severity; outliers count by their measure (MEASURES)."""

_REASONS = 5
_LABEL = 120  # characters of a function's name


@dataclass(frozen=True)
class First:
    """A host to look at. score: the weights of all its reasons; reasons: the heaviest of them, as texts."""

    host: str
    score: int
    reasons: tuple[str, ...]


def first(total: int, findings: Findings, far: Sequence[Outlier], limits: Thresholds) -> list[First]:
    """At most ten of so many hosts, the first to look at first; none where no host differs from the others."""
    reasons: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
    few = min(max(int(total * limits.rare_share), 1), total - 1)
    for key, name, hosts in findings.categorical():
        if len(hosts) <= few:
            code, place = key
            severity = findings.severity(key)
            for host in hosts:
                reasons[host].append((WEIGHTS[severity], f"{severity} {code} {name} at {_label(place)}"))
    for each in _heaviest(far):
        reasons[each.host].append((MEASURES[each.measure].weight, _told(each)))
    ranked = [_first(host, sorted(told, key=lambda one: (-one[0], one[1]))) for host, told in reasons.items()]
    return sorted(ranked, key=lambda each: (-each.score, each.host))[:HOSTS]


def _heaviest(far: Sequence[Outlier]) -> list[Outlier]:
    """One for each function of a host: what is allocated more often is mostly more bytes, and more of them wasted."""
    best: dict[tuple[str, Place], Outlier] = {}
    for each in far:
        mine = best.setdefault((each.host, each.place), each)
        if MEASURES[each.measure].weight > MEASURES[mine.measure].weight:
            best[each.host, each.place] = each
    return list(best.values())


def _told(each: Outlier) -> str:
    measure = MEASURES[each.measure]
    median = f"median of {measure.shown(each.median)}"
    usual = f", {factor(each.times)} times the {median}" if each.times is not None else f" against a {median}"
    return f"{_label(each.place)}: {measure.words} {measure.shown(each.value)}{usual}"


def _label(place: Place) -> str:
    label = place.label
    return label if len(label) <= _LABEL else label[:_LABEL] + "…"


def _first(host: str, told: list[tuple[int, str]]) -> First:
    shown = tuple(text for _, text in told[:_REASONS])
    rest = len(told) - len(shown)
    return First(host, sum(weight for weight, _ in told), (*shown, f"{rest} more") if rest else shown)
