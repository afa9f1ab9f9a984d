"""Reports of a capture: the same on any machine, by any dimension, and for any part that the command line can name."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from kmwatch.capture.choosing import Choice
from kmwatch.capture.folding import Folder
from kmwatch.cli import cli, reporting
from kmwatch.cli.base import DIMENSIONS
from kmwatch.errors import KmwatchError, UsageError
from kmwatch.ledger import MEASURES, Ledger
from kmwatch.schema import Via
from kmwatch.views import dimensions
from tests.unit import rows
from tests.unit.captures import START, small_capture
from tests.unit.folded import folded

ROOT = Path(__file__).parents[2]
# A report that opened anything of the machine it runs on would end in a traceback.
ELSEWHERE = """
import sys
import kmwatch.cli, kmwatch.cli.reporting, kmwatch.sources.capture, kmwatch.views.report, kmwatch.rules

def refuse(event, arguments):
    if event == "open" and str(arguments[0]).startswith(("/proc", "/sys")):
        raise RuntimeError(f"opened {arguments[0]}")

sys.addaudithook(refuse)
from kmwatch.__main__ import main
main()
"""
NO_KERNEL = """
for file in kallsyms slabinfo buddyinfo zoneinfo mounts version; do mount --bind /dev/null /proc/$file || exit 9; done
for place in /sys/kernel/tracing /sys/kernel/debug /sys/fs/cgroup; do
    [ ! -d $place ] || mount -t tmpfs none $place || exit 9
