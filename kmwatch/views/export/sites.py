"""The sites of the report as a table, for spreadsheets (CSV) and for programs that compute (Parquet)."""

from csv import writer
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from kmwatch import __version__
from kmwatch.ledger import Ledger
from kmwatch.units import printable
from kmwatch.views import report

COLUMNS = {
    **dict.fromkeys(("kind", "site", "symbol", "module", "cache", "gfp", "gfp_mask", "context"), "VARCHAR"),
    **dict.fromkeys(("atomic", "may_sleep"), "BOOLEAN"),
    **dict.fromkeys(("zone", "zone_asked"), "VARCHAR"),
    "node": "UTINYINT",
    "migratetype": "VARCHAR",
    "order": "UTINYINT",
    "via": "VARCHAR[]",
    "counted_once": "BOOLEAN",
    **dict.fromkeys(("count", "bytes_requested", "bytes_allocated", "bytes_wasted"), "BIGINT"),
    **dict.fromkeys(("min_request", "max_request"), "UINTEGER"),
    **dict.fromkeys(("failures", "opportunistic_failures"), "BIGINT"),
}
"""The names of a site in the report, in their order there, with their types in Parquet."""

_FORMULA = ("=", "+", "-", "@")


class Table(NamedTuple):
    """Sites, most bytes first, and what they are of."""

    sites: list[dict[str, Any]]
    about: dict[str, str]


def build(ledger: Ledger) -> Table:
    """The sites, with text that can be shown."""
    host = ledger.meta.host
    about = {
        "kmwatch": __version__,
        "hostname": host.hostname,
        "kernel": host.kernel,
        "boot_id": host.boot_id,
        "start": f"{ledger.start:.6f}",
        "seconds": f"{ledger.seconds:.6f}",
    }
    sites = [{name: _shown(value) for name, value in site.items()} for site in report.sites(ledger)]
    return Table(sites, {name: printable(value) for name, value in about.items()})


def _shown(value: Any) -> Any:
    return printable(value) if isinstance(value, str) else value


def csv(data: Table) -> bytes:
    """CSV, the names first; what is null is empty, the words of a list are joined by +."""
    text = StringIO()
    out = writer(text, lineterminator="\n")
    out.writerow(COLUMNS)
    for site in data.sites:
        out.writerow([_cell(site[name]) for name in COLUMNS])
    return text.getvalue().encode()


def _cell(value: Any) -> Any:
    match value:
        case bool():
            return str(value).lower()
        case list():
            return "+".join(value)
        case str() if value.startswith(_FORMULA):  # a spreadsheet would compute it
            return f"'{value}"
    return value


def parquet(data: Table) -> bytes:
    """Parquet, with what it is of as the keys of the file."""
    from kmwatch.capture.engine import connect

    columns = {name: np.array([None] * len(data.sites), object) for name in COLUMNS}
    for name, column in columns.items():
        for at, site in enumerate(data.sites):
            column[at] = "+".join(site[name]) if isinstance(site[name], list) else site[name]
    types = ", ".join(f"{_taken(name)}::{kind} AS {_quoted(name)}" for name, kind in COLUMNS.items())
    about = ", ".join(f"{name}: {_literal(value)}" for name, value in data.about.items())
    with TemporaryDirectory(prefix="kmwatch-") as directory, connect("512MB", threads=1) as database:
        path = Path(directory, "sites.parquet")
        database.register("columns", columns)
        # Names are ours, texts are quoted, and COPY takes no parameters.
        database.execute(
            f"COPY (SELECT {types} FROM columns) TO {_literal(str(path))} "  # noqa: S608
            f"(FORMAT parquet, COMPRESSION zstd, KV_METADATA {{{about}}})"
        )
        return path.read_bytes()


def _taken(name: str) -> str:
    column = _quoted(name)
    return f"coalesce(string_split(nullif({column}, ''), '+'), [])" if COLUMNS[name] == "VARCHAR[]" else column


def _quoted(name: str) -> str:
    return f'"{name}"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
