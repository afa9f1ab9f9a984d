"""Starting: compiled once, then loaded from what was kept, the same; and what the kernel refuses is told."""

import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from kmwatch.errors import NotPossibleError
from kmwatch.kernel import syscalls
from kmwatch.kernel.syscalls import Map, RefusedError
from kmwatch.schema import Kind
from kmwatch.sources import bpf, compiled
from kmwatch.sources.compiled import Compiled
from kmwatch.sources.maps import LiveSource
from tests.live.watching import MESSAGE, Watch, Workload, environment, only

LOADED = """
import sys
from kmwatch.schema import Kind
from kmwatch.sources.maps import LiveSource
with LiveSource(frozenset(Kind)) as source:
    print(source.attached, *sorted({"bcc"} & set(sys.modules)), "libbcc" in open("/proc/self/maps").read())
"""
_ARRAY, _LRU_HASH, _RINGBUF = 2, 9, 27  # enum bpf_map_type
_END = struct.pack("<BBhi", 0x95, 0, 0, 0)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where nothing is kept yet."""
    place = tmp_path / "cache"
    monkeypatch.setenv("CACHE_DIRECTORY", str(place))
    return place


def start(cache: Path) -> str:
    """What another process, started now, has loaded for its programs."""
    command = [sys.executable, "-c", LOADED]
    given = environment()["env"] | {"CACHE_DIRECTORY": str(cache)}
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60, env=given).stdout


def counted(workload: Workload) -> int:
    """Messages of a class of their own."""
    with LiveSource(frozenset({Kind.KMALLOC})) as source:
        ledger = Watch(source).during(lambda: workload.run("msgsnd", 1009, 3000))
    return only(ledger, MESSAGE, Kind.KMALLOC, 4096).events(Kind.KMALLOC)


def test_the_second_start_compiles_nothing(cache: Path) -> None:
    first = start(cache)
    (kept,) = cache.iterdir()
    before = kept.read_bytes()
    second = start(cache)

    attached = int(first.split()[0])
    assert attached > 5
    assert (first, second) == (f"{attached} bcc True\n", f"{attached} False\n")
    assert (list(cache.iterdir()), kept.read_bytes()) == ([kept], before)


def test_what_was_kept_counts_the_same(cache: Path, workload: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    assert counted(workload) >= 1009
    assert len(list(cache.iterdir())) == 1

    def never(*_: object) -> Compiled:
        raise AssertionError("compiled again")

    monkeypatch.setattr(bpf, "compile_file", never)
    assert counted(workload) >= 1009


def test_a_damaged_file_is_compiled_again(cache: Path, workload: Workload) -> None:
    counted(workload)
    (kept,) = cache.iterdir()
    before = kept.read_bytes()
    kept.write_bytes(before[:-1] + b"\xff")

    assert counted(workload) >= 1009
    assert kept.read_bytes() == before


def test_another_process_may_use_it(cache: Path) -> None:
    """Nothing of the process that compiled is in it: it is known by its pid, and by its namespace's inode."""
    start(cache)
    if not Path("/usr/bin/unshare").exists():
        pytest.skip("unshare is not installed")
    given = environment()["env"] | {"CACHE_DIRECTORY": str(cache)}
    command = ["unshare", "--pid", "--fork", sys.executable, "-c", LOADED]
    told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60, env=given).stdout

    assert told.endswith(" False\n"), told
    assert len(list(cache.iterdir())) == 1


@pytest.mark.parametrize("wanted", [Map("some", _ARRAY, 4, 24, 7, 0), Map("with.dots_", _LRU_HASH, 8, 32, 64, 0)])
def test_a_map_is_what_it_was_made_from(wanted: Map) -> None:
    made = syscalls.create_map(wanted)
    try:
        assert syscalls.map_of(made, wanted.name) == wanted
    finally:
        os.close(made)


def test_the_verifiers_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last line of what it says is statistics."""
    with pytest.raises(RefusedError, match=r"Permission denied|Invalid argument") as raised:
        syscalls.load_program(syscalls.PROG_RAW_TRACEPOINT, "bad", _END)
    assert "R0 !read_ok" in raised.value.log

    monkeypatch.setattr(compiled, "_taken", lambda *_: Compiled((), {"kmalloc": _END}))
    monkeypatch.setenv("CACHE_DIRECTORY", "/dev/null")
    attachment = next(each for each in LiveSource(frozenset({Kind.KMALLOC}))._kernel.plan.attachments)
    with pytest.raises(NotPossibleError, match=r"the kernel refused .*empty\.c: .* \(R0 !read_ok\)"):
        bpf.Programs(str(Path(__file__).parents[2] / "benchmarks" / "empty.c"), (attachment,), {})
