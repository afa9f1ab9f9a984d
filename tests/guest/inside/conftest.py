"""What the tests in a guest share: the module, a source, a workload, and where results go."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kmwatch.schema import Kind
from kmwatch.sources.maps import LiveSource
from tests.guest.inside.lab import Lab, loaded
from tests.live.watching import ROOT, Watch, Workload


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """The module, loaded for as long as the tests take."""
    with loaded() as lab:
        yield lab


@pytest.fixture(scope="session")
def watch() -> Iterator[Watch]:
    """Everything watched, once for all tests: compiling the programs takes long where a processor is emulated."""
    with LiveSource(frozenset(Kind)) as source:
        yield Watch(source)


@pytest.fixture(scope="session")
def workload(tmp_path_factory: pytest.TempPathFactory) -> Workload:
    """tests/live/workload.c, compiled."""
    program = tmp_path_factory.mktemp("workload") / "workload"
    subprocess.run(["cc", "-O1", "-o", program, ROOT / "tests/live/workload.c"], check=True)
    return Workload(program)


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that the host gets back; one that is thrown away where nobody wants it."""
    wanted = os.environ.get("KMWATCH_RESULTS")
    return Path(wanted) if wanted else tmp_path_factory.mktemp("results")
