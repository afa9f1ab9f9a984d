"""Captures added up by Apache Spark: ledger.sql in its dialect, over the events of all captures at once.

A key's number means something in one capture only: here it has the capture's number above it. The driver opens the
captures, which are small without their events; digests and sums are the workers' work. What they count of a capture
must be what its journal tells, as with DuckDB.
"""

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np

from kmwatch.batch import Batch
from kmwatch.capture.choosing import chosen_keys, rows_of, shown_tasks
from kmwatch.capture.folding import LEDGER_SQL
from kmwatch.errors import BadInputError, KmwatchError, NotPossibleError, UsageError
from kmwatch.events import Array, fill_shifts
from kmwatch.fleet.layout import Place
from kmwatch.fleet.remote import is_url
from kmwatch.sources.capture import CaptureSource, OutsideError, Part
from kmwatch.sources.fleet.engine import Folded, Opening, Skipped, hosted
from kmwatch.units import printable

_KEY_BITS, _TASK_BITS = 20, 32  # of a capture's own numbers
_COLUMNS = "`time` LONG, `key` LONG, requested LONG, task LONG"
_RECORDED = """
SELECT f.capture, f.usable_keys, e.* FROM (SELECT *, input_file_name() AS file FROM written) e JOIN files f USING (file)
"""
# A key that its capture has not could be one of the next capture's.
_EVENTS = f"""
SELECT (capture << {_KEY_BITS}) + key AS key, requested, `time`, {{shown}} AS shown
FROM recorded {{joined}} WHERE key < usable_keys
"""  # noqa: S608  # numbers and texts from here
_TASKS = f"LEFT JOIN chosen_tasks t ON t.task = (recorded.capture << {_TASK_BITS}) + recorded.task"
_USABLE = """
SELECT capture, count_if(key < usable_keys AND requested >= 0 AND `time` IS NOT NULL AND task IS NOT NULL) AS usable
FROM recorded GROUP BY capture
"""
_HADOOP_GLOB = str.maketrans({letter: f"\\{letter}" for letter in "\\*?[]{}"})
_FIRST_LINE = 300


@dataclass
class _Opened:
    """A capture that the driver has opened."""

    place: Place
    source: CaptureSource
    part: Part | None = None


class Spark:
    """On a cluster, whose workers read captures by the same paths as this machine does.

    Args:
        master: as Spark understands it: `local[4]`, `spark://HOST:7077`; None for what Spark's own settings say.
    """

    def __init__(self, master: str | None = None) -> None:
        self._master = master

    def fold(self, places: Sequence[Place], opening: Opening) -> Iterator[Folded | Skipped]:
        """Each capture. Raises UsageError for places that workers cannot open, NotPossibleError without Spark."""
        if remote := [place for place in places if is_url(place.url)]:
            raise UsageError(f"workers open captures by path, not {printable(remote[0].url):.80}: --engine duckdb")
        opened = [_open(place, opening) for place in places]
        captures = [each for each in opened if isinstance(each, _Opened)]
        with _session(self._master) as session:
            _check(session, captures)
            found = _sums(session, captures) if any(each.part and each.part.files for each in captures) else {}
        number = 0
        for each in opened:
            if isinstance(each, Skipped):
                yield each
            elif each:
                yield _folded(each, found.get(number))
                number += 1


def _open(place: Place, opening: Opening) -> _Opened | Skipped | None:
    try:
        source = opening(Path(place.url))
    except OutsideError:
        return None
    except (BadInputError, NotPossibleError) as error:
        return Skipped(place, str(error))
    hosted(source.meta, place)
    return _Opened(place, source)


@contextmanager
def _session(master: str | None) -> Iterator[Any]:
    """A session of Spark's, stopped at the end. What its programs complain of is one line."""
    if not shutil.which("java") and "JAVA_HOME" not in os.environ:
        raise NotPossibleError("Spark needs Java 17 or later: apt install default-jre-headless")
    try:
        from pyspark.errors import PySparkException
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise NotPossibleError("--engine spark needs a package: pip install 'kmwatch[fleet]'") from error
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.appName("kmwatch").config("spark.ui.enabled", "false")
    builder = builder.config("spark.log.level", "ERROR").config("spark.ui.showConsoleProgress", "false")
    builder = builder.config("spark.sql.files.ignoreCorruptFiles", "true")  # what is missing then is noticed
    session = None
    try:
        with _quiet():
            session = (builder.master(master) if master else builder).getOrCreate()
        yield session
    except PySparkException as error:
        said = printable(str(error).partition("\n")[0])[:_FIRST_LINE]
        raise NotPossibleError(f"Spark could not do it: {said}") from error
    except KmwatchError:
        raise
    except Exception as error:
        # Of py4j and the JVM, which have classes of their own for what goes wrong.
        said = printable(str(error).partition("\n")[0])[:_FIRST_LINE]
        raise NotPossibleError(f"Spark could not do it: {said}; is {master or 'its master'} there?") from error
    finally:
        if session is not None:
            session.stop()


