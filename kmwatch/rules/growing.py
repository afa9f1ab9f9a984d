"""KM601 and KM602: what is held more and more, and what is held for good and mostly never used."""

import re
from collections.abc import Iterator
from typing import Any

from kmwatch.findings import Finding, rule
from kmwatch.held import Held, bounds, churn
from kmwatch.kernel.allocators import via_of
from kmwatch.ledger import Ledger
from kmwatch.rules.groups import site
from kmwatch.rules.lives import COUNTED, Life, confidence, grades, is_known, lives
from kmwatch.schema import Kind, Via
from kmwatch.units import number, size

# Caches that fill the memory that nobody needs, and shrink when somebody does, by name.
_BY_DESIGN = (
    r"dentry",  # names of files that were looked up
    r".*inode.*",  # those files
    r"buffer_head|xfs_buf",  # blocks of a file system
    r"radix_tree_node|xarray.*",  # where the pages of a file are
    r".*extent_(?:status|map|state|buffer)",  # where its blocks are
    r"jbd2_journal_head|mb(?:_cache_entry|cache)",  # the journal's and the attributes' share of them
)


@rule("KM601", "growing-site", "warning", since="0.2")
def growing_site(ledger: Ledger) -> Iterator[Finding]:
    """A site holds more and more memory, and does not stop.

    What it sees: eight looks or more, a slope of 1 KiB/s or more, hardly a look with less than the one before, and a
    later half that grows at least half as fast as the whole. The slope is the median of those between any two looks,
    which a burst does not bend; of a sample the growth must be more than what the sample may be off by (`error`).
    Movable and reclaimable memory and the caches of file systems are left out: they grow by design.

    Why it matters: memory that is not given back is gone until the next boot, and the machine gets slower, and then
    ends processes, days later and somewhere else.

    What to do: look for the way out on which the release is missing: mostly an error path, or a reference that is
    taken twice and dropped once. The stacks of what is held tell who asked.

    When it is fine: where a table or a cache of its own fills up and has its limit farther on, as while a load begins;
    watch for longer. Where only a few objects are added at a time, look at who adds them.

    Kernel's own words: Documentation/dev-tools/kmemleak.rst finds what nothing points to any more; what is still in a
    list and never taken out of it, it cannot.

    Needs: the table of held objects (`--outstanding`, `leaks`), looked at several times, as only a live source is. What
    was allocated before is not in it. Where too many releases have no event (grade D) nothing is said; grade C is a
    candidate.
    """
    held, limits, looks = ledger.held, ledger.thresholds, len(ledger.growth)
    if held is None or looks < max(limits.growth_looks, 2):
        return
    grown = ledger.growth.rows()
    grown = grown[(grown["bytes_per_second"] >= limits.growth_rate) & (grown["rising"] >= limits.growth_rising)]
    if not len(grown):
        return
    graded = grades(ledger)
    for row in grown:
        key = (int(row["kind"]), int(row["site"]), int(row["cache"]))
        if not is_known(graded.get(key, "D")) or _by_design(ledger, held, key):
            continue
        if ledger.growth.late(*key) < limits.growth_late * row["bytes_per_second"]:
            continue
        told = _told(ledger, held, row, key)
        if told["bytes_grown_at_least"] > 0:
            yield _growing(ledger, row, told | {"looks": looks, "grade": graded[key]})


def _by_design(ledger: Ledger, held: Held, key: tuple[int, int, int]) -> bool:
    """Whether most of it is what the kernel takes back, or moves, when memory gets short."""
    name = ledger.meta.caches[key[2]].name
    # What SLUB keeps beside each slab, to whom objects are charged, grows with what is in the slabs.
    if any(re.fullmatch(each, name) for each in _BY_DESIGN) or via_of(ledger.meta.sites[key[1]].symbol) & Via.SLAB:
        return True
    rows, gfp = _rows(held, key), ledger.meta.gfp
    flags = gfp.bit("__GFP_MOVABLE") | gfp.bit("__GFP_RECLAIMABLE")
    given_back = int(rows["bytes_allocated"][rows["gfp"] & flags != 0].sum())
    return 2 * given_back >= int(rows["bytes_allocated"].sum())


