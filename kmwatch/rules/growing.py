"""KM601 and KM602: what is held more and more, and what is held for good and mostly never used."""

from collections.abc import Iterator

from kmwatch.findings import Finding, rule
from kmwatch.held import bounds, churn
from kmwatch.leaks import Suspect, grown
from kmwatch.ledger import Ledger
from kmwatch.rules.groups import site
from kmwatch.rules.lives import COUNTED, Life, confidence, lives
from kmwatch.units import number, size


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
    for suspect in grown(ledger).suspects:
        yield _growing(ledger, suspect)


def _growing(ledger: Ledger, suspect: Suspect) -> Finding:
    looks, cache = len(ledger.growth), ", ".join(suspect.caches)
    off = f" ± {size(suspect.error)}" if suspect.error else ""
    return Finding(
        site=ledger.meta.sites[suspect.site].label,
        message=f"holds {number(suspect.objects)} objects ({cache}), {size(suspect.bytes)}{off}, and "
        f"{size(suspect.bytes_per_second)} more each second, over {number(looks)} looks",
        advice="find the way out on which they are not released: an error path, or a reference too many",
        evidence={
            "kind": suspect.kind.name.lower(),
            "cache": cache,
            "objects": suspect.objects,
            "bytes": suspect.bytes,
            "error": suspect.error,
            "bytes_grown_at_least": suspect.grown_at_least,
            "bytes_per_second": round(suspect.bytes_per_second, 1),
            "looks": looks,
            "grade": suspect.grade,
        },
        confidence=confidence(suspect.grade),
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
