"""The files of a capture and the columns of its tables, once: written, read, and documented from here."""

import re
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from kmwatch.batch import KEY, ROW
from kmwatch.events import COLUMNS
from kmwatch.schema import members

VERSION = 1
"""Version of the format; a reader refuses a later one."""

SAMPLE = Path(__file__).resolve().parent.parent / "sample.kmw"
"""The capture that is bundled with kmwatch; scripts/make_sample.py makes it."""

META = "meta.json"
JOURNAL = "journal.jsonl"
_SEGMENT = re.compile(r"events-([0-9]{5,9})\.parquet")


class Field(NamedTuple):
    """A column of a table: its name, its type in SQL, what it is, and its unit."""

    name: str
    type: str
    doc: str
    unit: str


_SQL = {"u1": "UTINYINT", "u2": "USMALLINT", "u4": "UINTEGER", "u8": "UBIGINT", "i8": "BIGINT"}


def _sql_type(numpy_type: str) -> str:
    return _SQL[numpy_type[-2:]]


_KEY_DOCS = {member.name: member for member in members("ledger_key")}
_REFERENCES = {
    "site": ("row of symbols.parquet: the call, or the first frame outside the allocators; 0 where unknown", "number"),
    "cache": ("number of the kmem_cache, 0 where none; two caches can share a name", "number"),
}


def _key_field(name: str) -> Field:
    doc, unit = _REFERENCES.get(name, (_KEY_DOCS[name].doc, _KEY_DOCS[name].unit))
    return Field(name, _sql_type(ROW[name].str), doc, unit)


EVENTS = tuple(Field(column.name, _sql_type(column.type), column.doc, column.unit) for column in COLUMNS)
"""Columns of events-NNNNN.parquet."""

TABLES: dict[str, tuple[Field, ...]] = {
    "keys.parquet": (
        Field("key", "UINTEGER", "what events refer to", "number"),
        *(_key_field(name) for name in KEY),
        Field("cache_name", "VARCHAR", "name of the cache", "text"),
        Field("cache_object_size", "BIGINT", "what the owner of the cache asked for", "bytes"),
        Field("cache_size", "BIGINT", "what an object of it takes", "bytes"),
    ),
    "symbols.parquet": (
        Field("symbol", "UINTEGER", "what keys and stacks refer to", "number"),
        Field("site", "VARCHAR", "function and offset of the return address", "text"),
        Field("function", "VARCHAR", "the function", "text"),
        Field("module", "VARCHAR", "its module, empty in the kernel itself", "text"),
    ),
    "stacks.parquet": (
        Field("stack", "UINTEGER", "what events refer to", "number"),
        Field("depth", "UTINYINT", "0 is the innermost frame", "number"),
        Field("symbol", "UINTEGER", "row of symbols.parquet", "number"),
    ),
    "tasks.parquet": (
        Field("task", "UINTEGER", "what events refer to", "number"),
        Field("comm", "VARCHAR", "command name of the thread", "text"),
        Field("cgroup", "VARCHAR", "path of its cgroup in the unified hierarchy, empty where unknown", "text"),
    ),
}
"""The tables beside the events, and their columns."""


def segment_name(number: int) -> str:
    """The file of a segment."""
    return f"events-{number:05}.parquet"


def segment_number(name: str) -> int | None:
    """The number of a segment's file; None where the name is not one."""
    match = _SEGMENT.fullmatch(name)
    return int(match[1]) if match else None


_GLOB = re.compile(r"[*?[]")


def literal(path: Path) -> str:
    """A path as a text in SQL that means this path only, for DuckDB would take `*` in it for any name."""
    return "'" + _GLOB.sub(r"[\g<0>]", str(path.absolute())).replace("'", "''") + "'"


def parquet(files: Iterable[Path], *, named: bool = False) -> str:
    """Parquet files as a table in SQL; a directory called `key=1` gives them no column, `named` gives `filename`."""
    options = f"hive_partitioning = false{', filename = true' * named}"
    return f"read_parquet([{', '.join(map(literal, files))}], {options})"


def is_plain(path: Path) -> bool:
    """Whether it is a file itself: a link could lead out of the capture, and a pipe never ends."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False
