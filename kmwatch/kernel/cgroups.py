"""The cgroups of the unified hierarchy: the ids that BPF programs see, and the paths that people know."""

import os
import re
from pathlib import Path

_MOUNTS = Path("/proc/mounts")
_MOST = 100_000  # directories looked at in one scan


class Cgroups:
    """Paths of cgroups by id. The id is the inode of the directory (kernfs, 64-bit)."""

    def __init__(self, mounts: Path = _MOUNTS) -> None:
        self._mounts = mounts
        self._paths: dict[int, str] = {}

    def path(self, number: int) -> str:
        """The path below the hierarchy's root, "/" for the root itself; "" where it is not there (any more)."""
        return self._paths.get(number, "")

    def scan(self) -> None:
        """Look at all directories again; paths of cgroups that are gone are remembered, as far as there is room."""
        while len(self._paths) > _MOST:
            del self._paths[next(iter(self._paths))]
        root = self._root()
        if root is None or not root.is_dir():
            return
        self._paths[root.stat().st_ino] = "/"
        for seen, (directory, below, _files) in enumerate(os.walk(root)):
            if seen >= _MOST:
                return
            for name in below:
                path = Path(directory, name)
                try:
                    self._paths[path.stat().st_ino] = "/" + _text(path.relative_to(root))
                except OSError:  # gone in the meantime
                    continue

    def _root(self) -> Path | None:
        try:
            lines = self._mounts.read_text("utf-8", "surrogateescape").splitlines()
        except OSError:
            return None
        found = (fields[1] for fields in map(str.split, lines) if len(fields) > 2 and fields[2] == "cgroup2")
        return next((Path(_unescaped(path)) for path in found), None)


def _unescaped(path: str) -> str:
    """A path of /proc/mounts, where blanks and the like are octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)


def _text(path: Path) -> str:
    """A path as text that can be written anywhere: what is not UTF-8 in it becomes escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
