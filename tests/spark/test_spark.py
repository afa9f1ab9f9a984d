"""Both engines give the same of 300 captures, also where a worker is killed; what is planted is found, nothing else."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.spark.conftest import CLUSTER, HOSTS, Fleet, Told, ended, started

_EXECUTOR, _PYTHON = b"CoarseGrainedExecutorBackend", b"pyspark"


def processes() -> Iterator[tuple[int, int, bytes]]:
    """Each process: its number, its parent's, and its command line."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            status = (path / "stat").read_text()
            line = (path / "cmdline").read_bytes()
        except OSError:  # it has ended
            continue
        yield int(path.name), int(status.rpartition(")")[2].split()[1]), line


def working_executors(ancestor: int) -> list[int]:
    """Executors of a cluster that a process started, as far as they have Python at work: a job is under way in them."""
    found = list(processes())
    parents = {number: parent for number, parent, _ in found}

    def is_ours(number: int) -> bool:
        while number > 1:
            if number == ancestor:
                return True
            number = parents.get(number, 0)
        return False

    executors = {number for number, _, line in found if _EXECUTOR in line and is_ours(number)}
    return sorted({parent for _, parent, line in found if _PYTHON in line and parent in executors})


def kill_one(report: "subprocess.Popen[str]") -> int:
    """Kill an executor in the middle of its work; its number."""
    until = time.monotonic() + 200
    while time.monotonic() < until and report.poll() is None:
        if at_work := working_executors(report.pid):
            os.kill(at_work[0], signal.SIGKILL)
            return at_work[0]
        time.sleep(0.02)
    raise AssertionError("no executor was at work")


def test_spark_gives_the_same_ledger_and_findings(fleet: Fleet, by_duckdb: Told) -> None:
    by_spark = ended(started(fleet, "--engine", "spark", "--master", CLUSTER))

    assert by_spark == by_duckdb
    assert by_spark.data["captures"]["count"] == HOSTS - 1
    assert len(by_spark.data["report"]["groups"]) == HOSTS - 1
    assert by_spark.data["report"]["sites"]


def test_a_killed_worker_changes_nothing(fleet: Fleet, by_duckdb: Told) -> None:
    report = started(fleet, "--engine", "spark", "--master", CLUSTER)
    killed = kill_one(report)
    told = ended(report)

    assert told == by_duckdb
    assert not Path(f"/proc/{killed}").exists()


def test_the_corrupt_one_is_named_and_the_rest_counted(fleet: Fleet, by_duckdb: Told) -> None:
    assert by_duckdb.code == 4
    assert [each["name"] for each in by_duckdb.data["skipped"]] == [fleet.corrupt]
    assert f"{fleet.corrupt} is in no number: " in by_duckdb.warnings
    assert "keys.parquet is damaged" in by_duckdb.warnings
    assert by_duckdb.data["report"]["trust"]["events"] == by_duckdb.data["captures"]["events"] > 100_000


def test_what_is_planted_is_found_and_nothing_else(fleet: Fleet, by_duckdb: Told) -> None:
    planted = {each["fault"]: each for each in fleet.planted["planted"]}
    data = by_duckdb.data

    outliers = {(each["host"], each["symbol"]) for each in data["outliers"]}
    assert outliers == {(planted[fault]["host"], planted[fault]["function"]) for fault in ("waste", "failures")}
    moved = {(each["symbol"], each["after"]["release"]) for each in data["releases"]}
    assert moved == {
        (planted["kernel"]["function"], planted["kernel"]["kernel"]),
        (planted["version"]["function"], planted["version"]["version"]),
    }
    assert {each["host"] for each in data["first"]} == {each["host"] for each in planted.values() if "host" in each}
    alone = {(each["rule"], each["symbol"]) for each in data["findings"] if each["hosts"] == 1}
    assert {symbol for _, symbol in alone} == {planted[fault]["function"] for fault in ("waste", "failures", "sleeps")}
