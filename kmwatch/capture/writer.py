"""Writing a capture in a thread of its own, so that reading the events never waits for the disk."""

import errno
import queue
import re
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import duckdb

from kmwatch.capture import tables
from kmwatch.capture.journal import Entry
from kmwatch.capture.layout import META, TABLES, segment_name
from kmwatch.capture.manifest import to_json
from kmwatch.capture.store import Store
from kmwatch.errors import KmwatchError
from kmwatch.events import Recorder, Segment

_NO_SPACE = re.compile("No space left|Disk quota exceeded")
_WAITING = 4  # segments between the reading and the writing thread


class FullError(KmwatchError):
    """There is no more room, on the disk or as far as allowed; what is written is whole."""


class Writer:
    """A capture being written; a context manager around the writing thread.

    Args:
        directory: made here; see Store.
        recorder: whose meta and keys the segments refer to.
        extra: what else meta.json shall tell.
        force: replace a capture that is there.
        most: bytes that the capture may take; None for no limit.
        rotate: at `most`, drop the oldest segments instead of stopping.
    """

    def __init__(
        self,
        directory: Path,
        recorder: Recorder,
        extra: dict[str, Any],
        *,
        force: bool = False,
        most: int | None = None,
        rotate: bool = False,
    ) -> None:
        self._directory, self._recorder, self._extra = directory, recorder, extra
        self._most, self._rotate = most, rotate
        self._store = Store(directory, force=force)
        self._lengths = dict.fromkeys(TABLES, -1)
        self._segments: deque[tuple[str, int]] = deque()  # what can be dropped: file and events
        self._number = 0
        self.events, self.seconds, self.lost = 0, 0.0, 0
        self.error: BaseException | None = None
        """Why nothing more is written; FullError where there is no more room."""
        self._queue: queue.Queue[Segment | None] = queue.Queue(_WAITING)
        self._thread = threading.Thread(target=self._run, name="kmwatch-writer", daemon=True)

    def __enter__(self) -> Self:
        try:
            self._store.put_json(META, self._manifest())
            self._write_tables()
        except BaseException as error:
            self._store.close()
            raise _why(error, self._directory) from error
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._join()
        self._store.close()

    def so_far(self) -> dict[str, Any]:
        """What is written: seconds, events, lost (events), bytes (on the disk)."""
        return {"seconds": self.seconds, "events": self.events, "lost": self.lost, "bytes": self._store.bytes}

    def write(self, segment: Segment) -> None:
        """Hand a segment to the writing thread; waits while that is behind. Nothing happens after an error."""
        if self.error is None:
            self._queue.put(segment)

    def finish(self, reason: str, totals: dict[str, Any]) -> None:
        """Write what waits, and how the recording ended. Raises what kept it from being written, but not FullError."""
        self._join()
        written = self.so_far()

        def end() -> Entry:
            return {"reason": str(self.error or reason), **written, **totals}

        self._attempt(lambda: self._store.put_json(META, {**self._manifest(), "end": end()}))
        self._attempt(lambda: self._store.journal.append({"end": end()}))  # one line finds room where a file did not

    def _attempt(self, write: Callable[[], None]) -> None:
        if self.error is None or isinstance(self.error, FullError):
            try:
                write()
            except BaseException as error:  # noqa: BLE001  # raised again below
                self.error = _why(error, self._directory)
        if self.error is not None and not isinstance(self.error, FullError):
            raise self.error

    def _join(self) -> None:
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def _manifest(self) -> dict[str, Any]:
        return {**to_json(self._recorder.meta), **self._extra}

    def _run(self) -> None:
        while (segment := self._queue.get()) is not None:
            try:
                if self.error is None:
                    self._write(segment)
            except BaseException as error:  # noqa: BLE001  # raised again in the thread that finishes
                self.error = _why(error, self._directory)

    def _write(self, segment: Segment) -> None:
        self._write_tables()
        entry = _entry(segment)
        if len(segment):
            self._number += 1
            name = segment_name(self._number)
            self._store.put_segment(name, segment.columns, entry)
            if self._rotate:
                self._segments.append((name, len(segment)))
        else:
            self._store.journal.append(entry)
        self.events += len(segment)
        self.seconds = segment.start + segment.seconds
        self.lost += segment.trust.lost
        self._stay_within_bounds()

    def _write_tables(self) -> None:
        """Before the events that refer to them."""
        meta, keys = self._recorder.meta, self._recorder.keys
        for name, length in tables.lengths(meta, keys).items():
            if length > self._lengths[name]:
                self._store.put_table(name, TABLES[name], tables.columns(name, meta, keys))
                self._lengths[name] = length

    def _stay_within_bounds(self) -> None:
        if self._most is None or self._store.bytes <= self._most:
            return
        if not self._rotate:
            raise FullError(f"--max-size reached, {self._store.bytes:,} bytes")
        while self._store.bytes > self._most and len(self._segments) > 1:
            self._store.drop(*self._segments.popleft())


def _entry(segment: Segment) -> Entry:
    times = segment.columns["time"]
    return {
        "events": len(segment),
        "start": round(segment.start, 6),
        "seconds": round(segment.seconds, 6),
        "first": int(times.min()) if len(times) else 0,
        "last": int(times.max()) if len(times) else 0,
        "trust": {name: value for name, value in asdict(segment.trust).items() if value},
        "cost": [round(segment.cost.kernel, 6), round(segment.cost.own, 6)],
    }


def _why(error: BaseException, directory: Path) -> BaseException:
    """What the disk refuses, in words: FullError where there is no more room. Any other error is itself."""
    no_space = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if no_space or (isinstance(error, duckdb.Error) and _NO_SPACE.search(str(error))):
        return FullError(f"the disk of {directory} is full")
    if isinstance(error, OSError | duckdb.Error):
        return KmwatchError(f"cannot write to {directory}: {str(error).partition(chr(10))[0]:.200}")
    return error
