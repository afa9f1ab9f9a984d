"""A failure is made safely, and what its program saw of the free lists is compared with what /proc tells right after.

A memory cgroup at its limit refuses what a BPF map asks for: with __GFP_NORETRY, so nobody is killed for it.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kmwatch.failures import Failure
from kmwatch.findings import Finding
from kmwatch.kernel import zones
from kmwatch.ledger import Ledger
from kmwatch.rules import judge
from kmwatch.schema import Kind
from kmwatch.sources.maps import LiveSource
from tests.live.watching import MAP, ROOT, Watch, kmwatch

pytestmark = pytest.mark.live

_CODES = ("KM203", "KM204")
_LIMIT = 6 << 20
_VERSIONS = (("memory", "memory.limit_in_bytes"), (".", "memory.max"))  # of cgroups
_CGROUPS = Path("/sys/fs/cgroup")
_EXHAUST = """
import ctypes, os, struct, sys
from pathlib import Path
call = ctypes.CDLL(None, use_errno=True).syscall
room = ctypes.create_string_buffer(struct.pack("<5I", 2, 4, 32000, 1, 0), 128)
Path(sys.argv[1], "cgroup.procs").write_text("0")
maps = []
while len(maps) < 1000 and (fd := call(321, 0, room, len(room))) >= 0:
    maps.append(fd)
error = ctypes.get_errno()
for fd in maps:
    os.close(fd)
print(len(maps), error)
"""


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A memory cgroup with a limit of some megabytes."""
    for hierarchy, limit in _VERSIONS:
        made = _CGROUPS / hierarchy / "kmwatch-test"
        if hierarchy == "." and (control := _CGROUPS / "cgroup.subtree_control").exists():
            control.write_text("+memory")
        if not (made.parent / "cgroup.procs").exists():
            continue
        made.mkdir(exist_ok=True)
        if (made / limit).exists():
            (made / limit).write_text(str(_LIMIT))
            yield made
            made.rmdir()
            return
        made.rmdir()
    pytest.skip("no memory cgroup can be made here")


def _exhaust(cgroup: Path) -> list[str]:
    return [sys.executable, "-c", _EXHAUST, str(cgroup)]


def _seen(source: LiveSource) -> Failure:
    """The failed kmalloc of the map; a kernel may have tried a vmalloc after it."""
    return next(
        each for each in source.meta.failures if each.event == "kmalloc" and each.symbol.partition(".")[0] in MAP
    )


def test_the_programs_see_what_proc_shows(cgroup: Path) -> None:
    with LiveSource(frozenset(Kind)) as source:
        done = subprocess.run(_exhaust(cgroup), capture_output=True, text=True, check=True, timeout=60)
        now = {(zone.node, zone.name): zone for zone in zones.running()}
        blocks = {(each.node, each.zone): each for each in zones.running_free_blocks()}
        ledger = Watch(source).so_far(Ledger(source.meta))

    assert int(done.stdout.split()[0]) > 0, done
    assert source.notes == []
    failure = _seen(source)
    assert failure.cgroup
    assert failure.page_size == os.sysconf("SC_PAGE_SIZE")
    assert [(zone.node, zone.name) for zone in failure.zones] == list(now)
    for zone in failure.zones:
        witness, there = now[zone.node, zone.name], blocks[zone.node, zone.name].counts
        assert zone.managed == witness.managed
        assert (zone.min, zone.low, zone.high) == (witness.min, witness.low, witness.high)
        assert zone.free == pytest.approx(witness.free, rel=0.05, abs=8192)
        assert len(zone.blocks) == len(there)
        in_blocks = sum(count << order for order, count in enumerate(zone.blocks))
        assert in_blocks == pytest.approx(zone.free, rel=0.01, abs=1024)
        assert in_blocks == pytest.approx(blocks[zone.node, zone.name].pages_at_least(0), rel=0.05, abs=8192)
        assert all(bool(letters) == bool(count) for letters, count in zip(zone.letters, zone.blocks, strict=True))
    found = [each.finding for each in judge(ledger) if each.rule.code in _CODES]
    _holds([each for each in found if each.site == failure.site])


def _holds(found: list[Finding]) -> None:
    (finding,) = [each for each in found if each.evidence["kind"] == "kmalloc"]
    assert finding.evidence["verdict"] == "cgroup limit"
    assert "; cgroup limit: a memory cgroup was at its limit" in finding.message


def test_a_capture_has_it_too(cgroup: Path, tmp_path: Path) -> None:
    capture = tmp_path / "a.kmw"
    done = kmwatch("record", "-o", str(capture), "--", *_exhaust(cgroup), cwd=ROOT)
    assert done.returncode == 0, done

    report = json.loads(kmwatch("report", str(capture), "--json").stdout)

    found = [
        Finding(each["site"], each["message"], "", each["evidence"])
        for each in report["findings"]
        if each["rule"] in _CODES and each["site"].partition("+")[0].partition(".")[0] in MAP
    ]
    _holds(found)
