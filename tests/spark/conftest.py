"""A fleet of 300 synthetic captures, of which one is corrupt, and reports on it by commands of their own."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from kmwatch.fleet.synth import make

HOSTS = 300
CLUSTER = "local-cluster[2,1,1024]"
"""Two workers with a process of their own each, and so real shuffles between them."""


class Told(NamedTuple):
    """What a command said: its exit code, what it printed, and its warnings."""

    code: int
    data: dict[str, Any]
    warnings: str


class Fleet(NamedTuple):
    """Where it is, what was planted in it, and the name of the capture that is corrupt."""

    root: Path | str
    planted: dict[str, Any]
    corrupt: str


def command(fleet: Fleet, *options: str) -> Sequence[str]:
    return [sys.executable, "-m", "kmwatch", "report", str(fleet.root), "--by", "host", "--json", *options]


def ended(process: "subprocess.Popen[str]") -> Told:
    out, warnings = process.communicate(timeout=280)
    return Told(process.returncode, json.loads(out), warnings)


def started(fleet: Fleet, *options: str, **more: str) -> "subprocess.Popen[str]":
    """A report in a process of its own, as Spark needs one for each kind of cluster; more: of its environment."""
    environment = {**os.environ, "SPARK_LOCAL_IP": "127.0.0.1", **more}
    return subprocess.Popen(
        command(fleet, *options), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """The fleet; what is corrupt is a host in which nothing is planted."""
    root = tmp_path_factory.mktemp("fleet")
    planted = make(root, hosts=HOSTS, seed=1, events=2000, done=lambda _: None)
    faulty = {each["host"] for each in planted["planted"] if "host" in each}
    found = sorted(path.parent for path in root.rglob("journal.jsonl"))
    corrupt = next(path for path in found if not any(host in str(path) for host in faulty))
    (corrupt / "keys.parquet").write_bytes(b"PAR1" + bytes(100))
    return Fleet(root, planted, str(corrupt.relative_to(root)))


@pytest.fixture(scope="session")
def by_duckdb(fleet: Fleet) -> Told:
    """The report by the engine in the process itself."""
    return ended(started(fleet))
