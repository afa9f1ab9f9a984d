"""What is kept between starts: only what this user wrote, whole, in a place of its own; trouble keeps nothing."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from kmwatch.sources import kept_code
from kmwatch.sources.kept_code import KEPT, directory, keep, read

KEY, OTHER = "a" * 64, "b" * 64
CONTENT = bytes(range(256)) * 7
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="to give files to another user takes root")
NOBODY = 65534


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "kmwatch"


@pytest.fixture
def kept(place: Path) -> Path:
    """A file that is as it shall be."""
    keep(KEY, CONTENT, place)
    return place / KEY


def test_what_was_kept_is_read_again_and_nobody_else_may(place: Path, kept: Path) -> None:
    assert read(KEY, place) == CONTENT
    assert read(OTHER, place) is None
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert [path.name for path in place.iterdir()] == [KEY]


def test_nothing_is_kept_where_nothing_was(place: Path) -> None:
    assert read(KEY, place) is None
    assert not place.exists()


def flipped(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-100] ^= 1
    file.write_bytes(data)


def linked(file: Path) -> None:
    file.rename(file.with_name("elsewhere"))
    file.symlink_to("elsewhere")


def made_a_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file, 0o600)


DAMAGE: dict[str, Callable[[Path], None]] = {
    "a flipped bit": flipped,
    "cut": lambda file: os.truncate(file, file.stat().st_size - 1),
    "cut in its head": lambda file: os.truncate(file, 10),
    "empty": lambda file: os.truncate(file, 0),
    "longer": lambda file: os.truncate(file, file.stat().st_size + 1),
    "too large": lambda file: os.truncate(file, 1 << 30),
    "an older form": lambda file: file.write_bytes(file.read_bytes().replace(b"compiled 1", b"compiled 0")) and None,
    "another's name": lambda file: file.rename(file.with_name(OTHER)) and None,
    "writable by a group": lambda file: file.chmod(0o620),
    "readable by all": lambda file: file.chmod(0o604),
    "a link": linked,
    "a pipe": made_a_pipe,
    "a directory writable by others": lambda file: file.parent.chmod(0o703),
    "a directory readable by a group": lambda file: file.parent.chmod(0o740),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_what_is_not_as_it_was_written_is_not_taken(place: Path, kept: Path, how: str) -> None:
    DAMAGE[how](kept)

    assert read(KEY, place) is None
    assert read(OTHER, place) is None


@pytest.mark.parametrize("how", ["a flipped bit", "cut", "empty", "readable by all", "a link"])
def test_it_is_written_anew(place: Path, kept: Path, how: str) -> None:
    DAMAGE[how](kept)
    keep(KEY, CONTENT, place)

    assert read(KEY, place) == CONTENT


@ROOT_ONLY
@pytest.mark.parametrize("whose", ["the file", "the directory"])
def test_what_belongs_to_another_user_is_not_taken(place: Path, kept: Path, whose: str) -> None:
    """Who could write there would have root load a program of theirs."""
    os.chown(kept if whose == "the file" else place, NOBODY, NOBODY)

    assert read(KEY, place) is None


@ROOT_ONLY
def test_nothing_is_written_to_a_directory_of_another_user(place: Path) -> None:
    place.mkdir(mode=0o700)
    os.chown(place, NOBODY, NOBODY)
    keep(KEY, CONTENT, place)

    assert list(place.iterdir()) == []


def test_a_directory_that_is_a_link_is_not_followed(place: Path, kept: Path) -> None:
    assert kept.exists()
    place.rename(place.with_name("elsewhere"))
    place.symlink_to("elsewhere")
    keep(OTHER, CONTENT, place)

    assert read(KEY, place) is None
    assert not (place / OTHER).exists()


@pytest.mark.parametrize("place", [Path("/dev/null"), Path("/proc/kmwatch"), Path("/dev/null/below")])
def test_a_place_that_cannot_be_written_does_no_harm(place: Path) -> None:
    keep(KEY, CONTENT, place)

    assert read(KEY, place) is None


def test_a_full_disk_does_no_harm_and_leaves_nothing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **_how: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kept_code.os, "rename", full)
    keep(KEY, CONTENT, place)

    assert list(place.iterdir()) == []


def test_those_used_last_are_kept_and_files_of_others_left_alone(place: Path) -> None:
    keys = [f"{number:064x}" for number in range(KEPT + 3)]
    place.mkdir(mode=0o700)
    (place / "notes").write_text("of the administrator")
    for age, key in enumerate(keys[:KEPT]):
        keep(key, CONTENT, place)
        os.utime(place / key, (age, age))
    os.utime(place / "notes", (0, 0))
    assert read(keys[0], place) == CONTENT  # used just now
    for key in keys[KEPT:]:
        keep(key, CONTENT, place)

    gone = {key for key in keys if read(key, place) is None}
    assert gone == set(keys[1:4])
    assert (place / "notes").exists()


def test_what_an_interrupted_start_left_goes_in_time(place: Path) -> None:
    place.mkdir(mode=0o700)
    left = place / f".{KEY}.{'0' * 16}"
    left.write_bytes(b"half")
    os.utime(left, (0, 0))
    for number in range(KEPT):
        keep(f"{number:064x}", CONTENT, place)

    assert not left.exists()


@pytest.mark.parametrize(
    ("user", "given", "found"),
    [
        (0, {}, "/var/cache/kmwatch"),
        (0, {"XDG_CACHE_HOME": "/srv/mine"}, "/var/cache/kmwatch"),
        (0, {"CACHE_DIRECTORY": "/var/cache/service:/var/cache/other"}, "/var/cache/service"),
        (1000, {}, "/home/user/.cache/kmwatch"),
        (1000, {"XDG_CACHE_HOME": "/srv/mine"}, "/srv/mine/kmwatch"),
    ],
)
def test_root_has_the_systems_place_and_others_their_own(
    user: int, given: dict[str, str], found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CACHE_DIRECTORY", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/home/user", **given}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(kept_code.os, "geteuid", lambda: user)

    assert directory() == Path(found)
