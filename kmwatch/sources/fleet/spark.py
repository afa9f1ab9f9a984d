"""Captures added up by Apache Spark: ledger.sql in its dialect, over the events of all captures at once.

A key's number means something in one capture only: here it has the capture's number above it. The driver opens the
captures, which are small without their events; digests and sums are the workers' work (worker.py). What they count of a
capture must be what its journal tells, as with DuckDB.
"""

import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from kmwatch.batch import Batch
from kmwatch.capture.choosing import chosen_keys, rows_of, shown_tasks
from kmwatch.capture.folding import ALWAYS, LEDGER_SQL
from kmwatch.errors import BadInputError, KmwatchError, NotPossibleError
from kmwatch.events import Array, fill_shifts
from kmwatch.fleet.layout import Place
from kmwatch.fleet.remote import is_url
from kmwatch.fleet.staging import reason, staged
from kmwatch.sources.capture import CaptureSource, OutsideError, Part
from kmwatch.sources.fleet.engine import Folded, Opening, Skipped, hosted
from kmwatch.units import printable

_KEY_BITS, _TASK_BITS = 20, 32  # of a capture's own numbers
_EVENTS = f"""
SELECT (capture << {_KEY_BITS}) + key AS key, requested, 0L AS `time`, {{shown}} AS shown FROM recorded {{joined}}
"""  # noqa: S608  # numbers and texts from here; workers choose by time
_COUNTED = "SELECT 0L AS key, 0L AS requested, 0L AS task, 0 AS slice, 0L AS count WHERE false"  # workers read events
_TASKS = f"LEFT JOIN chosen_tasks t ON t.task = (recorded.capture << {_TASK_BITS}) + recorded.task"
_FOUND = ("key", "task", "eighth", "count", "bytes_requested", "min_request", "max_request")
_TRACEBACK = "Traceback (most recent call last):"
_LONGEST = 300  # characters of what went wrong


@dataclass
class _Opened:
    """A capture that the driver has opened.

    digests: of its files, as they are to be.
    part: what it has, once workers have looked; None where its files do not have the events that its journal tells of.
    """

    place: Place
    source: CaptureSource
    digests: dict[Path, str]
    part: Part | None = None

    def judge(self, found: dict[Path, tuple[str, int]]) -> None:
        """Take what workers found of its files: the digest, and how many events can be used."""
        self.source.capture.learn({path: digest for path, (digest, _) in found.items()})
        part = self.source.whole()
        self.part = part if sum(found[path][1] for path in part.files) == part.events else None


_File = tuple[int, _Opened, Path]
"""A file, with its capture and what number that has."""


class Spark:
    """On a cluster, whose workers find captures where this machine does: by the same paths, or behind URLs.

    Args:
        master: as Spark understands it: `local[4]`, `spark://HOST:7077`; None for what Spark's own settings say.
    """

    def __init__(self, master: str | None = None) -> None:
        self._master = master

    def fold(self, places: Sequence[Place], opening: Opening) -> Iterator[Folded | Skipped]:
        """Each capture. Raises NotPossibleError without Spark, or where it cannot do it."""
        with ExitStack() as stack:
            opened = [_open(place, opening, stack) for place in places]
            captures = [each for each in opened if isinstance(each, _Opened)]
            with _session(self._master) as session:
                _look(session, captures)
                usable = [each for each in captures if each.part]
                found = _sums(session, usable)
        number = 0
        for each in opened:
            if isinstance(each, _Opened) and each.part:
                yield _folded(each, each.part, found.get(number))
                number += 1
            elif isinstance(each, _Opened):
                yield Skipped(each.place, "its files do not have the events that the journal tells of")
            elif each:
                yield each


def _open(place: Place, opening: Opening, stack: ExitStack) -> _Opened | Skipped | None:
    directory = Path(place.url)  # until there is a copy
    try:
        directory = stack.enter_context(staged(place, events=False))
        source = opening(directory)
    except OutsideError:
        return None
    except (BadInputError, NotPossibleError) as error:
        return Skipped(place, reason(error, place, directory))
    hosted(source.meta, place)
    return _Opened(place, source, {each.path: each.sha256 for each in source.capture.segments if each.path})


@contextmanager
def _session(master: str | None) -> Iterator[Any]:
    """A session of Spark's, stopped at the end. What its programs complain of is one line."""
    if not shutil.which("java") and "JAVA_HOME" not in os.environ:
        raise NotPossibleError("Spark needs Java 17 or later: apt install default-jre-headless")
    try:
        from pyspark import cloudpickle
        from pyspark.errors import PySparkException
        from pyspark.sql import SparkSession

        from kmwatch.sources.fleet import worker
    except ImportError as error:
        raise NotPossibleError("--engine spark needs a package: pip install 'kmwatch[fleet]'") from error
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.appName("kmwatch").config("spark.ui.enabled", "false")
    builder = builder.config("spark.log.level", "ERROR").config("spark.ui.showConsoleProgress", "false")
    session = None
    try:
        with _quiet():
            session = (builder.master(master) if master else builder).getOrCreate()
        cloudpickle.register_pickle_by_value(worker)  # type: ignore[no-untyped-call]
        session.dataSource.register(worker.Events)
        yield session
    except PySparkException as error:
        raise NotPossibleError(f"Spark could not do it: {_said(error)}") from error
    except KmwatchError:
        raise
    except Exception as error:
        # Of py4j and the JVM, which have classes of their own for what goes wrong.
        said, of_worker = _said(error), _TRACEBACK in str(error)
        hint = "" if of_worker else f"; is {master or 'its master'} there?"
        raise NotPossibleError(f"Spark could not do it: {said}{hint}") from error
    finally:
        if session is not None:
            session.stop()


