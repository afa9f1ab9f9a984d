"""Files that commands make: whole, or not at all."""

import os
from pathlib import Path
from tempfile import NamedTemporaryFile

from kmwatch.errors import UsageError


def refuse_nowhere(*files: Path | None) -> None:
    """Raise UsageError for a file whose directory does not exist."""
    for file in filter(None, files):
        if not file.parent.is_dir():
            raise UsageError(f"cannot write {file}, there is no {file.parent}: make that directory first")


def write_whole(path: Path, data: bytes) -> None:
    """Write a file under another name, and give it its own when it is complete; UsageError where that fails."""
    try:
        with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            aside = Path(file.name)
            try:
                file.write(data)
                file.flush()
                # As any other new file: a temporary one is for its owner only.
                os.umask(mask := os.umask(0o022))
                os.fchmod(file.fileno(), 0o666 & ~mask)
                aside.replace(path)
            except BaseException:
                aside.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
