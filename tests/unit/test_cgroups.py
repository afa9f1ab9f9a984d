"""Paths of cgroups by their ids, from a tree of directories that stands for the hierarchy."""

import os
from pathlib import Path

import pytest

from kmwatch.kernel import cgroups
from kmwatch.kernel.cgroups import Cgroups

OTHERS = "proc /proc proc rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\nbad\n\n"


def mounts(tmp_path: Path, root: str | Path, more: str = "") -> Path:
    """The text of /proc/mounts with a hierarchy at `root`."""
    file = tmp_path / "mounts"
    file.write_bytes(os.fsencode(f"{OTHERS}cgroup2 {root} cgroup2 rw,nsdelegate 0 0\n{more}"))
    return file


def tree(root: Path, *names: str | bytes) -> Path:
    for name in names:
        (root / os.fsdecode(name)).mkdir(parents=True)
    return root


def number(path: Path) -> int:
    """The id of a cgroup."""
    return path.stat().st_ino


def test_a_cgroup_is_known_by_its_path_below_the_root(tmp_path: Path) -> None:
    root = tree(tmp_path / "root", "user.slice/a.scope", "system.slice")
    (root / "cgroup.procs").write_text("1\n")
    known = Cgroups(mounts(tmp_path, root))
    known.scan()

    assert known.path(number(root)) == "/"
    assert known.path(number(root / "user.slice")) == "/user.slice"
    assert known.path(number(root / "user.slice" / "a.scope")) == "/user.slice/a.scope"
    assert known.path(number(root / "system.slice")) == "/system.slice"
    assert known.path(number(root / "cgroup.procs")) == ""  # a file is none
    assert known.path(0) == ""


def test_nothing_is_known_before_the_first_scan(tmp_path: Path) -> None:
    root = tree(tmp_path / "root", "a")

    assert Cgroups(mounts(tmp_path, root)).path(number(root / "a")) == ""


def test_what_is_new_is_found_and_what_is_gone_is_remembered(tmp_path: Path) -> None:
    root = tree(tmp_path / "root", "a")
    known, gone = Cgroups(mounts(tmp_path, root)), number(root / "a")
    known.scan()
    tree(root, "b/c")
    (root / "a").rename(tmp_path / "a")
    assert known.path(number(root / "b" / "c")) == ""
    known.scan()

    assert (known.path(gone), known.path(number(root / "b" / "c"))) == ("/a", "/b/c")


def test_the_first_hierarchy_counts(tmp_path: Path) -> None:
    first, second = tree(tmp_path / "first", "a"), tree(tmp_path / "second", "b")
    known = Cgroups(mounts(tmp_path, first, f"cgroup2 {second} cgroup2 rw 0 0\n"))
    known.scan()

    assert (known.path(number(first / "a")), known.path(number(second / "b"))) == ("/a", "")


def test_blanks_in_a_mount_point_are_read_as_the_kernel_writes_them(tmp_path: Path) -> None:
    root = tree(tmp_path / "a b\\c\td", "x")
    written = str(root).replace("\\", "\\134").replace(" ", "\\040").replace("\t", "\\011")
    known = Cgroups(mounts(tmp_path, written))
    known.scan()

    assert known.path(number(root / "x")) == "/x"


def test_names_that_are_no_text_become_text(tmp_path: Path) -> None:
    """A capture keeps them as UTF-8."""
    root = tree(tmp_path / os.fsdecode(b"r\xff"), b"a\xfe", "Ω")
    known = Cgroups(mounts(tmp_path, root))
    known.scan()

    path = known.path(number(root / os.fsdecode(b"a\xfe")))
    assert path == "/a\\xfe"
    assert path.encode() == b"/a\\xfe"
    assert known.path(number(root / "Ω")) == "/Ω"


@pytest.mark.parametrize(
    "text", ["", OTHERS, "cgroup2\n", "cgroup2 /no/such/place cgroup2 rw 0 0\n", "none /dev/null cgroup2 rw 0 0"]
)
def test_where_there_is_no_hierarchy_nothing_is_known(tmp_path: Path, text: str) -> None:
    (tmp_path / "mounts").write_text(text)
    known = Cgroups(tmp_path / "mounts")
    known.scan()

    assert known.path(1) == ""


def test_without_a_list_of_mounts_nothing_is_known(tmp_path: Path) -> None:
    known = Cgroups(tmp_path / "nothing")
    known.scan()

    assert known.path(1) == ""


def test_a_scan_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "_MOST", 3)
    root = tree(tmp_path / "root", "/".join("abcdefgh"))
    known = Cgroups(mounts(tmp_path, root))
    known.scan()

    assert known.path(number(root / "a" / "b" / "c")) == "/a/b/c"
    assert known.path(number(root / "a" / "b" / "c" / "d")) == ""


def test_a_cgroup_that_goes_while_it_is_looked_at_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tree(tmp_path / "root", "a", "b")
    stat = Path.stat

    def gone(path: Path, **more: bool) -> os.stat_result:
        if path.name == "a":
            raise FileNotFoundError(path)
        return stat(path, **more)

    monkeypatch.setattr(Path, "stat", gone)
    known = Cgroups(mounts(tmp_path, root))
    known.scan()

    assert known.path(number(root / "b")) == "/b"
