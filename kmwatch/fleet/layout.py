"""Where the captures of a fleet are: ROOT/host=HOST/date=YYYY-MM-DD/NAME, as hive partitions, found and named.

What does not follow this layout is found as well: any directory with a capture's journal.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from itertools import accumulate, pairwise
from os import scandir
from pathlib import Path
from urllib.parse import quote, unquote

from kmwatch.batch import Meta
from kmwatch.capture.layout import JOURNAL, META
from kmwatch.errors import BadInputError, NotPossibleError, UsageError
from kmwatch.fleet.remote import asking, is_url, opened
from kmwatch.units import printable

_DEEPEST = 8  # directories below the root
_GLOB = re.compile(r"[*?[]")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,127}")
_LONGEST = 200  # bytes of an escaped value: a file system takes names of 255
_UNNAMED = "__HIVE_DEFAULT_PARTITION__"  # hive's word for an empty value

Parts = tuple[str, ...]
_Look = Callable[[Parts], tuple[list[str], bool]]
"""Of a directory below the root: the names of those in it, and whether it is a capture."""


@dataclass(frozen=True)
class Place:
    """One capture of a fleet.

    url: where it is, a path or a URL.
    name: its path relative to the fleet's root: `host=web-17/date=2026-11-23/boot`.
    host, date: what the layout says of it, "" where it says nothing.
    """

    url: str
    name: str
    host: str
    date: str


def is_fleet(source: str) -> bool:
    """Whether a source is to be taken as a fleet: a URL, a glob, or a directory that is no capture itself."""
    path = Path(source)
    if is_url(source) or (_GLOB.search(source) and not path.exists()):
        return True
    # Without its journal it is a damaged capture, which says so itself.
    return path.is_dir() and not any((path / name).exists() for name in (JOURNAL, META))


def find(source: str) -> list[Place]:
    """The captures below a directory, a glob of directories or a URL, sorted by name.

    Hidden names and links are left out, and what lies deeper than eight directories below what the source names.
    Raises BadInputError where there is none, UsageError for a source that cannot be, NotPossibleError where nobody may
    look.
    """
    literal = not is_url(source) and Path(source).exists()
    root, pattern = (source, ()) if literal else _split(source)
    look = _remote(root) if is_url(root) else _local(root)
    found = sorted(set(_walk(look, (), pattern)))
    if not found:
        words = f"there is no capture in {printable(source):.200}, looked for {JOURNAL} {_DEEPEST} directories deep"
        raise BadInputError(f"{words}: `kmwatch record --into ROOT` makes one")
    return sorted((_place(root, parts) for parts in found), key=lambda place: place.name)


def into(root: str, meta: Meta, name: str = "") -> str:
    """Where in a fleet the capture of this kernel belongs, by its host and the date of its start in UTC.

    Its name, where none is given, is the time of its start. Raises UsageError for a name that is no plain word.
    """
    start = datetime.fromtimestamp(meta.start, UTC)
    name = check_name(name or f"{start:%H%M%S}")
    return f"{root.rstrip('/')}/host={_escaped(meta.host.hostname)}/date={start:%Y-%m-%d}/{name}"


def check_name(name: str) -> str:
    """The name of a capture; raises UsageError where it is no plain word."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"{printable(name)!r:.80} is no name: letters, digits and ._+- please, such as boot-3")
    return name


def _escaped(value: str) -> str:
    """A value as hive writes it, in characters that mean nothing to any shell or file system; cut where it is long."""
    escapes = [quote(each, safe="", errors="replace") for each in value[:_LONGEST]]
    ends = accumulate(map(len, escapes))
    return "".join(each for each, end in zip(escapes, ends, strict=True) if end <= _LONGEST) or _UNNAMED


def _said(parts: Parts, key: str) -> str:
    """The value that the last part `key=…` gives, "" where there is none."""
    values = [part.partition("=")[2] for part in parts if part.startswith(f"{key}=")]
    return "" if not values or values[-1] == _UNNAMED else unquote(values[-1])


def _place(root: str, parts: Parts) -> Place:
    around = tuple(root.rstrip("/").split("/"))
    name = "/".join(parts) or around[-1]
    whole = (*around, *parts)
    return Place("/".join((root.rstrip("/"), *parts)), name, _said(whole, "host"), _said(whole, "date"))


def _split(source: str) -> tuple[str, Parts]:
    """The directory that a glob begins with, and the patterns of those below it."""
    begin, _, rest = source.rpartition("://")
    head, *names = rest.split("/")
    at = next((at for at, name in enumerate(names) if _GLOB.search(name)), len(names))
    if _GLOB.search(head):
        if begin:
            raise UsageError(f"{printable(source):.200} names no place: a pattern comes after {begin}://BUCKET/")
        head, names, at = ".", [head, *names], 0
    root = f"{begin}://{head}" if begin else head
    # An absolute path begins with an empty name.
    root = "/".join((root, *names[:at])) or "/"
    patterns = [name for name in names[at:] if name]
    # Two in a row mean no more than one.
    twice = [False, *(one == other == "**" for one, other in pairwise(patterns))]
    return root, tuple(name for name, again in zip(patterns, twice, strict=False) if not again)


def _walk(look: _Look, at: Parts, pattern: Parts) -> Iterator[Parts]:
    """The captures at or below what matches the pattern; none lies inside another."""
    if pattern and pattern[0] == "**":
        yield from _walk(look, at, pattern[1:])
    names, is_capture = look(at)
    if is_capture:
        if not pattern:
            yield at
        return
    if len(at) < _DEEPEST:
        for name in names:
            if not pattern:
                yield from _walk(look, (*at, name), ())
            elif pattern[0] == "**":
                yield from _walk(look, (*at, name), pattern)
            elif fnmatchcase(name, pattern[0]):
                yield from _walk(look, (*at, name), pattern[1:])


def _local(root: str) -> _Look:
    if not Path(root).is_dir():
        raise UsageError(f"there is no directory {printable(root):.200}: captures are looked for below one")

    def look(at: Parts) -> tuple[list[str], bool]:
        try:
            with scandir(Path(root, *at)) as entries:
                found = {entry.name: entry.is_dir(follow_symlinks=False) for entry in entries}
        except FileNotFoundError:  # it has gone since
            return [], False
        except OSError as error:
            where = printable(str(Path(root, *at)))
            raise NotPossibleError(
                f"cannot look into {where:.200}: {error.strerror}; run as who may read it"
            ) from error
        names = [name for name, directory in found.items() if directory and not name.startswith(".")]
        return sorted(names), JOURNAL in found

    return look


def _remote(root: str) -> _Look:
    """All names are asked for at once, which is a request for a thousand and not one for each directory."""
    storage, path = opened(root)
    with asking(root, "look into"):
        keys = storage.find(path)
    captures, inside = set(), dict[Parts, set[str]]()
    for key in keys:
        parts = tuple(str(key).removeprefix(path).strip("/").split("/"))
        if parts[-1] != JOURNAL or any(not part or part.startswith(".") for part in parts):
            continue
        captures.add(parts[:-1])
        for length in range(len(parts) - 1):
            inside.setdefault(parts[:length], set()).add(parts[length])
    return lambda at: (sorted(inside.get(at, ())), at in captures)