def _rows(held: Held, key: tuple[int, int, int]) -> Any:
    """The rows of a kind, site and cache."""
    kind, at, cache = key
    rows = held.rows
    return rows[(rows["kind"] == kind) & (rows["site"] == at) & (rows["cache"] == cache)]


def _told(ledger: Ledger, held: Held, row: Any, key: tuple[int, int, int]) -> dict[str, Any]:
    """The evidence: what is held, how far that may be off, and what it grew by at least since the first look."""
    now, first = int(row["bytes"]), int(ledger.growth.series(*key)[0])
    squares = float(_rows(held, key)["bytes_squares"].sum())
    low, high = bounds(now, squares, held.bits)
    # What was held at first was of about the same sizes.
    at_first = bounds(first, squares * first / max(now, 1), held.bits)[1]
    return {
        "kind": Kind(key[0]).name.lower(),
        "cache": ledger.meta.caches[key[2]].name,
        "objects": int(row["objects"]),
        "bytes": now,
        "error": max(high - now, now - low),
        "bytes_grown_at_least": low - at_first,
        "bytes_per_second": round(float(row["bytes_per_second"]), 1),
    }


def _growing(ledger: Ledger, row: Any, told: dict[str, Any]) -> Finding:
    what = f"objects of the cache {told['cache']}" if told["cache"] else f"pieces ({told['kind']})"
    off = f" ± {size(told['error'])}" if told["error"] else ""
    return Finding(
        site=site(ledger, row),
        message=f"holds {number(told['objects'])} {what}, {size(told['bytes'])}{off}, and "
        f"{size(told['bytes_per_second'])} more each second, over {number(told['looks'])} looks",
        advice="find the way out on which they are not released: an error path, or a reference too many",
        evidence=told,
        confidence=confidence(told["grade"]),
    )


@rule("KM602", "permanent-waste", "notice", since="0.2")
def permanent_waste(ledger: Ledger) -> Iterator[Finding]:
    """What a site allocates stays, and a quarter of it or more was never asked for.

    What it sees: of one cache, size class, or of a site's vmalloc areas, at least half of all objects that were
    allocated are held still, and they waste 64 KiB and a quarter of what they take. KM101 tells waste by the second,
    which objects that live for a moment have, too; here it is there all the time.

    Why it matters: no other waste adds up to as much: it is memory that is lost for as long as the machine runs.

    What to do: make the object small enough for the next smaller size class, give it a kmem_cache of its own, or
    allocate many of them as one array.

    When it is fine: where the watching was shorter than the objects' lives, and they are released later; where they
    are made once and then no more.

    Kernel's own words: Documentation/core-api/memory-allocation.rst points to the slab cache allocator for many
    identical objects; ksize() and kmalloc_size_roundup() (include/linux/slab.h) tell what is really taken.

    Needs: the table of held objects (`--outstanding`, `leaks`). Where too many releases have no event (grade D) nothing
    is said; grade C is a candidate.
    """
    limits = ledger.thresholds
    for life in (each for kind in COUNTED for each in lives(ledger, kind)):
        row = life.row
        taken = int(row["bytes_allocated"])
        wasted = taken - int(row["bytes_requested"])
        low, high = bounds(wasted, float(row["waste_squares"]), ledger.held.bits if ledger.held else 0)
        if low <= 0 or low < max(limits.permanent_bytes, limits.permanent_share * taken):
            continue
        if churn(row) == "permanent":
            yield _wasting(ledger, life, wasted, max(high - wasted, wasted - low))


def _wasting(ledger: Ledger, life: Life, wasted: int, error: int) -> Finding:
    objects, taken = int(life.row["objects"]), int(life.row["bytes_allocated"])
    each = f"{number(round(wasted / objects))} of {number(round(taken / objects))} bytes"
    off = f" ± {size(error)}" if error else ""
    return Finding(
        site=site(ledger, life.row),
        message=f"holds {number(objects)} of {life.name} for good, of which each wastes {each}: {size(wasted)}{off}",
        advice="fit them into the next smaller size, into a kmem_cache of their own, or many into one array",
        evidence={
            "cache": life.name,
            "objects": objects,
            "bytes": taken,
            "bytes_wasted": wasted,
            "error": error,
            "released": int(life.row["released"]),
            "grade": life.grade,
        },
        confidence=confidence(life.grade),
    )
