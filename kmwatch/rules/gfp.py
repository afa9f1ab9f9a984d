"""KM4xx: GFP flags that contradict each other, or that have had their day."""

import re
from collections.abc import Iterator
from typing import Any

from kmwatch import terms
from kmwatch.failures import Failure
from kmwatch.findings import Finding, rule
from kmwatch.ledger import Ledger
from kmwatch.rules.groups import attempts, evidence, groups, per_second, site
from kmwatch.schema import Kind
from kmwatch.units import number

_SLAB = (Kind.KMALLOC, Kind.CACHE_ALLOC)
_NAME = re.compile(r"\b(?:__)?GFP_[A-Z0-9_]+\b")


def _with(ledger: Ledger, names: tuple[str, ...], kinds: tuple[Kind, ...]) -> Iterator[tuple[Any, list[str]]]:
    """The groups whose mask has one of the flags, with those that it has."""
    bits = {name: bit for name in names if (bit := ledger.meta.gfp.bit(name))}
    for group in groups(ledger, kinds):
        found = [name for name, bit in bits.items() if int(group["gfp"]) & bit]
        if found and attempts(group) > 0:
            yield group, found


@rule("KM401", "nofail-that-cannot-be-kept", "warning", since="0.2")
def nofail(ledger: Ledger) -> Iterator[Finding]:
    """__GFP_NOFAIL is given to a request that the kernel cannot promise to serve.

    What it sees: __GFP_NOFAIL for two or more contiguous pages above order 1, by kmalloc or the page allocator; and, as
    an error, __GFP_NOFAIL without direct reclaim, or in a context that may not sleep.

    Why it matters: the allocator loops until it succeeds. For a large block that may be for ever; without reclaim
    nothing can come free by the loop, so that the kernel returns NULL all the same, to a caller that does not look.

    What to do: kvmalloc() with __GFP_NOFAIL, which loops for single pages (since Linux 5.17); allocate before the lock;
    or handle the failure.

    When it is fine: never for what cannot wait; order 2 and 3 are found sooner or later where reclaim works.

    Kernel's own words: include/linux/gfp_types.h: it must be blockable and used with __GFP_DIRECT_RECLAIM, and order
    above 1 is not supported (the text since Linux 6.12); mm/page_alloc.c of most kernels warns once of each.

    Needs: the mask, of kmalloc, caches, pages and, by function, vmalloc.
    """
    for group, _ in _with(ledger, ("__GFP_NOFAIL",), (*_SLAB, Kind.PAGE_ALLOC)):
        told = evidence(ledger, group)
        stuck = not group["may_sleep"] or bool(group["atomic"])
        # Objects of a cache lie in slabs, whose order is not the caller's; so do small kmallocs.
        whole = group["kind"] == Kind.PAGE_ALLOC or told["max_request"] > ledger.meta.limits.largest_slab
        if not (stuck or (whole and group["kind"] != Kind.CACHE_ALLOC and told["order"] > 1)):
            continue
        why = f"cannot wait in {told['context']}" if stuck else f"is of order {told['order']}"
        yield Finding(
            site=site(ledger, group),
            message=f"{told['kind']} with {told['gfp']} must not fail, and {why}: {number(attempts(group))} times",
            advice="allocate before the lock is taken, or handle the failure"
            if stuck
            else "kvmalloc() keeps that promise with single pages; or handle the failure",
            evidence=told,
            severity="error" if stuck else "",
        )


@rule("KM402", "zone-flag-for-the-slab", "warning", since="0.2")
def zone_flag_for_slab(ledger: Ledger) -> Iterator[Finding]:
    """Kmalloc or a cache is asked for memory of a zone that it does not serve.

    What it sees: __GFP_HIGHMEM or __GFP_DMA32 in the mask of a kmalloc or of a cache's object.

    Why it matters: there are no such kmalloc caches. The kernel takes the flag away and goes on, so that the memory may
    lie above 4 GiB: a device that needed it below reads and writes elsewhere.

    What to do: dma_alloc_coherent() or the DMA API with the device's mask; alloc_pages() with GFP_DMA32; for objects a
    cache made with SLAB_CACHE_DMA32.

    When it is fine: never; with __GFP_HIGHMEM, which means nothing on 64 bits, it is noise in the log.

    Kernel's own words: kmalloc_fix_flags() in mm/slab_common.c logs `Unexpected gfp`, with a stack, and ends with
    `Fix your code!`, where a new slab or whole pages are taken; GFP_SLAB_BUG_MASK names the flags.

    Needs: the mask as it was passed.
    """
    for group, names in _with(ledger, ("__GFP_HIGHMEM", "__GFP_DMA32"), _SLAB):
        told = evidence(ledger, group)
        yield Finding(
            site=site(ledger, group),
            message=f"{told['kind']} with {told['gfp']}: {' and '.join(names)} is taken away, "
            f"{number(attempts(group))} times",
            advice="use the DMA API, or alloc_pages() with GFP_DMA32; without a device drop the flag",
            evidence=told | {"flags": names},
        )


