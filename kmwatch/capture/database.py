"""Captures as tables for SQL: the views `events`, `sites`, `stacks` and `tasks`, with names in place of numbers."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from kmwatch import contexts
from kmwatch.batch import ROW, Host, Meta, Rows, sized
from kmwatch.capture import tables
from kmwatch.capture.engine import connect, first_line
from kmwatch.capture.layout import EVENTS, TABLES, Field, literal, parquet
from kmwatch.capture.reader import Capture
from kmwatch.errors import BadInputError, UsageError
from kmwatch.events import Columns
from kmwatch.schema import NO_ZONE, Kind, Via

VIEWS: dict[str, tuple[Field, ...]] = {
    "events": (
        Field("time", "DOUBLE", "since the start of the capture", "seconds"),
        Field("kind", "VARCHAR", "what was observed", "text"),
        Field("site", "VARCHAR", "the call, or the first frame outside the allocators", "text"),
        Field("function", "VARCHAR", "its function", "text"),
        Field("module", "VARCHAR", "its module, empty in the kernel itself", "text"),
        Field("requested", "BIGINT", "asked for, also where it failed", "bytes"),
        Field("allocated", "BIGINT", "taken; 0 where it failed, and of releases", "bytes"),
        Field("failed", "BOOLEAN", "whether nothing was allocated", "flag"),
        Field("gfp", "VARCHAR", "GFP flags by name", "text"),
        Field("gfp_mask", "UINTEGER", "the same as a number", "mask"),
        Field("context", "VARCHAR", "where the CPU was", "text"),
        Field("cache", "VARCHAR", "name of the kmem_cache, NULL where none", "text"),
        Field("order", "UTINYINT", "binary logarithm of the number of pages, of page events", "number"),
        Field("zone", "VARCHAR", "zone that the page came from, NULL where unknown", "text"),
        Field("node", "UTINYINT", "NUMA node that the page came from, NULL where unknown", "number"),
        Field("via", "VARCHAR", "allocators between the caller and the event, joined by +", "text"),
        Field(
            "ptr", "UBIGINT", "scrambled pointer: equal where it was equal; 0 where unknown, or nothing was", "opaque"
        ),
        Field("cpu", "USMALLINT", "where it happened", "number"),
        Field("pid", "UINTEGER", "thread that ran on the CPU", "pid"),
        Field("comm", "VARCHAR", "its command name", "text"),
        Field("cgroup", "VARCHAR", "path of its cgroup", "text"),
        Field("stack", "UINTEGER", "stack in `stacks`, 0 where none was taken", "number"),
    ),
    "sites": tuple(TABLES["symbols.parquet"]),
    "stacks": (*TABLES["stacks.parquet"], *TABLES["symbols.parquet"][1:]),
    "tasks": tuple(TABLES["tasks.parquet"]),
}
"""The views and their columns."""

WHOSE: tuple[Field, ...] = (
    Field("capture", "VARCHAR", "the capture, by its path from the fleet's root", "text"),
    Field("host", "VARCHAR", "its host, as the fleet's layout or else the capture names it", "text"),
    Field("kernel", "VARCHAR", "the release of its kernel", "text"),
)
"""What the views have before their own columns where they are over many captures."""

_MOST_WAITING, _ROWS_WAITING = 256, 1 << 16  # captures, rows
_WIDTH = 32  # bits of a number that means something within its capture
_OWN = {"base": "UBIGINT", "id": "UBIGINT", "filename": "VARCHAR"}
_OWN |= {"always_requested": "BIGINT", "always_allocated": "BIGINT"}
_TYPES = _OWN | {field.name: field.type for fields in (WHOSE, *VIEWS.values()) for field in fields}
_KEYS = (
    "kind site function module always_requested always_allocated failed gfp gfp_mask context cache order zone node via"
)
_TABLES: dict[str, tuple[str, ...]] = {
    "captures": ("base", *(field.name for field in WHOSE)),
    "segments": ("base", "filename"),
    "named_keys": ("base", "id", *_KEYS.split()),
    "named_symbols": ("base", "id", *(field.name for field in TABLES["symbols.parquet"])),
    "frames": ("base", "id", *(field.name for field in TABLES["stacks.parquet"])),
    "named_tasks": ("base", "id", *(field.name for field in TABLES["tasks.parquet"])),
}
"""What the views are made of. `base` is another one for each capture; `id` adds a number within that capture."""

# With a sum on one side the names of keys can only be joined to events, not first to the segments, once for each.
_EVENTS = """
CREATE VIEW events AS SELECT {whose}
    e.time / 1e9 AS time, k.kind, k.site, k.function, k.module,
    coalesce(k.always_requested, e.requested) AS requested,
    coalesce(k.always_allocated, e.requested) AS allocated,
    k.failed, k.gfp, k.gfp_mask, k.context, k.cache, k."order", k.zone, k.node, k.via,
    e.ptr, e.cpu, e.pid, t.comm, t.cgroup, e.stack
