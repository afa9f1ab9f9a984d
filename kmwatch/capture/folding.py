"""Adding up the events of a capture: files in; out come rows, stacks, sizes, and what is held, by .sql files."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from kmwatch.batch import KEY, ROW, STACKED, Meta, Rows
from kmwatch.capture import counts
from kmwatch.capture.choosing import Choice, chosen_keys, rows_of, shown_tasks
from kmwatch.capture.engine import first_line, shared
from kmwatch.capture.layout import EVENTS, literal, parquet
from kmwatch.capture.pairing import Fate, held_of, moves
from kmwatch.demand import REQUEST, requests
from kmwatch.errors import BadInputError
from kmwatch.events import Array, fill_shifts
from kmwatch.held import BUCKETS, HELD, Held
from kmwatch.schema import Kind

_TEXTS = Path(__file__).parent.parent
LEDGER_SQL = (_TEXTS / "ledger.sql").read_text(encoding="utf-8")
_SIZES = (_TEXTS / "sizes.sql").read_text(encoding="utf-8")
_STACKS = (_TEXTS / "stacks.sql").read_text(encoding="utf-8")
_HELD = (_TEXTS / "held.sql").read_text(encoding="utf-8")
_USABLE = """
SELECT count(*) FROM recorded WHERE key < $keys AND requested >= 0 AND "time" IS NOT NULL AND task IS NOT NULL
"""
# What adding up everything need not read: as Parquet has a BIGINT and a UINTEGER.
_UNREAD = "('time', 'INT64', 'INT_64'), ('task', 'INT32', 'UINT_32')"
_AS_WRITTEN = """
SELECT
    (SELECT count(*) FROM parquet_schema([{files}]) WHERE (name, type, converted_type) IN ({columns})),
    (SELECT count(*) FROM parquet_metadata([{files}])
    WHERE path_in_schema IN ('time', 'task') AND stats_null_count IS DISTINCT FROM 0)
