"""The expressions of the committed dashboards as Prometheus takes them: with Grafana's variables filled in."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
_LABEL_VALUES = re.compile(r"label_values\((.+), (\w+)\)")


@dataclass(frozen=True)
class Expression:
    """What one query of a panel, or of a variable (then `panel` is `$NAME`), asks Prometheus."""

    board: str
    panel: str
    expr: str


def expressions(window: str = "5m", span: str = "1h") -> Iterator[Expression]:
    """Every query of every dashboard. window: what a rate looks at; span: what the dashboard shows; as `30s`, `6h`."""
    for path in sorted(HERE.glob("kmwatch-*.json")):
        board = json.loads(path.read_text(encoding="utf-8"))
        filled = _filled(board, window, span)
        for panel in board["panels"]:
            for target in panel.get("targets", ()):
                yield Expression(board["title"], panel["title"], _fill(target["expr"], filled))
        for variable in board["templating"]["list"]:
            if found := _LABEL_VALUES.fullmatch(str(variable.get("query"))):
                series, label = _fill(found[1], filled), found[2]
                yield Expression(board["title"], f"${variable['name']}", f"count by ({label}) ({series})")


def _filled(board: dict[str, Any], window: str, span: str) -> dict[str, str]:
    """What stands for each variable; a choice is at All, as when the dashboard is opened."""
    choices = {each["name"]: each["allValue"] for each in board["templating"]["list"] if each.get("includeAll")}
    return {"__rate_interval": window, "__range": span, **choices}


def _fill(expr: str, values: dict[str, str]) -> str:
    return re.sub(r"\$(\w+)", lambda match: values[match[1]], expr)
