"""Workers fetch what lies behind URLs by themselves, and need nothing of kmwatch for it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kmwatch.capture.folding import ALWAYS
from kmwatch.capture.layout import segment_number
from kmwatch.fleet import remote
from kmwatch.fleet.synth import make
from kmwatch.sources.capture import CaptureSource
from tests.spark.conftest import CLUSTER, Fleet, ended, started
from tests.unit import storage
from tests.unit.captures import small_capture

HOSTS = 12
_WITHOUT_KMWATCH = """
import pickle, sys
sys.modules["kmwatch"] = None
look, events, told, listed = pickle.load(sys.stdin.buffer)
reader = events({"files": listed}).reader(None)
found = [batch for part in reader.partitions() for batch in reader.read(part)]
print(look(told), sum(each.num_rows for each in found), found[0].schema.names)
"""


@pytest.fixture
def address() -> Iterator[str]:
    """Of a server that is there for one test."""
    with storage.server() as running:
        yield running


@pytest.fixture
def behind_url(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    """A fleet in a bucket: a table of one capture is damaged, some events of another, and events of a third missing."""
    planted = make(tmp_path / "fleet", hosts=HOSTS, seed=1, events=2000, done=lambda _: None)
    found = sorted(path.parent for path in (tmp_path / "fleet").rglob("journal.jsonl"))
    (found[1] / "keys.parquet").write_bytes(b"PAR1" + bytes(100))
    segments = [sorted(path for path in each.iterdir() if segment_number(path.name) is not None) for each in found]
    segments[2][0].write_bytes(segments[2][0].read_bytes()[:-10])
    segments[3][0].unlink()
    storage.use(monkeypatch, address)
    root = f"s3://{storage.BUCKET}/km"
    server, path = remote.opened(root)
    server.put(str(tmp_path / "fleet"), path, recursive=True)
    return Fleet(root, planted, str(found[1].relative_to(tmp_path / "fleet")))


def test_spark_gives_the_same_of_captures_behind_a_url(behind_url: Fleet) -> None:
    told = ended(started(behind_url))
    by_spark = ended(started(behind_url, "--engine", "spark", "--master", CLUSTER))

    assert by_spark == told
    assert told.code == 4
    (skipped,) = told.data["skipped"]
    assert skipped["name"] == behind_url.corrupt
    assert f"{behind_url.root}/{behind_url.corrupt}/keys.parquet is damaged" in skipped["reason"]
    assert told.data["captures"]["count"] == HOSTS - 1
    assert "is damaged: its " in told.warnings + str(told.data["report"])
    assert "is missing: its " in told.warnings + str(told.data["report"])


def test_spark_gives_the_same_of_a_span(tmp_path: Path) -> None:
    """Captures have two seconds; the span cuts through each."""
    fleet = Fleet(tmp_path, make(tmp_path, hosts=HOSTS, seed=2, events=2000, done=lambda _: None), "")
    span = ("--from", "0.5", "--to", "1.25")
    told = ended(started(fleet, *span))

    assert 0 < told.data["captures"]["events"] < fleet.planted["events"] / 2
    assert ended(started(fleet, *span, "--engine", "spark", "--master", "local[2]")) == told


def test_what_workers_cannot_fetch_is_said_in_a_line(behind_url: Fleet, tmp_path: Path) -> None:
    """A worker has an environment of its own: here one without keys."""
    (tmp_path / "python").write_text(f'#!/bin/sh\nunset AWS_SECRET_ACCESS_KEY\nexec {sys.executable} "$@"\n')
    (tmp_path / "python").chmod(0o755)
    report = started(behind_url, "--engine", "spark", "--master", "local[2]", PYSPARK_PYTHON=str(tmp_path / "python"))
    out, warnings = report.communicate(timeout=280)

    assert (report.returncode, out) == (3, "")
    assert warnings.count("\n") == 1
    assert "a worker cannot fetch s3://" in warnings


def test_workers_need_nothing_of_kmwatch(tmp_path: Path) -> None:
    from pyspark import cloudpickle

    from kmwatch.sources.fleet import worker

    capture = CaptureSource(small_capture(tmp_path / "boot.kmw")).capture
    segment = next(each for each in capture.segments if each.path)
    told = (str(segment.path), segment.sha256, 7, len(capture.keys), *ALWAYS)
    (tmp_path / "files.json").write_text(json.dumps([[told], []]))
    cloudpickle.register_pickle_by_value(worker)
    try:
        sent = cloudpickle.dumps((worker.look, worker.Events, told, str(tmp_path / "files.json")))
    finally:
        cloudpickle.unregister_pickle_by_value(worker)
    ran = subprocess.run([sys.executable, "-c", _WITHOUT_KMWATCH], input=sent, capture_output=True, check=True)

    wanted = f"('{segment.sha256}', {segment.events}) {segment.events} ['capture', 'key', 'requested', 'task']\n"
    assert ran.stdout.decode() == wanted
