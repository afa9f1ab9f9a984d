"""Exact counts on this kernel, live and recorded: a workload of the live tests that needs no site of one kernel."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.live.watching import MESSAGE, ROOT, Workload, message_parts, rounded


@pytest.fixture(scope="module")
def workload(tmp_path_factory: pytest.TempPathFactory) -> Workload:
    """tests/live/workload.c, compiled."""
    program = tmp_path_factory.mktemp("workload") / "workload"
    subprocess.run(["cc", "-O1", "-o", program, ROOT / "tests/live/workload.c"], check=True)
    return Workload(program)


def report(*arguments: str) -> list[tuple[int, int, int, str]]:
    """Count, bytes requested and allocated, and context of each row at the sites of messages."""
    command = [sys.executable, "-m", "kmwatch", "report", "--json", *arguments]
    text = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout
    sites = json.loads(text[text.index("{\n") :])["sites"]
    own = [site for site in sites if site["kind"] == "kmalloc" and site["symbol"].partition(".")[0] in MESSAGE]
    return sorted((site["count"], site["bytes_requested"], site["bytes_allocated"], site["context"]) for site in own)


def expected(count: int, size: int) -> list[tuple[int, int, int, str]]:
    """What that many messages of a size come to."""
    parts = message_parts(size)
    return sorted((count, count * part, count * rounded(part), "process") for part in parts)


def test_live(workload: Workload) -> None:
    assert report("live", "--", *workload.command("msgsnd", 1009, 5000)) == expected(1009, 5000)


def test_recorded(workload: Workload, tmp_path: Path) -> None:
    capture = tmp_path / "guest.kmw"
    record = [sys.executable, "-m", "kmwatch", "record", "-q", "-o", str(capture), "--"]
    subprocess.run([*record, *workload.command("msgsnd", 1009, 5000)], check=True, capture_output=True, cwd=ROOT)

    assert report(str(capture)) == expected(1009, 5000)
