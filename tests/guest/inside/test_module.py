"""A module that allocates on request, in every context: kmwatch says exactly what it did, and which of it is a bug.

A row is one experiment: what is asked, where, with which flags, how often, of which size, and what kmwatch calls the
context. Interrupts that are merely off do not show in preempt_count, so they read as what they interrupted.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from kmwatch.rules import judge
from kmwatch.schema import Kind
from kmwatch.sources.maps import LiveSource
from tests.live.watching import Watch, only, rounded, sites

pytestmark = pytest.mark.live

LAB = Path("/sys/kernel/debug/kmwatch_lab")


class Row(NamedTuple):
    """One experiment, and the beginning of the context that kmwatch is to tell."""

    op: str
    ctx: str
    gfp: str
    count: int
    size: int
    context: str


ROWS = (
    Row("kmalloc", "process", "GFP_KERNEL", 101, 100, "process"),
    Row("kmalloc", "process", "GFP_KERNEL", 1009, 4096, "process"),
    Row("kmalloc", "process", "GFP_ATOMIC", 101, 100, "process"),
    Row("kmalloc", "process", "GFP_NOFS", 103, 33, "process"),
    Row("kmalloc", "process", "GFP_NOIO", 107, 1000, "process"),
    Row("kmalloc", "workqueue", "GFP_KERNEL", 109, 100, "process"),
    Row("kmalloc", "irqsoff", "GFP_ATOMIC", 113, 100, "process"),
    Row("kmalloc", "spin", "GFP_ATOMIC", 127, 100, "process+preempt-off"),
    Row("kmalloc", "spin", "GFP_KERNEL", 131, 100, "process+preempt-off"),
    Row("kmalloc", "preempt", "GFP_KERNEL", 137, 100, "process+preempt-off"),
    Row("kmalloc", "bh", "GFP_KERNEL", 139, 100, "process+bh-off"),
    Row("kmalloc", "rcu", "GFP_KERNEL", 149, 100, "process+rcu"),
    Row("kmalloc", "rcu", "GFP_ATOMIC", 151, 100, "process+rcu"),
    Row("kmalloc", "softirq", "GFP_KERNEL", 157, 100, "softirq"),
    Row("kmalloc", "softirq", "GFP_ATOMIC", 163, 100, "softirq"),
    Row("kmalloc", "tasklet", "GFP_KERNEL", 167, 100, "softirq"),
    Row("kmalloc", "hardirq", "GFP_KERNEL", 173, 100, "hardirq"),
    Row("kmalloc", "hardirq", "GFP_ATOMIC", 179, 100, "hardirq"),
    Row("kmalloc", "irqwork", "GFP_ATOMIC", 181, 100, "hardirq"),
    Row("kzalloc", "process", "GFP_KERNEL", 191, 200, "process"),
    Row("kzalloc", "spin", "GFP_ATOMIC", 193, 200, "process+preempt-off"),
    Row("cache", "process", "GFP_KERNEL", 197, 200, "process"),
    Row("cache", "softirq", "GFP_ATOMIC", 199, 200, "softirq"),
)


@pytest.fixture(scope="module")
def watch() -> Iterator[Watch]:
    """The module loaded, and the kernel watched for as long as these tests take."""
    subprocess.run(["insmod", os.environ["KMWATCH_LAB"]], check=True)
    with LiveSource(frozenset(Kind)) as source:
        yield Watch(source)
    subprocess.run(["rmmod", "kmwatch_lab"], check=True)


def do(watch: Watch, row: Row) -> dict[str, int]:
    """Let the module do a row; what it says that it did. Another process asks it: kmwatch leaves its own out."""
    gfp = watch.source.meta.gfp.encode(row.gfp)
    line = f"op={row.op} ctx={row.ctx} gfp={gfp:#x} n={row.count} size={row.size}"
    subprocess.run(["sh", "-c", f"echo {line} > {LAB}/run"], check=True)
    did: dict[str, int] = json.loads((LAB / "result").read_text())
    return did


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.op}-{row.ctx}-{row.gfp}-{row.size}")
def test_what_the_module_did_is_what_kmwatch_says(watch: Watch, row: Row) -> None:
    did: list[dict[str, int]] = []
    ledger = watch.during(lambda: did.append(do(watch, row)))
    kind = Kind.CACHE_ALLOC if row.op == "cache" else Kind.KMALLOC
    own = only(ledger, {f"lab_{row.op}"}, kind)
    found = sites(own)

    assert (did[0]["done"], did[0]["failed"]) == (row.count, 0), did
    assert sum(site["count"] for site in found) == row.count
    assert sum(site["bytes_requested"] for site in found) == row.count * row.size
    if kind == Kind.KMALLOC:
        assert sum(site["bytes_allocated"] for site in found) == row.count * rounded(row.size)
    for site in found:
        assert site["context"].startswith(row.context), site
        assert site["gfp"] == (f"{row.gfp}|__GFP_ZERO" if row.op == "kzalloc" else row.gfp), site
        assert site["module"] == "kmwatch_lab"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.op}-{row.ctx}-{row.gfp}-{row.size}")
def test_a_bug_is_found_where_there_is_one_and_nowhere_else(watch: Watch, row: Row) -> None:
    """One that may sleep, where sleeping is a bug."""
    ledger = watch.during(lambda: do(watch, row))
    found = [each for each in judge(ledger) if each.rule.code == "KM201" and each.finding.site.startswith("lab_")]

    assert bool(found) == (row.context != "process" and row.gfp != "GFP_ATOMIC"), found