@rule("KM403", "dma-zone-asked-for", "notice", since="0.2")
def dma_zone_asked(ledger: Ledger) -> Iterator[Finding]:
    """A site asks for the lowest 16 MiB of memory, which hardly any device needs any more.

    What it sees: GFP_DMA in any mask, on a kernel that has a zone DMA.

    Why it matters: that zone is small and shared with all who need it truly; its requests fail while gigabytes are
    free.

    What to do: the DMA API (dma_alloc_coherent(), dma_map_single()) with dma_set_mask() to what the device can address;
    for 32-bit devices GFP_DMA32 with pages.

    When it is fine: for ISA devices and some controllers with 24 address bits; where zone DMA is large, as on arm64,
    for devices with 30. Which devices there are is in no event: the finding is a candidate.

    Kernel's own words: include/linux/gfp_types.h: GFP_DMA exists for historical reasons and should be avoided where
    possible.

    Needs: the mask, and the kernel's zones.
    """
    if "DMA" not in ledger.meta.zones:
        return
    for group, _ in _with(ledger, ("__GFP_DMA",), (*_SLAB, Kind.PAGE_ALLOC)):
        told = evidence(ledger, group)
        yield Finding(
            site=site(ledger, group),
            message=f"{told['kind']} with {told['gfp']}, from the zone DMA alone: {number(attempts(group))} times",
            advice="the DMA API with the device's real mask; GFP_DMA32 for pages of a 32-bit device",
            evidence=told,
            confidence="candidate",
        )


@rule("KM404", "nofs-or-noio-by-flag", "notice", since="0.2")
def by_flag(ledger: Ledger) -> Iterator[Finding]:
    """A module says by flag that reclaim must not enter file systems or start I/O; a scope says it better.

    What it sees: GFP_NOFS or GFP_NOIO (direct reclaim without __GFP_FS or __GFP_IO) passed to kmalloc or a cache, a
    thousand times a second or more in one module, or in the kernel itself; the busiest site is named. What a scope adds
    does not show at these events, so that users of the scope are not found.

    Why it matters: the flag guards one call; what that function calls may forget it. And memory that could be
    reclaimed is not, even where no lock is held.

    What to do: memalloc_nofs_save() and memalloc_nofs_restore() (memalloc_noio_save() …) where the lock is taken that
    reclaim could want, and GFP_KERNEL inside.

    When it is fine: in block drivers, whose every request must not wait for I/O, and in file systems that are being
    converted.

    Kernel's own words: Documentation/core-api/gfp_mask-from-fs-io.rst; include/linux/gfp_types.h: please try to avoid
    using this flag directly.

    Needs: the mask as it was passed, of kmalloc and caches. Whether the scope fits is not in it: a candidate.
    """
    found: dict[tuple[str, str], list[Any]] = {}
    for group in groups(ledger, _SLAB):
        if group["may_sleep"] and (scope := _scope(ledger, int(group["gfp"]))):
            module = ledger.meta.sites[group["site"]].module
            found.setdefault((module, scope), []).append(group)
    for (module, scope), members in found.items():
        times = sum(attempts(each) for each in members)
        if per_second(ledger, times) >= ledger.thresholds.scope_rate:
            yield _by_flag(ledger, module, scope, sorted(members, key=attempts))


def _scope(ledger: Ledger, mask: int) -> str:
    """What reclaim is kept from by a mask: nofs, noio (which is both), or nothing."""
    gfp = ledger.meta.gfp
    if not mask & gfp.bit("__GFP_IO"):
        return "noio"
    return "" if mask & gfp.bit("__GFP_FS") else "nofs"


def _by_flag(ledger: Ledger, module: str, scope: str, members: list[Any]) -> Finding:
    """One finding for all of a module, or of the kernel itself: such code is converted as a whole."""
    told, count = evidence(ledger, members[-1]), sum(attempts(each) for each in members)
    sites = list(dict.fromkeys(site(ledger, each) for each in reversed(members)))
    others = f", and {number(len(sites) - 1)} more sites of {module or 'the kernel itself'}" * (len(sites) > 1)
    return Finding(
        site=sites[0],
        message=f"{told['kind']} with {told['gfp']}{others}: {number(round(per_second(ledger, count)))} times a second",
        advice=f"memalloc_{scope}_save() where the lock is taken that reclaim could want, and GFP_KERNEL inside",
        evidence=told | {"count": count, "sites": sites[:8]},
        confidence="candidate",
    )


@rule("KM406", "historical-gfp-flag", "notice", since="0.2")
def historical(ledger: Ledger) -> Iterator[Finding]:
    """A kernel log names a GFP flag that today's kernel does not have.

    What it sees: names like GFP_TEMPORARY, __GFP_WAIT or __GFP_REPEAT in the mask of a logged failure.

    Why it matters: the code that passes it does not build on a new kernel, and some of these flags never did what they
    promised.

    What to do: what the finding names; `kmwatch explain NAME` tells more.

    When it is fine: where the machine stays on that kernel.

    Kernel's own words: include/linux/gfp_types.h lists all flags there are.

    Needs: a kernel log whose masks have names, as since Linux 4.6. Traces keep the names of their own kernel, in which
    a composite hides its parts.
    """
    seen: dict[tuple[str, str], list[Failure]] = {}
    for failure in ledger.meta.failures:
        # GFP_ATOMIC had that bit by itself: only the composite is the caller's word.
        for name in {*_NAME.findall(failure.mode)} - {"__GFP_ATOMIC"}:
            if name in terms.HISTORICAL:
                seen.setdefault((failure.site, name), []).append(failure)
    for (where, name), failures in sorted(seen.items(), key=lambda item: item[0]):
        flag = terms.HISTORICAL[name]
        yield Finding(
            site=where,
            message=f"passes {name}, {flag.summary}: {number(len(failures))} failure{'s' * (len(failures) > 1)} logged",
            advice=flag.today or f"use {flag.replaced_by}",
            evidence={"count": len(failures), "flag": name, "mode": failures[0].mode, "until": flag.until},
        )
