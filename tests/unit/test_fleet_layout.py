"""Finding the captures of a fleet: where they are, what the layout says of them, and what is left out."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from fsspec.registry import _registry

from kmwatch.batch import Meta
from kmwatch.errors import BadInputError, NotPossibleError, UsageError
from kmwatch.fleet import layout, remote
from kmwatch.fleet.layout import Place, find, into, is_fleet
from tests.unit import rows
from tests.unit.hostile import NAMES

pytest.importorskip("fsspec")

START = 1_795_426_200.0  # 2026-11-23 09:30 UTC
TREE = (
    "host=web-1/date=2026-11-22/boot",
    "host=web-1/date=2026-11-23/boot",
    "host=web-2/date=2026-11-23/boot",
    "host=db-1/date=2026-11-23/boot",
    "loose",
)


def planted(root: Path, *names: str) -> Path:
    """Directories with a journal, which is what makes a capture."""
    for name in names:
        (root / name).mkdir(parents=True)
        (root / name / layout.JOURNAL).touch()
    return root


@pytest.fixture
def memory() -> str:
    """The same tree in memory; each test has a root of its own."""
    root = f"memory://root-{os.urandom(4).hex()}"
    storage, path = remote.opened(root)
    for name in TREE:
        storage.pipe(f"{path}/{name}/{layout.JOURNAL}", b"")
        storage.pipe(f"{path}/{name}/events-00001.parquet", b"")
    return root


def names_of(source: str) -> list[str]:
    return [place.name for place in find(source)]


def test_a_directory_is_walked_and_sorted(tmp_path: Path) -> None:
    places = find(str(planted(tmp_path, *reversed(TREE))))

    assert [place.name for place in places] == sorted(TREE)
    name = "host=web-2/date=2026-11-23/boot"
    assert places[3] == Place(str(tmp_path / name), name, "web-2", "2026-11-23")
    assert (places[4].host, places[4].date) == ("", "")


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("host=web-*", TREE[:3]),
        ("host=web-*/date=2026-11-23", TREE[1:3]),
        ("host=web-[2-9]/date=*/boot", TREE[2:3]),
        ("**/date=2026-11-23", (TREE[3], *TREE[1:3])),
        ("**/boot", (TREE[3], *TREE[:3])),
        ("**", tuple(sorted(TREE))),
        ("*", tuple(sorted(TREE))),
        ("host=???-1/**/**/boot", TREE[:2]),
    ],
)
def test_a_glob_chooses_the_same_everywhere(tmp_path: Path, memory: str, pattern: str, found: tuple[str, ...]) -> None:
    """Names are relative to the directory that the glob begins with."""
    assert names_of(f"{planted(tmp_path, *TREE)}/{pattern}") == [*found]
    assert names_of(f"{memory}/{pattern}") == [*found]


def test_a_url_is_a_fleet(memory: str) -> None:
    places = find(f"{memory}/")

    assert [place.name for place in places] == sorted(TREE)
    name = "host=web-2/date=2026-11-23/boot"
    assert places[3] == Place(f"{memory}/{name}", name, "web-2", "2026-11-23")


def test_what_stands_before_a_glob_tells_host_and_date_too(tmp_path: Path, memory: str) -> None:
    for root in (str(planted(tmp_path, *TREE)), memory):
        places = find(f"{root}/host=web-1")
        assert [(place.name, place.host, place.date) for place in places] == [
            ("date=2026-11-22/boot", "web-1", "2026-11-22"),
            ("date=2026-11-23/boot", "web-1", "2026-11-23"),
        ]
        assert find(f"{root}/{TREE[0]}") == [Place(f"{root}/{TREE[0]}", "boot", "web-1", "2026-11-22")]


def test_hidden_ones_links_and_what_is_inside_of_a_capture_are_left_out(tmp_path: Path) -> None:
    planted(tmp_path / "root", "a", "a/inside", ".hidden/b", "x/.c")
    planted(tmp_path / "elsewhere", "d")
    (tmp_path / "root" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root" / "loop").symlink_to(tmp_path / "root")

    assert names_of(str(tmp_path / "root")) == ["a"]
    assert names_of(f"{tmp_path / 'root'}/*") == ["a"]


def test_a_listing_with_strange_names_gives_only_plain_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    storage, path = remote.opened("memory://strange")
    strange = [f"{path}/{name}/{layout.JOURNAL}" for name in ("good", ".hidden/a", "x/../../y", "a//b", "./c")]
    monkeypatch.setattr(type(storage), "find", lambda *_: strange)

    assert names_of("memory://strange") == ["good"]


def test_the_walk_ends_at_its_depth(tmp_path: Path) -> None:
    eight, nine = "1/2/3/4/5/6/7/8", "a/2/3/4/5/6/7/8/9"
    storage, path = remote.opened("memory://deep")
    for name in (eight, nine):
        storage.pipe(f"{path}/{name}/{layout.JOURNAL}", b"")

    assert names_of(str(planted(tmp_path, eight, nine))) == [eight]
    assert names_of("memory://deep") == [eight]


def test_a_capture_is_no_fleet(tmp_path: Path) -> None:
    planted(tmp_path, *TREE)

    assert is_fleet(str(tmp_path))
    assert is_fleet(f"{tmp_path}/host=*")
    assert is_fleet("s3://bucket/root")
    assert not is_fleet(str(tmp_path / TREE[0]))
    assert not is_fleet(str(tmp_path / "nothing"))
    assert not is_fleet("live")
    (tmp_path / "a.txt").touch()
    assert not is_fleet(str(tmp_path / "a.txt"))
    (tmp_path / TREE[0] / layout.JOURNAL).rename(tmp_path / TREE[0] / layout.META)
    assert not is_fleet(str(tmp_path / TREE[0]))


def test_a_directory_whose_name_looks_like_a_glob_is_itself(tmp_path: Path) -> None:
    planted(tmp_path, "a[1]/x", "a1/y")

    assert names_of(str(tmp_path / "a[1]")) == ["x"]


@pytest.mark.parametrize(
    ("source", "kind", "says"),
    [
        ("{}/nothing", UsageError, "there is no directory {}/nothing: "),
        ("{}", BadInputError, "there is no capture in {}, looked for journal.jsonl 8 directories deep: "),
        ("{}/host=*", BadInputError, "there is no capture in {}/host=*, "),
        ("memory://nothing-here", BadInputError, "there is no capture in memory://nothing-here, "),
        ("s3://", UsageError, "s3:// names no place: s3://BUCKET/DIRECTORY does"),
        ("s3://bucket-*/x", UsageError, "s3://bucket-*/x names no place: a pattern comes after s3://BUCKET/"),
        ("ftp://me:secret@host/x", UsageError, "a password does not belong into a ftp:// URL: "),
        ("nonsense://host/x", UsageError, "nonsense://host/x cannot be used: Protocol not known: nonsense; try s3://"),
    ],
)
def test_what_cannot_be_found_is_said_in_a_line(tmp_path: Path, source: str, kind: type[Exception], says: str) -> None:
    with pytest.raises(kind) as told:
        find(source.format(tmp_path))

    assert str(told.value).startswith(says.format(tmp_path))
    assert "\n" not in str(told.value)
    assert "secret" not in str(told.value)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] in ("s3fs", "gcsfs")]:
        monkeypatch.delitem(sys.modules, name)
    for missing in ("s3fs", "gcsfs"):
        monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.delitem(_registry, "s3", raising=False)  # another test may have used it
    with pytest.raises(NotPossibleError, match=r"^s3:// needs a package: pip install 'kmwatch\[s3\]'$"):
        find("s3://bucket/root")
    with pytest.raises(NotPossibleError, match=r"^gs:// needs a package: pip install gcsfs$"):
        find("gs://bucket/root")
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(NotPossibleError, match=r"^memory:// needs a package: pip install 'kmwatch\[s3\]'$"):
        find("memory://root")


def test_a_directory_that_may_not_be_read_is_no_empty_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(layout, "scandir", refused)
    with pytest.raises(NotPossibleError, match=r"^cannot look into .*: Permission denied; run as who may read it$"):
        find(str(tmp_path))


def meta_of(hostname: str) -> Meta:
    return rows.meta(start=START, host=replace(rows.meta().host, hostname=hostname))


def test_a_recording_gets_its_place() -> None:
    assert into("/srv/km/", meta_of("web-17"), "boot") == "/srv/km/host=web-17/date=2026-11-23/boot"
    assert into("s3://b/km", meta_of("web-17")) == "s3://b/km/host=web-17/date=2026-11-23/093000"
    assert into("/", meta_of("web-17"), "boot") == "/host=web-17/date=2026-11-23/boot"


@pytest.mark.parametrize("hostname", ["", *NAMES.values(), "a/../../b", "🧠" * 64, "..", "%2e%2F", "\udcff", "x=y/z"])
def test_a_hostile_hostname_is_one_directory_and_is_read_again(tmp_path: Path, hostname: str) -> None:
    """A very long one is cut, and never inside of a character."""
    where = Path(into(str(tmp_path), meta_of(hostname), "boot"))
    parts = where.relative_to(tmp_path).parts

    assert [len(parts), parts[2]] == [3, "boot"]
    assert all(part.isascii() and part.isprintable() and len(part) < 256 for part in parts)
    assert not set("/\\*?[]'\" ") & set(parts[0])
    (found,) = find(str(planted(tmp_path, str(Path(*parts)))))
    readable = hostname.replace("\udcff", "?")
    assert found.host == readable if len(readable) < 60 else len(found.host) > 10 and readable.startswith(found.host)


@pytest.mark.parametrize("name", ["a/b", "..", ".x", "a b", "a*", "x" * 129, "host=a", "\x1b[2J", "ä"])
def test_a_name_is_a_plain_word(name: str) -> None:
    with pytest.raises(UsageError, match=r"is no name: letters, digits and \._\+- please, such as boot-3$"):
        into("/srv", meta_of("a"), name)
