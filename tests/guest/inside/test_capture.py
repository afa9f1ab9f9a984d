"""A recording of one row of each operation and of messages, and what kmwatch says of it; both go back to the host."""

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kmwatch.sources.bpf import possible_cpus
from tests.guest import expected
from tests.guest.compare import sums_differ
from tests.guest.inside import messages
from tests.guest.inside.lab import DIRECTORY, Lab, percpu_event_is_full, request
from tests.guest.rows import ROWS, Row
from tests.live.watching import ROOT, Workload

# Every kernel does these: PREEMPT_RT too.
CHOSEN = tuple({row.op: row for row in ROWS if row.ctx in ("process", "softirq")}.values())


@pytest.fixture(scope="module")
def recorded(
    lab: Lab, workload: Workload, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[dict[str, Any]]]:
    """A capture of the rows and of messages, and what the module says of each row."""
    directory = tmp_path_factory.mktemp("recorded")
    capture, told = directory / "capture.kmw", directory / "told"
    numbers = lab.result()
    asked = (shlex.quote(request(row, expected.mask(row, numbers))) for row in CHOSEN)
    rows = (f"echo {line} > {DIRECTORY}/run; cat {DIRECTORY}/result >> {told}" for line in asked)
    script = "; ".join([*rows, shlex.join(messages.command(workload))])
    record = [sys.executable, "-m", "kmwatch", "record", "-q", "-o", str(capture), "--", "sh", "-c", script]
    subprocess.run(record, check=True, capture_output=True, cwd=ROOT)
    return capture, [json.loads(line) for line in told.read_text().splitlines()]


@pytest.fixture(scope="module")
def report(recorded: tuple[Path, list[dict[str, Any]]], results: Path) -> dict[str, Any]:
    """The report of the capture; it and the capture are left for the host."""
    capture, _ = recorded
    command = [sys.executable, "-m", "kmwatch", "report", str(capture), "--json"]
    text = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout
    shutil.copytree(capture, results / capture.name)
    (results / "report.json").write_text(text)
    told: dict[str, Any] = json.loads(text)
    return told


@pytest.mark.parametrize("row", CHOSEN, ids=lambda row: row.op)
def test_what_was_recorded_is_what_the_module_did(
    report: dict[str, Any], recorded: tuple[Path, list[dict[str, Any]]], row: Row
) -> None:
    did = recorded[1][CHOSEN.index(row)]
    machine = expected.Machine(possible_cpus(), percpu_event_is_full())

    assert did["error"] == 0, did
    for wanted in expected.sums(row, did, machine):
        named = (wanted.symbol, wanted.kind.name.lower())
        found = [site for site in report["sites"] if (site["symbol"], site["kind"]) == named]
        assert list(sums_differ(wanted, found, row, did)) == []


def test_messages_are_counted(report: dict[str, Any]) -> None:
    assert messages.told(report) == messages.expected()
