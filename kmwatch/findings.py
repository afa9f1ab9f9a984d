"""Rules and what they find. A rule is a function from a ledger to findings; its docstring is its `explain` page."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from kmwatch.ledger import Ledger

SEVERITIES = ("error", "warning", "notice")
"""error: a bug that can hang or crash; warning: wasteful or fragile; notice: worth knowing."""


@dataclass(frozen=True)
class Finding:
    """One problem at one site.

    saving: bytes a second that the advice would save, 0.0 where it saves none.
    evidence: the numbers that the message rests on, ready for JSON.
    """

    site: str
    message: str
    advice: str
    evidence: dict[str, Any] = field(default_factory=dict)
    saving: float = 0.0
    severity: str = ""


Check = Callable[[Ledger], Iterator[Finding]]


@dataclass(frozen=True)
class Rule:
    """A rule of the book. The name states the problem, so that "allow NAME" reads well."""

    code: str
    name: str
    severity: str
    check: Check

    @property
    def explanation(self) -> str:
        """Its page: what it finds, why that is bad, what to do."""
        return (self.check.__doc__ or "").strip()


@dataclass(frozen=True)
class Found:
    """A finding together with the rule that made it."""

    rule: Rule
    finding: Finding

    @property
    def severity(self) -> str:
        """The finding's own severity, else the rule's."""
        return self.finding.severity or self.rule.severity


RULES: dict[str, Rule] = {}
"""Every rule by its code, in order of definition; importing kmwatch.rules fills it."""


def rule(code: str, name: str, severity: str) -> Callable[[Check], Check]:
    """Enter a function into the rule book."""

    def enter(check: Check) -> Check:
        RULES[code] = Rule(code, name, severity, check)
        return check

    return enter
