"""Opening a capture: what it says of its kernel and its files, and which of them are what was written."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from kmwatch.batch import Cost, Meta, Rows, Trust
from kmwatch.capture import journal, manifest, tables
from kmwatch.capture.engine import first_line, shared
from kmwatch.capture.journal import Entry
from kmwatch.capture.layout import JOURNAL, META, TABLES, Field, is_plain, parquet, segment_number
from kmwatch.errors import BadInputError
from kmwatch.events import Columns
from kmwatch.units import printable

_LONGEST_WORD, _MOST_NOTES = 1000, 100  # of what an imported text is said to be
_LARGEST_META = 64 << 20
_LARGEST_TABLE = 1 << 30
_MOST = 1e18
_TRUST = tuple(vars(Trust()))


@dataclass(frozen=True)
class SegmentFile:
    """One segment as the journal tells of it: `start`, `seconds` in seconds, `first`, `last` event in nanoseconds."""

    path: Path | None
    sha256: str
    events: int
    start: float
    seconds: float
    first: int
    last: int
    trust: Trust
    cost: Cost


class Capture:
    """A capture on the disk. What is wrong with it is told in `doubts`, a line each; its segments stay as they are.

    Raises BadInputError where the directory is no capture, or nothing can be known without what is damaged in it.
    """

    def __init__(self, directory: Path) -> None:
        if not directory.is_dir():
            raise BadInputError(f"{directory} is not a directory: a capture is one; `kmwatch record -o DIR` makes it")
        if not (path := str(directory.absolute())).isascii() and path != os.fsencode(path).decode(errors="replace"):
            raise BadInputError(f"{printable(path):.200} is no UTF-8: rename it, for DuckDB opens no such path")
        self.directory = directory
        found = journal.read(directory)
        self._entries = found.entries
        self.doubts: list[str] = []
        self._checked: dict[Path, bool] = {}
        self._digests: dict[Path, str] = {}
        self.end: Entry | None = next(
            (each["end"] for each in found.entries if isinstance(each.get("end"), dict)), None
        )
        bad = len(found.bad) + (found.cut and self.end is not None)  # nothing is written after the end
        if bad:
            self.doubts.append(f"{JOURNAL} is damaged in {bad} lines: what they told of is left out")
        self.manifest = self._manifest()
        self.meta: Meta = manifest.from_json(self.manifest)
        self.meta.doubts = self.doubts
        self.keys: Rows = self._tables()
        self.dropped_events = max((_number(each, "dropped_events", 0) for each in found.entries), default=0)
        self.segments = self._segments()
        self.imported = _imported(self.manifest.get("imported"))
        if skipped := self.imported.get("skipped", 0):
            self.doubts.append(f"lines of the {self.imported['kind']} text that were not understood: {skipped:,}")
        if self.end is None:
            self.doubts.append(f"the recording was cut: it goes to {self.seconds:.1f} s and has no end")

    @property
    def seconds(self) -> float:
        """Where the last segment ends, in seconds since the start."""
        return max((segment.start + segment.seconds for segment in self.segments), default=0.0)

    @property
    def events(self) -> int:
        """Events of all segments, as the journal counts them."""
        return sum(segment.events for segment in self.segments)

    def is_whole(self, segment: SegmentFile) -> bool:
        """Whether the file of a segment is there and what was written; looked at once, and told in `doubts` if not."""
        path = segment.path
        if path is None:
            return True
        if path not in self._checked:
            digest = self._digests.pop(path) if path in self._digests else _digest(path)
            self._checked[path] = whole = digest == segment.sha256
            if not whole:
                what = "damaged" if path.exists() else "missing"
                self.doubts.append(f"{path.name} is {what}: its {segment.events:,} events are in no number")
        return self._checked[path]

    def look_at(self, segments: Iterable[SegmentFile]) -> None:
        """Read the files of segments on all CPUs, so that is_whole() need not read them one by one."""
        known = self._checked.keys() | self._digests.keys()
        paths = [each.path for each in segments if each.path and each.path not in known]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            self._digests.update(zip(paths, pool.map(_digest, paths), strict=True))

    def learn(self, digests: Mapping[Path, str]) -> None:
        """What the digests of files are, looked at elsewhere: is_whole() compares them."""
        self._digests.update(digests)

    def check(self) -> None:
        """Look at every segment, so that `doubts` are complete."""
        self.look_at(self.segments)
        for segment in self.segments:
            self.is_whole(segment)

    def _manifest(self) -> dict[str, Any]:
        path = self.directory / META
        try:
            if path.stat().st_size > _LARGEST_META:
                raise BadInputError(f"{path} is over {_LARGEST_META >> 20} MiB: this is not of a capture")
            self._hold(META)
            data = json.loads(path.read_bytes())
        except OSError as error:
            raise BadInputError(f"cannot read {path}: {error.strerror}") from error
        except (ValueError, RecursionError) as error:
            raise BadInputError(f"{path} is not JSON: {error}") from error
        if not isinstance(data, dict):
            raise BadInputError(f"{path} is not of a kmwatch capture")
        return data

    def _hold(self, name: str) -> None:
        """Raise BadInputError where a file is not one that the journal tells of."""
        path = self.directory / name
        digests = {digest for file, digest in journal.digests(self._entries) if file == name}
        if not is_plain(path):
            what = "no file" if path.exists() else "missing"
            raise BadInputError(f"{path} is {what}: the capture cannot be read without it")
        if not digests:
            raise BadInputError(f"{self.directory / JOURNAL} does not tell of {name}: the capture cannot be read so")
        if _digest(path) not in digests:
            raise BadInputError(f"{path} is damaged: it is not what was recorded, and nothing can be told without it")

    def _tables(self) -> Rows:
        with shared() as database:
            found = {name: self._table(database, name, fields) for name, fields in TABLES.items()}
        tables.add_symbols(found["symbols.parquet"], self.meta)
        tables.add_tasks(found["tasks.parquet"], self.meta)
        tables.add_stacks(found["stacks.parquet"], self.meta)
        return tables.keys_from(found["keys.parquet"], self.meta)

    def _table(self, database: duckdb.DuckDBPyConnection, name: str, fields: tuple[Field, ...]) -> Columns:
        self._hold(name)
        path = self.directory / name
        if path.stat().st_size > _LARGEST_TABLE:
            raise BadInputError(f"{path} is over {_LARGEST_TABLE >> 30} GiB: this is not of a capture")
        names = ", ".join(f'"{field.name}"::{field.type} AS "{field.name}"' for field in fields)
        query = f"SELECT {names} FROM {parquet([path])} ORDER BY 1, 2"  # noqa: S608  # names from capture.layout
        try:
            found = dict(database.execute(query).fetchnumpy())
        except duckdb.Error as error:
            raise BadInputError(f"{path} cannot be read: {first_line(error)}") from error
        if any(map(np.ma.is_masked, found.values())):
            raise BadInputError(f"{path} has gaps: this is not of a capture")
        return found

    def _segments(self) -> tuple[SegmentFile, ...]:
        dropped = {each["dropped"] for each in self._entries if isinstance(each.get("dropped"), str)}
        listed = [each for each in self._entries if "seconds" in each and str(each.get("file")) not in dropped]
        found = []
        for at, each in enumerate(listed):
            segment = self._segment(each)
            # The journal is told before the file has its name: the last one may not have got there.
            unborn = self.end is None and at == len(listed) - 1 and segment.path and not segment.path.exists()
            if not unborn:
                found.append(segment)
        names = [segment.path.name for segment in found if segment.path]
        known = set(names)
        if len(known) < len(names):
            raise BadInputError(f"{JOURNAL} names a segment twice: this is not a journal of kmwatch")
        extra = sorted(
            path.name
            for path in self.directory.glob("events-*.parquet")
            if segment_number(path.name) is not None and path.name not in known | dropped
        )
        if extra:
            self.doubts.append(f"{len(extra)} segments that the journal does not tell of are left out: {extra[0]} …")
        return tuple(found)

    def _segment(self, entry: Entry) -> SegmentFile:
        name = entry.get("file")
        if name is not None and (not isinstance(name, str) or segment_number(name) is None):
            raise BadInputError(f"{JOURNAL} names {name!r:.40} as a segment: this is not a journal of kmwatch")
        trust, cost = entry.get("trust"), entry.get("cost")
        if not isinstance(trust, dict) or not isinstance(cost, list):
            raise BadInputError(f"{JOURNAL} has a line without trust and cost: this is not a journal of kmwatch")
        events = int(_number(entry, "events", least=0))
        if (name is None) != (events == 0):
            raise BadInputError(f"{JOURNAL} has {events} events in {name}: this is not a journal of kmwatch")
        kernel, own = [*cost, 0.0, 0.0][:2]
        return SegmentFile(
            path=self.directory / name if name else None,
            sha256=str(entry.get("sha256")),
            events=events,
            start=_number(entry, "start", least=0),
            seconds=_number(entry, "seconds", least=0),
            first=int(_number(entry, "first")),
            last=int(_number(entry, "last")),
            trust=Trust(**{key: int(_number(trust, key, 0)) for key in _TRUST}),
            cost=Cost(_number({"cost": kernel}, "cost"), _number({"cost": own}, "cost")),
        )


def _imported(told: object) -> dict[str, Any]:
    """What meta.json tells of the text that a capture was made from, as far as it has the right form."""
    if not isinstance(told, dict):
        return {}
    counts = {name: told.get(name) for name in ("lines", "events", "skipped", "lost")}
    notes = told.get("notes")
    return {
        "kind": str(told.get("kind"))[:_LONGEST_WORD],
        **{name: count for name, count in counts.items() if type(count) is int and 0 <= count < 1 << 62},
        "notes": [str(note)[:_LONGEST_WORD] for note in notes[:_MOST_NOTES]] if isinstance(notes, list) else [],
    }


def _number(entry: Entry, name: str, default: float | None = None, least: float = -_MOST) -> Any:
    value = entry.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= _MOST:
        raise BadInputError(f"{JOURNAL} has {value!r:.40} as {name}: this is not a journal of kmwatch")
    return value


def _digest(path: Path) -> str:
    """The digest of a file; empty where there is none, or it is another thing."""
    if not is_plain(path):
        return ""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
