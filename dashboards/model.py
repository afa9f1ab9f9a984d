"""What a dashboard is made of, before Grafana's own form: plain data that a test can look at."""

from dataclasses import dataclass
from typing import Literal

Shape = Literal["lines", "number", "table"]


@dataclass(frozen=True)
class Query:
    """A PromQL expression, and how its series are called: Grafana's `{{label}}` stands for a label's value."""

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """One panel.

    look: what to look for. act: what to do when it is there; both are its description. unit: Grafana's id of a unit.
    rules: codes of the rule book that speak of the same. quiet: what it shows while it has no data, which is then good
    news. steps: the numbers from which on it is orange and red, or red alone. width: of 24 columns.
    """

    title: str
    look: str
    act: str
    queries: tuple[Query, ...]
    unit: str = "short"
    shape: Shape = "lines"
    rules: tuple[str, ...] = ()
    quiet: str = ""
    steps: tuple[float, ...] = ()
    width: int = 12


@dataclass(frozen=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Board:
    """A dashboard. slug: the end of its uid and file name. summary: a sentence on what it is for."""

    slug: str
    title: str
    summary: str
    rows: tuple[Row, ...]

    @property
    def uid(self) -> str:
        """What Grafana knows it by, and its file's name without `.json`."""
        return f"kmwatch-{self.slug}"
