"""Files of a capture, so that none is ever half there: written aside, made durable, told to the journal, renamed."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kmwatch.capture import counts, journal
from kmwatch.capture.engine import connect
from kmwatch.capture.journal import Entry, Journal
from kmwatch.capture.layout import EVENTS, JOURNAL, META, TABLES, Field, segment_number
from kmwatch.errors import UsageError
from kmwatch.events import Columns

# One row group for a segment: its pointers come again and again, and stand once. A filter would tell which values a row
# group has not; there is none to choose from.
_PARQUET = (
    "FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, PARQUET_VERSION v2, ROW_GROUP_SIZE 1048576, "
    "WRITE_BLOOM_FILTER false, DICTIONARY_SIZE_LIMIT 65536"
)
_LINES = 512  # segments dropped until the journal is written anew without them


class Store:
    """The directory of a capture being written.

    Args:
        directory: made here where it is missing; what is in it must be a capture, and `force` given, to be replaced.

    Raises UsageError where the directory cannot be had.
    """

    def __init__(self, directory: Path, *, force: bool = False) -> None:
        self._directory = directory
        self.journal = _prepare(directory, force=force)
        self.bytes = 0
        """Of all files on the disk, the journal left out."""
        self._replaced: dict[str, int] = {}  # bytes of the files that are written more than once
        self._dropped = 0
        self._duckdb = connect("512MB", threads=1)

    def put_json(self, name: str, data: dict[str, Any]) -> None:
        """Write a JSON file."""
        text = json.dumps(data, indent=1).encode() + b"\n"
        self._put(name, lambda temporary: temporary.write_bytes(text), {})

    def put_table(self, name: str, fields: tuple[Field, ...], columns: Columns) -> None:
        """Write a table that segments refer to."""
        self._put(name, lambda temporary: self._copy(temporary, fields, columns), {})

    def put_segment(self, name: str, columns: Columns, entry: Entry) -> None:
        """Write the events of a segment, with their counts; `entry` joins its line in the journal."""
        self._put(name, lambda temporary: self._copy(temporary, EVENTS, columns, counted=True), entry)

    def drop(self, name: str, events: int) -> None:
        """Remove a segment of so many events: the journal tells how many went that way, and is kept short."""
        path = self._directory / name
        self._dropped += events
        self.journal.append({"dropped": name, "dropped_events": self._dropped})
        self.bytes -= path.stat().st_size
        path.unlink()
        if segment_number(name) in range(0, 1 << 62, _LINES):
            self.journal.replace([{"dropped_events": self._dropped}, *self._kept()])

    def close(self) -> None:
        """Free everything; the files stay."""
        self._duckdb.close()
        self.journal.close()

    def _copy(self, to: Path, fields: tuple[Field, ...], columns: Columns, *, counted: bool = False) -> None:
        types = ", ".join(f'"{field.name}"::{field.type} AS "{field.name}"' for field in fields)
        path = str(to.absolute()).replace("'", "''")
        self._duckdb.register("columns", columns)
        told = counts.of(self._duckdb, len(columns["key"])) if counted else b""
        options = f"{_PARQUET}, KV_METADATA {{'{counts.NAME}': $told}}" if told else _PARQUET
        # The path and the names are ours, and neither can be a parameter.
        copy = f"COPY (SELECT {types} FROM columns) TO '{path}' ({options})"  # noqa: S608
        self._duckdb.execute(copy, {"told": told} if told else None)
        self._duckdb.unregister("columns")

    def _put(self, name: str, write: Callable[[Path], Any], extra: Entry) -> None:
        temporary = self._directory / f".{name}.tmp"
        try:
            write(temporary)
            digest, size = _make_durable(temporary)
            self.journal.append({"file": name, "bytes": size, "sha256": digest, **extra})
            temporary.replace(self._directory / name)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync(self._directory)
        if segment_number(name) is None:
            self.bytes -= self._replaced.get(name, 0)
            self._replaced[name] = size
        self.bytes += size

    def _kept(self) -> list[Entry]:
        """The lines of the journal without what is over: segments dropped and all before them, tables written again."""
        entries = journal.read(self._directory).entries
        gone = {entry.get("dropped") for entry in entries}
        lines = {entry["file"]: at for at, entry in enumerate(entries) if "file" in entry and entry["file"] not in gone}
        oldest = min(at for name, at in lines.items() if segment_number(name) is not None)
        spans = (at for at, entry in enumerate(entries) if "seconds" in entry and "file" not in entry)
        return [entries[at] for at in sorted({*lines.values(), *(at for at in spans if at > oldest)})]


def _make_durable(path: Path) -> tuple[str, int]:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return digest, file.tell()


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def refuse_target(directory: Path, *, force: bool) -> None:
    """Raise UsageError unless a capture can be written there: no directory yet, an empty one, or one to replace."""
    inside = _inside(directory)
    if not inside:
        return
    if JOURNAL not in inside or not all(map(_is_ours, inside)):
        raise UsageError(f"{directory} is not empty and no capture: choose another directory")
    if not force:
        raise UsageError(f"{directory} has a capture: --force replaces it")


def _prepare(directory: Path, *, force: bool) -> Journal:
    refuse_target(directory, force=force)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        # The journal goes last: as long as it is there, this is a capture, if a damaged one.
        for name in sorted(_inside(directory), key=lambda name: name == JOURNAL):
            (directory / name).unlink()
        return Journal(directory)
    except OSError as error:
        raise UsageError(f"cannot write to {directory}: {error.strerror}") from error


def _inside(directory: Path) -> list[str]:
    try:
        return os.listdir(directory)  # noqa: PTH208  # names are all that is wanted
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UsageError(f"cannot use the directory {directory}: {error.strerror}") from error


def _is_ours(name: str) -> bool:
    aside = name.startswith(".") and name.endswith(".tmp")
    plain = name[1:-4] if aside else name
    return plain in (META, JOURNAL, *TABLES) or segment_number(plain) is not None
