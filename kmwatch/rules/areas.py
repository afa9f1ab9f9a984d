"""KM306 and KM307: vmalloc on hot paths, and first tries that never succeed."""

from collections.abc import Iterator

from kmwatch.findings import Finding, rule
from kmwatch.ledger import Ledger
from kmwatch.rules.groups import per_second, site
from kmwatch.schema import Kind, Via
from kmwatch.units import number


@rule("KM306", "vmalloc-churn", "notice", since="0.2")
def vmalloc_churn(ledger: Ledger) -> Iterator[Finding]:
    """A site makes vmalloc areas at a rate at which making and freeing them is what costs.

    What it sees: a thousand areas a second or more at one site, while areas are freed as well.

    Why it matters: each maps pages one by one, and what is freed is unmapped from all CPUs sooner or later, with an
    interrupt to each: the cost grows with the machine.

    What to do: keep the buffer and use it again (a pool, one for each CPU, or kept in the object); kvmalloc() where it
    is often small; an array of pages where it need not be mapped.

    When it is fine: thread stacks (CONFIG_VMAP_STACK), of which the kernel keeps two for each CPU, while very many
    processes begin.

    Kernel's own words: lazy_max_pages() in mm/vmalloc.c gathers freed areas, for a flush of all TLBs is expensive and
    gets more so with CPUs.

    Needs: the vmalloc function by kprobe or fentry, or vmalloc:alloc_vmap_area. That the freed ones are this site's is
    concluded: the finding is likely.
    """
    freed = ledger.events(Kind.VFREE)
    for group in ledger.groups("site", kinds=(Kind.VMALLOC,)):
        count = int(group["count"])
        rate = per_second(ledger, count)
        if rate < ledger.thresholds.vmalloc_rate or 2 * freed < count:
            continue
        yield Finding(
            site=site(ledger, group),
            message=f"makes {number(round(rate))} vmalloc areas a second of {number(int(group['min_request']))} to "
            f"{number(int(group['max_request']))} bytes; {number(freed)} areas were freed meanwhile",
            advice="keep the buffer and use it again, or kvmalloc() where it is often small",
            evidence={
                "count": count,
                "areas_per_second": round(rate, 1),
                "min_request": int(group["min_request"]),
                "max_request": int(group["max_request"]),
                "freed": freed,
            },
            confidence="likely",
        )


@rule("KM307", "kvmalloc-that-falls-back", "notice", since="0.2")
def kvmalloc_falls_back(ledger: Ledger) -> Iterator[Finding]:
    """The first try of a site's kvmallocs mostly fails, so that each is done twice.

    What it sees: twenty or more large kmallocs made by kvmalloc() at one site, at least half of which failed.

    Why it matters: each first try searches the free lists, and on kernels before 6.15 reclaims a little, for nothing.
    It also says that blocks of that size are gone.

    What to do: vmalloc() (or vmalloc_huge()) at once where contiguity brings nothing; smaller pieces where it does.

    When it is fine: where most requests are small and only the rare large ones fall back.

    Kernel's own words: the description of __kvmalloc_node() (mm/slub.c, before it mm/util.c): it tries kmalloc, and
    falls back to vmalloc where that fails.

    Needs: kmem:kmalloc of the failures, with a stack that shows kvmalloc.
    """
    limits = ledger.thresholds
    groups = ledger.groups("site", "via", "bytes_alloc", kinds=(Kind.KMALLOC,))
    for group in groups:
        failed = int(group["failures"] + group["opportunistic_failures"])
        tries = failed + int(group["count"])
        if not group["via"] & Via.KVMALLOC or tries < limits.fallback_count or failed < limits.fallback_share * tries:
            continue
        yield Finding(
            site=site(ledger, group),
            message=f"kvmalloc of up to {number(int(group['max_request']))} bytes: {number(failed)} of {number(tries)} "
            "first tries failed",
            advice="vmalloc() at once where contiguity brings nothing, else ask for smaller pieces",
            evidence={
                "count": int(group["count"]),
                "failures": failed,
                "bytes_alloc": int(group["bytes_alloc"]),
                "min_request": int(group["min_request"]),
                "max_request": int(group["max_request"]),
            },
        )
