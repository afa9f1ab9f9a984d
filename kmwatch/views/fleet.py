"""A fleet's report as plain data in the published form `kmwatch.fleet/1`: the survey beside the merged report."""

from dataclasses import asdict
from typing import Any

from kmwatch import __version__
from kmwatch.fleet.common import Common
from kmwatch.fleet.outliers import Outlier
from kmwatch.fleet.releases import Move
from kmwatch.fleet.survey import Surveyed
from kmwatch.gate.places import Place

SCHEMA = "kmwatch.fleet/1"


def build(surveyed: Surveyed, report: dict[str, Any]) -> dict[str, Any]:
    """What a survey says as plain data, as docs/fleet.schema.json describes it; report: `kmwatch.report/1` over all."""
    return {
        "schema": SCHEMA,
        "kmwatch": __version__,
        "captures": asdict(surveyed.captures),
        "kernels": [asdict(each) for each in surveyed.kernels],
        "findings": [_finding(each) for each in surveyed.findings],
        "outliers": [_outlier(each) for each in surveyed.outliers],
        "releases": [_move(each) for each in surveyed.releases],
        "first": [{"host": each.host, "score": each.score, "reasons": list(each.reasons)} for each in surveyed.first],
        "skipped": [asdict(each) for each in surveyed.skipped],
        "more": surveyed.more,
        "report": report,
    }


def _place(place: Place) -> dict[str, str]:
    return {"symbol": place.symbol, "module": place.module}


def _finding(common: Common) -> dict[str, Any]:
    return {
        "rule": common.rule,
        "name": common.name,
        "severity": common.severity,
        **_place(common.place),
        "hosts": common.hosts,
        "share": round(common.share, 6),
        "first": list(common.first),
        "saving_bytes_per_second": common.saving,
        "example": {
            "host": common.host,
            "site": common.site,
            "message": common.message,
            "advice": common.advice,
        },
    }


def _outlier(outlier: Outlier) -> dict[str, Any]:
    return {
        "host": outlier.host,
        **_place(outlier.place),
        "measure": outlier.measure,
        "value": round(outlier.value, 6),
        "median": round(outlier.median, 6),
        "times": None if outlier.times is None else round(outlier.times, 3),
        "spreads": round(outlier.spreads, 3),
        "hosts": outlier.hosts,
    }


def _move(move: Move) -> dict[str, Any]:
    return {
        **_place(move.place),
        "subject": move.subject,
        "measure": move.measure,
        "before": {"release": move.before, "hosts": move.hosts_before, "median": round(move.old, 6)},
        "after": {"release": move.after, "hosts": move.hosts_after, "median": round(move.new, 6)},
        "change": None if move.change is None else round(move.change, 6),
        "errors": round(move.errors, 3),
    }
