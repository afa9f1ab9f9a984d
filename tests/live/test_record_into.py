"""Recordings into a fleet: written in place where it is local, sent when they have ended where it is behind a URL."""

import json
import re
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from kmwatch.capture.reader import Capture
from kmwatch.fleet.layout import find
from kmwatch.fleet.staging import staged
from tests.live.watching import KMWATCH, environment
from tests.unit import storage


def record(root: str, *arguments: str, **more: str) -> "subprocess.CompletedProcess[str]":
    """A second of the running kernel."""
    around: dict[str, Any] = environment()
    around["env"] = {**around["env"], **more}
    command = [*KMWATCH, "record", "--into", root, "-d", "1", "--kinds", "kmalloc", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, **around)


def reported(root: str, **more: str) -> Any:
    """What a report on the fleet says."""
    around: dict[str, Any] = environment()
    around["env"] = {**around["env"], **more}
    said = subprocess.run([*KMWATCH, "report", root, "--json"], capture_output=True, check=True, timeout=120, **around)
    return json.loads(said.stdout)


def test_a_recording_goes_to_its_place_in_a_local_fleet(tmp_path: Path) -> None:
    said = record(str(tmp_path / "fleet"))
    assert said.returncode == 0, said.stderr
    (place,) = find(str(tmp_path / "fleet"))
    capture = Capture(Path(place.url))
    capture.check()

    assert re.fullmatch(r"host=[^/]+/date=\d{4}-\d\d-\d\d/\d{6}", place.name)
    assert place.host == socket.gethostname() == capture.meta.host.hostname
    assert capture.doubts == []
    assert capture.events > 0
    assert f"kmwatch report {place.url}" in said.stderr


def test_a_recording_for_a_server_is_sent_when_it_has_ended_and_can_be_reported_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = f"s3://{storage.BUCKET}/fleet"
    with storage.server() as address:
        storage.use(monkeypatch, address)
        around = {**storage.environment(address), "TMPDIR": str(tmp_path)}
        said, again = record(root, "--name", "boot", **around), record(root, "--name", "boot", **around)
        forced = record(root, "--name", "boot", "--force", **around)
        (place,) = find(root)
        with staged(place) as directory:
            capture = Capture(directory)
            capture.check()
        fleet = reported(root, **around)
    assert (said.returncode, forced.returncode) == (0, 0), said.stderr + forced.stderr
    assert (capture.doubts, capture.events > 0, place.name.endswith("/boot")) == ([], True, True)
    assert fleet["captures"]["count"] == 1
    assert fleet["report"]["trust"]["events"] == capture.events
    assert f"kmwatch report {place.url}" in said.stderr
    assert (again.returncode, f"{place.url} has a capture: --force replaces it" in again.stderr) == (2, True)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("kmwatch-")]


def test_a_server_that_is_not_there_is_told_before_anything_is_recorded(tmp_path: Path) -> None:
    """Nothing is left of it either."""
    around = {**storage.environment("http://127.0.0.1:1"), "TMPDIR": str(tmp_path)}
    said = record(f"s3://{storage.BUCKET}/fleet", **around)

    assert said.returncode == 3
    assert said.stderr.startswith(f"kmwatch: cannot write to s3://{storage.BUCKET}/fleet/host=")
    assert said.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
