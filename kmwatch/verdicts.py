"""Why an allocation failed, judged from what the zones had, in words.

The judgement repeats the kernel's own test (kmwatch.watermarks) on their numbers. The approximations: a log is written,
and a program looks, a little after the failure; of the reserves for __GFP_HIGH (half of `min`, and a
quarter of the rest where the caller cannot wait) all is granted; those for the OOM killer's victims are left out.
"""

from dataclasses import dataclass
from typing import Any

from kmwatch.failures import Failure, ZoneState
from kmwatch.kernel.gfp import GfpTable
from kmwatch.kernel.slab import COSTLY_ORDER, AllocatorLimits
from kmwatch.remedies import advice_for
from kmwatch.units import number, size
from kmwatch.watermarks import (
    RANKS,
    Tried,
    has_block,
    is_old,
    movable,
    open_blocks,
    tried_zones,
    usable_zones,
    zone_asked,
)

VERDICTS = {
    "too large": "no kernel promises that much contiguous memory",
    "cgroup limit": "the memory cgroup was at its limit, not the machine",
    "wrong zone": "only a small zone was allowed, and it was exhausted",
    "fragmentation": "enough memory was free, but not in one piece",
    "lowmem_reserve": "the free memory was kept for requests that can use no other zone",
    "depletion": "memory was short",
    "unknown": "the state of the zones does not tell",
}
"""What a failure can be judged to be, and what that means."""


_SMALL_ZONE = 16 << 20  # ZONE_DMA of x86, in bytes: nearly all of it is always reserved


@dataclass(frozen=True)
class Verdict:
    """What was asked, what was free then, why it failed, what to change; `name` is one of VERDICTS."""

    name: str
    asked: str
    free: str
    why: str
    advice: str


def judge(failure: Failure, gfp: GfpTable, limits: AllocatorLimits) -> Verdict:
    """Why this failure happened."""
    asked = zone_asked(failure, gfp)
    tried = list(tried_zones(failure, gfp, asked))
    name, why = _decide(_Case(failure, gfp, limits, asked, tried))
    words = _asked(failure, gfp, asked), _free(failure, gfp, tried), why
    return Verdict(name, *words, advice_for(name, failure, gfp))


def evidence(failure: Failure, gfp: GfpTable) -> dict[str, Any]:
    """The numbers behind a judgement, ready for JSON; pages unless named otherwise."""
    asked = zone_asked(failure, gfp)
    return {
        "zone_asked": asked,
        "page_size": failure.page_size,
        "zones": [
            {
                **{name: getattr(each.zone, name) for name in ("node", "name", "free", "min", "low", "high")},
                "watermark": each.mark,
                "reserve": each.reserve,
                "blocks": list(each.zone.blocks),
                "letters": list(each.zone.letters),
            }
            for each in tried_zones(failure, gfp, asked)
        ],
    }


@dataclass(frozen=True)
class _Case:
    """What the judges look at."""

    failure: Failure
    gfp: GfpTable
    limits: AllocatorLimits
    asked: str
    tried: list[Tried]

    def pages(self, count: int) -> str:
        return _bytes(count * self.failure.page_size)

    @property
    def wanted(self) -> str:
        return self.pages(1 << self.failure.order)


_Judgement = tuple[str, str] | None
"""The verdict's name, and why."""


def _too_large(case: _Case) -> _Judgement:
    order, top = case.failure.order, case.limits.max_order
    if order > top and case.failure.kind == "page":
        return "too large", f"order {order} is above the largest that exists, {top}"
    return None


def _enough(case: _Case) -> list[Tried]:
    return [each for each in case.tried if each.open and each.block]


def _of_cgroup(case: _Case) -> _Judgement:
    if case.failure.cgroup and (_enough(case) or not case.tried):
        return "cgroup limit", "a memory cgroup was at its limit, and no zone is known to have been short"
    return None


def _nothing_short(case: _Case) -> _Judgement:
    """What the zones do not explain."""
    enough = _enough(case)
    program = case.failure.taken == "program"
    if not case.tried and program:
        return "unknown", "no zone could be read"
    if not case.tried:
        return "unknown", "the log has no Mem-Info for it: the kernel shows it only now and then (rate limit)"
    if not enough or _at_the_edge(case):
        return None
    if case.failure.kind == "vmalloc":
        return "unknown", "memory was free: the vmalloc address space, or room for its page tables, ran out"
    if case.failure.kind == "percpu":
        return "unknown", "memory was free: the per-CPU chunks had no room, and whoever cannot wait gets no new one"
    when = "when the program looked" if program else "when the log was written"
    return "unknown", f"{when}, {enough[0].zone.name} had enough: others had freed memory by then"


