"""Dashboards and rules ask for metrics and labels that kmwatch has: Prometheus takes any name, and finds nothing."""

import re
from collections.abc import Iterator

import pytest
import yaml

from dashboards.queries import expressions
from kmwatch import metrics
from scripts.prometheus import RULES

METRICS = {each.full: set(each.labels) for each in metrics.METRICS.values()}
_PARTS = re.compile(r"_(?:sum|count|bucket)$")
_OWN_TO_SCRAPES = {"instance", "job"}


def asked() -> Iterator[tuple[str, str]]:
    """Where an expression stands, and the expression."""
    for each in expressions():
        yield f"{each.board}: {each.panel}", each.expr
    for path in RULES:
        for group in yaml.safe_load(path.read_text())["groups"]:
            for rule in group["rules"]:
                yield rule.get("alert") or rule["record"], rule["expr"]


def unknown(expr: str, records: set[str]) -> list[str]:
    """Metrics that nobody exports, and labels that they do not have."""
    faults, known = [], set(_OWN_TO_SCRAPES)
    for name, labels in re.findall(r"(?<![\w:])(kmwatch_\w+)(?!\w*:)(?:\{([^}]*)\})?", expr):
        its = METRICS.get(name, METRICS.get(_PARTS.sub("", name)))
        if its is None:
            faults.append(name)
            continue
        known |= its
        faults += [
            f"{name}: {label}" for label in re.findall(r"(\w+)\s*[=!]", labels) if label not in its | _OWN_TO_SCRAPES
        ]
    of_records = re.findall(r"\w+:\w+:\w+", expr)
    faults += [name for name in of_records if name not in records]
    if not of_records and "node_" not in expr:  # the labels of those stand elsewhere
        grouped = re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", expr)
        faults += [f"by {label}" for labels in grouped for label in re.findall(r"\w+", labels) if label not in known]
    return faults


ASKED = list(asked())
RECORDS = {name for name, _ in ASKED if re.fullmatch(r"\w+:\w+:\w+", name)}


@pytest.mark.parametrize(("where", "expr"), ASKED, ids=[where for where, _ in ASKED])
def test_what_is_asked_for_exists(where: str, expr: str) -> None:
    assert unknown(expr, RECORDS) == [], where


@pytest.mark.parametrize(
    ("expr", "fault"),
    [
        ("sum(kmwatch_allocation_total)", "kmwatch_allocation_total"),
        ('kmwatch_failures_total{order="3"}', "kmwatch_failures_total: order"),
        ("sum by (site) (kmwatch_failures_total)", "by site"),
        ("host:kmwatch_nothing:sum > 0", "host:kmwatch_nothing:sum"),
    ],
)
def test_a_wrong_name_is_seen(expr: str, fault: str) -> None:
    assert unknown(expr, RECORDS) == [fault]
