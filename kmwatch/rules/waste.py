"""KM1xx: memory that is allocated but was never asked for."""

from collections.abc import Iterator
from typing import Any

from kmwatch.findings import Finding, rule
from kmwatch.ledger import Ledger
from kmwatch.schema import Kind
from kmwatch.units import number, size

_LEAST_RATE = 1024.0  # bytes a second: below it a finding is noise
_LEAST_BYTES = 4096  # in all: below it the span was too short to tell
_LEAST_SHARE = 0.10  # of what was allocated


def _near(fill: Any, taken: int, smaller: int) -> int:
    """How many requests lie in the first eighth of their size class above the next smaller one.

    The eighths are of the power of two at or above the class.
    """
    top = 1 << (taken - 1).bit_length()
    return int(fill[smaller * len(fill) // top])


@rule("KM101", "kmalloc-rounding-waste", "warning")
def rounding_waste(ledger: Ledger) -> Iterator[Finding]:
    """A call site asks kmalloc for sizes that its size classes round up by a tenth or more.

    What it finds: kmalloc serves fixed sizes (8, 16, 32, 64, 96, 128, 192, 256, then powers of two), so a request can
    take almost twice what it asked for. The finding says how much of what the site allocated was never asked for, per
    second and in total, where this is at least 10 %, 1 KiB/s and 4 KiB, and the size class in which it wastes most.

    Why it is bad: the memory is lost for as long as the object lives, and the caches hold fewer objects.

    What to do: make the object small enough for the next smaller class, or, where there are many objects of one size,
    give them a kmem_cache of their own, which rounds up to the alignment only. Leave it where objects are few.
    """
    seconds = max(ledger.seconds, 1e-9)
    classes = ledger.groups("site", "bytes_alloc", kinds=(Kind.KMALLOC,))
    for group in ledger.groups("site", kinds=(Kind.KMALLOC,)):
        wasted, allocated = int(group["bytes_wasted"]), int(group["bytes_allocated"])
        if wasted < max(_LEAST_SHARE * allocated, _LEAST_RATE * seconds, _LEAST_BYTES):
            continue
        of_site = classes[classes["site"] == group["site"]]
        worst = of_site[of_site["bytes_wasted"].argmax()]
        yield _finding(ledger, ledger.meta.sites[group["site"]].label, worst, (wasted, allocated), seconds)


def _finding(ledger: Ledger, site: str, worst: Any, sums: tuple[int, int], seconds: float) -> Finding:
    """All that a site wastes, and what to do about the size class in which it wastes most."""
    wasted, allocated = sums
    taken, count = int(worst["bytes_alloc"]), int(worst["count"])
    low, high = int(worst["min_request"]), int(worst["max_request"])
    smaller, constant = ledger.meta.limits.next_smaller_class(taken), low == high
    near = count if constant else _near(worst["fill"], taken, smaller)
    saving = near * (taken - smaller) / seconds
    own = int(worst["bytes_wasted"]) / seconds
    asked = number(high) if constant else f"{number(low)} to {number(high)}"
    return Finding(
        site=site,
        message=f"asks for {asked} bytes and takes {number(taken)}: {size(wasted / seconds)}/s wasted, "
        f"{size(wasted)} in all, {wasted / allocated:.0%} of what it allocates",
        advice=_advice(smaller, saving, own if constant else None),
        evidence={
            "count": count,
            "min_request": low,
            "max_request": high,
            "size_class": taken,
            "next_smaller_class": smaller,
            "bytes_wasted": int(worst["bytes_wasted"]),
            "site_bytes_wasted": wasted,
            "site_bytes_wasted_per_second": round(wasted / seconds, 1),
            "requests_by_eighth": [int(each) for each in worst["fill"]],
        },
        saving=max(saving, own if constant else 0.0),
    )


def _advice(smaller: int, saving: float, own: float | None) -> str:
    """`own`: what a cache of its own saves, where all requests have one size; both in bytes a second."""
    if not smaller:
        return "this is the smallest class: put the object into the one that points to it"
    advice = f"at ≤ {number(smaller)} bytes it falls into the next smaller class, saving {size(saving)}/s"
    if own is None:
        return f"{advice} for the requests just above it"
    return f"{advice}; a kmem_cache of its own saves {size(own)}/s"