def _at_the_edge(case: _Case) -> bool:
    """A single page was refused, and the program that saw it finds enough: only just, or only what others own.

    Before Linux 6.3 the watermark granted the reserve for atomic requests to single pages, which cannot take it
    (rmqueue_pcplist() of mm/page_alloc.c); and a page can come back between the refusal and the event.
    """
    single = case.failure.kind in ("page", "slab") and not case.failure.order
    return single and case.failure.taken == "program" and all(_is_scarce(each.zone) for each in _enough(case))


def _is_scarce(zone: ZoneState) -> bool:
    """Whether kswapd would be at work, or all that is free is set aside for atomic requests of higher orders."""
    return zone.free <= zone.high or all(owners == "H" for owners in zone.letters if owners)


def _only_just(case: _Case) -> _Judgement:
    if not (enough := _enough(case)) or not _at_the_edge(case):
        return None
    main = enough[0]
    return "depletion", (
        f"in {main.zone.name} {case.pages(main.mark + main.reserve)} must stay free for such a request: little more "
        "was, and it belonged to others or came back in that moment"
    )


def _hopeless(case: _Case) -> _Judgement:
    if case.gfp.opportunistic(case.failure.gfp):  # it was not expected to
        return None
    if case.failure.order > COSTLY_ORDER and case.failure.kind == "page" and (how := _restriction(case)):
        return "too large", f"{case.wanted} in one piece {how}: cannot be expected to succeed"
    return None


def _wrong_zone(case: _Case) -> _Judgement:
    if other := _plenty_elsewhere(case):
        return "wrong zone", f"only {case.asked} was allowed, and it was exhausted while {other.name} had plenty"
    return None


def _hidden(case: _Case) -> str:
    """That larger zones were out of reach; the kernel does not show them since Linux 6.1 (commit 974f4367dd31)."""
    shown = {zone.name for zone in case.failure.zones}
    beyond = any(zone.reserve[RANKS[case.asked] + 1 :] for zone in case.failure.zones)
    if case.asked in ("DMA", "DMA32") and beyond and "Normal" not in shown:
        return f" (the mask kept it to {case.asked}; the zones above are not in the log)"
    return ""


def _fragmented(case: _Case) -> _Judgement:
    short = [each for each in case.tried if each.open and each.block is False]
    if short:
        zone = max(short, key=lambda each: each.zone.free)
        held = f"in {zone.zone.name} only {case.pages(zone.mark + zone.reserve)} must stay free: there was enough, but"
        if is_old(case.failure) and any(zone.zone.blocks[case.failure.order :]):
            return (
                "fragmentation",
                f"{held} too little in blocks of {case.wanted}, which counted alone before Linux 4.4",
            )
        owned = _owned(zone.zone, case.failure.order)
        return "fragmentation", f"{held} no block of {case.wanted} for this mask{owned}{_hidden(case)}"
    if any(each.open and each.block is None for each in case.tried):
        return "unknown", "enough memory was free, but the free blocks by order are missing from the log"
    return None


def _reserved(case: _Case) -> _Judgement:
    kept = [each for each in case.tried if each.above and each.block and _counts(each.zone, case.failure)]
    if not kept:
        return None
    main = max(kept, key=lambda each: each.zone.free)
    return "lowmem_reserve", (
        f"{main.zone.name} keeps {case.pages(main.reserve)} for requests that can use no other zone "
        "(vm.lowmem_reserve_ratio), and the zones above were short"
    )


def _depleted(case: _Case) -> _Judgement:
    main = max(case.tried, key=lambda each: (each.zone.managed, each.zone.free))
    aside = f", {case.pages(main.aside)} is set aside for others" if main.aside else ""
    return "depletion", (
        f"in {main.zone.name} {case.pages(main.mark + main.reserve)} must stay free for such a request "
        f"(min is {case.pages(main.zone.min)}){aside}, and less was{_hidden(case)}"
    )


_JUDGES = (
    *(_too_large, _of_cgroup, _hopeless, _nothing_short, _wrong_zone),
    *(_only_just, _fragmented, _reserved, _depleted),
)


def _decide(case: _Case) -> tuple[str, str]:
    """The first judgement that holds; the last one always does."""
    return next(found for each in _JUDGES if (found := each(case)))


