"""KM405 and KM407: first tries that say too little, and tries that say more than is seen."""

from collections.abc import Iterator
from typing import Any

from kmwatch.findings import Finding, rule
from kmwatch.ledger import Ledger
from kmwatch.rules.groups import evidence, groups, site
from kmwatch.schema import Kind, Via
from kmwatch.units import number, size

_KINDS = (Kind.KMALLOC, Kind.PAGE_ALLOC, Kind.VMALLOC)


def _functions(ledger: Ledger) -> Iterator[list[Any]]:
    """The groups of each function: it may fall back at another of its lines. kvmalloc falls back by itself."""
    found: dict[tuple[str, str], list[Any]] = {}
    for group in groups(ledger, _KINDS, "via"):
        if not group["via"] & Via.KVMALLOC:
            where = ledger.meta.sites[group["site"]]
            found.setdefault((where.symbol, where.module), []).append(group)
    return iter(found.values())


def _asked(ledger: Ledger, group: Any) -> int:
    """Bytes in one piece that a group asks for; 0 of a vmalloc, whose pages lie anywhere."""
    if group["kind"] == Kind.PAGE_ALLOC:
        return ledger.meta.limits.page_size << int(group["order"])
    return 0 if group["kind"] == Kind.VMALLOC else int(group["max_request"])


def _failed(group: Any) -> int:
    return int(group["failures"] + group["opportunistic_failures"])


@rule("KM405", "first-try-that-fights", "notice", since="0.2")
def fights(ledger: Ledger) -> Iterator[Finding]:
    """A function that falls back to less lets its first try reclaim, compact and complain.

    What it sees: failures of more than a page in one piece, that may wait and are not both __GFP_NORETRY and
    __GFP_NOWARN, at a function that got at least as often something smaller, or a vmalloc.

    Why it matters: before it fails the kernel writes back, throws out caches and moves pages for all others, and then
    logs a warning with a stack; and the caller did not need it.

    What to do: __GFP_NORETRY | __GFP_NOWARN in the first try, and none of them in the last.

    When it is fine: where the large piece is worth waiting for: __GFP_RETRY_MAYFAIL says so, but __GFP_NOWARN belongs
    to it all the same.

    Kernel's own words: Documentation/core-api/memory-allocation.rst: __GFP_NORETRY where a fallback is implemented.

    Needs: events of failures. That the smaller requests are the fallback is concluded: the finding is likely.
    """
    page = ledger.meta.limits.page_size
    for members in _functions(ledger):
        for group in members:
            asked, failures = _asked(ledger, group), int(group["failures"])
            if not failures or not group["may_sleep"] or asked <= page:
                continue
            served = sum(int(each["count"]) for each in members if _asked(ledger, each) < asked)
            if served >= failures:
                told = evidence(ledger, group)
                yield Finding(
                    site=site(ledger, group),
                    message=f"asks for {size(asked)} in one piece with {told['gfp']}, fails {number(failures)} times, "
                    f"and gets less {number(served)} times",
                    advice="add __GFP_NORETRY|__GFP_NOWARN to the first try, and keep the last as it is",
                    evidence=told | {"smaller": served},
                    confidence="likely",
                )


@rule("KM407", "noretry-without-a-fallback", "notice", since="0.2")
def no_fallback(ledger: Ledger) -> Iterator[Finding]:
    """A try that announces a fallback fails, and no fallback is seen.

    What it sees: twenty or more failures with __GFP_NORETRY at a function that got nothing of another size or by
    another allocator.

    Why it matters: the flag makes the kernel give up early. Who has nothing else to try fails more often than he must,
    under loads in which a moment of reclaim would have helped.

    What to do: GFP_KERNEL without it, up to order 3; __GFP_RETRY_MAYFAIL for more; or a fallback: kvmalloc(), order 0.

    When it is fine: where the caller can do without, as a cache or a read-ahead; where it falls back in another
    function, which does not show here: the finding is a candidate.

    Kernel's own words: Documentation/core-api/memory-allocation.rst on __GFP_NORETRY: requests fail early rather than
    cause disruptive reclaim.

    Needs: events of failures, and the mask.
    """
    flag = ledger.meta.gfp.bit("__GFP_NORETRY")
    for members in _functions(ledger):
        for group in members:
            failed, what = _failed(group), (group["kind"], _asked(ledger, group))
            if not int(group["gfp"]) & flag or failed < ledger.thresholds.fallback_count:
                continue
            if any(each["count"] > 0 and (each["kind"], _asked(ledger, each)) != what for each in members):
                continue
            told = evidence(ledger, group)
            yield Finding(
                site=site(ledger, group),
                message=f"{told['kind']} of up to {size(what[1])} with {told['gfp']} failed {number(failed)} times, "
                "and nothing else was tried there",
                advice="leave __GFP_NORETRY out, or fall back: kvmalloc(), or pages of order 0",
                evidence=told,
                confidence="candidate",
            )
