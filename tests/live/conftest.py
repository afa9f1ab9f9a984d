"""What the live tests share: the workload program, and one run of these tests at a time."""

import fcntl
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kmwatch.schema import Kind
from kmwatch.sources.maps import LiveSource
from tests.live.watching import Watch, Workload
from tests.support import wait_until

_LOCK = Path(tempfile.gettempdir()) / "kmwatch-live-tests.lock"


@pytest.fixture(autouse=True)
def _alone() -> Iterator[None]:
    """Two runs of these tests at the same time would count each other's messages."""

    def taken() -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    with _LOCK.open("w") as file:
        wait_until(taken, 240, f"another run of the live tests to release {_LOCK}")
        yield


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What these tests compile is kept for these tests only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CACHE_DIRECTORY", str(tmp_path_factory.mktemp("compiled", numbered=True)))
        yield


@pytest.fixture(scope="session")
def workload(tmp_path_factory: pytest.TempPathFactory) -> Workload:
    """tests/live/workload.c, compiled."""
    program = tmp_path_factory.mktemp("workload") / "workload"
    source = Path(__file__).parent / "workload.c"
    subprocess.run(["cc", "-O1", "-Wall", "-Wextra", "-Werror", "-o", program, source], check=True)
    return Workload(program)


@pytest.fixture(scope="module")
def watch() -> Iterator[Watch]:
    """The running kernel, watched for as long as a file's tests take; each test looks at its own span of time."""
    with LiveSource(frozenset(Kind)) as source:
        yield Watch(source)