"""
_NOTHING = "(SELECT " + ", ".join(f'NULL AS "{field.name}"' for field in EVENTS) + " WHERE false)"
_PAIRED = 1 << 22  # events whose pointers are paired in one query
ALWAYS = (-(1 << 62), 1 << 62)
"""The span of all events; nanoseconds."""
_ONE_SLICE = (0, 0)


class Folder:
    """Adds up events of one capture."""

    def __init__(self, meta: Meta, keys: Rows, choice: Choice) -> None:
        self._meta, self._keys, self._choice = meta, keys, choice
        self._database = shared()
        self._choose()

    def close(self) -> None:
        """Free everything."""
        self._database.close()

    def fold(
        self,
        files: Iterable[Path],
        first: int = ALWAYS[0],
        end: int = ALWAYS[1],
        *,
        events: int,
        slices: tuple[int, int] = _ONE_SLICE,
    ) -> tuple[Rows, Array]:
        """Rows of the ledger of all events in these files from `first` to before `end`, in nanoseconds.

        With them comes the slice of each; `slices` are when the first begins and how long each is, in nanoseconds.
        Raises BadInputError where a file cannot be read, or they do not have so many `events` that can be used.
        """
        paths, (origin, length) = [*files], slices
        if not paths:
            return np.zeros(0, ROW), np.zeros(0, np.int64)
        alike = slices == _ONE_SLICE
        found = self._grouped(LEDGER_SQL, paths, first, end, events, alike=alike, origin=origin, length=length)
        return rows_of(found, self._keys[found["key"]], self._meta), found["slice"]

    def stacks(self, files: Iterable[Path], first: int = ALWAYS[0], end: int = ALWAYS[1], *, events: int) -> Rows:
        """The stacks that the same events have (dtype STACKED); errors as of `fold`."""
        paths = [*files]
        if not paths:
            return np.zeros(0, STACKED)
        found = self._grouped(_STACKS, paths, first, end, events)
        rows = np.zeros(len(found["key"]), STACKED)
        for name in KEY:
            rows[name] = self._keys[name][found["key"]]
        rows["stack"], rows["count"] = found["stack"], found["count"]
        return rows

    def sizes(self, files: Iterable[Path], first: int = ALWAYS[0], end: int = ALWAYS[1], *, events: int) -> Array:
        """The sizes that kmalloc was asked for in the same events, dtype REQUEST; errors as of `fold`."""
        paths = [*files]
        if not paths:
            return np.zeros(0, REQUEST)
        found = self._grouped(_SIZES, paths, first, end, events, alike=True)
        keys = self._keys[found["key"]]
        counted = np.where((keys["kind"] == Kind.KMALLOC) & (keys["failed"] == 0), found["count"], 0)
        return requests(keys["site"], found["requested"], keys["bytes_alloc"], counted)

    def held(
        self, files: Iterable[Path], first: int = ALWAYS[0], end: int = ALWAYS[1], *, events: int, at: int
    ) -> Held:
        """What the same events leave held `at` a time, in nanoseconds; errors as of `fold`.

        Of the choice, kinds, sites and tasks are those of allocations: whoever releases, it is released.
        """
        paths, parts = [*files], events // _PAIRED + 1
        if not paths:
            return Held(np.zeros(0, HELD))
        values: dict[str, Any] = {"at": at, "parts": parts, "last_bucket": BUCKETS - 1}
        values |= {fate.name.lower(): int(fate) for fate in Fate}
        found = [self._grouped(_HELD, paths, first, end, events, **values, part=part) for part in range(parts)]
        return held_of(found, self._keys, self._meta)

    def _grouped(
        self, query: str, paths: list[Path], first: int, end: int, events: int, *, alike: bool = False, **values: Any
    ) -> dict[str, Array]:
        """What a query finds; `alike` is whether events of one key and one size are alike to it."""
        try:
            told, others = self._count(paths, alike=alike and (first, end) == ALWAYS)
            self._show(others, first, end)
            found: dict[str, Array] = self._database.execute(query, values).fetchnumpy()
            # Where the answer itself tells, the files need not be read again.
            usable = (_is_all(found, events) and self._gapless(others)) or told + self._usable() == events
        except duckdb.Error as error:
            raise BadInputError(f"{paths[0]} cannot be read: {first_line(error)}") from error
        if not usable:
            raise BadInputError(f"{paths[0]} and what follows do not have the events that the journal tells of")
        return found

    def _count(self, paths: list[Path], *, alike: bool) -> tuple[int, list[Path]]:
        """Make the table `counted` of ledger.sql: how many events are in it, and the files that have others."""
        rows = np.zeros(0, counts.ALIKE)
        if alike and not (self._choice.tasks or self._choice.by_task):
            rows, paths = counts.read(self._database, paths, len(self._keys))
        nothing = np.zeros(len(rows), np.int64)
        columns = {name: rows[name].copy() for name in counts.ALIKE.names or ()}
        self._table("counted", {**columns, "task": nothing, "slice": nothing})
        return int(rows["count"].sum()), paths

    def _show(self, paths: list[Path], first: int, end: int) -> None:
        """Make the views `recorded`, all that the files have, and `events`, as kmwatch/ledger.sql describes them."""
        files = parquet(paths) if paths else _NOTHING
        names = ", ".join(f'"{field.name}"::{field.type} AS "{field.name}"' for field in EVENTS)
        span = "" if (first, end) == ALWAYS else f'WHERE "time" >= {first:d} AND "time" < {end:d}'
        choice, shown, joined = self._choice, "0::UINTEGER", ""
        if choice.tasks or choice.by_task:
            shown = "t.shown" if choice.tasks else "coalesce(t.shown, 0)"
            joined = "LEFT JOIN chosen_tasks t USING (task)"
        self._database.execute(f"CREATE OR REPLACE TEMP VIEW recorded AS SELECT {names} FROM {files}")  # noqa: S608
        self._database.execute(
            f"CREATE OR REPLACE TEMP VIEW events AS SELECT e.*, {shown} AS shown FROM recorded e {joined} {span}"  # noqa: S608
        )

    def _usable(self) -> int:
        """How many events the files have that can be used."""
        return int(self._database.execute(_USABLE, {"keys": len(self._keys)}).fetchall()[0][0])

    def _gapless(self, paths: list[Path]) -> bool:
        """Whether all events have a time and a task, as the files themselves say: then these need not be read.

        Where a file lies, no sum of what was read becomes another.
        """
        if not paths:
            return True
        query = _AS_WRITTEN.format(files=", ".join(map(literal, paths)), columns=_UNREAD)
        return self._database.execute(query).fetchall() == [(2 * len(paths), 0)]

    def _choose(self) -> None:
        chosen = chosen_keys(self._meta, self._keys, self._choice)
        keys = {"key": np.flatnonzero(chosen).astype(np.uint32), "eighth_shift": fill_shifts(self._keys)[chosen]}
        tasks = shown_tasks(self._meta, self._choice)
        tables = {"chosen_keys": keys, "chosen_tasks": tasks, "moves": moves(self._keys, chosen)}
        for name, columns in tables.items():
            self._table(name, columns)

    def _table(self, name: str, columns: dict[str, Array]) -> None:
        self._database.register("given", columns)
        self._database.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT * FROM given")  # noqa: S608  # from here
        self._database.unregister("given")


def _is_all(found: dict[str, Array], events: int) -> bool:
    """Whether rows of the ledger are of all these events, and of no other: each has its key and its size."""
    if "min_request" not in found or any(map(np.ma.is_masked, found.values())):
        return False
    return int(found["count"].sum()) == events and not (found["min_request"] < 0).any()
