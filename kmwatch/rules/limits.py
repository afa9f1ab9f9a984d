"""KM304 and KM305: kmallocs beyond what other kernels, or this one, can give."""

from collections.abc import Iterator

from kmwatch.findings import Finding, rule
from kmwatch.ledger import Ledger
from kmwatch.rules.groups import attempts, evidence, groups, site
from kmwatch.schema import Kind, Via
from kmwatch.units import number, size

PORTABLE = 128 << 10
"""What portable code could count on: "Linux Device Drivers", third edition, chapter 8."""


@rule("KM304", "kmalloc-above-the-portable-limit", "notice", since="0.2")
def above_portable(ledger: Ledger) -> Iterator[Finding]:
    """A module's kmalloc asks for more than 128 KiB, which old and small kernels refuse.

    What it sees: requests above 128 KiB by modules, up to this kernel's own limit; tries with a fallback are left out.
    The kernel's own code runs on its own kernel only.

    Why it matters: the largest kmalloc is a matter of configuration: 4 MiB on x86-64 with 4 KiB pages today, 128 KiB on
    old kernels. Code that is built for many kernels finds that out in the field.

    What to do: kvmalloc(), or vmalloc(), which have no such limit.

    When it is fine: in a module that is built for this kernel alone; KM302 says what it costs here.

    Kernel's own words: KMALLOC_MAX_SIZE in include/linux/slab.h depends on the configuration; "Linux Device Drivers",
    third edition, chapter 8: code that is to be completely portable cannot count on more than 128 KB.

    Needs: kmem:kmalloc, and the module's symbols.
    """
    for group in groups(ledger, (Kind.KMALLOC,), "via"):
        asked, mask = int(group["max_request"]), int(group["gfp"])
        falls_back = group["via"] & Via.KVMALLOC or ledger.meta.gfp.opportunistic(mask)
        if not PORTABLE < asked <= ledger.meta.limits.largest_kmalloc or attempts(group) <= 0 or falls_back:
            continue
        if not ledger.meta.sites[group["site"]].module:
            continue
        yield Finding(
            site=site(ledger, group),
            message=f"kmalloc of up to {number(asked)} bytes, {number(attempts(group))} times: kernels with a limit of "
            f"{size(PORTABLE)} refuse it",
            advice="kvmalloc() or vmalloc(), whose sizes are not limited",
            evidence=evidence(ledger, group),
        )


@rule("KM305", "kmalloc-above-the-largest", "error", since="0.2")
def above_largest(ledger: Ledger) -> Iterator[Finding]:
    """A kmalloc asks for more than this kernel can ever give.

    What it sees: failed requests above the largest kmalloc (4 MiB on x86-64 with 4 KiB pages). Tries with a fallback,
    as kvmalloc makes them, are left out.

    Why it matters: it fails always, with any amount of free memory; the caller's function has never worked at that
    size.

    What to do: kvmalloc() or vmalloc(); check what a user may choose before it becomes a size.

    When it is fine: never; where the size is a user's, it should be refused by the caller.

    Kernel's own words: the page allocator warns once (WARN_ON_ONCE_GFP in mm/page_alloc.c) of an order above
    MAX_PAGE_ORDER, unless __GFP_NOWARN is given.

    Needs: kmem:kmalloc, which tells it; the page allocator refuses such an order before any event.
    """
    largest = ledger.meta.limits.largest_kmalloc
    for group in groups(ledger, (Kind.KMALLOC,), "bytes_alloc"):
        if int(group["bytes_alloc"]) <= largest or group["failures"] <= 0:
            continue
        told = evidence(ledger, group)
        yield Finding(
            site=site(ledger, group),
            message=f"asks kmalloc for up to {number(told['max_request'])} bytes, and {number(largest)} is the most: "
            f"failed {number(told['failures'])} times, and always will",
            advice="kvmalloc() or vmalloc(); where a user chooses the size, check it first",
            evidence=told | {"largest_kmalloc": largest},
        )
