"""Where a recording goes: to a directory, or into a fleet, which can be behind a URL."""

import os
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from types import TracebackType
from typing import TYPE_CHECKING, Self

from kmwatch.cli.base import say
from kmwatch.errors import KmwatchError, NotPossibleError, UsageError

if TYPE_CHECKING:
    from kmwatch.batch import Meta

_SPOOL = "/var/tmp"  # noqa: S108  # what is kept there stays when the machine starts anew; the name in it is nobody's


@dataclass(frozen=True)
class Target:
    """One of the two: the directory of the capture, or the root of a fleet with the capture's name, "" for the time.

    force: replace a capture that is there.
    """

    output: Path | None
    root: str | None
    name: str
    force: bool

    def check(self) -> None:
        """See what can be seen before anything is watched. Raises UsageError, NotPossibleError."""
        from kmwatch.capture.store import refuse_target
        from kmwatch.fleet.layout import check_name
        from kmwatch.fleet.remote import is_url, opened

        if (self.output is None) == (self.root is None):
            raise UsageError("one of -o DIR and --into ROOT says where the capture goes; see `kmwatch record --help`")
        if self.name:
            check_name(self.name)
        if self.name and self.root is None:
            raise UsageError("--name goes with --into: -o names the directory itself")
        if self.output:
            refuse_target(self.output, force=self.force)
        elif self.root and is_url(self.root):
            opened(self.root)

    def place(self, meta: "Meta") -> "Destination":
        """Where the recording of this kernel is written; errors as of `check`."""
        from kmwatch.fleet.layout import into
        from kmwatch.fleet.remote import is_url
        from kmwatch.fleet.staging import check_upload

        if self.root is None:
            return Destination(self.output or Path())
        where = into(self.root, meta, self.name)
        check_upload(where, force=self.force)
        if not is_url(where):
            return Destination(Path(where))
        aside = os.environ.get("TMPDIR") or _SPOOL
        directory = Path(mkdtemp(prefix="kmwatch-", dir=aside if Path(aside).is_dir() else None))
        again = ["kmwatch", "upload", str(directory), "--into", self.root, "--name", where.rpartition("/")[2]]
        return Destination(directory, where, f"`{shlex.join(again)}` sends it", self.force)


@dataclass(frozen=True)
class Destination:
    """A directory to write to, entered meanwhile, and where its capture is sent when it is whole, "" where it stays.

    again: how to send it by hand. force: replace a capture that is there.
    """

    directory: Path
    url: str = ""
    again: str = ""
    force: bool = False

    @property
    def where(self) -> str:
        """Where the capture is in the end."""
        return self.url or str(self.directory)

    def deliver(self) -> None:
        """Send the capture; where that fails it stays here, which the error says. Raises NotPossibleError."""
        from kmwatch.fleet.staging import upload

        if not self.url:
            return
        try:
            upload(self.directory, self.url, force=self.force)
        except KmwatchError as error:
            raise NotPossibleError(f"{error}; the capture is kept in {self.directory}: {self.again}") from error
        except KeyboardInterrupt:
            say([f"not sent; the capture is kept in {self.directory}: {self.again}"])
            raise
        shutil.rmtree(self.directory)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """What was recorded until something went wrong stays here, and is not sent."""
        if not error or not self.url:
            return
        if any(self.directory.iterdir()):
            say([f"what was recorded until then is kept in {self.directory}"])
        else:
            self.directory.rmdir()
