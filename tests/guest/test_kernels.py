"""kmwatch on other kernels: each boots once, and the tests of tests/guest/inside run in it."""

import os
import shlex
import sys
from pathlib import Path

import pytest

from tests.guest.kernels import MATRIX, fetch
from tests.guest.module import build
from tests.guest.vm import run

ROOT = Path(__file__).resolve().parents[2]
_SECONDS = 900.0
CHOSEN = [name for name in os.environ.get("KMWATCH_KERNELS", "6.1,newest").split(",") if name]


pytestmark = pytest.mark.guest


@pytest.mark.timeout(_SECONDS + 300)
@pytest.mark.parametrize("name", CHOSEN)
def test_kmwatch_on(name: str) -> None:
    assert name in MATRIX, f"KMWATCH_KERNELS: there is {', '.join(MATRIX)}"
    command = shlex.join([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/guest/inside"])

    settings = f"KMWATCH_GUEST=1 KMWATCH_REQUIRE=live KMWATCH_LAB={build(name)}"

    ended = run(fetch(name), f"{settings} {command}", ROOT, seconds=_SECONDS)

    assert ended.code == 0, ended.output
