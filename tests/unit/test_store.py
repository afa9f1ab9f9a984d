"""Where a capture may be written: never over anything that is not one, and over one only on demand."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kmwatch.capture.layout import JOURNAL, META, TABLES
from kmwatch.capture.reader import Capture
from kmwatch.capture.store import Store, refuse_target
from kmwatch.errors import UsageError
from tests.unit.captures import small_capture
from tests.unit.folded import folded, one_database


@pytest.fixture(autouse=True)
def _fast() -> Iterator[None]:
    with one_database():
        yield


def tree(directory: Path) -> dict[str, bytes]:
    """Every file below, and what is in it."""
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize("force", [False, True])
def test_a_directory_that_is_not_there_or_empty_is_taken(tmp_path: Path, force: bool) -> None:
    (tmp_path / "empty").mkdir()

    for name in ("empty", "new", "deep/in/new"):
        refuse_target(tmp_path / name, force=force)
        assert Capture(small_capture(tmp_path / name)).events == 18


def test_a_capture_is_replaced_on_demand_only(tmp_path: Path) -> None:
    target = small_capture(tmp_path / "a.kmw")
    before = tree(target)

    for refused in (refuse_target, Store):
        with pytest.raises(UsageError, match="has a capture: --force replaces it"):
            refused(target, force=False)
    refuse_target(target, force=True)
    assert tree(target) == before  # looking changes nothing

    store = Store(target, force=True)
    store.close()
    assert tree(target) == {JOURNAL: b""}


def test_what_is_left_of_a_capture_that_was_killed_is_replaced_too(tmp_path: Path) -> None:
    target = small_capture(tmp_path / "a.kmw", ended=False)
    for name in (META, JOURNAL, *TABLES, "events-00004.parquet"):
        (target / f".{name}.tmp").write_text("half")

    refuse_target(target, force=True)
    Store(target, force=True).close()

    assert os.listdir(target) == [JOURNAL]  # noqa: PTH208


FOREIGN = (
    "thesis.odt",
    ".bashrc",
    ".meta.json",
    ".journal.jsonl",
    ".meta.json.bak",
    "meta.json.tmp",
    "..meta.json.tmp",
    ".tmp",
    "events-1.parquet",
    "events-00001.parquet.bak",
    "events-\u0660\u0660\u0660\u0660\u0661.parquet",
    "other.parquet",
    "keys.parquet\n",
    "Meta.json",
)


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_not_of_a_capture_is_never_removed(tmp_path: Path, name: str, force: bool) -> None:
    target = small_capture(tmp_path / "a.kmw")
    (target / name).write_text("mine")
    before = tree(target)

    for refused in (refuse_target, Store):
        with pytest.raises(UsageError, match="is not empty and no capture: choose another directory"):
            refused(target, force=force)
    assert tree(target) == before


@pytest.mark.parametrize("name", [META, "keys.parquet", "events-00001.parquet"])
def test_files_that_are_called_like_ours_are_no_capture_without_a_journal(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")

    with pytest.raises(UsageError, match="is not empty and no capture"):
        Store(tmp_path, force=True)
    assert tree(tmp_path) == {name: b"mine"}


def test_a_directory_that_is_called_like_ours_stays(tmp_path: Path) -> None:
    target = small_capture(tmp_path / "a.kmw")
    (target / "events-00009.parquet").mkdir()
    (target / "events-00009.parquet" / "thesis.odt").write_text("mine")

    with pytest.raises(UsageError, match=f"cannot write to {target}: Is a directory"):
        Store(target, force=True)
    assert tree(target)["events-00009.parquet/thesis.odt"] == b"mine"


def test_what_a_link_leads_to_stays(tmp_path: Path) -> None:
    target = small_capture(tmp_path / "a.kmw")
    (tmp_path / "thesis.odt").write_text("mine")
    (target / "events-00009.parquet").symlink_to(tmp_path / "thesis.odt")

    Store(target, force=True).close()

    assert (tmp_path / "thesis.odt").read_text() == "mine"


def test_a_file_is_no_directory_for_a_capture(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")

    with pytest.raises(UsageError, match=r"cannot use the directory .+ Not a directory"):
        Store(tmp_path / "file", force=True)
    with pytest.raises(UsageError, match="Not a directory"):
        Store(tmp_path / "file" / "below", force=True)
    assert (tmp_path / "file").read_text() == "mine"


def test_the_journal_goes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed while it removes the old capture, --force can still replace what is left."""
    target = small_capture(tmp_path / "a.kmw")
    removed: list[str] = []
    unlink = Path.unlink

    def watched(path: Path, missing_ok: bool = False) -> None:
        removed.append(path.name)
        unlink(path, missing_ok)
        if path.name != JOURNAL:
            refuse_target(target, force=True)

    monkeypatch.setattr(Path, "unlink", watched)
    Store(target, force=True).close()

    assert removed[-1] == JOURNAL
    assert len(removed) == 9


@pytest.mark.parametrize("name", ["task=7", "b[1]", "c*d", "e?", "it's", "requested=3", "Ω x", "key=0/cpu=1"])
def test_any_name_of_a_directory_will_do(tmp_path: Path, name: str) -> None:
    """DuckDB would take `requested=3` for a column, and `*` for a pattern."""
    plain, odd = small_capture(tmp_path / "plain"), small_capture(tmp_path / name)

    assert folded(odd)[1].rows.tobytes() == folded(plain)[1].rows.tobytes()


def test_a_name_that_begins_as_a_home_directory_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert Capture(small_capture(Path("~") / "a.kmw")).events == 18
    assert (tmp_path / "~" / "a.kmw" / META).exists()
