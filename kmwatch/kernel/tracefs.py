"""Where tracefs is mounted, and the format files of its events."""

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from kmwatch.errors import BadInputError, NotPossibleError

MOUNT_POINT = Path("/sys/kernel/tracing")
# The kernel mounts tracefs under debugfs by itself, for tools older than the mount point above (Linux 4.1).
PLACES = (MOUNT_POINT, Path("/sys/kernel/debug/tracing"))
MOUNT_COMMAND = f"mount -t tracefs tracefs {MOUNT_POINT}"

_LARGEST_FORMAT = 1 << 20
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True)
class Tracefs:
    """A usable tracefs: its path, and whether kmwatch had to mount it (worth a line to the user)."""

    path: Path
    mounted: bool = False

    def format_text(self, category: str, event: str) -> str | None:
        """The `format` file of an event as text; None when this kernel has no such event.

        Raises NotPossibleError when the file may not be read, BadInputError when a name is not a name or the
        file is over 1 MiB.
        """
        file = self._event(category, event) / "format"
        try:
            with file.open("rb") as stream:
                raw = stream.read(_LARGEST_FORMAT + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise NotPossibleError(f"cannot read {file}: {error.strerror}; run kmwatch with sudo") from error
        if len(raw) > _LARGEST_FORMAT:
            raise BadInputError(f"{file} is over 1 MiB: this is not an event's format; check what is mounted there")
        return raw.decode("utf-8", "replace")

    def number(self, category: str, event: str) -> int:
        """The id of an event, by which it is attached to; OSError where it cannot be read."""
        return int((self._event(category, event) / "id").read_text())

    def has_event(self, category: str, event: str) -> bool:
        """Whether this kernel has the event; False as well when the directory may not be looked at."""
        return _is_dir(self._event(category, event))

    def _event(self, category: str, event: str) -> Path:
        for name in (category, event):
            if not _NAME.fullmatch(name):
                raise BadInputError(
                    f"{name!r:.80} is not the name of a trace event; `kmwatch doctor` lists those in use"
                )
        return self.path / "events" / category / event


def find(*, mount: bool = True, places: tuple[Path, ...] = PLACES) -> Tracefs:
    """The mounted tracefs; as root and with `mount` it is mounted at /sys/kernel/tracing when it is not yet.

    Raises NotPossibleError, with the command to type, when there is none that this user can read.
    """
    for place in places:
        if _is_dir(place / "events"):
            return Tracefs(place)
    if any(_hidden(place) for place in places):
        raise NotPossibleError(f"tracefs at {places[0]} can be read by root only; run kmwatch with sudo")
    if mount and os.geteuid() == 0 and _mount() and _is_dir(places[0] / "events"):
        return Tracefs(places[0], mounted=True)
    raise NotPossibleError(f"tracefs is not mounted, so there are no trace events; type: sudo {MOUNT_COMMAND}")


def _mount() -> bool:
    """Mount tracefs; whether that worked."""
    try:
        return subprocess.run(MOUNT_COMMAND.split(), check=False, capture_output=True, timeout=10).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _is_dir(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # no right to look: for the caller the same as not there
        return False


def _hidden(place: Path) -> bool:
    """Whether the place has something that this user may not look into."""
    try:
        return place.is_dir() and not os.access(place, os.R_OK | os.X_OK)
    except OSError:
        return True
