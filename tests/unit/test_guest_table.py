"""The guests' table of experiments, the rules of what must come of it, and the page that is written from results."""

import dataclasses
import datetime as dt
from math import isqrt
from pathlib import Path
from typing import Any

import pytest

from kmwatch.schema import Kind
from tests.guest import expected, table, vm
from tests.guest.rows import ROWS, Row

DATE = dt.date(2026, 1, 2)
OPERATIONS = {
    *("kmalloc", "kzalloc", "krealloc", "kvmalloc", "cache", "get_free_pages", "alloc_pages"),
    *("vmalloc", "vzalloc", "percpu", "ioremap"),
}
# What a module says on a kernel where GFP_KERNEL is one bit that may sleep.
DID: dict[str, Any] = {
    "done": 7,
    "failed": 0,
    "size": 100,
    "preempt_counted": True,
    "preempt_rt": False,
    "irqs_disabled": False,
    "preempt_count_min": 0,
    "gfp_kernel": "0x400",
    "gfp_atomic": "0x20",
    "__gfp_direct_reclaim": "0x400",
    "__gfp_nowarn": "0x2000",
    "__gfp_noretry": "0x10000",
    "__gfp_zero": "0x100",
}
MACHINE = expected.Machine(cpus=2, percpu_event_is_full=True)


def results(**states: str) -> dict[str, dict[str, Any]]:
    """Results of two kernels that are all right, but for the first row."""
    rows = {row.name: {"state": "ok", "differs": []} for row in ROWS}
    told = {"kernel": "6.1.0", "context": "BTF", "preempt_rt": False, "probes": {"kmem:kmalloc": "tracepoint"}}
    return {
        name: told | {"rows": rows | {ROWS[0].name: {"state": state, "differs": ["count: 1, not 2"]}}}
        for name, state in states.items()
    }


def test_the_table_has_every_operation_and_context() -> None:
    assert len(ROWS) >= 60
    assert {row.op for row in ROWS} == OPERATIONS == expected.KINDS.keys()
    assert {row.ctx for row in ROWS} == expected.ORDINARY.keys()


