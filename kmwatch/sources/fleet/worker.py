"""What Spark's workers run. It is sent to them whole, as they need not have kmwatch: nothing of it is imported here."""

import hashlib
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pyspark.sql.datasource import DataSource, DataSourceReader, InputPartition

if TYPE_CHECKING:
    import pyarrow as pa

_COLUMNS = ("time", "key", "requested", "task")
_AT_ONCE = 1 << 16  # events


class File(NamedTuple):
    """A file with events of a capture.

    url: where it is for workers, an absolute path or a URL. sha256: its digest as it is to be. capture: the number of
    its capture. keys: how many keys that has. first, end: the span that is wanted of it, in nanoseconds.
    """

    url: str
    sha256: str
    capture: int
    keys: int
    first: int
    end: int


def look(told: tuple[str, str, int, int, int, int]) -> tuple[str, int]:
    """The digest of a file, "" where there is none; and how many events it has that can be used."""
    file = File(*told)
    with _local(file.url) as path:
        digest = _digest(path)
        # What kmwatch did not write is not looked into.
        return digest, _usable(path, file.keys) if digest == file.sha256 else 0


class Events(DataSource):
    """The events of files, as a source of Spark's. Option `files`: a path of the driver's, JSON: those of each task."""

    @classmethod
    def name(cls) -> str:
        """What it is called in Spark."""
        return "kmwatch"

    def schema(self) -> str:
        """Columns; without the time, which is chosen by already."""
        return "capture LONG, key LONG, requested LONG, task LONG"

    def reader(self, schema: object) -> DataSourceReader:  # noqa: ARG002  # as Spark calls it
        """What reads them."""
        return _Reader(self.options["files"])


class _Reader(DataSourceReader):
    def __init__(self, files: str) -> None:
        self._files = files

    def partitions(self) -> list[InputPartition]:
        tasks = json.loads(Path(self._files).read_text(encoding="utf-8"))
        return [InputPartition(files) for files in tasks]

    def read(self, partition: InputPartition) -> Iterator["pa.RecordBatch"]:
        for file in partition.value:
            yield from _events(File(*file))


def _events(file: File) -> Iterator["pa.RecordBatch"]:
    """The events that are wanted of a file. A key that its capture has not could be one of the next capture's."""
    import pyarrow as pa
    import pyarrow.compute as pc

    with _local(file.url) as path:
        if _digest(path) != file.sha256:
            raise OSError(f"{file.url} changes while it is read")
        for found in _columns(path):
            wanted = pc.and_(pc.greater_equal(found["time"], file.first), pc.less(found["time"], file.end))
            kept = found.filter(pc.and_(wanted, pc.less(found["key"], file.keys)))
            capture = pa.repeat(pa.scalar(file.capture, pa.int64()), kept.num_rows)
            columns = {name: kept[name] for name in ("key", "requested", "task")}
            yield pa.RecordBatch.from_pydict({"capture": capture, **columns})


@contextmanager
def _local(url: str) -> Iterator[str]:
    """A path of this machine with what is there: a path is one, of a URL there is a copy for that long."""
    if "://" not in url:
        yield url
        return
    with tempfile.TemporaryDirectory(prefix="kmwatch-") as directory:
        copy = f"{directory}/events"
        try:
            from fsspec.core import url_to_fs

            storage, path = url_to_fs(url, use_listings_cache=False)
            storage.get_file(path, copy)
        except FileNotFoundError:
            copy = f"{directory}/none"
        except Exception as error:  # each protocol has errors of its own
            why = f"{error or type(error).__name__}; it takes credentials from its own environment"
            raise OSError(f"a worker cannot fetch {url}: {why}") from error
        yield copy


def _digest(path: str) -> str:
    if not Path(path).is_file() or Path(path).is_symlink():
        return ""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _usable(path: str, keys: int) -> int:
    import pyarrow as pa
    import pyarrow.compute as pc

    count = 0
    try:
        for found in _columns(path):
            usable = pc.and_(pc.less(found["key"], keys), pc.greater_equal(found["requested"], 0))
            for name in ("time", "task"):
                usable = pc.and_(usable, pc.is_valid(found[name]))
            count += pc.sum(usable).as_py() or 0
    except (pa.ArrowException, OSError, KeyError):
        return 0
    return count


def _columns(path: str) -> Iterator["pa.RecordBatch"]:
    """The events of a file, some at a time, in whole numbers; pyarrow's errors where it has others."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    with ParquetFile(path) as file:
        for batch in file.iter_batches(_AT_ONCE, columns=[*_COLUMNS], use_threads=False):
            yield pa.RecordBatch.from_arrays([batch[name].cast(pa.int64()) for name in _COLUMNS], [*_COLUMNS])
