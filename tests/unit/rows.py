"""Ledgers for tests: one readable line for each observation, in the words of a report."""

import json
from pathlib import Path
from typing import Any

import numpy as np

import kmwatch.rules  # noqa: F401  # enters the rules
from kmwatch.batch import ROW, Batch, Cache, Cost, Host, Meta, Rows, Trust
from kmwatch.findings import RULES, Finding
from kmwatch.kernel.gfp import GfpTable
from kmwatch.kernel.slab import AllocatorLimits
from kmwatch.kernel.symbols import Site
from kmwatch.ledger import Ledger
from kmwatch.schema import FILL_BUCKETS, NO_ZONE, Kind

DATA = Path(__file__).parent.parent / "data"
TABLE = GfpTable.from_format((DATA / "linux-6.18" / "kmalloc.format").read_text())
LIMITS = AllocatorLimits(source="a test")
ZONES = ("DMA", "DMA32", "Normal", "Movable")

Row = dict[str, Any]
"""One observation by column; `site` as text (`f+0x1`, or `f+0x1 [module]`), `cache` as a Cache."""


def meta(**changes: Any) -> Meta:
    """What is known of an invented kernel whose GFP flags are those of Linux 6.18."""
    known: dict[str, Any] = {
        "host": Host("box", "6.18.0", "00000000-0000-4000-8000-000000000000", 4),
        "gfp": TABLE,
        "limits": LIMITS,
        "zones": ZONES,
        "probes": {"kmem:kmalloc": "raw tracepoint", "vmalloc:alloc_vmap_area": "this kernel does not have it"},
        "context": "BTF",
    }
    return Meta(**known | changes)


def row(kind: Kind, site: str = "unknown", *, gfp: str | int = 0, count: int = 1, **columns: Any) -> Row:
    """Any observation; columns that are not named are 0, places that are not known NO_ZONE."""
    nowhere = {"zone": NO_ZONE, "node": NO_ZONE, "migratetype": NO_ZONE}
    mask = TABLE.encode(gfp) if isinstance(gfp, str) else gfp
    return {**nowhere, "kind": kind, "site": site, "gfp": mask, "count": count, **columns}


def kmalloc(site: str, asked: int, *, count: int = 1, gfp: str = "GFP_KERNEL", **columns: Any) -> Row:
    """`count` kmallocs of one size, as bpf/ledger.c counts them."""
    taken = LIMITS.class_for(asked)
    top = 1 << (taken - 1).bit_length()
    fill = [0] * FILL_BUCKETS
    fill[(asked - 1) * FILL_BUCKETS // top] = count & 0xFFFFFFFF
    got = 0 if columns.get("failed") else count
    sums = {"bytes_requested": got * asked, "bytes_allocated": got * taken, "fill": fill}
    bounds = {"bytes_alloc": taken, "min_request": asked, "max_request": asked}
    return row(Kind.KMALLOC, site, gfp=gfp, count=count, **sums | bounds | columns)


def pages(site: str, order: int = 0, *, count: int = 1, gfp: str = "GFP_KERNEL", **columns: Any) -> Row:
    """`count` page allocations of one order."""
    return row(Kind.PAGE_ALLOC, site, gfp=gfp, count=count, order=order, **_of(4096 << order, count, columns))


def object_of(cache: Cache, site: str, *, count: int = 1, gfp: str = "GFP_KERNEL", **columns: Any) -> Row:
    """`count` objects of a cache."""
    sums = _of(cache.object_size, count, columns) | {"bytes_allocated": count * cache.size}
    return row(Kind.CACHE_ALLOC, site, gfp=gfp, count=count, cache=cache, **sums)


def area(site: str, asked: int, *, kind: Kind = Kind.VMALLOC, count: int = 1, **columns: Any) -> Row:
    """`count` areas of the vmalloc address space; its event has no GFP flags."""
    sums = _of(asked, count, columns)
    if kind != Kind.VMALLOC:
        sums["bytes_allocated"] = 0
    return row(kind, site, count=count, **sums)


def percpu(site: str, asked: int, *, count: int = 1, gfp: str | int = "GFP_KERNEL", **columns: Any) -> Row:
    """`count` per-CPU allocations, of so many bytes over all CPUs."""
    return row(Kind.PERCPU_ALLOC, site, gfp=gfp, count=count, **_of(asked, count, columns))


def _of(size: int, count: int, columns: Row) -> Row:
    """Sums of `count` pieces of `size` bytes; a failure obtained nothing."""
    got = 0 if columns.get("failed") else count
    bounds = {"min_request": min(size, 0xFFFFFFFF), "max_request": min(size, 0xFFFFFFFF)}
    return {"bytes_requested": got * size, "bytes_allocated": got * size} | bounds | columns


def rows_of(known: Meta, *rows: Row) -> Rows:
    """Rows as a source gives them; sites and caches that are new enter the tables."""
    made = np.zeros(len(rows), ROW)
    for at, each in enumerate(rows):
        symbol, _, rest = each["site"].partition("+")
        module = rest.partition(" [")[2].rstrip("]")
        numbered = {
            "site": _number(known.sites, Site(each["site"].partition(" ")[0], symbol, module)),
            "cache": _number(known.caches, each.get("cache", known.caches[0])),
        }
        for name, value in {**each, **numbered}.items():
            made[name][at] = value
    return made


def _number(table: list[Any], item: Any) -> int:
    if item not in table:
        table.append(item)
    return table.index(item)


def batch(known: Meta, *rows: Row, start: float = 1000.0, seconds: float = 1.0, **extra: Any) -> Batch:
    """A batch; `extra` is its `trust` and `cost`."""
    return Batch(rows_of(known, *rows), start, seconds, extra.pop("trust", Trust()), extra.pop("cost", Cost()))


def ledger(*rows: Row, seconds: float = 1.0, known: Meta | None = None, **extra: Any) -> Ledger:
    """A ledger of one batch."""
    made = Ledger(known or meta())
    made.add(batch(made.meta, *rows, seconds=seconds, **extra))
    return made


def found(code: str, made: Ledger) -> list[Finding]:
    """What one rule finds."""
    return list(RULES[code].check(made))


def only(code: str, made: Ledger) -> Finding:
    """The one thing that a rule finds; its evidence is ready for JSON."""
    (finding,) = found(code, made)
    json.dumps(finding.evidence)
    return finding
