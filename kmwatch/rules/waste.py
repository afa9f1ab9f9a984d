"""KM101 and KM102: what kmalloc's size classes round up. Above the largest class see kmwatch.rules.packing."""

from collections.abc import Iterator
from typing import Any

from kmwatch.findings import Finding, rule
from kmwatch.kernel.geometry import WORD, Slab, rounded
from kmwatch.ledger import Ledger
from kmwatch.rules.groups import geometry, per_second, wasteful
from kmwatch.schema import Kind
from kmwatch.units import number, size


def _near(fill: Any, taken: int, smaller: int) -> int:
    """How many requests lie in the first eighth of their size class above the next smaller one.

    The eighths are of the power of two at or above the class.
    """
    top = 1 << (taken - 1).bit_length()
    return int(fill[smaller * len(fill) // top])


def _just_above(ledger: Ledger, group: Any) -> int:
    """How many bytes a whole group lies above the smaller class, where those are few; else 0."""
    smaller = ledger.meta.limits.next_smaller_class(int(group["bytes_alloc"]))
    over = int(group["max_request"]) - smaller
    return over if smaller and 0 < over <= max(smaller * ledger.thresholds.near_share, 1) else 0


def _classes(ledger: Ledger) -> Any:
    """What sites took from each size class that is no large kmalloc."""
    groups = ledger.groups("site", "bytes_alloc", kinds=(Kind.KMALLOC,))
    return groups[groups["bytes_alloc"] <= ledger.meta.limits.largest_slab]


@rule("KM101", "kmalloc-rounding-waste", "warning", since="0.1")
def rounding_waste(ledger: Ledger) -> Iterator[Finding]:
    """A call site asks kmalloc for sizes that its size classes round up by a tenth or more.

    What it sees: kmalloc serves fixed sizes (8, 16, 32, 64, 96, 128, 192, 256, then powers of two), so a request can
    take almost twice what it asked for. The finding says how much of what the site allocated from them was never asked
    for, per second and in total, where this is at least 10 %, 2 KiB/s and 4 KiB, and the size class in which it wastes
    most. Where that class's requests all lie just above a smaller one, KM102 says so in its place.

    Why it matters: the memory is lost for as long as the object lives, and the caches hold fewer objects.

    What to do: where it is near, make the object small enough for the next smaller class; for many objects of one size,
    a kmem_cache of their own: its slabs are computed as SLUB does it, with what stays free at their ends.

    When it is fine: where objects are few, short-lived, or of sizes that vary inside one class; that is a notice.

    Kernel's own words: Documentation/core-api/memory-allocation.rst points to the slab cache allocator for many
    identical objects.

    Needs: kmem:kmalloc, which tells both sizes.
    """
    classes = _classes(ledger)
    for index in sorted({int(each) for each in classes["site"]}):
        of_site = classes[classes["site"] == index]
        wasted, allocated = (int(of_site[name].sum()) for name in ("bytes_wasted", "bytes_allocated"))
        worst = of_site[of_site["bytes_wasted"].argmax()]
        told_better = _just_above(ledger, worst) and wasteful(ledger, int(worst["bytes_wasted"]), 0)
        if wasted and wasteful(ledger, wasted, allocated) and not told_better:
            yield _rounding(ledger, worst, wasted, allocated)


def _rounding(ledger: Ledger, worst: Any, wasted: int, allocated: int) -> Finding:
    """All that a site wastes, and what to do about the size class in which it wastes most."""
    taken, count = int(worst["bytes_alloc"]), int(worst["count"])
    low, high = int(worst["min_request"]), int(worst["max_request"])
    smaller, constant = ledger.meta.limits.next_smaller_class(taken), low == high
    near = _near(worst["fill"], taken, smaller)
    saving = per_second(ledger, near * (taken - smaller)) if smaller else 0.0
    slab = geometry(ledger).slab(rounded(high, WORD)) if constant and smaller and high else None
    own = per_second(ledger, count * (taken - slab.each)) if slab else 0.0
    asked = number(high) if constant else f"{number(low)} to {number(high)}"
    return Finding(
        site=ledger.meta.sites[worst["site"]].label,
        message=f"asks for {asked} bytes and takes {number(taken)}: {size(per_second(ledger, wasted))}/s wasted, "
        f"{size(wasted)} in all, {wasted / allocated:.0%} of what it allocates",
        advice=_advice(smaller, saving, slab, own),
        evidence={
            "count": count,
            "min_request": low,
            "max_request": high,
            "size_class": taken,
            "next_smaller_class": smaller,
            "bytes_wasted": int(worst["bytes_wasted"]),
            "site_bytes_wasted": wasted,
            "site_bytes_wasted_per_second": round(per_second(ledger, wasted), 1),
            "requests_by_eighth": [int(each) for each in worst["fill"]],
        },
        saving=max(saving, own),
        severity="" if saving > 0 or own > 0 else "notice",
    )


def _advice(smaller: int, saving: float, slab: Slab | None, own: float) -> str:
    """`slab`, `own`: where all requests have one size, its own cache's slab, and what that saves a second."""
    if not smaller:
        return "this is the smallest class: put the object into the one that points to it"
    trimmed = f"at ≤ {number(smaller)} bytes it falls into the next smaller class, saving {size(saving)}/s"
    if slab and own > 0:
        cache = f"a kmem_cache of its own, {number(slab.objects)} in {size(slab.length)}, saves {size(own)}/s"
        return f"{trimmed}; {cache}" if saving > 0 else cache
    if saving > 0:
        return trimmed if slab else f"{trimmed} for the requests just above it"
    return "none is cheap: the sizes vary inside one class, and none lies near the smaller one"


@rule("KM102", "kmalloc-just-above-a-size-class", "warning", since="0.2")
def just_above_a_class(ledger: Ledger) -> Iterator[Finding]:
    """All requests of a site lie a few bytes above a size class, and take the next one whole.

    What it sees: requests of one site and size class whose largest is at most a sixteenth above the next smaller
    class: 33 bytes that take 64, 520 that take 1024. The difference between the classes is lost with each object.

    Why it matters: no other waste is as cheap to end: it is a member too many.

    What to do: take so many bytes off the object as the finding names: reorder members so that no holes are left
    (pahole shows them), narrow a counter, drop a trailing flexible array's slack or a header that is kept twice.

    When it is fine: where the size is a protocol's or a device's and the objects are few.

    Kernel's own words: kmalloc_size_roundup() (include/linux/slab.h, since Linux 6.1) tells a caller what it would get;
    one that can use the whole class should ask for it.

    Needs: kmem:kmalloc, which tells both sizes.
    """
    limits = ledger.meta.limits
    for group in _classes(ledger):
        wasted, over = int(group["bytes_wasted"]), _just_above(ledger, group)
        if not over or not wasteful(ledger, wasted, 0):
            continue
        taken, count = int(group["bytes_alloc"]), int(group["count"])
        smaller = limits.next_smaller_class(taken)
        low, high = int(group["min_request"]), int(group["max_request"])
        saving = per_second(ledger, count * (taken - smaller))
        asked = number(high) if low == high else f"{number(low)} to {number(high)}"
        yield Finding(
            site=ledger.meta.sites[group["site"]].label,
            message=f"asks for {asked} bytes and takes {number(taken)}, {over} above the class of {number(smaller)}: "
            f"{number(count)} times, {size(wasted)} never asked for",
            advice=f"take {over} byte{'s' * (over != 1)} off the object (pahole shows its holes): at {number(smaller)} "
            f"it takes {number(smaller)}, saving {size(saving)}/s",
            evidence={
                "count": count,
                "min_request": low,
                "max_request": high,
                "size_class": taken,
                "next_smaller_class": smaller,
                "bytes_above": over,
                "bytes_wasted": wasted,
            },
            saving=saving,
        )
