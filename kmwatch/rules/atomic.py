"""KM2xx: atomic context and failures."""

from collections.abc import Iterator
from typing import Any

from kmwatch.failures import Failure
from kmwatch.findings import Finding, rule
from kmwatch.ledger import ALLOCATIONS, MAPPINGS, Ledger
from kmwatch.rules.failures import key_of, logged, seen, why
from kmwatch.rules.groups import attempts, evidence, groups, site
from kmwatch.units import number


@rule("KM201", "sleeping-allocation-in-atomic-context", "error", since="0.1")
def sleeping_in_atomic(ledger: Ledger) -> Iterator[Finding]:
    """An allocation that may sleep, where sleeping is a bug.

    What it sees: a GFP mask with direct reclaim (GFP_KERNEL, GFP_USER, GFP_NOFS …), or a vmalloc or ioremap, while
    preemption or bottom halves are off, in a soft or hard interrupt, or inside rcu_read_lock().

    Why it matters: most of the time memory is at hand and nothing happens; when it is not, the allocator schedules with
    a lock held: a deadlock or corruption, on the worst day.

    What to do: allocate before taking the lock; else GFP_NOWAIT with a fallback, and GFP_ATOMIC only where the reserves
    are justified.

    When it is fine: never.

    Kernel's own words: might_alloc() (include/linux/sched/mm.h) says of each such request `BUG: sleeping function
    called from invalid context`, on kernels with CONFIG_DEBUG_ATOMIC_SLEEP only.

    Needs: the context. Interrupts that are merely off show at vmalloc and ioremap alone, spinlocks and RCU sections on
    kernels that count preemption; what does not show is not found.
    """
    for group in groups(ledger, (*ALLOCATIONS, *MAPPINGS), "sleeping_in_atomic"):
        times = attempts(group)
        if not group["sleeping_in_atomic"] or times <= 0:
            continue
        told = evidence(ledger, group)
        what = told["gfp"] if group["gfp"] else told["kind"]
        yield Finding(
            site=site(ledger, group),
            message=f"allocates with {what}, which may sleep, in {told['context']}: {number(times)} times",
            advice="allocate before the lock is taken or the interrupt begins; else use GFP_NOWAIT with a fallback, "
            "and GFP_ATOMIC only where the emergency reserves are justified",
            evidence=told,
        )


def _failed(ledger: Ledger, which: str, advice: str, *, may_sleep: bool | None = None) -> Iterator[Finding]:
    """A finding for each group with failures in the column `which`, with what was free where a program has seen it."""
    if logged(ledger):  # KM205 says more of the same
        return
    known = seen(ledger)
    for group in groups(ledger):
        if (times := int(group[which])) > 0 and may_sleep in (None, bool(group["may_sleep"])):
            yield _finding(ledger, group, times, advice, known.get(key_of(ledger, group)))


def _finding(ledger: Ledger, group: Any, times: int, advice: str, failure: Failure | None) -> Finding:
    told = evidence(ledger, group)
    message = (
        f"{told['kind']} of order {told['order']} with {told['gfp']} in {told['context']} "
        f"failed {number(times)} times and succeeded {number(told['count'])} times, "
        f"zone asked for: {told['zone_asked']}"
    )
    if failure:
        verdict, more = why(ledger, failure)
        message += f"; {verdict.free}; {verdict.name}: {verdict.why}"
        told |= more
        if verdict.name != "unknown" and not ledger.meta.gfp.opportunistic(failure.gfp):
            advice = verdict.advice
    return Finding(site=site(ledger, group), message=message, advice=advice, evidence=told)


@rule("KM202", "atomic-allocation-failure", "error", since="0.1")
def atomic_failure(ledger: Ledger) -> Iterator[Finding]:
    """An allocation that cannot wait has failed.

    What it sees: failures of masks without direct reclaim (GFP_ATOMIC above all) that nobody expected: not silent
    tries with a fallback, which are KM203.

    Why it matters: such a request takes what is free now. High orders fail under fragmentation although memory is free,
    and many drivers do not recover: the link stays dead until the device is replugged.

    What to do: ask for order 0 and chain the pages, allocate ahead in process context, use a mempool; check that the
    caller survives NULL. `sysctl vm.min_free_kbytes` raises the reserves that GFP_ATOMIC may use. Where kmwatch saw
    what was free at the failure, the finding says why it failed, and the advice follows that.

    When it is fine: where the caller drops a packet that is sent again, and says so with __GFP_NOWARN.

    Kernel's own words: Documentation/core-api/memory-allocation.rst: GFP_ATOMIC is for those who think that the
    reserves are justified and that the kernel is stressed unless the allocation succeeds; it may fail.

    Needs: an event of the failure, which kmalloc, caches, pages and per-CPU memory have. An order above the largest is
    refused before any event.
    """
    advice = "allocate ahead in process context or from a mempool, ask for lower orders, and survive NULL"
    yield from _failed(ledger, "failures", advice, may_sleep=False)


@rule("KM203", "opportunistic-allocation-failure", "notice", since="0.1")
def opportunistic_failure(ledger: Ledger) -> Iterator[Finding]:
    """A first try that its caller expects to fail has failed.

    What it sees: failures of silent tries (__GFP_NOWARN) without retries (__GFP_NORETRY), or without waiting and
    without the reserves (GFP_NOWAIT since Linux 6.7), and of tries without any reclaim: kvmalloc before vmalloc, a
    transparent huge page, a high-order buffer with a fallback.

    Why it matters: the caller copes, but many of them say that contiguous memory is short.

    What to do: nothing at the site. Where they are frequent, look at fragmentation (/proc/buddyinfo) and zones.

    When it is fine: nearly always; it is how a fallback begins.

    Kernel's own words: Documentation/core-api/memory-allocation.rst on __GFP_NORETRY: requests fail early rather than
    cause disruptive reclaim; the caller has a fallback.

    Needs: the mask at the failure. That the caller does fall back is concluded from it.
    """
    advice = "none needed: the caller falls back; many of them mean fragmentation"
    yield from _failed(ledger, "opportunistic_failures", advice)


@rule("KM204", "sleeping-allocation-failure", "error", since="0.1")
def sleeping_failure(ledger: Ledger) -> Iterator[Finding]:
    """An allocation that was allowed to wait has failed all the same.

    What it sees: failures of masks with direct reclaim that are no silent first try: high orders above the costly
    order, sizes above the largest kmalloc, a memory cgroup at its limit, __GFP_RETRY_MAYFAIL.

    Why it matters: reclaim and compaction were tried and did not help; the system call or the device fails.

    What to do: for large buffers kvmalloc(), which needs no contiguous pages; for __GFP_ACCOUNT the cgroup's limit.

    When it is fine: where a cgroup's limit is meant to refuse, or a user asked for a size that cannot be had.

    Kernel's own words: Documentation/core-api/memory-allocation.rst: with GFP_KERNEL only requests that are not costly
    are basically no-fail, and there is no guarantee of that: failures have to be checked for.

    Needs: an event of the failure, as for KM202.
    """
    advice = "use kvmalloc() for large buffers; with __GFP_ACCOUNT look at the memory cgroup's limit"
    yield from _failed(ledger, "failures", advice, may_sleep=True)
