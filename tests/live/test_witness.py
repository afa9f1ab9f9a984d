"""Second witnesses: the kernel's own book-keeping, and other tools that watch the same run."""

import math
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from kmwatch.ledger import Ledger
from kmwatch.schema import Kind
from tests.live.watching import MESSAGE, PAYLOAD, Watch, Workload, only, rounded

CACHE = "file_lock_cache"
COUNT = 10007


def slabinfo(cache: str) -> tuple[int, int, int]:
    """Active objects, bytes of each, and objects in a slab, as /proc/slabinfo has them."""
    for line in Path("/proc/slabinfo").read_text().splitlines()[2:]:
        name, active, _, size, per_slab = line.split()[:5]
        if name == cache:
            return int(active), int(size), int(per_slab)
    pytest.skip(f"this kernel has no cache of its own called {cache}: merged with another")


def slack(cache: str) -> int:
    """How far slabinfo's active objects can be from the truth.

    The free objects of the slab that a CPU works in, and of those on the CPU's partial list, count as active there
    (mm/slub.c, get_slabinfo): of at most as many slabs as hold twice `cpu_partial` objects.
    """
    _, _, per_slab = slabinfo(cache)
    file = Path("/sys/kernel/slab") / cache / "cpu_partial"
    partial = int(file.read_text()) if file.exists() else 120  # the most that SLUB sets
    return (1 + math.ceil(2 * partial / per_slab)) * per_slab * (os.cpu_count() or 1)


def in_use(ledger: Ledger, cache: str) -> tuple[int, int]:
    """Objects of a cache allocated less freed, and the bytes that the allocated ones took each."""
    named = [index for index, known in enumerate(ledger.meta.caches) if known.name == cache]
    rows = ledger.rows[[row["cache"] in named for row in ledger.rows]]
    allocated, freed = rows[rows["kind"] == Kind.CACHE_ALLOC], rows[rows["kind"] == Kind.CACHE_FREE]
    count = int(allocated["count"].sum())
    return count - int(freed["count"].sum()), int(allocated["bytes_allocated"].sum()) // max(count, 1)


def test_slabinfo_agrees(watch: Watch, workload: Workload) -> None:
    """File locks come and go with events only, never in bulk: what kmwatch has in use, slabinfo has active."""
    bound = slack(CACHE)
    count = max(COUNT, 10 * bound)  # on a machine with many CPUs 10 007 would say little
    before, size, _ = slabinfo(CACHE)
    ledger = Ledger(watch.source.meta)
    watch.source.read()
    with workload.holding("locks", count):
        counted, bytes_each = in_use(watch.so_far(ledger), CACHE)
        during, _, _ = slabinfo(CACHE)
    left, _ = in_use(watch.so_far(ledger), CACHE)
    after, _, _ = slabinfo(CACHE)

    assert bytes_each == size
    assert abs(during - before - count) <= bound, "slabinfo does not see the locks"
    assert abs(counted - (during - before)) <= bound, f"kmwatch {counted}, slabinfo {during} - {before}"
    assert abs(left - (after - before)) <= bound, f"kmwatch {left}, slabinfo {after} - {before}"
    assert counted - left >= count, f"kmwatch saw {counted - left} of {count} locks released"


def tool(name: str) -> str:
    """The path of another tracing tool, or a skip."""
    return shutil.which(name) or pytest.skip(f"{name} is not installed")


@pytest.mark.parametrize(
    ("what", "size", "request_size", "symbols", "doubles"),
    [
        ("msgsnd", 1001, 1049, MESSAGE, 0),
        ("add_key", 20011, 20035, PAYLOAD, 1),
    ],
)
def test_perf_agrees(
    watch: Watch, workload: Workload, what: str, size: int, request_size: int, symbols: tuple[str, ...], doubles: int
) -> None:
    """`perf stat` counts every event, both of a large kmalloc: what kmwatch counted, and what it removed."""
    perf = tool("perf")
    events = ["stat", "--all-cpus", "-x", ",", "-e", "kmem:kmalloc", "--filter", f"bytes_req=={request_size}"]
    said: list[str] = []

    def under_perf() -> None:
        command = [perf, *events, "--", *workload.command(what, COUNT, size)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        workload.check(ended, COUNT)
        said.append(ended.stderr)

    ledger = watch.during(under_perf)

    (line,) = (line for line in said[0].splitlines() if "kmem:kmalloc" in line)
    counted = only(ledger, symbols, Kind.KMALLOC, rounded(request_size)).events(Kind.KMALLOC)
    assert counted == COUNT, f"kmwatch counted {counted} of {COUNT}"
    assert int(line.split(",")[0]) == counted * (1 + doubles), line
    assert ledger.trust.duplicates_removed >= counted * doubles, ledger.trust


def test_bpftrace_agrees(watch: Watch, workload: Workload) -> None:
    """Counts and bytes of one size of message, summed up by another program on the same event."""
    bpftrace = tool("bpftrace")
    size, request = 3001, 3049
    program = (
        f"tracepoint:kmem:kmalloc /args->bytes_req == {request}/ "
        "{ @count += 1; @requested += args->bytes_req; @allocated += args->bytes_alloc; }"
    )
    said: list[str] = []

    def under_bpftrace() -> None:
        command = " ".join(workload.command("msgsnd", COUNT, size))
        ended = subprocess.run(
            [bpftrace, "-e", program, "-c", command], capture_output=True, text=True, check=False, timeout=60
        )
        assert ended.returncode == 0, ended.stderr
        said.append(ended.stdout)

    ledger = watch.during(under_bpftrace)

    found = dict(line.split(": ") for line in said[0].splitlines() if line.startswith("@"))
    (row,) = only(ledger, MESSAGE, Kind.KMALLOC, rounded(request)).rows
    assert int(row["count"]) == COUNT
    mine = {"@count": row["count"], "@requested": row["bytes_requested"], "@allocated": row["bytes_allocated"]}
    assert {name: int(value) for name, value in found.items()} == {name: int(value) for name, value in mine.items()}
