"""Adding up the events of a capture: files in; out come rows, stacks, sizes, and what is held, by .sql files."""

from collections.abc import Iterable
from pathlib import Path

import duckdb
import numpy as np

from kmwatch.batch import KEY, ROW, STACKED, Meta, Rows
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
_MEMORY = "400MB"
_PAIRED = 1 << 22  # events whose pointers are paired in one query
ALWAYS = (-(1 << 62), 1 << 62)
"""The span of all events; nanoseconds."""
_ONE_SLICE = (0, 0)


class Folder:
    """Adds up events of one capture."""

    def __init__(self, meta: Meta, keys: Rows, choice: Choice) -> None:
        self._meta, self._keys, self._choice = meta, keys, choice
        self._database = shared(_MEMORY)
        self._database.execute("SET preserve_insertion_order = false")
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
        found = self._grouped(LEDGER_SQL, paths, first, end, events, origin=origin, length=length)
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
        found = self._grouped(_SIZES, paths, first, end, events)
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
        values = {"at": at, "parts": parts, "last_bucket": BUCKETS - 1}
        values |= {fate.name.lower(): int(fate) for fate in Fate}
        found = [self._grouped(_HELD, paths, first, end, events, **values, part=part) for part in range(parts)]
        return held_of(found, self._keys, self._meta)

    def _grouped(
        self, query: str, paths: list[Path], first: int, end: int, events: int, **values: int
    ) -> dict[str, Array]:
        try:
            self._show(paths, first, end)
            found: dict[str, Array] = self._database.execute(query, values).fetchnumpy()
            # Where the answer itself tells, the files need not be read again.
            usable = (_is_all(found, events) and self._gapless(paths)) or self._usable() == events
        except duckdb.Error as error:
            raise BadInputError(f"{paths[0]} cannot be read: {first_line(error)}") from error
        if not usable:
            raise BadInputError(f"{paths[0]} and what follows do not have the events that the journal tells of")
        return found

    def _show(self, paths: list[Path], first: int, end: int) -> None:
        """Make the views `recorded`, all that the files have, and `events`, as kmwatch/ledger.sql describes them."""
        names = ", ".join(f'"{field.name}"::{field.type} AS "{field.name}"' for field in EVENTS)
        span = "" if (first, end) == ALWAYS else f'WHERE "time" >= {first:d} AND "time" < {end:d}'
        choice, shown, joined = self._choice, "0::UINTEGER", ""
        if choice.tasks or choice.by_task:
            shown = "t.shown" if choice.tasks else "coalesce(t.shown, 0)"
            joined = "LEFT JOIN chosen_tasks t USING (task)"
        self._database.execute(f"CREATE OR REPLACE TEMP VIEW recorded AS SELECT {names} FROM {parquet(paths)}")  # noqa: S608
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
        query = _AS_WRITTEN.format(files=", ".join(map(literal, paths)), columns=_UNREAD)
        return self._database.execute(query).fetchall() == [(2 * len(paths), 0)]

    def _choose(self) -> None:
        chosen = chosen_keys(self._meta, self._keys, self._choice)
        keys = {"key": np.flatnonzero(chosen).astype(np.uint32), "eighth_shift": fill_shifts(self._keys)[chosen]}
        tasks = shown_tasks(self._meta, self._choice)
        tables = {"chosen_keys": keys, "chosen_tasks": tasks, "moves": moves(self._keys, chosen)}
        for name, columns in tables.items():
            self._database.register("given", columns)
            self._database.execute(f"CREATE TEMP TABLE {name} AS SELECT * FROM given")  # noqa: S608  # one of three
            self._database.unregister("given")


def _is_all(found: dict[str, Array], events: int) -> bool:
    """Whether rows of the ledger are of all these events, and of no other: each has its key and its size."""
    if "min_request" not in found or any(map(np.ma.is_masked, found.values())):
        return False
    return int(found["count"].sum()) == events and not (found["min_request"] < 0).any()
