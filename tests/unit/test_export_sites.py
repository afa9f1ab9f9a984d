"""CSV and Parquet: the report's sites, to the last field."""

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from kmwatch.ledger import Ledger
from kmwatch.units import printable
from kmwatch.views import report
from kmwatch.views.export import sites
from tests.unit.exports import HOSTILE, START, exported, hostile

LEDGERS = pytest.mark.parametrize("made", [exported, hostile])


def shown(ledger: Ledger) -> list[dict[str, Any]]:
    """The sites of the report, with text that can be shown."""
    return [
        {name: printable(value) if isinstance(value, str) else value for name, value in site.items()}
        for site in report.build(ledger, [])["sites"]
    ]


def stored(data: bytes, directory: Path, query: str = "select * from read_parquet(?)") -> list[tuple[Any, ...]]:
    """What DuckDB reads of it."""
    (directory / "sites.parquet").write_bytes(data)
    return duckdb.execute(query, [str(directory / "sites.parquet")]).fetchall()


def test_the_columns_are_the_names_of_the_report() -> None:
    assert [list(site) for site in shown(exported())[:1]] == [list(sites.COLUMNS)]


@LEDGERS
def test_parquet_has_every_site_with_its_types(made: Callable[[], Ledger], tmp_path: Path) -> None:
    ledger = made()
    rows = stored(sites.parquet(sites.build(ledger)), tmp_path)
    assert [dict(zip(sites.COLUMNS, row, strict=True)) for row in rows] == shown(ledger)


def test_parquet_tells_the_types_and_what_it_is_of(tmp_path: Path) -> None:
    data = sites.parquet(sites.build(exported()))
    types = stored(data, tmp_path, "select column_name, column_type from (describe from read_parquet(?))")
    assert dict(types) == sites.COLUMNS
    about = dict(stored(data, tmp_path, "select key::varchar, value::varchar from parquet_kv_metadata(?)"))
    assert (about["hostname"], about["kernel"]) == ("box", "6.18.0")
    assert (float(about["start"]), float(about["seconds"])) == (START, 3.0)


@LEDGERS
def test_csv_has_every_site(made: Callable[[], Ledger]) -> None:
    ledger = made()
    text = sites.csv(sites.build(ledger)).decode()
    read = list(csv.DictReader(io.StringIO(text, newline="")))
    assert list(read[0]) == list(sites.COLUMNS)
    assert len(read) == len(shown(ledger))
    for row, site in zip(read, shown(ledger), strict=True):
        assert row == {name: plain(value) for name, value in site.items()}
    once = sum(int(row["bytes_allocated"]) for row in read if row["counted_once"] == "true")
    assert once == ledger.totals().bytes_allocated


def plain(value: Any) -> str:
    """A value as a cell has it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "+".join(value)
    text = "" if value is None else str(value)
    return f"'{text}" if text[:1] in {"=", "+", "-", "@"} else text


def test_no_cell_is_a_formula() -> None:
    text = sites.csv(sites.build(hostile())).decode()
    cells = [cell for row in csv.reader(io.StringIO(text)) for cell in row]
    assert f"'{HOSTILE[8]}" in cells
    assert "\r" not in text
    assert not any(cell.startswith(("=", "+", "-", "@")) for cell in cells)


def test_an_empty_ledger_is_a_table_without_rows(tmp_path: Path) -> None:
    empty = sites.build(Ledger(exported().meta))
    assert sites.csv(empty).decode().count("\n") == 1
    assert stored(sites.parquet(empty), tmp_path) == []
