"""Rules and what they find. A rule is a function from a ledger to findings; its docstring is its `explain` page."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from kmwatch.ledger import Ledger

SEVERITIES = ("error", "warning", "notice")
"""error: a bug that can hang or crash; warning: wasteful or fragile; notice: worth knowing."""

CONFIDENCES = {
    "certain": "the events say it, and nothing else could",
    "likely": "it follows from the events with what the kernel usually does",
    "candidate": "worth a look: what would decide it is not in the events",
}
"""How sure a finding is."""

RUN = "kmwatch"
"""The site of findings about the run itself: what is missing from it, not who allocates."""

PAGE_ALLOCATOR = "page allocator"
"""The site of findings about all pages of a zone or an order, whoever asked for them."""

HEADINGS = (
    "What it sees",
    "Why it matters",
    "What to do",
    "When it is fine",
    "Kernel's own words",
    "Needs",
)
"""The paragraphs of a rule's docstring after its first sentence, in this order."""


@dataclass(frozen=True)
class Finding:
    """One problem at one site.

    saving: bytes a second that the advice would save, 0.0 where it saves none.
    evidence: the numbers that the message rests on, ready for JSON.
    confidence: one of CONFIDENCES. Certain by default, as counts, masks and sizes are facts of the events; a rule that
    concludes what its caller meant, or what the kernel did next, says less.
    """

    site: str
    message: str
    advice: str
    evidence: dict[str, Any] = field(default_factory=dict)
    saving: float = 0.0
    severity: str = ""
    confidence: str = "certain"


Check = Callable[[Ledger], Iterator[Finding]]


@dataclass(frozen=True)
class Rule:
    """A rule of the book. The name states the problem, so that "allow NAME" reads well.

    since: the version of kmwatch that had it first.
    """

    code: str
    name: str
    severity: str
    since: str
    check: Check

    @cached_property
    def paragraphs(self) -> list[str]:
        """Its page: a sentence, then a paragraph for each of HEADINGS."""
        text = inspect.cleandoc(self.check.__doc__ or "")
        return [" ".join(part.split()) for part in text.split("\n\n")]

    @property
    def summary(self) -> str:
        """The page's first sentence."""
        return self.paragraphs[0]

    @property
    def sections(self) -> dict[str, str]:
        """The page's other paragraphs by their headings."""
        split = (paragraph.partition(": ") for paragraph in self.paragraphs[1:])
        return {heading: text for heading, _, text in split}


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


def rule(code: str, name: str, severity: str, since: str) -> Callable[[Check], Check]:
    """Enter a function into the rule book; a code or a name that is there already is refused."""

    def enter(check: Check) -> Check:
        if code in RULES or name in {each.name for each in RULES.values()}:
            raise ValueError(f"{code} {name} is in the rule book already")
        RULES[code] = Rule(code, name, severity, since, check)
        return check

    return enter
