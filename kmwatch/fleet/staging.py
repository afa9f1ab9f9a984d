"""Captures on their way: one from storage to a directory of this machine and gone again, one from here to storage."""

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory, gettempdir
from typing import Any

from kmwatch.capture.layout import JOURNAL, META, TABLES, is_plain, segment_number
from kmwatch.capture.store import refuse_target
from kmwatch.errors import BadInputError, KmwatchError, NotPossibleError, UsageError
from kmwatch.fleet.layout import Place
from kmwatch.fleet.remote import asking, is_url, opened
from kmwatch.units import printable, size

LARGEST = 16 << 30
"""Bytes of a capture that is fetched; a day's recording has less."""
_PART = 1 << 20  # bytes of a file that are in memory at a time
_AT_ONCE = 8  # files: small ones take as long as their answers are under way


@contextmanager
def staged(place: Place, *, events: bool = True) -> Iterator[Path]:
    """A directory of this machine with a capture: itself where it is local, else a copy that is gone afterwards.

    Without `events` their files are empty in a copy: so it is seen which there are.
    Raises BadInputError for a capture that is too large to be fetched, NotPossibleError where it cannot be had.
    """
    if not is_url(place.url):
        yield Path(place.url)
        return
    storage, path = opened(place.url)
    with TemporaryDirectory(prefix="kmwatch-") as directory:
        with asking(place.url, "fetch"):
            _fetch(storage, path, Path(directory), printable(place.url)[:200], events=events)
        yield Path(directory)


def reason(error: KmwatchError, place: Place, directory: Path) -> str:
    """What is wrong with a capture, by where it lies: a directory that it was copied to is soon gone."""
    return str(error).replace(str(directory), place.url)


def _fetch(storage: Any, path: str, directory: Path, where: str, *, events: bool) -> None:
    """Copy the files of a capture, and nothing else: their names are ours, wherever a listing would lead."""
    listed = {str(each["name"]).rpartition("/")[2]: each for each in storage.ls(path, detail=True)}
    files = {name: int(each["size"] or 0) for name, each in listed.items() if each["type"] == "file" and _is_ours(name)}
    whole = sum(files.values())
    if whole > LARGEST:
        raise BadInputError(f"{where} has {size(whole)}, at most {size(LARGEST)} are fetched: copy it here by hand")
    for name in [] if events else [each for each in files if segment_number(each) is not None]:
        whole -= files.pop(name)
        (directory / name).touch()
    if whole > (free := shutil.disk_usage(directory).free):
        raise NotPossibleError(f"{where} has {size(whole)}, {gettempdir()} has room for {size(free)}: set TMPDIR")

    def fetch(name: str) -> None:
        with storage.open(f"{path.rstrip('/')}/{name}", "rb") as source, (directory / name).open("wb") as copy:
            _copy(source, copy, files[name], f"{where}/{name}")

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(fetch, files))


def _copy(source: Any, copy: Any, length: int, where: str) -> None:
    """Copy a file that is said to have so many bytes; NotPossibleError where it has others, as one that changes."""
    left = length
    while part := source.read(min(_PART, left + 1)):
        left -= len(part)
        if left < 0:
            break
        copy.write(part)
    if left:
        raise NotPossibleError(f"{where} changes while it is read: try again when it has been written")


def _is_ours(name: str) -> bool:
    return name in (META, JOURNAL, *TABLES) or segment_number(name) is not None


def check_upload(url: str, *, force: bool) -> None:
    """See beforehand that a capture can go to a path or a URL, as far as that can be known.

    Raises UsageError where one is there that is not to be replaced, or the place cannot be used, NotPossibleError where
    the server does not know it.
    """
    if not is_url(url):
        refuse_target(Path(url), force=force)
        return
    storage, path = opened(url)
    # Who may write and not read sees nothing beforehand.
    with asking(url, "write to"), suppress(PermissionError):
        if bucket := path.partition("/")[0]:
            storage.ls(bucket)
        if not force and storage.exists(f"{path}/{JOURNAL}"):
            raise UsageError(f"{printable(url):.200} has a capture: --force replaces it")


def upload(directory: Path, url: str, *, force: bool = False) -> None:
    """Copy a capture to a path or a URL. Its journal comes last, so that what has one is whole.

    Where it fails, also by Ctrl-C, nothing is left there. Raises as `check_upload`, and where it is refused.
    """
    check_upload(url, force=force)
    files = [path for path in directory.iterdir() if is_plain(path) and _is_ours(path.name)]
    files.sort(key=lambda path: (path.name == JOURNAL, path.name))
    if not is_url(url):
        _copy_all(files, Path(url))
        return
    with asking(url, "upload to"):
        _send(files, *opened(url))


def _send(files: list[Path], storage: Any, path: str) -> None:
    for name in (JOURNAL, *sorted(_there(storage, path) - {JOURNAL})):
        with suppress(FileNotFoundError, PermissionError):  # nothing to be replaced, or who may add only
            storage.rm_file(f"{path}/{name}")
    begun: list[str] = []
    try:
        for file in files:
            begun.append(f"{path}/{file.name}")
            storage.put_file(str(file), begun[-1])
    except BaseException:
        for each in reversed(begun):
            with suppress(Exception):  # what went wrong is told, not what follows from it
                storage.rm_file(each)
        raise


def _there(storage: Any, path: str) -> set[str]:
    """The files of a capture that is to be replaced."""
    try:
        names = {str(each).rpartition("/")[2] for each in storage.ls(path, detail=False)}
    except (FileNotFoundError, PermissionError):
        return set()
    return {name for name in names if _is_ours(name)}


def _copy_all(files: list[Path], target: Path) -> None:
    """In a hidden directory beside it first, where nobody looks for captures."""
    aside = target.with_name(f".{target.name}.{token_hex(8)}")
    try:
        aside.mkdir(parents=True)
        for file in files:
            shutil.copyfile(file, aside / file.name)
        if target.exists():
            shutil.rmtree(target)
        aside.replace(target)
    except OSError as error:
        raise NotPossibleError(f"cannot write to {printable(str(target)):.200}: {error.strerror}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
