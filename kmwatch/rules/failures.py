"""KM2xx: failures of which is known what was free when they happened, judged by that."""

from collections.abc import Iterator
from typing import Any

from kmwatch import contexts
from kmwatch.failures import TAKEN, Failure
from kmwatch.findings import Finding, rule
from kmwatch.ledger import Ledger
from kmwatch.schema import Kind
from kmwatch.units import number, seconds
from kmwatch.verdicts import Verdict, evidence, judge

_Group = list[tuple[Failure, Verdict]]
_Key = tuple[str, str, int, int, int]


def logged(ledger: Ledger) -> list[Failure]:
    """The failures that a kernel log told of: KM205 says all that is known of them."""
    return [each for each in ledger.meta.failures if each.taken == "log"]


def seen(ledger: Ledger) -> dict[_Key, Failure]:
    """The newest failure of each group of KM202 to KM204 that a program saw: kind, site, mask, context, order."""
    found = sorted(ledger.meta.failures, key=lambda each: each.seconds)
    return {_key(each): each for each in found if each.taken == "program"}


def key_of(ledger: Ledger, group: Any) -> _Key:
    """What a group goes by in `seen`."""
    kind, site = Kind(int(group["kind"])), ledger.meta.sites[group["site"]].label
    gfp = 0 if kind == Kind.VMALLOC else int(group["gfp"])
    return kind.name.lower(), site, gfp, int(group["context"]), int(group["order"])


def _key(failure: Failure) -> _Key:
    gfp = 0 if failure.kind == "vmalloc" else failure.gfp  # whose tracepoint tells no flags
    return failure.event, failure.site, gfp, failure.context, failure.order if failure.event == "page_alloc" else 0


def why(ledger: Ledger, failure: Failure) -> tuple[Verdict, dict[str, Any]]:
    """The verdict on a failure that a program saw, and what it is founded on, ready for JSON."""
    verdict = judge(failure, ledger.meta.gfp, ledger.meta.limits)
    return verdict, {
        "verdict": verdict.name,
        "state": TAKEN[failure.taken],
        "seconds": round(failure.seconds, 6),
        "comm": failure.comm,
        "cgroup_full": failure.cgroup,
        **evidence(failure, ledger.meta.gfp),
    }


@rule("KM205", "logged-allocation-failure", "error", since="0.1")
def logged_failure(ledger: Ledger) -> Iterator[Finding]:
    """The kernel logged that an allocation failed, and what was free then.

    What it sees: page, slab and vmalloc failures of a kernel log, with the reason: fragmentation (enough memory, but
    not in one piece), depletion (below the watermark that holds for the mask), a wrong zone (GFP_DMA32 kept it from
    free memory), lowmem_reserve, a size that cannot be expected to succeed, the limit of a memory cgroup.

    Why it matters: the packet, the firmware load or the system call failed, and drivers often do not survive it.

    What to do: it depends on the reason, and the advice follows it. More memory helps against depletion only: against
    fragmentation ask for single pages, or allocate ahead.

    When it is fine: where the mask says that the caller has a fallback; such a finding is a notice.

    Kernel's own words: warn_alloc() in mm/page_alloc.c writes the message, at most a few in ten seconds, and none with
    __GFP_NOWARN: a log has fewer than there were.

    Needs: an imported kernel log, with the Mem-Info that follows the message for the reason.
    """
    groups: dict[tuple[object, ...], _Group] = {}
    for failure in logged(ledger):
        verdict = judge(failure, ledger.meta.gfp, ledger.meta.limits)
        key = (failure.kind, failure.symbol, failure.cache, failure.order, failure.gfp, verdict.name)
        groups.setdefault(key, []).append((failure, verdict))
    for group in groups.values():
        yield _finding(ledger, group)


def _finding(ledger: Ledger, group: _Group) -> Finding:
    """A finding for equal failures; the first that shows what was free speaks for all."""
    failure, verdict = next((each for each in group if each[0].zones), group[0])
    times = "once" if len(group) == 1 else f"{number(len(group))} times in {seconds(_span(group))}"
    whose = "" if failure.caller == failure.site else f", for {failure.caller}"
    return Finding(
        site=failure.site,
        message=f"failed {times}: {verdict.asked}{whose}; {verdict.free}; {verdict.name}: {verdict.why}",
        advice=verdict.advice,
        evidence={
            "kind": failure.kind,
            "failures": len(group),
            "verdict": verdict.name,
            "state": TAKEN[failure.taken],
            "order": failure.order,
            "gfp": ledger.meta.gfp.decode(failure.gfp),
            "gfp_mask": f"{failure.gfp:#x}",
            "mode": failure.mode,
            "context": contexts.name(failure.context),
            "cache": failure.cache,
            "size": failure.size,
            "comms": sorted({each.comm for each, _ in group if each.comm})[:8],
            "caller": failure.caller,
            "kernel": failure.kernel,
            "first": _time(group[0][0]),
            "last": _time(group[-1][0]),
            "stack": list(failure.stack),
            **evidence(failure, ledger.meta.gfp),
        },
        severity="notice" if ledger.meta.gfp.opportunistic(failure.gfp) else "",
    )


def _time(failure: Failure) -> dict[str, float | str]:
    """When it was: in seconds since the start of the log, and as the log has it."""
    return {"seconds": failure.seconds, "stamp": failure.stamp}


def _span(group: _Group) -> float:
    return max(group[-1][0].seconds - group[0][0].seconds, 0.0)
