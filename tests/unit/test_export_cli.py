"""`kmwatch export`: every form from a capture, whole files or none, and mistakes said before anything is watched."""

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kmwatch.cli import cli, exporting
from kmwatch.errors import UsageError
from kmwatch.rules import judge
from kmwatch.views.export import formats
from tests.unit.captures import START, small_capture
from tests.unit.folded import one_database
from tests.unit.test_export_times import Trace, tracks

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", autouse=True)
def _database() -> Iterator[None]:
    with one_database():
        yield


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_capture(tmp_path_factory.mktemp("captures") / "small.kmw")


def export(*arguments: str | Path) -> Result:
    """The command in this process, its errors as they are raised."""
    given = ["export", *(str(each) for each in arguments)]
    return CliRunner().invoke(cli, given, catch_exceptions=False, standalone_mode=False)


@pytest.mark.parametrize("form", formats.FORMATS)
def test_a_file_is_what_goes_to_standard_output(form: str, capture: Path, tmp_path: Path) -> None:
    file = tmp_path / "out"
    file.write_text("old")
    said = export(capture, "--to", form, "-o", file)
    assert said.stdout == ""
    assert f"wrote {file}, " in said.stderr
    assert [each.name for each in tmp_path.iterdir()] == ["out"]
    assert export(capture, "--to", form).stdout_bytes == export(capture, "--to", form, "-o", "-").stdout_bytes
    if form not in ("pprof", "parquet"):
        assert export(capture, "--to", form).stdout_bytes == file.read_bytes()
    assert file.stat().st_size > 100


def test_stacks_and_slices_are_those_of_the_capture(capture: Path) -> None:
    lines = export(capture, "--to", "folded", "--measure", "count").stdout.splitlines()
    assert "do_syscall_64;do_msgsnd;load_msg;[kmalloc] 7" in lines
    read = Trace.FromString(export(capture, "--to", "perfetto").stdout_bytes)
    (frees,) = (uuid for uuid, each in tracks(read).items() if each.name == "frees")
    shown = [each for each in read.packet if each.track_event.track_uuid == frees]
    assert len(shown) == 60
    busy = [each.timestamp / 1e9 - START for each in shown if each.track_event.double_counter_value]
    assert len(busy) == 1
    assert 2.5 < busy[0] <= 2.6


def test_a_part_is_exported(capture: Path) -> None:
    lines = export(capture, "--to", "folded", "--measure", "count", "--until", "1.0", "--comm", "stress").stdout
    assert lines == "do_syscall_64;do_msgsnd;load_msg;[kmalloc] 4\n"


def test_the_measure_is_what_was_allocated_where_none_is_named(capture: Path) -> None:
    shown = export(capture, "--to", "folded").stdout
    assert shown == export(capture, "--to", "folded", "--measure", "allocated").stdout
    assert "load_msg;[kmalloc] 448\n" in shown
    assert "load_msg;[kmalloc] 28\n" in export(capture, "--to", "folded", "--measure", "wasted").stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--to", "csv", "--measure", "count"], "--measure goes with `--to folded`"),
        (["--to", "csv", "--stacks", "all"], "csv does not"),
        (["--to", "pprof", "--stacks", "all"], "has those that were recorded"),
        (["--to", "pprof", "-d", "3"], "--duration goes with `live`"),
        (["--to", "csv", "--until", "noon"], "--until 'noon' is no point in time"),
        (["--to", "svg"], "'svg' is not one of"),
        ([], "Missing option '--to'"),
        (["--to", "csv", "-o", "gone/out.csv"], "make that directory first"),
        (["--to", "csv", "-o", "."], "is a directory"),
    ],
)
def test_a_mistake_is_one_line(capture: Path, arguments: list[str], complaint: str) -> None:
    with pytest.raises(UsageError) as raised:
        export(capture, *arguments)
    assert complaint in str(raised.value)
    assert "\n" not in str(raised.value).strip()


def test_live_has_no_parts() -> None:
    with pytest.raises(UsageError, match="--until needs a capture"):
        export("live", "--to", "csv", "--until", "3")


def test_nothing_is_left_where_a_form_fails(capture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> bytes:
        raise ValueError

    monkeypatch.setattr(formats, "write", broken)
    file = tmp_path / "out"
    file.write_text("old")
    with pytest.raises(ValueError):  # noqa: PT011  # it is the one above
        export(capture, "--to", "csv", "-o", file)
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("out", "old")]


def at_terminal(*arguments: str | Path) -> tuple[int, str, bytes]:
    """The program with a terminal: its exit code, what it says beside, and the first of what it shows."""
    ours, its = pty.openpty()
    try:
        command = [sys.executable, "-m", "kmwatch", "export", *map(str, arguments)]
        done = subprocess.run(command, cwd=ROOT, stdout=its, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
        os.set_blocking(ours, False)
        return done.returncode, done.stderr, os.read(ours, 100)
    except BlockingIOError:
        return done.returncode, done.stderr, b""
    finally:
        os.close(ours)
        os.close(its)


@pytest.mark.parametrize("form", [name for name, each in formats.FORMATS.items() if each.binary])
def test_a_terminal_gets_nothing_that_is_not_text(form: str, capture: Path) -> None:
    code, said, shown = at_terminal(capture, "--to", form)
    assert (code, said.count("\n"), shown) == (2, 1, b"")
    assert f"{form} is nothing for a terminal: -o FILE" in said


def test_a_terminal_gets_text(capture: Path) -> None:
    code, _, shown = at_terminal(capture, "--to", "folded")
    assert code == 0
    assert b";[" in shown


def test_no_more_is_asked_of_a_source_than_the_form_tells() -> None:
    asked = {name: exporting._detail(each, "live", None) for name, each in formats.FORMATS.items()}
    assert {name for name, detail in asked.items() if detail.stacks == "sampled"} == {"folded", "speedscope", "pprof"}
    assert {name for name, detail in asked.items() if detail.sliced} == {"perfetto", "openmetrics"}
    assert {detail.stacks for detail in asked.values()} == {"sampled", "none"}


def test_findings_are_judged_on_what_is_exported(capture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr("kmwatch.rules.judge", lambda ledger: seen.append(ledger.totals().allocations) or judge(ledger))
    export(capture, "--to", "csv", "--kinds", "vmalloc")
    assert seen == [1]
