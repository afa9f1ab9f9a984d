"""The doctor's checks as plain data and as lines."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rich.console import Console


class Check(Protocol):
    """What a check tells: see kmwatch.sources.doctor."""

    @property
    def name(self) -> str:
        """What was looked at."""

    @property
    def ok(self) -> bool:
        """Whether it is there."""

    @property
    def what(self) -> str:
        """In words."""

    @property
    def needed(self) -> bool:
        """Whether live watching needs it."""

    @property
    def fix(self) -> str:
        """What to do where it is not ok."""


def build(checks: Iterable[Check]) -> dict[str, Any]:
    """All checks, and whether live watching can run: exactly where everything needed is ok."""
    rows = [vars(check) for check in checks]
    return {
        "schema": "kmwatch.doctor/1",
        "can_watch": all(row["ok"] for row in rows if row["needed"]),
        "checks": [{name: row[name] for name in ("name", "ok", "needed", "what", "fix")} for row in rows],
    }


def render(data: dict[str, Any], console: "Console") -> None:
    """Print a line for each check, and the verdict."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False)
    for check in data["checks"]:
        mark = ("ok", "green") if check["ok"] else ("MISSING", "red") if check["needed"] else ("no", "yellow")
        table.add_row(Text(*mark), Text(check["name"]), Text(check["what"]))
        if check["fix"] and not check["ok"]:
            table.add_row("", "", Text(f"→ {check['fix']}", "bold"))
    console.print(table)
    verdict = ("kmwatch can watch this kernel", "green") if data["can_watch"] else ("kmwatch cannot watch here", "red")
    console.print(Text(*verdict))
