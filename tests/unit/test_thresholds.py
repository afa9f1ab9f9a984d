"""The table of thresholds, and the file that changes it."""

from dataclasses import replace
from pathlib import Path

import pytest

from kmwatch.errors import BadInputError
from kmwatch.ledger import Ledger
from kmwatch.settings import CONFIG
from kmwatch.thresholds import DEFAULTS, load, table
from tests.unit.rows import batch, found, kmalloc, meta


def written(directory: Path, text: str) -> Path:
    path = directory / CONFIG
    path.write_text(text)
    return path


def test_every_threshold_has_a_unit_and_a_reason() -> None:
    for each in table():
        assert each.unit, each.name
        assert len(each.reason) > 20, each.name
        assert each.default >= 0, each.name


def test_a_file_changes_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    path = written(tmp_path, "[thresholds]\nwaste_share = 0.5\ncache_objects = 7\n")

    assert load(path) == replace(DEFAULTS, waste_share=0.5, cache_objects=7.0, path=str(path))


def test_the_working_directory_is_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load() is DEFAULTS

    written(tmp_path, "[thresholds]\nwaste_share = 0.5\n")

    assert (load().waste_share, load().path) == (0.5, CONFIG)


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    assert replace(load(written(tmp_path, "")), path="") == DEFAULTS


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[thresholds]\nwaste_shares = 1\n", "[thresholds]: there is no 'waste_shares'; did you mean waste_share"),
        ("[thresholds]\npath = 1\n", "[thresholds]: there is no 'path'; "),
        ("[threshold]\nwaste_share = 1\n", "there is no 'threshold'; did you mean thresholds?"),
        ("thresholds = 3\n", "`thresholds` must be a table"),
        ("[thresholds]\nwaste_share = '1'\n", "waste_share must be a number from 0 up, not '1'"),
        ("[thresholds]\nwaste_share = true\n", "waste_share must be a number from 0 up, not True"),
        ("[thresholds]\nwaste_share = nan\n", "waste_share must be a number from 0 up, not nan"),
        ("[thresholds]\nwaste_share = -1\n", "waste_share must be a number from 0 up, not -1"),
        ("[thresholds\n", "is not TOML"),
        ("x = " + "[" * 5000, "is not TOML"),
        ("#" * (1 << 20) + "\n", "is over 1 MiB"),
    ],
)
def test_what_is_no_threshold_is_refused_with_the_nearest_that_is(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(BadInputError) as refused:
        load(written(tmp_path, text))

    assert says in str(refused.value)
    assert CONFIG in str(refused.value)


def test_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="cannot be read: No such file"):
        load(tmp_path / "other.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff")
    with pytest.raises(BadInputError, match="is not TOML"):
        load(tmp_path / "bytes.toml")


def test_rules_are_held_to_the_ledgers_thresholds() -> None:
    known = meta()
    strict, lax = Ledger(known), Ledger(known, replace(DEFAULTS, waste_share=0.5))
    for each in (strict, lax):
        each.add(batch(known, kmalloc("f+0x1", 640, count=1000)))

    assert (len(found("KM101", strict)), found("KM101", lax)) == (1, [])


def test_without_a_limit_what_wastes_nothing_is_no_finding() -> None:
    known = meta()
    made = Ledger(known, replace(DEFAULTS, waste_share=0.0, waste_rate=0.0, waste_bytes=0.0))
    made.add(batch(known, kmalloc("f+0x1", 64, count=9), kmalloc("g+0x1", 640, count=9, failed=1)))

    assert found("KM101", made) == []