FROM {files} e {of} JOIN named_keys k ON k.id = {base}e.key LEFT JOIN named_tasks t ON t.id = {base}e.task
"""
_OTHERS = """
CREATE VIEW sites AS SELECT {whose} n.* EXCLUDE (base, id) FROM named_symbols n {of};
CREATE VIEW stacks AS SELECT {whose} n.* EXCLUDE (base, id), s.site, s.function, s.module
FROM frames n JOIN named_symbols s ON s.id = n.id {of};
CREATE VIEW tasks AS SELECT {whose} n.* EXCLUDE (base, id) FROM named_tasks n {of};
"""
_SELECTED = "".join(f"c.{field.name}, " for field in WHOSE)
_CAPTURE = "JOIN captures c ON c.base = n.base"
_SEGMENT = f"JOIN segments n ON n.filename = e.filename {_CAPTURE}"
_NOTHING = "(SELECT NULL::BIGINT AS time, NULL::UINTEGER AS key, NULL::UBIGINT AS ptr, NULL::BIGINT AS requested, \
NULL::UINTEGER AS pid, NULL::UINTEGER AS task, NULL::UINTEGER AS stack, NULL::USMALLINT AS cpu, \
NULL::VARCHAR AS filename WHERE false)"


@dataclass(frozen=True)
class Answer:
    """What a query gave: names of the columns, and the rows, read as they are asked for."""

    columns: tuple[str, ...]
    cursor: duckdb.DuckDBPyConnection

    def rows(self, most: int) -> list[tuple[Any, ...]]:
        """The next rows, at most so many; none at the end. UsageError where the query fails only there."""
        try:
            return self.cursor.fetchmany(most)
        except duckdb.Error as error:
            raise _unanswered(error) from error


class Database:
    """Captures as tables, added one after another, and then asked; their files must stay until it has answered.

    Args:
        several: whether the views tell whose each row is, by the columns of WHOSE.
    """

    def __init__(self, *, several: bool = False) -> None:
        self._several, self._count = several, 0
        self._directories: set[str] = set()
        self._files: list[Path] = []
        self._waiting: defaultdict[str, list[Columns]] = defaultdict(list)
        self._database = connect("1GB")
        for name, columns in _TABLES.items():
            typed = ", ".join(f'"{column}" {_TYPES[column]}' for column in columns)
            self._database.execute(f"CREATE TABLE {name} ({typed})")

    def add(self, capture: Capture, name: str = "") -> None:
        """Add a capture, of several under its name; segments that are damaged are left out.

        Raises BadInputError where the segments of one of several are not like those of the others.
        """
        # Links are followed, for that is how a file is called that was read.
        directory, meta, keys = capture.directory.resolve(), capture.meta, capture.keys
        files = [
            directory / segment.path.name
            for segment in capture.segments
            if segment.path and segment.events and capture.is_whole(segment)
        ]
        if self._several:
            self._check(files)
        base, self._count = self._count << _WIDTH, self._count + 1
        self._tell(name, meta.host, files, base)
        self._insert("named_keys", _named_keys(meta, keys), base, np.arange(len(keys)))
        for table, source, number in (
            ("named_symbols", "symbols.parquet", "symbol"),
            ("frames", "stacks.parquet", "symbol"),
            ("named_tasks", "tasks.parquet", "task"),
        ):
            columns = tables.columns(source, meta, keys)
            self._insert(table, columns, base, columns[number])
        self._files += files
        # As it is called, and as a pattern of that name only, which is how the view names the files.
        self._directories |= {"'" + str(directory).replace("'", "''") + "'", literal(directory)}

    def ask(self, query: str) -> Answer:
        """Run one SELECT. It sees the files of the captures and nothing else of the machine.

        Raises UsageError for a query that is none, or another statement.
        """
        try:
            cursor = self._database.execute(self._statement(query))
        except duckdb.Error as error:
            raise _unanswered(error) from error
        return Answer(tuple(column[0] for column in cursor.description or ()), cursor)

    def refuse(self, query: str) -> None:
        """Raise UsageError for a query that cannot be asked, without an answer to it."""
        try:
            self._database.sql(self._statement(query))
        except duckdb.Error as error:
            raise _unanswered(error) from error

    def _statement(self, query: str) -> Any:
        """The query, when nothing but the captures can be seen."""
        statements = self._database.extract_statements(query)
        # Not EXPLAIN: EXPLAIN ANALYZE runs what it explains, and that can write files.
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise UsageError("one SELECT, please: a capture is only read")
        for table in [*self._waiting]:
            self._flush(table)
        whose = _SELECTED if self._several else ""
        self._database.execute(_OTHERS.format(whose=whose, of=_CAPTURE if self._several else ""))
        self._database.execute(f"SET allowed_directories = [{', '.join(sorted(self._directories))}]")
        self._database.execute("SET enable_external_access = false")
        self._database.execute("SET lock_configuration = true")
        files = parquet(self._files, named=self._several) if self._files else _NOTHING
        of, base = (_SEGMENT, "n.base + ") if self._several else ("", "")
        self._database.execute(_EVENTS.format(whose=whose, files=files, of=of, base=base))
        return statements[0]

    def _check(self, files: list[Path]) -> None:
        """One file of another kind would spoil each answer: the first of all says what the others are read as."""
        if not files:
            return
        names = ", ".join(f"'{field.name}'" for field in EVENTS)
        told = f"parquet_schema([{', '.join(map(literal, files))}])"
        numbers = f"SELECT count(*) FROM {told} WHERE name IN ({names}) AND type IN ('INT32', 'INT64')"  # noqa: S608
        try:
            found = self._database.execute(numbers).fetchall()
            first = self._database.execute(f"DESCRIBE FROM {parquet(files[:1], named=True)}").fetchall()
        except duckdb.Error as error:
            raise BadInputError(f"its segments cannot be read: {first_line(error)}") from error
        wanted = {(field.name, field.type) for field in EVENTS}
        if found != [(len(wanted) * len(files),)] or not wanted <= {row[:2] for row in first}:
            raise BadInputError("its segments have columns of other types: this is not a capture of kmwatch")

    def _tell(self, name: str, host: Host, files: list[Path], base: int) -> None:
        whose = (name, host.hostname, host.kernel)
        told = {field.name: tables.texts([value]) for field, value in zip(WHOSE, whose, strict=True)}
        self._insert("captures", told, base, None)
        self._insert("segments", {"filename": tables.texts(map(str, files))}, base, None)

    def _insert(self, table: str, columns: Columns, base: int, numbers: Any) -> None:
        """Add rows of one capture; they wait until they are many, as each statement takes its time."""
        rows = len(next(iter(columns.values())))
        given = {"base": np.full(rows, base, np.uint64), **columns}
        if numbers is not None:
            given["id"] = numbers.astype(np.uint64) + np.uint64(base)
        waiting = self._waiting[table]
        waiting.append(given)
        if len(waiting) >= _MOST_WAITING or sum(len(each["base"]) for each in waiting) >= _ROWS_WAITING:
            self._flush(table)

    def _flush(self, table: str) -> None:
        waiting = self._waiting.pop(table)
        parts = {name: [each[name] for each in waiting] for name in waiting[0]}
        given = {name: np.ma.concatenate(part) for name, part in parts.items()}  # type: ignore[no-untyped-call]
        self._database.register("given", given)
        self._database.execute(f"INSERT INTO {table} BY NAME SELECT * FROM given")  # noqa: S608  # names from above
        self._database.unregister("given")


def ask(capture: Capture, query: str) -> Answer:
    """Run one SELECT on a capture; see `Database.ask`."""
    database = Database()
    database.add(capture)
    return database.ask(query)


def _named_keys(meta: Meta, keys: Rows) -> Columns:
    """The keys with names in place of numbers, and the bytes that follow from them."""
    one = np.zeros(len(keys), ROW)
    for name in keys.dtype.names or ():
        one[name] = keys[name]
    one["count"], failed = 1, keys["failed"] != 0
    one["failed"] = 0
    sizes = sized(one, meta)
    implied = (keys["cache"] != 0) | np.isin(keys["kind"], [Kind.PAGE_ALLOC, Kind.PAGE_FREE])
    released = ~np.isin(
        keys["kind"], [Kind.KMALLOC, Kind.CACHE_ALLOC, Kind.PAGE_ALLOC, Kind.PERCPU_ALLOC, Kind.VMALLOC]
    )
    taken = np.where(failed | released, 0, sizes["bytes_allocated"])
    return {
        "kind": tables.texts(Kind(number).name.lower() for number in keys["kind"].tolist()),
        "site": tables.texts(meta.sites[number].text for number in keys["site"].tolist()),
        "function": tables.texts(meta.sites[number].symbol for number in keys["site"].tolist()),
        "module": tables.texts(meta.sites[number].module for number in keys["site"].tolist()),
        "always_requested": np.ma.array(sizes["bytes_requested"], mask=~implied),
        "always_allocated": np.ma.array(taken, mask=(keys["kind"] == Kind.VMALLOC) & ~failed),
        "failed": failed,
        "gfp": tables.texts(meta.gfp.decode(mask) for mask in keys["gfp"].tolist()),
        "gfp_mask": keys["gfp"].copy(),
        "context": tables.texts(contexts.name(bits) for bits in keys["context"].tolist()),
        "cache": tables.texts(meta.caches[number].name or None for number in keys["cache"].tolist()),
        "order": keys["order"].copy(),
        "zone": tables.texts(
            meta.zones[number] if number < len(meta.zones) else None for number in keys["zone"].tolist()
        ),
        "node": np.ma.array(keys["node"], mask=keys["node"] == NO_ZONE),
        "via": tables.texts(
            "+".join(str(via.name).lower() for via in Via if bits & via) for bits in keys["via"].tolist()
        ),
    }


def _unanswered(error: duckdb.Error) -> UsageError:
    return UsageError(f"the query does not work: {first_line(error).partition(': ')[2] or first_line(error)}")