def _said(error: Exception) -> str:
    """What is wrong: the error that a worker's traceback ends with, that of the JVM, or else the first line."""
    _, traceback, after = str(error).rpartition(_TRACEBACK)
    lines = after.strip("\n").split("\n")
    frames = sum(1 for _ in takewhile(lambda line: line[:1].isspace(), lines)) if traceback else 0
    of_jvm = [line.removeprefix(": ") for line in lines if line.startswith(": ") and not traceback]
    return printable([*of_jvm, *lines[frames:], ""][0])[:_LONGEST]


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


def _look(session: Any, captures: Sequence[_Opened]) -> None:
    """Let workers look at all files, and leave out those that are not what was written."""
    from kmwatch.sources.fleet import worker

    files = [(number, each, path) for number, each in enumerate(captures) for path in each.digests]
    context, found = session.sparkContext, [dict[Path, tuple[str, int]]() for _ in captures]
    looks = context.parallelize(_told(files), _tasks(session, files)).map(worker.look).collect()
    for (number, _, path), look in zip(files, looks, strict=True):
        found[number][path] = look
    for number, each in enumerate(captures):
        each.judge(found[number])


def _tasks(session: Any, files: Sequence[_File]) -> int:
    """Some for each core."""
    cores = int(session.sparkContext.defaultParallelism)
    return max(1, min(len(files), 4 * cores))


def _told(files: Sequence[_File]) -> list[tuple[str, str, int, int, int, int]]:
    """What workers are told of files, in the order of worker.File: plain, as they do not know that class."""
    told = []
    for number, each, path in files:
        url, keys = f"{_absolute(each.place.url)}/{path.name}", len(each.source.capture.keys)
        first, end = (each.part.first, each.part.last) if each.part else ALWAYS
        told.append((url, each.digests[path], number, keys, first, end))
    return told


def _absolute(url: str) -> str:
    """The same place for a worker, whose directory is another."""
    return url if is_url(url) else str(Path(url).absolute())


def _sums(session: Any, captures: Sequence[_Opened]) -> dict[int, dict[str, Array]]:
    """What ledger.sql gives of each capture, by its number; nothing where none has events."""
    files = [(number, each, path) for number, each in enumerate(captures) if each.part for path in each.part.files]
    if not files:
        return {}
    with TemporaryDirectory(prefix="kmwatch-") as directory:
        _show_recorded(session, files, Path(directory) / "files.json")
        _show_events(session, captures)
        table = session.sql(_in_dialect()).toArrow()
    columns = {name: table.column(name).to_numpy() for name in table.column_names}
    number = columns["key"] >> _KEY_BITS
    order = np.argsort(number, kind="stable")
    bounds = np.searchsorted(number[order], np.arange(len(captures) + 1))
    return {
        at: {name: column[order[bounds[at] : bounds[at + 1]]] for name, column in columns.items()}
        for at in range(len(captures))
    }


def _show_recorded(session: Any, files: Sequence[_File], listed: Path) -> None:
    """Make the view of all events that files have, which are listed for workers at a path."""
    from kmwatch.sources.fleet.worker import Events

    told, tasks = _told(files), _tasks(session, files)
    listed.write_text(json.dumps([told[at::tasks] for at in range(tasks)]), encoding="utf-8")
    session.read.format(Events.name()).option("files", str(listed)).load().createOrReplaceTempView("recorded")


def _show_events(session: Any, captures: Sequence[_Opened]) -> None:
    """Make the views that ledger.sql asks, as kmwatch/ledger.sql describes them, of all captures."""
    chosen = [_chosen(number, each) for number, each in enumerate(captures)]
    for name, part in (("chosen_keys", 0), ("chosen_tasks", 1)):
        tables = [both[part] for both in chosen]
        _table(session, name, {column: np.concatenate([each[column] for each in tables]) for column in tables[0]})
    choice = captures[0].source.choice
    shown, joined = "0L", ""
    if choice.tasks or choice.by_task:
        shown, joined = ("t.shown" if choice.tasks else "coalesce(t.shown, 0L)"), _TASKS
    session.sql(_EVENTS.format(shown=shown, joined=joined)).createOrReplaceTempView("events")
    session.sql(_COUNTED).createOrReplaceTempView("counted")


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


def _folded(each: _Opened, part: Part, found: dict[str, Array] | None) -> Folded:
    source = each.source
    keys = source.capture.keys
    if found is None:
        found = {name: np.zeros(0, np.int64) for name in _FOUND}
    rows = rows_of(found, keys[found["key"] & ((1 << _KEY_BITS) - 1)], source.meta)
    return Folded(each.place, source.meta, [Batch(rows, part.start, part.seconds, part.trust, part.cost)])
