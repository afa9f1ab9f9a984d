"""A capture as tables for SQL: the views `events`, `sites`, `stacks` and `tasks`, with names in place of numbers."""

from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np

from kmwatch import contexts
from kmwatch.batch import ROW, Meta, Rows, sized
from kmwatch.capture import tables
from kmwatch.capture.engine import connect, first_line
from kmwatch.capture.layout import TABLES, Field, literal, parquet
from kmwatch.capture.reader import Capture
from kmwatch.errors import UsageError
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

_EVENTS = """
CREATE VIEW events AS SELECT
    e.time / 1e9 AS time, k.kind, k.site, k.function, k.module,
    coalesce(k.always_requested, e.requested) AS requested,
    coalesce(k.always_allocated, e.requested) AS allocated,
    k.failed, k.gfp, k.gfp_mask, k.context, k.cache, k."order", k.zone, k.node, k.via,
    e.ptr, e.cpu, e.pid, t.comm, t.cgroup, e.stack
FROM {files} e JOIN named_keys k USING (key) LEFT JOIN tasks t USING (task)
"""
_STACKS = "CREATE VIEW stacks AS SELECT f.*, s.site, s.function, s.module FROM frames f JOIN sites s USING (symbol)"
_NOTHING = "(SELECT NULL::BIGINT AS time, NULL::UINTEGER AS key, NULL::UBIGINT AS ptr, NULL::BIGINT AS requested, \
NULL::UINTEGER AS pid, NULL::UINTEGER AS task, NULL::UINTEGER AS stack, NULL::USMALLINT AS cpu WHERE false)"


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


def ask(capture: Capture, query: str) -> Answer:
    """Run one SELECT on a capture. It sees the capture's own files and nothing else of the machine.

    Raises UsageError for a query that is none, or another statement.
    """
    database = _open(capture)
    try:
        statements = database.extract_statements(query)
        # Not EXPLAIN: EXPLAIN ANALYZE runs what it explains, and that can write files.
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise UsageError("one SELECT, please: a capture is only read")
        cursor = database.execute(statements[0])
    except duckdb.Error as error:
        raise _unanswered(error) from error
    return Answer(tuple(column[0] for column in cursor.description or ()), cursor)


def _open(capture: Capture) -> duckdb.DuckDBPyConnection:
    database = connect("1GB")
    made = {
        "named_keys": _named_keys(capture.meta, capture.keys),
        "sites": tables.columns("symbols.parquet", capture.meta, capture.keys),
        "frames": tables.columns("stacks.parquet", capture.meta, capture.keys),
        "tasks": tables.columns("tasks.parquet", capture.meta, capture.keys),
    }
    for name, columns in made.items():
        database.register("given", columns)
        database.execute(f"CREATE TABLE {name} AS SELECT * FROM given")  # noqa: S608  # names from above
        database.unregister("given")
    whole = [
        segment.path for segment in capture.segments if segment.path and segment.events and capture.is_whole(segment)
    ]
    database.execute(_STACKS)
    # As it is called, and as a pattern of that name only, which is how the view names the files.
    names = {"'" + str(capture.directory.absolute()).replace("'", "''") + "'", literal(capture.directory)}
    database.execute(f"SET allowed_directories = [{', '.join(sorted(names))}]")
    database.execute("SET enable_external_access = false")
    database.execute("SET lock_configuration = true")
    database.execute(_EVENTS.format(files=parquet(whole) if whole else _NOTHING))
    return database


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
        "key": np.arange(len(keys), dtype=np.uint32),
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
