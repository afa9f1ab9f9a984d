"""KM603 to KM605: memory that lives for a moment only, and memory that is released on another CPU."""

from collections.abc import Iterator

from kmwatch.findings import Finding, rule
from kmwatch.ledger import Ledger
from kmwatch.rules.groups import per_second, site
from kmwatch.rules.lives import Life, confidence, lives
from kmwatch.schema import Kind
from kmwatch.units import number


def _is_short(ledger: Ledger, life: Life) -> bool:
    """Whether most objects lived for a moment, as far as enough were looked at to tell."""
    limits = ledger.thresholds
    return life.looked_at >= limits.short_objects and life.median <= limits.short_life


def _rate(ledger: Ledger, life: Life) -> float:
    return per_second(ledger, int(life.group["count"]))


def _evidence(ledger: Ledger, life: Life) -> dict[str, object]:
    return {
        "cache": life.name,
        "count": int(life.group["count"]),
        "allocations_per_second": round(_rate(ledger, life), 1),
        "min_request": int(life.group["min_request"]),
        "max_request": int(life.group["max_request"]),
        "released": int(life.row["released"]),
        "released_looked_at": life.looked_at,
        "grade": life.grade,
    }


def _microseconds(life: Life) -> str:
    """The end of the times that the median is among."""
    return f"{number(max(round(life.median * 1e6), 1))} µs"


@rule("KM603", "short-lived-vmalloc", "notice", since="0.2")
def short_lived_vmalloc(ledger: Ledger) -> Iterator[Finding]:
    """A site makes vmalloc areas that are freed within a millisecond.

    What it sees: a hundred areas a second or more at one site, half of which live for a millisecond at most.

    Why it matters: to map an area page by page, and to unmap it from all CPUs, takes longer than what is done with it;
    each freed one brings the next flush on all CPUs nearer.

    What to do: keep the buffer and use it again, one for each CPU or in the object that needs it; kvmalloc(), where
    it is often small enough for a kmalloc; a buffer on the stack, where it is a few hundred bytes.

    When it is fine: on paths that are slow anyway, as loading a program or a module; thread stacks of processes that
    end at once, of which the kernel keeps two for each CPU.

    Kernel's own words: lazy_max_pages() in mm/vmalloc.c gathers freed areas, for a flush of all TLBs is expensive and
    gets more so with CPUs.

    Needs: the table of held objects (`--outstanding`, `leaks`) with the vmalloc probes. What gets the same few
    addresses again and again may be missing from a sample. Where too many releases have no event (grade D) nothing is
    said; grade C is a candidate.
    """
    for life in lives(ledger, Kind.VMALLOC, least=ledger.thresholds.short_area_rate):
        if _is_short(ledger, life):
            yield Finding(
                site=site(ledger, life.row),
                message=f"makes {number(round(_rate(ledger, life)))} vmalloc areas a second, half of which live for "
                f"{_microseconds(life)} at most",
                advice="keep the buffer and use it again, or kvmalloc() where it is often small",
                evidence=_evidence(ledger, life) | {"median_seconds": life.median},
                confidence=confidence(life.grade),
            )


@rule("KM604", "churn-that-wants-a-pool", "notice", since="0.2")
def churn_wants_a_pool(ledger: Ledger) -> Iterator[Finding]:
    """A site kmallocs the same size again and again, and gives it back within a millisecond.

    What it sees: requests of one size at one site, half of which live for a millisecond at most: a thousand a second
    of a page or more, or fifty thousand of less.

    Why it matters: a large one is taken from the page allocator and given back each time; a small one costs little,
    but at such a rate it shows, and it fails when memory is short, where a buffer that is there cannot.

    What to do: keep a buffer, one for each CPU or in the object that needs it; a mempool where it must not fail; a
    kmem_cache of its own where many live at a time; the stack, where it is a few hundred bytes.

    When it is fine: where the path does far more than that for each of them, as a system call that copies data; the
    finding says how often, and not what else is done.

    Kernel's own words: Documentation/core-api/memory-allocation.rst points to the slab cache allocator for many
    identical objects; the description of mempool_alloc() (mm/mempool.c): it never fails in process context.

    Needs: the table of held objects (`--outstanding`, `leaks`). What gets the same few addresses again and again may be
    missing from a sample. Where too many releases have no event (grade D) nothing is said; grade C is a candidate.
    """
    limits, page = ledger.thresholds, ledger.meta.limits.page_size
    for life in lives(ledger, Kind.KMALLOC, least=min(limits.short_large_rate, limits.short_small_rate)):
        asked, taken = int(life.group["max_request"]), int(life.row["bytes_alloc"])
        least = limits.short_large_rate if taken >= page else limits.short_small_rate
        if asked != life.group["min_request"] or _rate(ledger, life) < least or not _is_short(ledger, life):
            continue
        yield Finding(
            site=site(ledger, life.row),
            message=f"kmallocs {number(asked)} bytes {number(round(_rate(ledger, life)))} times a second, half of "
            f"which live for {_microseconds(life)} at most",
            advice="keep a buffer, one for each CPU or in the object that needs it"
            + ("" if taken >= page else "; where many live at a time, a kmem_cache of its own"),
            evidence=_evidence(ledger, life) | {"median_seconds": life.median},
            confidence=confidence(life.grade),
        )


@rule("KM605", "remote-frees", "notice", since="0.2")
def remote_frees(ledger: Ledger) -> Iterator[Finding]:
    """Most objects of a site are released on another CPU than they were allocated on.

    What it sees: slab objects of one site, of which half or more, and ten thousand a second, are released elsewhere.

    Why it matters: a CPU that releases what another one allocated cannot keep it for itself: SLUB puts it back to its
    slab, with an atomic operation on a line that both write, and the allocating CPU has to fetch new slabs all the
    time.

    What to do: release where it was allocated, by work that is queued on that CPU (queue_work_on()); release in bulk
    (kmem_cache_free_bulk()); or bind both ends to CPUs that share a cache (interrupts and threads of one queue).

    When it is fine: where one side produces and the other consumes by design, as the network, block devices and
    io_uring do: the data crosses CPUs, and its memory with it. Whether that is so is in no event: the finding is a
    candidate.

    Kernel's own words: __slab_free() in mm/slub.c, the slow path for objects of slabs that are not this CPU's. A cache
    with sheaves (since Linux 6.18) keeps such objects on the CPU that releases them, within one node: that is cheaper.

    Needs: the table of held objects (`--outstanding`, `leaks`), with the CPU of both ends. Where too many releases have
    no event (grade D) nothing is said.
    """
    limits, slab = ledger.thresholds, ledger.meta.limits.largest_slab
    for life in (
        each for kind in (Kind.KMALLOC, Kind.CACHE_ALLOC) for each in lives(ledger, kind, least=limits.remote_rate)
    ):
        # Counted ones again: of what was allocated all that is not held was released.
        rate = per_second(ledger, int(life.group["count"]) - int(life.row["objects"])) * life.elsewhere
        enough = life.looked_at >= limits.short_objects and life.elsewhere >= limits.remote_share
        if life.row["bytes_alloc"] > slab or not enough or rate < limits.remote_rate:
            continue
        yield Finding(
            site=site(ledger, life.row),
            message=f"{life.elsewhere:.0%} of its objects of {life.name} are released on another CPU, "
            f"{number(round(rate))} a second",
            advice="release where it was allocated, in bulk, or keep both ends on CPUs that share a cache",
            evidence=_evidence(ledger, life)
            | {"released_elsewhere_share": round(life.elsewhere, 3), "released_elsewhere_per_second": round(rate, 1)},
            confidence="candidate",
        )