@contextmanager
def _quiet() -> Iterator[None]:
    """The JVM that starts meanwhile has nowhere to write its warnings to; what goes wrong in it is told as an error."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _check(session: Any, captures: Sequence[_Opened]) -> None:
    """Let workers look at all files, and leave out those that are not what was written."""

    def digest(path: str) -> str:
        # By itself: workers need not have kmwatch.
        import hashlib
        from pathlib import Path as Local

        try:
            with Local(path).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            return ""

    segments = [segment for each in captures for segment in each.source.capture.segments if segment.path]
    paths = [str(segment.path) for segment in segments]
    context = session.sparkContext
    slices = max(1, min(len(paths), 4 * context.defaultParallelism))
    digests = dict(zip(paths, context.parallelize(paths, slices).map(digest).collect(), strict=True))
    for each in captures:
        capture = each.source.capture
        capture.learn({one.path: digests[str(one.path)] for one in capture.segments if one.path})
        each.part = each.source.whole()


def _sums(session: Any, captures: Sequence[_Opened]) -> dict[int, dict[str, Array]]:
    """What ledger.sql gives of each capture, by its number; without those that have other events than they should."""
    parts = [each.part for each in captures]
    files = {str(path): number for number, part in enumerate(parts) if part for path in part.files}
    _show(session, captures, files)
    usable = {row["capture"]: row["usable"] for row in session.sql(_USABLE).collect()}
    table = session.sql(_in_dialect()).toArrow()
    columns = {name: table.column(name).to_numpy() for name in table.column_names}
    number = columns["key"] >> _KEY_BITS
    order = np.argsort(number, kind="stable")
    bounds = np.searchsorted(number[order], np.arange(len(captures) + 1))
    found = {}
    for at, each in enumerate(captures):
        chosen = order[bounds[at] : bounds[at + 1]]
        if each.part and usable.get(at, 0) == each.part.events:
            found[at] = {name: column[chosen] for name, column in columns.items()}
    return found


def _show(session: Any, captures: Sequence[_Opened], files: dict[str, int]) -> None:
    """Make the views that ledger.sql asks, as kmwatch/ledger.sql describes them, of all captures."""
    reader = session.read.schema(_COLUMNS).option("recursiveFileLookup", "true")
    written = reader.parquet(*(path.translate(_HADOOP_GLOB) for path in files))
    written.createOrReplaceTempView("written")
    # As Spark spells them in input_file_name().
    spelled = [(name, files[unquote(urlsplit(name).path)]) for name in written.inputFiles()]
    keys = [len(each.source.capture.keys) for each in captures]
    numbers = np.array([number for _, number in spelled], np.int64)
    _table(
        session,
        "files",
        {
            "file": np.array([name for name, _ in spelled], object),
            "capture": numbers,
            "usable_keys": np.array(keys, np.int64)[numbers],
        },
    )
    chosen = [_chosen(number, each) for number, each in enumerate(captures)]
    for name, part in (("chosen_keys", 0), ("chosen_tasks", 1)):
        tables = [both[part] for both in chosen]
        _table(session, name, {column: np.concatenate([each[column] for each in tables]) for column in tables[0]})
    choice = captures[0].source.choice
    shown, joined = "0L", ""
    if choice.tasks or choice.by_task:
        shown, joined = ("t.shown" if choice.tasks else "coalesce(t.shown, 0L)"), _TASKS
    session.sql(_RECORDED).createOrReplaceTempView("recorded")
    session.sql(_EVENTS.format(shown=shown, joined=joined)).createOrReplaceTempView("events")


def _chosen(number: int, each: _Opened) -> tuple[dict[str, Array], dict[str, Array]]:
    """The tables `chosen_keys` and `chosen_tasks` of one capture, with its number above theirs."""
    source = each.source
    keys = source.capture.keys
    wanted = np.flatnonzero(chosen_keys(source.meta, keys, source.choice))
    tasks = {name: column.astype(np.int64) for name, column in shown_tasks(source.meta, source.choice).items()}
    tasks["task"] += number << _TASK_BITS
    shifts = fill_shifts(keys)[wanted].astype(np.int32)
    return {"key": wanted.astype(np.int64) + (number << _KEY_BITS), "eighth_shift": shifts}, tasks


def _table(session: Any, name: str, columns: dict[str, Array]) -> None:
    import pyarrow as pa

    session.createDataFrame(pa.table(columns)).createOrReplaceTempView(name)


def _in_dialect() -> str:
    """ledger.sql as Spark understands it, of all times at once."""
    import sqlglot
    from sqlglot import exp

    def valued(node: exp.Expression) -> exp.Expression:
        return exp.Literal.number(0) if isinstance(node, exp.Placeholder) else node

    return sqlglot.parse_one(LEDGER_SQL, read="duckdb").transform(valued).sql(dialect="spark", comments=False)


def _folded(each: _Opened, found: dict[str, Array] | None) -> Folded | Skipped:
    part, source = each.part, each.source
    if part is None or (part.events and found is None):
        return Skipped(each.place, "its files do not have the events that the journal tells of")
    keys = source.capture.keys
    if found is None:
        found = {name: np.zeros(0, np.int64) for name in ("key", "task", "eighth", *_SUMS)}
    rows = rows_of(found, keys[found["key"] & ((1 << _KEY_BITS) - 1)], source.meta)
    return Folded(each.place, source.meta, [Batch(rows, part.start, part.seconds, part.trust, part.cost)])


_SUMS = ("count", "bytes_requested", "min_request", "max_request")
