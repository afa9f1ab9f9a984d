"""Compiled programs kept between starts, in a directory that nobody else may write.

What is loaded into the kernel with the rights of root must come from root: the directory and each file belong to the
user that runs, and nobody else has any right to them. A file that is not so, or damaged, is as good as none; a disk
that is full or read-only does no harm.
"""

import hashlib
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

KEPT = 32
"""Files that are kept: those used last."""
_LARGEST = 4 << 20  # bytes; the largest of ours is a fifth of a megabyte
_MAGIC = b"kmwatch compiled 1\n"
_DIGEST = 32
_NAME = re.compile(r"[0-9a-f]{64}|\.[0-9a-f]{64}\.[0-9a-f]{16}")  # the second is being written, or was left so
_SYSTEM = Path("/var/cache/kmwatch")


def directory() -> Path:
    """Where they are kept: what systemd gives a service, else the system's place for root, or the user's own."""
    if given := os.environ.get("CACHE_DIRECTORY", "").partition(":")[0]:
        return Path(given)
    if os.geteuid() == 0:
        return _SYSTEM
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "kmwatch"


def read(key: str, place: Path) -> bytes | None:
    """What was kept under a key, a SHA-256 in hexadecimal digits; None where it cannot be had or trusted."""
    try:
        with _opened(place) as parent:
            found = os.open(key, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
            with os.fdopen(found, "rb") as file:
                about = os.fstat(found)
                if not stat.S_ISREG(about.st_mode) or not _is_ours(about) or about.st_size > _LARGEST:
                    return None
                data = file.read(_LARGEST)
                with suppress(OSError):
                    os.utime(found)
    except OSError:
        return None
    head, content = data[: len(_MAGIC) + _DIGEST], data[len(_MAGIC) + _DIGEST :]
    return content if head == _MAGIC + _digest(key, content) else None


def keep(key: str, content: bytes, place: Path) -> None:
    """Keep something under a key, whole or not at all; where too many are kept, the one unused for longest goes."""
    temporary = f".{key}.{secrets.token_hex(8)}"
    with suppress(OSError):
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _opened(place) as parent:
            try:
                made = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=parent)
                with os.fdopen(made, "wb") as file:
                    file.write(_MAGIC + _digest(key, content) + content)
                os.rename(temporary, key, src_dir_fd=parent, dst_dir_fd=parent)
            except OSError:
                os.unlink(temporary, dir_fd=parent)
                raise
            _make_room(parent)


@contextmanager
def _opened(place: Path) -> Iterator[int]:
    """The directory, held so that it cannot be changed for another; PermissionError where it is not ours alone."""
    parent = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not _is_ours(os.fstat(parent)):
            raise PermissionError
        yield parent
    finally:
        os.close(parent)


def _is_ours(about: os.stat_result) -> bool:
    return about.st_uid == os.geteuid() and not about.st_mode & 0o077


def _digest(key: str, content: bytes) -> bytes:
    """Of the key, too: a file under another name is none."""
    return hashlib.sha256(key.encode() + b"\0" + content).digest()


def _make_room(parent: int) -> None:
    ours = filter(_NAME.fullmatch, os.listdir(parent))
    used = {name: os.stat(name, dir_fd=parent, follow_symlinks=False).st_mtime_ns for name in ours}
    for name in sorted(used, key=lambda name: used[name])[:-KEPT]:
        os.unlink(name, dir_fd=parent)
