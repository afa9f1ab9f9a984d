"""The rule book as pages: what each rule sees, why it matters, what to do, what it needs: the rule's docstring."""

from typing import TYPE_CHECKING, Any

import kmwatch.rules  # noqa: F401  # enters the rules
from kmwatch.errors import UsageError
from kmwatch.findings import RULES, Rule

if TYPE_CHECKING:
    from rich.console import Console


_WIDE = 120  # columns from which a rule's sentence fits beside its name


def codes() -> list[str]:
    """The codes of all rules."""
    return sorted(RULES)


def knows(name: str) -> bool:
    """Whether a code (KM201, km201) or a name is a rule's."""
    return _find(name) is not None


def build(name: str) -> dict[str, Any]:
    """The page of one rule as plain data; UsageError where there is no such rule."""
    rule = _find(name)
    if rule is None:
        raise UsageError(f"no rule {name!r}; `kmwatch rules` lists them")
    return {
        "rule": rule.code,
        "name": rule.name,
        "severity": rule.severity,
        "since": rule.since,
        "summary": rule.summary,
        "sections": rule.sections,
        "text": rule.paragraphs,
    }


def build_all() -> list[dict[str, Any]]:
    """All pages."""
    return [build(code) for code in codes()]


def render(page: dict[str, Any], console: "Console") -> None:
    """Print a page."""
    from rich.text import Text

    since = f"since kmwatch {page['since']}"
    console.print(Text.assemble((page["rule"], "bold"), f"  {page['name']}  ", (f"{page['severity']}, {since}", "dim")))
    console.print()
    console.print(Text(page["summary"]))
    for heading, text in page["sections"].items():
        console.print()
        console.print(Text.assemble((f"{heading}: ", "bold"), text))


def render_names(console: "Console") -> None:
    """Print a line for each rule: code, severity, name, what it sees in a sentence where there is room."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False)
    for rule in (RULES[code] for code in codes()):
        summary = [Text(rule.summary, "dim")] if console.width >= _WIDE else []
        table.add_row(Text(rule.code, "bold"), Text(rule.severity), Text(rule.name), *summary)
    console.print(table)


def _find(name: str) -> Rule | None:
    return RULES.get(name.upper()) or next((rule for rule in RULES.values() if rule.name == name), None)
