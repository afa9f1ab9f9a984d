"""Files of /proc that stay open: what a reader may see in them was settled when they were opened.

/proc/kallsyms and /proc/modules show addresses to who had CAP_SYSLOG at that moment, /proc/slabinfo opens for root.
A service that gives its privileges up reads them on through descriptors from before.
"""

import os
from pathlib import Path
from types import TracebackType
from typing import Self

from kmwatch.errors import NotPossibleError

_PIECE = 1 << 20


class Kept:
    """One such file, open from the first read on; a context manager, for those who read it once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def read(self) -> bytes:
        """All of it as it is now; NotPossibleError where it cannot be read."""
        try:
            return self._read()
        except OSError as error:
            raise NotPossibleError(f"cannot read {self.path} ({error.strerror}): run as root") from error

    def _read(self) -> bytes:
        if self._descriptor is None:
            self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        pieces, at = [], 0
        while piece := os.pread(self._descriptor, _PIECE, at):
            pieces.append(piece)
            at += len(piece)
        return b"".join(pieces)

    def close(self) -> None:
        """Close it; it opens again when it is read again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