def _restriction(case: _Case) -> str:
    """What keeps the allocator from making room for a large block; "" where nothing does."""
    if not case.gfp.may_sleep(case.failure.gfp):
        return "without waiting"
    if not case.failure.gfp & case.gfp.bit("__GFP_IO"):
        return "without any I/O"
    return ""


def _plenty_elsewhere(case: _Case) -> ZoneState | None:
    """A zone with room for the request, from which only the zone flags of the mask kept it."""
    failure = case.failure
    for zone in usable_zones(failure):
        barred = RANKS[zone.name] > RANKS[case.asked] and zone.name in ("DMA32", "Normal")
        if barred and zone.free > zone.high and has_block(zone, case.gfp, failure, failure.order, zone.min):
            return zone
    return None


def _counts(zone: ZoneState, failure: Failure) -> bool:
    """The 16 MiB of ZONE_DMA are always reserved: they are no reason by themselves."""
    return zone.name != "DMA" or zone.managed * failure.page_size > _SMALL_ZONE


def _owned(zone: ZoneState, order: int) -> str:
    """Who owned the blocks that were large enough, but set aside."""
    large = zip(zone.blocks[order:], zone.letters[order:], strict=False)
    owners = {letter for count, letters in large if count for letter in letters}
    names = {"C": "CMA", "H": "the reserve for atomic requests", "I": "isolated pageblocks"}
    found = [names[letter] for letter in sorted(owners) if letter in names]
    return f": those of that size belonged to {' and '.join(found)}" if found else ""


def _asked(failure: Failure, gfp: GfpTable, asked: str) -> str:
    """What was asked: size, whether it may wait, and from where."""
    sleeps = "may sleep" if gfp.may_sleep(failure.gfp) else "may not sleep"
    if gfp.may_sleep(failure.gfp) and not failure.gfp & gfp.bit("__GFP_IO"):
        sleeps = "may sleep but start no I/O"
    where = f", from {asked} only" if asked in ("DMA", "DMA32") else ""
    flags = failure.mode.partition("(")[2].removesuffix(")") or gfp.decode(failure.gfp)
    pages = f"order-{failure.order}, {_bytes(failure.page_size << failure.order)}"
    pages += " contiguous" if failure.order else ""
    if failure.kind == "vmalloc":
        pages = f"a vmalloc of {_bytes(failure.size)}" if failure.size else "a vmalloc"
    elif failure.kind == "percpu":
        pages = f"per-CPU memory of {_bytes(failure.size)}"
    elif failure.kind == "slab":
        least = f", slabs of order {failure.order} or more" if failure.order else ""
        pages = f"an object of {failure.cache or 'a cache'} ({failure.object_size} bytes{least})"
    elif failure.cache:
        pages += f" for a slab of {failure.cache}"
    return f"{pages}, {sleeps}{where} ({flags})"


def _free(failure: Failure, gfp: GfpTable, tried: list[Tried]) -> str:
    """What was free in the zones that the request may use, the largest first."""
    if not tried:
        return "what was free is not known"
    ranked = sorted(tried, key=lambda each: -each.zone.free)
    several = len({each.zone.node for each in tried}) > 1
    words = [_state(failure, gfp, each, several=several) for each in ranked[:2]]
    left = sum(each.zone.free for each in ranked[2:])
    return "; ".join(words) + (f"; the other zones {_pages(failure, left)}" if ranked[2:] else "")


def _state(failure: Failure, gfp: GfpTable, tried: Tried, *, several: bool) -> str:
    zone = tried.zone
    words = f"{zone.name} of node {zone.node}" if several else zone.name
    words += f" had {_pages(failure, zone.free)} free"
    if zone.cma and not movable(gfp, failure.gfp):
        words += f", {_pages(failure, zone.cma)} of it CMA,"
    if tried.above and not tried.open:
        return f"{words}, reserved for requests that can use no other zone"
    blocks = open_blocks(zone, gfp, failure.gfp)
    if failure.kind != "page" or not any(blocks):
        return words.rstrip(",")
    largest = max(at for at, count in enumerate(blocks) if count)
    words += f" in {number(sum(blocks))} blocks, the largest {_bytes(failure.page_size << largest)}"
    wanted, fits = _bytes(failure.page_size << failure.order), sum(blocks[failure.order :])
    return f"{words}: {number(fits) if fits else 'none'} of the {wanted} wanted" if failure.order else words


def _pages(failure: Failure, count: int) -> str:
    return _bytes(count * failure.page_size)


def _bytes(value: int) -> str:
    """`32 KiB`: sizes here are mostly whole."""
    return size(value).replace(".0 ", " ")
