"""Ledgers to export: one with stacks, slices and failures, and one all of whose names are hostile."""

from dataclasses import replace

import numpy as np

import kmwatch.rules  # noqa: F401  # enters the rules
from kmwatch.batch import KEY, STACKED, Batch, Cache, Trust
from kmwatch.failures import Failure, ZoneState
from kmwatch.findings import RULES, Finding, Found
from kmwatch.kernel.symbols import Site
from kmwatch.ledger import Ledger
from kmwatch.schema import Context, Via
from kmwatch.timeline import Timeline
from tests.unit import rows

START = 1_700_000_000.0
DENTRY = Cache("dentry", 190, 192)
ENTRY = ("do_syscall_64+0x5d", "entry_SYSCALL_64+0x71")
HOSTILE = (
    "</script><script>alert(1)</script>",
    'a"b;c d\\',
    "two\nlines 12",
    "\x1b[31mred\x00",
    "\u202ebidi",
    "😀;\t;",
    "x" * 4096,
    "\ud800 half",
    '=HYPERLINK("http://x")',
    "",
)


def exported(length: float = 1.0) -> Ledger:
    """A ledger of three seconds in slices of this length: kmallocs that came by two ways, and what has no stack."""
    known = rows.meta(start=START)
    ledger = Ledger(known, timeline=Timeline(length))
    for second in range(3):
        given = (
            rows.kmalloc("f+0x1 [nvme]", 60, count=101 + second),
            rows.kmalloc("f+0x1 [nvme]", 60, count=3, failed=1, gfp="GFP_ATOMIC", context=Context.SOFTIRQ),
            rows.object_of(DENTRY, "d_alloc+0x1", count=10 * second + 1),
            rows.pages("new_slab+0x2", 3, count=2, via=Via.SLAB),
            rows.pages("do_anonymous_page+0x3", count=7 + second, zone=2, node=0),
        )
        found = rows.rows_of(known, *given)
        stacked = []
        for number, name, count in ((1, "open+0x2", 2), (2, "read+0x3", 1)):
            frames = rows.rows_of(known, *(rows.kmalloc(each, 8) for each in ("f+0x1 [nvme]", name, *ENTRY)))
            known.stacks[number] = tuple(frames["site"].tolist())
            stacked.append((*(found[each][0] for each in KEY), number, count))
        doubt = Trust(lost=5, unknown_site=1) if not second else Trust()
        ledger.add(Batch(found, START + second, 1.0, doubt, stacked=np.array(stacked, STACKED)))
    zones = (ZoneState(0, "Normal", 1234, 100, blocks=(4, 5)),)
    known.memory.extend(zones)
    known.failures.append(
        Failure("slab", 0, 0x820, comm="dd", pid=77, seconds=1.5, site="f+0x1 [nvme]", zones=zones, event="kmalloc")
    )
    known.failures.append(Failure("page", 2, 0x820, comm="ping", pid=78, context=Context.SOFTIRQ, seconds=2.0))
    return ledger


def hostile() -> Ledger:
    """A ledger whose symbols, modules, caches, zones, host and commands are HOSTILE."""
    ledger = exported()
    meta = ledger.meta
    for at, name in enumerate(HOSTILE):
        cache = Cache(name, 100, 104)
        given = rows.object_of(cache, f"g{at}+0x1", count=at + 1)
        ledger.add(Batch(rows.rows_of(meta, given), START + 2.5, 0.0))
        meta.sites[-1] = Site(name, name, HOSTILE[at - 1])
        meta.failures.append(replace(meta.failures[0], comm=name, site=name, pid=100 + at, stack=(name, name)))
    meta.host = replace(meta.host, hostname=f"{HOSTILE[3]}'{HOSTILE[0]}", kernel=HOSTILE[3])
    meta.zones = ("DMA", "DMA32", HOSTILE[1])
    meta.memory.append(ZoneState(1, HOSTILE[2], 1, 1, blocks=(1,)))
    meta.doubts.extend(HOSTILE)
    return ledger


def findings() -> list[Found]:
    """Two findings, one of a hostile site."""
    rule = RULES["KM201"]
    return [
        Found(rule, Finding("f+0x1 [nvme]", "it may sleep", "GFP_ATOMIC", {"count": 7, "list": [1, 2]}, 2.5)),
        Found(rule, Finding(HOSTILE[0], HOSTILE[2], HOSTILE[3])),
    ]
