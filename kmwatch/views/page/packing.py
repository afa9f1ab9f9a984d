"""The page's data as small as a file that is attached to a message should be; assets/data.js unpacks it."""

import base64
import gzip
import json
from typing import Any

from kmwatch.views.page.parts import FIRST

_COUNTED = ("bytes_requested", "bytes_allocated")
_FINDING = ("rule", "name", "severity", "confidence", "site", "message", "advice", "saving_bytes_per_second")


def packed(data: dict[str, Any]) -> str:
    """The data of `build` as letters, digits, `+`, `/` and `=`."""
    timeline = data["timeline"] | {"sites": _site_slices(data["timeline"]["sites"])}
    tree = data["flame"]
    nodes, weights = tree["nodes"], tree["weights"]
    flame = tree | {
        "nodes": nodes | {"parent": _steps(nodes["parent"])},
        "values": {name: _sparse(column) for name, column in tree["values"].items()},
        # What a double holds beyond this is noise of adding up.
        "weights": weights
        | {"site": _steps(weights["site"]), "failed": [int(each) for each in weights["failed"]]}
        | {"share": [float(f"{share:.12g}") for share in weights["share"]]},
    }
    sites = _columns(data["report"]["sites"])
    pairs = zip(data["report"]["findings"], data["links"], strict=True)
    findings = [{name: each[name] for name in _FINDING} | {"link": link} for each, link in pairs][FIRST:]
    small = {
        "span": data["report"]["span"],
        "ids": data["ids"],
        "sleeping": data["sleeping"],
        "mappings": data["mappings"],
        "sites": sites,
        "timeline": timeline,
        "flame": flame,
        "memory": data["memory"],
        "findings": _columns(findings),
    }
    text = json.dumps(small, separators=(",", ":"), allow_nan=False)
    # No time in it: the same data makes the same file.
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()


def _columns(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Rows as columns; one whose values repeat is a list of values, and which of them each row has."""
    columns: dict[str, Any] = {}
    for name in rows[0] if rows else ():
        column = [row[name] for row in rows]
        values = {json.dumps(value): value for value in column}
        numbers = {key: at for at, key in enumerate(values)}
        if len(values) < len(rows) // 2:
            columns[name] = {"values": list(values.values()), "at": [numbers[json.dumps(value)] for value in column]}
        else:
            columns[name] = {"values": column}
    return columns


def _site_slices(columns: dict[str, list[int]]) -> dict[str, Any]:
    """Bytes that are the same for each event of a site are told once, as a unit; zeros are left out."""
    sites, counts = columns["site"], columns["count"]
    small: dict[str, Any] = {"site": _steps(sites), "slice": columns["slice"], "count": counts}
    for name in ("failures", "opportunistic_failures"):
        small[name] = _sparse(columns[name])
    for name in _COUNTED:
        units: dict[int, int] = {}
        strange = set()
        for site, count, value in zip(sites, counts, columns[name], strict=True):
            unit = units.setdefault(site, value // count) if count else units.get(site, 0)
            if unit * count != value:
                strange.add(site)
        known = [units.get(site, 0) for site in range(max(sites, default=-1) + 1)]
        own = zip(sites, counts, columns[name], strict=True)
        small[name] = {"units": known, **_sparse([v - known[s] * c if s in strange else 0 for s, c, v in own])}
    return small


def _sparse(column: list[int]) -> dict[str, list[int]]:
    """The values that are not 0, and how far each is from the one before."""
    at = [place for place, value in enumerate(column) if value]
    return {"steps": _steps(at), "values": [column[place] for place in at]}


def _steps(column: list[int]) -> list[int]:
    """Each value less the one before it."""
    return [value - before for before, value in zip([0, *column], column, strict=False)]
