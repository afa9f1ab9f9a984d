"""The rule book: one function a rule, from a ledger to findings. Importing this package enters every rule."""

import importlib
import pkgutil

from kmwatch.findings import RULES, SEVERITIES, Found
from kmwatch.ledger import Ledger

# Whatever lies here: a new rule touches no list.
for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")


def judge(ledger: Ledger) -> list[Found]:
    """What all rules find, the worst first: by severity, then by what it would save, then by the rule."""
    found = [Found(each, finding) for each in RULES.values() for finding in each.check(ledger)]
    return sorted(found, key=lambda one: (SEVERITIES.index(one.severity), -one.finding.saving, one.rule.code))
