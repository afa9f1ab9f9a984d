"""KM2xx: atomic context and failures."""

from collections.abc import Iterator
from typing import Any

from kmwatch import contexts
from kmwatch.failures import Failure
from kmwatch.findings import Finding, rule
from kmwatch.kernel.allocators import via_of
from kmwatch.ledger import ALLOCATIONS, MAPPINGS, Ledger
from kmwatch.rules.failures import key_of, logged, seen, why
from kmwatch.schema import Kind
from kmwatch.units import number

_WHERE = ("kind", "site", "gfp", "context", "order", "zone_asked", "atomic", "may_sleep", "counted_once")


def _groups(ledger: Ledger, kinds: tuple[Kind, ...] = ALLOCATIONS) -> Iterator[Any]:
    """Groups by all that a failure or a context depends on; pages that another allocator took are its own affair."""
    for group in ledger.groups(*_WHERE, kinds=kinds):
        if group["counted_once"] or group["kind"] in MAPPINGS:
            yield group


def _evidence(ledger: Ledger, group: Any) -> dict[str, Any]:
    gfp = int(group["gfp"])
    return {
        "kind": Kind(int(group["kind"])).name.lower(),
        "count": int(group["count"]),
        "failures": int(group["failures"]),
        "opportunistic_failures": int(group["opportunistic_failures"]),
        "gfp": ledger.meta.gfp.decode(gfp),
        "gfp_mask": f"{gfp:#x}",
        "context": contexts.name(int(group["context"])),
        "zone_asked": str(group["zone_asked"]),
        "order": _order(ledger, group),
        "min_request": int(group["min_request"]),
        "max_request": int(group["max_request"]),
    }


def _order(ledger: Ledger, group: Any) -> int:
    if group["kind"] == Kind.PAGE_ALLOC:
        return int(group["order"])
    return ledger.meta.limits.order_for(int(group["max_request"]))


def _is_allocator(ledger: Ledger, group: Any) -> bool:
    return bool(via_of(ledger.meta.sites[group["site"]].symbol))


@rule("KM201", "sleeping-allocation-in-atomic-context", "error")
def sleeping_in_atomic(ledger: Ledger) -> Iterator[Finding]:
    """An allocation that may sleep, where sleeping is a bug.

    What it finds: a GFP mask with direct reclaim (GFP_KERNEL, GFP_USER, GFP_NOFS …), or a vmalloc or ioremap, while
    preemption or bottom halves are off, in a soft or hard interrupt, or inside rcu_read_lock().

    Why it is bad: most of the time memory is at hand and nothing happens; when it is not, the allocator schedules with
    a lock held: a deadlock or corruption, on the worst day. Only debug kernels (CONFIG_DEBUG_ATOMIC_SLEEP) look for it.

    What to do: allocate before taking the lock; else GFP_NOWAIT with a fallback, and GFP_ATOMIC only where the reserves
    are justified.
    """
    for group in _groups(ledger, (*ALLOCATIONS, *MAPPINGS)):
        times = int(group["count"] + group["failures"] + group["opportunistic_failures"])
        # What an allocator needs for itself it asks for with its caller's flags: the caller is found by its own.
        if not (group["atomic"] and group["may_sleep"] and times > 0) or _is_allocator(ledger, group):
            continue
        evidence = _evidence(ledger, group)
        what = evidence["gfp"] if group["gfp"] else evidence["kind"]
        yield Finding(
            site=ledger.meta.sites[group["site"]].label,
            message=f"allocates with {what}, which may sleep, in {evidence['context']}: {number(times)} times",
            advice="allocate before the lock is taken or the interrupt begins; else use GFP_NOWAIT with a fallback, "
            "and GFP_ATOMIC only where the emergency reserves are justified",
            evidence=evidence,
        )


def _failed(ledger: Ledger, which: str, advice: str, *, may_sleep: bool | None = None) -> Iterator[Finding]:
    """A finding for each group with failures in the column `which`, with what was free where a program has seen it."""
    if logged(ledger):  # KM205 says more of the same
        return
    known = seen(ledger)
    for group in _groups(ledger):
        if (times := int(group[which])) > 0 and may_sleep in (None, bool(group["may_sleep"])):
            yield _finding(ledger, group, times, advice, known.get(key_of(ledger, group)))


def _finding(ledger: Ledger, group: Any, times: int, advice: str, failure: Failure | None) -> Finding:
    evidence = _evidence(ledger, group)
    message = (
        f"{evidence['kind']} of order {evidence['order']} with {evidence['gfp']} in {evidence['context']} "
        f"failed {number(times)} times and succeeded {number(evidence['count'])} times, "
        f"zone asked for: {evidence['zone_asked']}"
    )
    if failure:
        verdict, more = why(ledger, failure)
        message += f"; {verdict.free}; {verdict.name}: {verdict.why}"
        evidence |= more
        if verdict.name != "unknown" and not ledger.meta.gfp.opportunistic(failure.gfp):
            advice = verdict.advice
    return Finding(site=ledger.meta.sites[group["site"]].label, message=message, advice=advice, evidence=evidence)


@rule("KM202", "atomic-allocation-failure", "error")
def atomic_failure(ledger: Ledger) -> Iterator[Finding]:
    """An allocation that cannot wait has failed.

    What it finds: failures of masks without direct reclaim (GFP_ATOMIC above all) that nobody expected: not silent
    tries with a fallback, which are KM203.

    Why it is bad: such a request takes what is free now. High orders fail under fragmentation although memory is free,
    and many drivers do not recover: the link stays dead until the device is replugged.

    What to do: ask for order 0 and chain the pages, allocate ahead in process context, use a mempool; check that the
    caller survives NULL. `sysctl vm.min_free_kbytes` raises the reserves that GFP_ATOMIC may use. Where kmwatch saw
    what was free at the failure, the finding says why it failed, and the advice follows that.
    """
    advice = "allocate ahead in process context or from a mempool, ask for lower orders, and survive NULL"
    yield from _failed(ledger, "failures", advice, may_sleep=False)


@rule("KM203", "opportunistic-allocation-failure", "notice")
def opportunistic_failure(ledger: Ledger) -> Iterator[Finding]:
    """A first try that its caller expects to fail has failed.

    What it finds: failures of silent tries (__GFP_NOWARN) without retries (__GFP_NORETRY), or without waiting and
    without the reserves (GFP_NOWAIT since Linux 6.7), and of tries without any reclaim: kvmalloc before vmalloc, a
    transparent huge page, a high-order buffer with a fallback.

    Why it matters: the caller copes, but many of them say that contiguous memory is short.

    What to do: nothing at the site. Where they are frequent, look at fragmentation (/proc/buddyinfo) and zones.
    """
    advice = "none needed: the caller falls back; many of them mean fragmentation"
    yield from _failed(ledger, "opportunistic_failures", advice)


@rule("KM204", "sleeping-allocation-failure", "error")
def sleeping_failure(ledger: Ledger) -> Iterator[Finding]:
    """An allocation that was allowed to wait has failed all the same.

    What it finds: failures of masks with direct reclaim that are no silent first try: high orders above the costly
    order, sizes above the largest kmalloc, a memory cgroup at its limit, __GFP_RETRY_MAYFAIL.

    Why it is bad: reclaim and compaction were tried and did not help; the system call or the device fails.

    What to do: for large buffers kvmalloc(), which needs no contiguous pages; for __GFP_ACCOUNT the cgroup's limit.
    """
    advice = "use kvmalloc() for large buffers; with __GFP_ACCOUNT look at the memory cgroup's limit"
    yield from _failed(ledger, "failures", advice, may_sleep=True)
