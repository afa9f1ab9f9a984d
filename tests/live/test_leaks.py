"""`kmwatch leaks` on the running kernel: what a process piles up, and what only seems to be held."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import jsonschema
import pytest

from kmwatch.coverage import UNKNOWN, coverage
from kmwatch.leaks import grown
from kmwatch.ledger import Ledger
from kmwatch.schema import Kind
from kmwatch.sources.held import Hold
from kmwatch.sources.maps import LiveSource
from tests.live.watching import KMWATCH, ROOT, Workload, environment, kmwatch

pytestmark = pytest.mark.live

# Five hundred eventfds a second, kept: each is a kmalloc of the kernel's.
_PILES_UP = """
import os, resource, time
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
kept = []
while len(kept) < hard - 100:
    kept += [os.eventfd(0) for _ in range(5)]
    time.sleep(0.01)
"""
_BY = ("do_eventfd", "__do_sys_eventfd2", "__x64_sys_eventfd2", "__se_sys_eventfd2")


@contextmanager
def piling_up() -> Iterator[None]:
    """A process holds more and more."""
    with subprocess.Popen([sys.executable, "-c", _PILES_UP]) as process:
        try:
            yield
        finally:
            process.kill()


def test_what_a_process_piles_up_is_found_with_its_stack() -> None:
    with piling_up():
        ended = kmwatch("leaks", "-d", "6", "--json")
    assert ended.returncode == 0, ended.stderr
    data = json.loads(ended.stdout)
    jsonschema.validate(data, json.loads((ROOT / "docs/leaks.schema.json").read_text()))
    mine = [site for site in data["sites"] if site["symbol"].partition(".")[0] in _BY]

    assert len(mine) == 1, data["sites"]
    assert mine[0]["low"] <= mine[0]["objects"] <= mine[0]["high"]
    assert mine[0]["bytes"] >= 56 * mine[0]["objects"]
    assert 100 < mine[0]["objects_per_second"] < 600
    assert mine[0]["stacks"][0]["frames"][0] == mine[0]["site"]
    assert any("eventfd" in frame for frame in mine[0]["stacks"][0]["frames"])


def test_interrupted_it_judges_what_it_saw() -> None:
    with subprocess.Popen(
        (*KMWATCH, "leaks", "-d", "10m"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **environment()
    ) as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(4)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)

    assert process.returncode == 0, err
    assert "Traceback" not in err
    assert "watch longer" in out or "grow" in out


def test_a_cache_whose_releases_have_no_event_is_unknown_and_no_leak(workload: Workload) -> None:
    """maple_node, since its objects are released in bulk: they only seem to pile up."""
    with LiveSource(frozenset(Kind), hold=Hold(0, sure=True)) as source:
        ledger = Ledger(source.meta)
        for _ in range(10):
            workload.run("spawn", 101)
            ledger.add(source.read())
    known = coverage(ledger).get(("maple_node", Kind.CACHE_ALLOC))
    if known is None or known.released > known.unseen:
        pytest.skip("this kernel reports the releases of maple_node")

    assert known.allocations > 1009
    assert known.grade == UNKNOWN
    assert "maple_node" not in {cache for suspect in grown(ledger).suspects for cache in suspect.caches}
