"""Events of a segment counted by key and size, in its own file: a report on a whole capture reads no event."""

from collections.abc import Sequence
from pathlib import Path

import duckdb
import numpy as np

from kmwatch.batch import Rows
from kmwatch.capture.layout import literal

ALIKE = np.dtype([("requested", "<i8"), ("key", "<u4"), ("count", "<u4")])
"""Events that are alike: `requested` in bytes, `key` as events have it, and how many they are."""

NAME = "kmwatch.counts"
"""What they are called in the file's metadata: rows of ALIKE, one after the other, in any order."""

_LEAST = 64  # events of a row on average; a row takes as much room as some five events
_COUNTED = """
SELECT requested::BIGINT AS requested, key::UINTEGER AS key, count(*)::UINTEGER AS count FROM columns GROUP BY ALL
"""
_FOUND = "SELECT file_name, value FROM parquet_kv_metadata([{files}]) WHERE key = '{name}'::BLOB"


def of(database: duckdb.DuckDBPyConnection, events: int) -> bytes:
    """Rows of ALIKE of so many events, the table `columns`; empty where few are alike, for then nothing is saved."""
    found = database.execute(_COUNTED).fetchnumpy()
    if len(found["key"]) * _LEAST > events:
        return b""
    rows = np.zeros(len(found["key"]), ALIKE)
    for name in ALIKE.names or ():
        rows[name] = found[name]
    return rows.tobytes()


def read(database: duckdb.DuckDBPyConnection, files: Sequence[Path], keys: int) -> tuple[Rows, list[Path]]:
    """Rows of ALIKE of the files of a capture that have them, and the other files.

    Counts that refer to more than so many `keys`, or have another form, are none: whose file it is is read.
    Raises duckdb.Error where a file cannot be read.
    """
    query = _FOUND.format(files=", ".join(map(literal, files)), name=NAME)
    # A link leads to a file of the same name, for digests were compared: what is called so in one capture is it.
    told = {Path(name).name: bytes(value) for name, value in database.execute(query).fetchall()}
    found, others = [np.zeros(0, ALIKE)], []
    for path in files:
        rows = _rows(told.get(path.name, b""))
        if len(rows) and (rows["key"] < keys).all() and (rows["requested"] >= 0).all():
            found.append(rows)
        else:
            others.append(path)
    return np.concatenate(found), others


def _rows(value: bytes) -> Rows:
    whole = len(value) % ALIKE.itemsize == 0
    return np.frombuffer(value if whole else b"", ALIKE)
