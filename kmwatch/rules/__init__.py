"""The rule book: one function a rule, from a ledger to findings. Importing this package enters every rule."""

from kmwatch.findings import RULES, SEVERITIES, Found
from kmwatch.ledger import Ledger
from kmwatch.rules import areas, atomic, failures, gfp, large, limits, loops, packing, reserves, trust, waste, zones

__all__ = [
    "areas",
    "atomic",
    "failures",
    "gfp",
    "judge",
    "large",
    "limits",
    "loops",
    "packing",
    "reserves",
    "trust",
    "waste",
    "zones",
]


def judge(ledger: Ledger) -> list[Found]:
    """What all rules find, the worst first: by severity, then by what it would save, then by the rule."""
    found = [Found(each, finding) for each in RULES.values() for finding in each.check(ledger)]
    return sorted(found, key=lambda one: (SEVERITIES.index(one.severity), -one.finding.saving, one.rule.code))
