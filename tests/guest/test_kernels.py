"""kmwatch on other kernels: each boots once, and the tests of tests/guest/inside run in it."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.guest.kernels import CACHE, MATRIX, FetchError, fetch
from tests.guest.module import SOURCE, build
from tests.guest.vm import Ended, Guest, complaints, run
from tests.support import hold_tier, required_tiers

ROOT = Path(__file__).resolve().parents[2]
RESULTS = CACHE.parent / "results"
"""What each kernel's run left: rows.json, capture.kmw, report.json."""

_GUEST = Guest(memory="1G", cpus=2, seconds=900)
_AT_ONCE = 2  # QEMU keeps one processor busy for each
_WANTED = os.environ.get("KMWATCH_KERNELS", "6.1,newest")
CHOSEN = list(MATRIX) if _WANTED == "all" else [name for name in _WANTED.split(",") if name]

# The first run fetches kernels, and compiles for each.
pytestmark = pytest.mark.timeout(_GUEST.seconds + 900)
each_kernel = pytest.mark.parametrize("name", CHOSEN)

Guests = dict[str, "Future[Ended]"]


@pytest.fixture(scope="session")
def guests() -> Iterator[Guests]:
    """The kernels' runs, some at the same time."""
    unknown = [name for name in CHOSEN if name not in MATRIX]
    assert unknown == [], f"KMWATCH_KERNELS: there is all, {', '.join(MATRIX)}"
    stop, fetching = threading.Event(), threading.Lock()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        yield {name: pool.submit(_run_in, name, fetching, stop) for name in CHOSEN}
        stop.set()


def _run_in(name: str, fetching: threading.Lock, stop: threading.Event) -> Ended:
    """Boot a kernel and run the tests that are for inside."""
    shutil.rmtree(RESULTS / name, ignore_errors=True)
    with fetching:  # they share a directory for downloads
        kernel, module = fetch(name), build(name)
    # The guest's clock can run several times too fast on a busy host: only the host's decides what takes too long.
    pytest_here = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "timeout=0"]
    command = shlex.join([*pytest_here, "tests/guest/inside"])
    settings = f"KMWATCH_GUEST=1 KMWATCH_REQUIRE=live KMWATCH_LAB={module}"
    return run(kernel, f"{settings} {command}", ROOT, _GUEST, RESULTS / name, stop)


def ended(guests: Guests, name: str) -> Ended:
    """How a kernel's run ended; skips, or fails where the tier is required, if there is no such kernel to be had."""
    try:
        return guests[name].result()
    except FetchError as error:
        hold_tier("guest", str(error), required_tiers(os.environ.get("KMWATCH_REQUIRE", "")))
        raise


@each_kernel
def test_kmwatch_on(guests: Guests, name: str) -> None:
    run = ended(guests, name)

    assert run.code == 0, run.output
    assert complaints(run.log) == []


@each_kernel
def test_its_capture_says_the_same_here(guests: Guests, name: str) -> None:
    ended(guests, name)
    command = [sys.executable, "-m", "kmwatch", "report", str(RESULTS / name / "capture.kmw"), "--json"]
    here = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout

    assert json.loads(here) == json.loads((RESULTS / name / "report.json").read_text())


def _functions() -> dict[str, range]:
    """The lines of each function of the module's source, from 1."""
    found, begun = dict[str, int](), ""
    lines: dict[str, range] = {}
    for number, line in enumerate((SOURCE / "kmwatch_lab.c").read_text().splitlines(), 1):
        if match := re.match(r"static \w.*?(lab_\w+)\(", line):
            begun = match[1]
            found[begun] = number
        elif line == "}" and begun:
            lines[begun] = range(found[begun], number)
            begun = ""
    return lines


@each_kernel
def test_check_annotates_the_lines_that_ask(guests: Guests, name: str) -> None:
    """As a code host takes it: SARIF, each finding at a line of the function that it names."""
    ended(guests, name)
    command = [sys.executable, "-m", "kmwatch", "check", str(RESULTS / name / "capture.kmw"), "--module", "kmwatch_lab"]
    command += ["--format", "sarif", "--module-dir", str(build(name).parent)]
    ran = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
    found = json.loads(ran.stdout)["runs"][0]["results"]
    places = [each["locations"][0] for each in found if each["locations"]]
    functions = _functions()

    assert places
    for place in places:
        function, line = place["logicalLocations"][0]["name"], place["physicalLocation"]
        assert line["artifactLocation"]["uri"].endswith("/kmwatch_lab.c")
        assert line["region"]["startLine"] in functions[function], function