done
exec "$@"
"""


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """small_capture."""
    return small_capture(tmp_path_factory.mktemp("recorded") / "a.kmw")


def invoked(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["report", *map(str, arguments)], standalone_mode=False)


def report(*arguments: str | Path) -> Any:
    """A report as data."""
    result = invoked(*arguments, "--json")
    assert not result.exception, result.exception
    return json.loads(result.stdout)


def printed(*command: str | Path) -> bytes:
    """What a command prints, run where the project is."""
    result = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert (result.returncode, result.stderr) == (0, b"")
    return result.stdout


@pytest.mark.parametrize("by", [[], ["--by", "cgroup"]])
def test_a_capture_that_was_moved_has_the_same_report_byte_for_byte(
    capture: Path, tmp_path: Path, by: list[str]
) -> None:
    moved = shutil.copytree(capture, tmp_path / "else where" / "key=7" / "moved[1].kmw")
    arguments = ["--json", *by]
    expected = printed(sys.executable, "-m", "kmwatch", "report", capture, *arguments)

    assert json.loads(expected)["trust"]["events"] == 18
    assert printed(sys.executable, "-c", ELSEWHERE, "report", moved, *arguments) == expected


def test_a_capture_needs_nothing_of_the_kernel_it_is_read_on(capture: Path) -> None:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("only root can hide the kernel from a program")
    command = [sys.executable, "-m", "kmwatch", "report", str(capture), "--json"]

    assert printed("unshare", "-m", "sh", "-c", NO_KERNEL, "sh", *command) == printed(*command)


def test_a_capture_can_be_read_where_nothing_can_be_written(capture: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(capture, tmp_path / "a.kmw")
    before = {path.name: path.stat().st_mtime_ns for path in copy.iterdir()}

    report(copy)

    assert {path.name: path.stat().st_mtime_ns for path in copy.iterdir()} == before


_KMALLOC, _BIG, _DENTRY, _VMALLOC, _PAGES = (
    (7, 420, 448),
    (1, 3000, 4096),
    (2, 380, 384),
    (1, 8192, 8192),
    (2, 8192, 8192),
)
HOST = rows.meta().host
GROUPS: dict[str, dict[str, list[tuple[int, int, int]]]] = {
    "site": {
        "module_alloc+0x9 [wifi]": [_VMALLOC],
        "probe+0x9 [wifi]": [_PAGES],
        "getname_flags+0x4a": [_BIG],
        "load_msg+0x41": [_KMALLOC],
        "d_alloc+0x1": [_DENTRY],
    },
    "module": {"wifi": [_VMALLOC, _PAGES], "the kernel itself": [_KMALLOC, _BIG, _DENTRY]},
    "cache": {"none": [_KMALLOC, _BIG, _VMALLOC, _PAGES], "dentry": [_DENTRY]},
    "gfp": {"GFP_KERNEL": [_KMALLOC, _BIG, _DENTRY, _PAGES], "none": [_VMALLOC], "GFP_ATOMIC": []},
    "zone": {"Normal": [_PAGES], "none": [_KMALLOC, _BIG, _DENTRY, _VMALLOC]},
    "context": {"process": [_KMALLOC, _BIG, _VMALLOC, _PAGES], "softirq": [_DENTRY]},
    "comm": {
        "find": [_BIG, _DENTRY, _PAGES],
        "stress-ng-msg": [_KMALLOC],
        "modprobe": [_VMALLOC],
        "unknown": [],
    },
    "cgroup": {"/user.slice": [_KMALLOC], "unknown": [_BIG, _DENTRY, _VMALLOC, _PAGES]},
    "host": {HOST.hostname: [_KMALLOC, _BIG, _DENTRY, _VMALLOC, _PAGES]},
    "kernel": {HOST.kernel: [_KMALLOC, _BIG, _DENTRY, _VMALLOC, _PAGES]},
}
FAILED = {"probe+0x9 [wifi]", "wifi", "GFP_ATOMIC", "process", "unknown", HOST.hostname, HOST.kernel}
"""Where the one failure is counted: 4096 << 3 bytes that were not had."""


def expected_groups(by: str) -> list[dict[str, Any]]:
    """The groups of GROUPS, most bytes first."""
    found = []
    for name, parts in GROUPS[by].items():
        count, requested, allocated = (sum(column) for column in zip((0, 0, 0), *parts, strict=True))
        failed = name in FAILED if by not in ("cache", "zone") else name == "none"
        sums = (count, int(failed), 0, requested, allocated, allocated - requested)
        found.append({"name": name, **dict(zip(MEASURES, sums, strict=True))})
    return sorted(found, key=lambda row: (-row["bytes_allocated"], -row["count"], row["name"]))


def test_every_dimension_is_tried() -> None:
    assert set(GROUPS) == set(dimensions.NAMES) == set(DIMENSIONS)


@pytest.mark.parametrize("by", dimensions.NAMES)
def test_the_groups_of_a_dimension_are_exactly_these(capture: Path, by: str) -> None:
    groups = dimensions.build(folded(capture, Choice(by_task=lambda task: task))[1], by)

    assert groups == expected_groups(by)
    assert report(capture, "--by", by)["groups"] == groups


def test_pages_that_another_allocator_took_are_counted_once() -> None:
    made = rows.ledger(rows.kmalloc("f+0x1", 60, count=2), rows.pages("f+0x1", via=Via.SLAB))

    assert [group["bytes_allocated"] for group in dimensions.build(made, "site")] == [128]


@pytest.mark.parametrize("by", dimensions.NAMES)
def test_nothing_has_no_groups(by: str) -> None:
    assert dimensions.build(Ledger(rows.meta()), by) == []


PARTS: list[tuple[list[str], int]] = [
    ([], 18),
    (["--kinds", "kmalloc"], 8),
    (["--kinds", "kmalloc,kfree"], 12),
    (["--site", "^load_msg"], 7),
    (["--site", r"\[wifi\]$"], 4),
    (["--site", "^load_msg", "--kinds", "vmalloc"], 0),
    (["--site", r"\[wifi\]$", "--kinds", "vmalloc"], 1),
    (["--comm", "^find$"], 5),
    (["--cgroup", "user"], 11),
    (["--comm", "stress|modprobe", "--cgroup", "user"], 11),
    (["--comm", "find", "--cgroup", "user"], 0),
    (["--from", "1"], 13),
    (["--to", "1"], 5),
    (["--from", "0.2", "--to", "0.5"], 1),
    (["--from", "0m1s", "--to", "2.5s"], 9),
    (["--from", "1", "--to", "2", "--comm", "find", "--site", "d_alloc"], 2),
    (["--from", "2023-11-14T22:13:21+00:00"], 13),
]


@pytest.mark.parametrize(
    ("part", "events"), PARTS, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_a_part_of_a_capture_is_reported(capture: Path, part: list[str], events: int) -> None:
    data = report(capture, *part)

    assert data["trust"]["events"] == events
    assert (data["trust"]["doubts"], data["host"]["hostname"]) == ([], "box")


def test_a_span_is_named_by_when_it_was(capture: Path) -> None:
    assert report(capture, "--from", "0.5", "--to", "2")["span"] == {"start": START + 0.5, "seconds": 1.5}


@pytest.mark.parametrize(
    ("part", "code", "says"),
    [
        (["--from", "3"], 2, "nothing from 3 s to 3 s: it has 0.0 s to 3.0 s"),
        (["--to", "9" * 400, "--from", "9" * 399], 2, "nothing from"),
        (["--from", "soon"], 2, "--from 'soon' is no point in time"),
        (["--kinds", "kmaloc"], 2, "unknown kind 'kmaloc'"),
        (["--site", "("], 2, "'(' is not a regular expression"),
        (["-d", "5"], 2, "--duration goes with `live`"),
    ],
)
def test_a_part_that_cannot_be_had_is_one_line(capture: Path, part: list[str], code: int, says: str) -> None:
    error = invoked(capture, *part).exception

    assert isinstance(error, KmwatchError)
    assert (error.exit_code, str(error).startswith(says), "\n" in str(error)) == (code, True, False)


def test_a_page_that_can_go_nowhere_is_refused_before_anything_is_watched(
    capture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Any] = []
    monkeypatch.setattr(reporting, "open_source", lambda *given: opened.append(given))

    result = invoked(capture, "--html", tmp_path / "missing" / "a.html")

    assert isinstance(result.exception, UsageError)
    assert "make that directory first" in str(result.exception)
    assert opened == []


def test_what_adding_up_does_not_need_is_not_read(capture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = report(capture)["sites"]
    monkeypatch.setattr(Folder, "_usable", lambda _: pytest.fail("times and tasks were read"))

    assert report(capture)["sites"] == expected
