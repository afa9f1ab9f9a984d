"""A text as chunks of whole records, read as a stream: a file, a pipe or standard input, plain or gzip."""

import gzip
import io
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from kmwatch.errors import BadInputError
from kmwatch.sources.text.doubts import Doubts

HEAD = 1 << 16
"""How many bytes tell what a text is."""
LONGEST_LINE = 1 << 16
"""Longer lines, in bytes, are skipped."""
_CHUNK = 1 << 20  # bytes: a call of numpy has to pay for itself
_LONGEST_RECORD = 1 << 20  # bytes of a line and its stack: what is longer is cut
_GZIP = b"\x1f\x8b"
_STACK = (b"\t", b"\n", b" =>", b"=>")  # what a line of a stack begins with

Progress = Callable[[int, int], None]
"""Told how many bytes were read, and of how many; 0 where that is not known."""


class Stream:
    """The text at `path`, or standard input for `-`; every byte is read once, so that a pipe will do.

    Raises BadInputError where it cannot be read or is empty.
    """

    def __init__(self, path: Path, progress: Progress) -> None:
        try:
            raw = sys.stdin.buffer if str(path) == "-" else path.open("rb", buffering=0)
            self._file, self._total = raw, path.stat().st_size if str(path) != "-" else 0
        except OSError as error:
            raise BadInputError(f"cannot read {path} ({error.strerror}): give a text file, or - for a pipe") from error
        self.name, self._progress, self._read = str(path), progress, 0
        self.doubts = Doubts()
        plain = io.BufferedReader(_Counted(self._file, self._count))
        packed = plain.peek(2)[:2] == _GZIP
        self._body: gzip.GzipFile | io.BufferedReader[Any] = gzip.GzipFile(fileobj=plain) if packed else plain
        self._head = self._some(HEAD)
        while self._head and len(self._head) < HEAD and (more := self._some(HEAD - len(self._head))):
            self._head += more
        if not self._head.strip():
            self.close()
            raise BadInputError(f"{path} is empty: nothing was traced, or the file is not complete")

    @property
    def head(self) -> str:
        """The first HEAD bytes, as text."""
        return decoded(self._head)

    def chunks(self, cut: Callable[[bytes], int]) -> Iterator[str]:
        """Chunks of whole records; `cut` tells how many bytes of a chunk of whole lines are whole records."""
        try:
            yield from self._chunks(cut)
        finally:
            self.close()

    def _chunks(self, cut: Callable[[bytes], int]) -> Iterator[str]:
        rest, data = b"", self._head
        while data:
            data = rest + data
            lines = data.rfind(b"\n") + 1
            # Of a line that is too long enough is kept to see that it is.
            data = data[: lines + LONGEST_LINE + 1]
            end = cut(data[:lines])
            if end:
                yield decoded(data[:end])
            rest, data = data[end:], self._some(_CHUNK)
        if rest:
            yield decoded(rest)

    def close(self) -> None:
        """Close the file; standard input stays open."""
        if self._file is not sys.stdin.buffer:
            self._file.close()

    def _count(self, length: int) -> None:
        self._read += length
        self._progress(self._read, self._total)

    def _some(self, length: int) -> bytes:
        """Some bytes; none at the end, or where a damaged file ends."""
        try:
            return self._body.read(length)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            self.doubts.note(f"the compressed file is damaged and ends too early ({error}): what comes before is read")
            return b""
        except OSError as error:
            raise BadInputError(f"cannot read {self.name} ({error.strerror}): give a text file") from error


class _Counted(io.RawIOBase):
    """A file that tells how much was read of it."""

    def __init__(self, file: IO[bytes], count: Callable[[int], None]) -> None:
        self._file, self._count = file, count

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        # read1: what a pipe has by now, not what would fill the buffer.
        read = getattr(self._file, "read1", self._file.read)
        data = read(len(buffer)) or b""
        buffer[: len(data)] = data
        self._count(len(data))
        return len(data)


def decoded(data: bytes) -> str:
    """The text of some bytes, whatever they are, with line ends as on Unix."""
    text = data.decode("utf-8", "backslashreplace")
    return text.replace("\r\n", "\n") if "\r" in text else text


def without_last_stack(data: bytes) -> int:
    """All but the last event with its stack: that may go on in the next chunk."""
    end = len(data)
    while end > 0 and len(data) - end < _LONGEST_RECORD:
        start = data.rfind(b"\n", 0, end - 1) + 1
        if not data.startswith(_STACK, start) and data.find(b"<stack trace", start, end) < 0:
            return start
        end = start
    return len(data)
