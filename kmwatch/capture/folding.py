"""Adding up the events of a capture: files in; out come rows, stacks, sizes, and what is held, by .sql files."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np

from kmwatch.batch import KEY, ROW, STACKED, Meta, Rows, Task, sized
from kmwatch.capture.engine import connect, first_line
from kmwatch.capture.layout import EVENTS, parquet
from kmwatch.capture.pairing import Fate, held_of, moves
from kmwatch.demand import REQUEST, requests
from kmwatch.errors import BadInputError, UsageError
from kmwatch.events import Array, fill_shifts
from kmwatch.held import BUCKETS, HELD, Held
from kmwatch.kernel.symbols import Site
from kmwatch.schema import FILL_BUCKETS, Kind

_TEXTS = Path(__file__).parent.parent
_SQL = (_TEXTS / "ledger.sql").read_text(encoding="utf-8")
_SIZES = (_TEXTS / "sizes.sql").read_text(encoding="utf-8")
_STACKS = (_TEXTS / "stacks.sql").read_text(encoding="utf-8")
_HELD = (_TEXTS / "held.sql").read_text(encoding="utf-8")
_USABLE = """
SELECT count(*) FROM events WHERE key < $keys AND requested >= 0 AND "time" IS NOT NULL AND task IS NOT NULL
"""
_MEMORY = "400MB"
_PAIRED = 1 << 22  # events whose pointers are paired in one query
_NO_REQUEST = 0xFFFFFFFF
ALWAYS = (-(1 << 62), 1 << 62)
"""The span of all events; nanoseconds."""
_ONE_SLICE = (0, 1 << 62)


@dataclass(frozen=True)
class Choice:
    """Which events are added up.

    kinds: of these kinds; None for all. sites, tasks: asked of each; None for all.
    by_task: what rows are told apart by: one row for all tasks of which it says the same, under the first of them.
    """

    kinds: frozenset[Kind] | None = None
    sites: Callable[[Site], bool] | None = None
    tasks: Callable[[Task], bool] | None = None
    by_task: Callable[[Task], object] | None = None


class Folder:
    """Adds up events of one capture."""

    def __init__(self, meta: Meta, keys: Rows, choice: Choice) -> None:
        self._meta, self._keys, self._choice = meta, keys, choice
        self._database = connect(_MEMORY)
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
        found = self._grouped(_SQL, paths, first, end, events, origin=origin, length=length)
        return self._rows(found), found["slice"]

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
        self, query: str, paths: list[Path], first: int, end: int, events: int, **more: int
    ) -> dict[str, Array]:
        names = ", ".join(f'"{field.name}"::{field.type} AS "{field.name}"' for field in EVENTS)
        values = {"first": first, "end": end, "every_task": self._choice.tasks is None, **more}
        try:
            self._database.execute(f"CREATE OR REPLACE TEMP VIEW events AS SELECT {names} FROM {parquet(paths)}")  # noqa: S608
            usable = self._database.execute(_USABLE, {"keys": len(self._keys)}).fetchone()
            found: dict[str, Array] = self._database.execute(query, values).fetchnumpy()
        except duckdb.Error as error:
            raise BadInputError(f"{paths[0]} cannot be read: {first_line(error)}") from error
        if usable != (events,):
            raise BadInputError(f"{paths[0]} and what follows do not have the events that the journal tells of")
        return found

    def _choose(self) -> None:
        meta, choice = self._meta, self._choice
        chosen = np.isin(self._keys["kind"], list(choice.kinds or Kind))
        if choice.sites is not None:
            wanted = np.array([choice.sites(site) for site in meta.sites], bool)
            chosen &= wanted[self._keys["site"]]
        keys = {"key": np.flatnonzero(chosen).astype(np.uint32), "eighth_shift": fill_shifts(self._keys)[chosen]}
        tables = {"chosen_keys": keys, "chosen_tasks": self._tasks(), "moves": moves(self._keys, chosen)}
        for name, columns in tables.items():
            self._database.register("given", columns)
            self._database.execute(f"CREATE TEMP TABLE {name} AS SELECT * FROM given")  # noqa: S608  # one of three
            self._database.unregister("given")

    def _tasks(self) -> dict[str, Array]:
        """The tasks wanted, and the one that each is shown as; none where nothing depends on them."""
        choice, shown, firsts = self._choice, [], dict[object, int]()
        if choice.tasks or choice.by_task:
            for number, task in self._meta.tasks.items():
                if choice.tasks is None or choice.tasks(task):
                    first = firsts.setdefault(choice.by_task(task), number) if choice.by_task else 0
                    shown.append((number, first))
        table = np.array(shown, np.uint32).reshape(-1, 2)
        return {"task": table[:, 0].copy(), "shown": table[:, 1].copy()}

    def _rows(self, found: dict[str, Array]) -> Rows:
        rows = np.zeros(len(found["key"]), ROW)
        keys = self._keys[found["key"]]
        for name in KEY:
            rows[name] = keys[name]
        rows["task"] = found["task"]
        rows["count"], rows["bytes_requested"] = found["count"], found["bytes_requested"]
        for name in ("min_request", "max_request"):
            rows[name] = np.clip(found[name], 0, _NO_REQUEST)
        kmallocs = np.flatnonzero(rows["kind"] == Kind.KMALLOC)
        rows["fill"][kmallocs, found["eighth"][kmallocs].astype(np.int64) % FILL_BUCKETS] = found["count"][kmallocs]
        return sized(rows, self._meta)


def matching(pattern: str | None) -> Callable[[str], bool] | None:
    """Whether a regular expression is found in a text; UsageError where it is not one, None for none."""
    if pattern is None:
        return None
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"{pattern!r} is not a regular expression: {error}") from error
    return lambda text: compiled.search(text) is not None