def test_rows_have_names_and_prime_counts_of_their_own() -> None:
    counts = [row.count for row in ROWS]

    assert [n for n in counts if n < 2 or any(n % each == 0 for each in range(2, isqrt(n) + 1))] == []
    assert len(set(counts)) == len(ROWS)
    assert len({row.name for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize(
    ("count", "ctx", "words"),
    [
        (0, "process", "process"),
        (1, "spin", "process+preempt-off"),
        (0x200, "bh", "process+bh-off"),
        (0, "rcu", "process+rcu"),
        (0x101, "softirq", "softirq+preempt-off"),
        (0x10000, "hardirq", "hardirq"),
    ],
)
def test_contexts_follow_from_preempt_count(count: int, ctx: str, words: str) -> None:
    row, did = Row("kmalloc", ctx, "GFP_KERNEL", 7, 100), DID | {"preempt_count_min": count}

    assert expected.context(row, did) == words
    assert words.startswith(expected.ordinary(row, did))
    assert expected.sleeps_in_atomic(row, did) == (words != "process")
    assert not expected.sleeps_in_atomic(dataclasses.replace(row, gfp="GFP_ATOMIC"), did)


def test_interrupts_off_are_seen_where_a_kprobe_looks() -> None:
    off = DID | {"irqs_disabled": True}

    assert expected.context(Row("vmalloc", "irqsoff", "GFP_KERNEL", 7, 100), off) == "process+irqs-off"
    assert expected.context(Row("vmalloc", "process", "GFP_KERNEL", 7, 100), DID) == "process"
    assert expected.context(Row("kmalloc", "irqsoff", "GFP_KERNEL", 7, 100), off) == "process"


def test_a_realtime_kernel_refuses_what_is_always_atomic_and_its_locks_are_nothing() -> None:
    did = DID | {"preempt_rt": True}
    seen = {ctx: expected.context(Row("kmalloc", ctx, "GFP_KERNEL", 7, 100), did) for ctx in expected.LOCKS_ON_RT}

    assert set(seen.values()) == {"process"}
    assert expected.refused(Row("kmalloc", "hardirq", "GFP_ATOMIC", 7, 100), did)
    assert not expected.refused(Row("kmalloc", "spin", "GFP_ATOMIC", 7, 100), did)
    assert not expected.refused(Row("kmalloc", "hardirq", "GFP_ATOMIC", 7, 100), DID)


@pytest.mark.parametrize(
    ("row", "requested", "allocated"),
    [
        (Row("kmalloc", "process", "GFP_KERNEL", 7, 100), 700, 7 * 128),
        (Row("kmalloc", "process", "GFP_KERNEL", 7, 8193), 7 * 8193, 7 * 16384),
        (Row("cache", "process", "GFP_KERNEL", 7, 100, align=64), 700, 7 * 128),
        (Row("cache", "process", "GFP_KERNEL", 7, 333, ctor=True), 7 * 333, 7 * 344),
        (Row("vmalloc", "process", "GFP_KERNEL", 7, 5000), 35000, 7 * 8192),
        (Row("percpu", "process", "GFP_KERNEL", 7, 64), 7 * 128, 7 * 256),
        (Row("ioremap", "process", "GFP_KERNEL", 7, 4096), 7 * 4096, 0),
    ],
    ids=lambda value: value.name if isinstance(value, Row) else "",
)
def test_bytes_follow_from_sizes(row: Row, requested: int, allocated: int) -> None:
    (wanted,) = expected.sums(row, DID | {"size": row.size}, MACHINE)

    assert (wanted.count, wanted.requested, wanted.allocated) == (7, requested, allocated)


def test_growing_has_two_sites_and_a_large_kvmalloc_two_right_masks() -> None:
    halves = expected.sums(Row("krealloc", "process", "GFP_KERNEL", 7, 100), DID, MACHINE)
    assert [(each.symbol, each.requested, each.allocated) for each in halves] == [
        ("lab_krealloc", 700, 7 * 128),
        ("lab_krealloc_first", 350, 7 * 64),
    ]

    (wanted,) = expected.sums(Row("kvmalloc", "process", "GFP_KERNEL", 7, 5001), DID | {"size": 5001}, MACHINE)
    assert wanted.kind == Kind.KMALLOC
    assert wanted.gfps == {0x400 | 0x2000 | 0x10000, 0x2000}


def test_the_page_shows_every_row_and_how_each_kernel_is_watched() -> None:
    text = table.page(results(old="ok", rt="refused"), DATE)

    assert "on 2026-01-02" in text
    assert "| `kmem:kmalloc` | tracepoint | tracepoint |\n" in text
    assert f"| kmalloc | {ROWS[0].size} | process | `GFP_KERNEL` | {ROWS[0].count} | ✓ | refused |\n" in text
    assert text.count(" ✓ |") == 2 * len(ROWS) - 1
    assert "`GFP_KERNEL\\|__GFP_NOFAIL`" in text


def test_no_page_is_written_from_a_failure_or_from_some_kernels_only(tmp_path: Path) -> None:
    with pytest.raises(table.IncompleteError, match="old: kmalloc 100 process GFP_KERNEL: count: 1, not 2"):
        table.page(results(old="failed"), DATE)
    with pytest.raises(table.IncompleteError, match=r"no results of 5\.10, "):
        table.read(tmp_path)


def test_a_crash_is_shown_from_its_first_line() -> None:
    log = "noise\n" * 3000 + "[    1.5] BUG: unable to handle page fault\n[    1.5] RIP: 0010:lab\n" + "more\n" * 3000

    assert vm.tail(log).startswith("[    1.5] BUG: unable to handle page fault\n[    1.5] RIP: 0010:lab\nmore\n")
    assert vm.tail("noise\n" * 3000).endswith("noise\n")
    assert vm.complaints(log) == ["[    1.5] BUG: unable to handle page fault"]
