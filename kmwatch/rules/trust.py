"""KM9xx: how far the numbers can be trusted."""

from collections.abc import Iterator

import numpy as np

from kmwatch.findings import RUN, Finding, rule
from kmwatch.ledger import ALLOCATIONS, Ledger
from kmwatch.schema import Context
from kmwatch.units import number


@rule("KM901", "events-not-counted", "notice", since="0.1")
def events_not_counted(ledger: Ledger) -> Iterator[Finding]:
    """Some events are missing from every number.

    What it sees: events that no row was made for. The program was already running on that CPU when an interrupt
    allocated or freed (the kernel then skips it), or the ledger in the kernel was full; of a recording, a ring buffer
    was full, or a part of the capture is damaged; of an imported text, the other tool lost them.

    Why it matters: counts are lower bounds by that much. Rows of a full ledger are missing altogether.

    What to do: where the ledger or a ring was full, watch fewer kinds (`--kinds`).

    When it is fine: a few in a million, mostly frees in interrupts.

    Kernel's own words: recursion_misses in struct bpf_prog_stats (include/linux/filter.h) counts what was skipped.

    Needs: nothing; old kernels do not count all that they skip.
    """
    trust, events = ledger.trust, ledger.events()
    missing = trust.lost + trust.map_full
    if missing <= 0:
        return
    many = missing > events / 1000
    partial = "read the counts as lower bounds"
    yield Finding(
        site=RUN,
        message=f"{number(missing)} of {number(events + missing)} events are not counted: "
        f"{number(trust.lost)} lost on the way, {number(trust.map_full)} for want of room",
        advice="watch fewer kinds with --kinds" if trust.map_full else partial if many else f"none needed: {partial}",
        evidence={"events": events, "lost": trust.lost, "map_full": trust.map_full},
        severity="warning" if trust.map_full or many else "",
    )


@rule("KM902", "capture-incomplete", "warning", since="0.1")
def capture_incomplete(ledger: Ledger) -> Iterator[Finding]:
    """Something is missing from the capture that the numbers come from.

    What it sees: a recording that was cut (the machine or kmwatch went down), files of a capture that are damaged or
    gone, and lines of its journal that are not what was written.

    Why it matters: what those held is in no number. Counts are lower bounds, and rates are too low where a segment is
    missing in the middle.

    What to do: where the recording was cut, nothing: all up to its last segment is there. Where files are damaged, copy
    the capture again from where it was recorded, or take a part of it that is whole (`--from`, `--to`).

    When it is fine: where the time that is missing is not the one of interest.

    Kernel's own words: none; it is about the capture.

    Needs: a capture.
    """
    doubts = [*ledger.meta.doubts]
    if not doubts:
        return
    yield Finding(
        site=RUN,
        message=f"the capture is not complete: {'; '.join(doubts)}",
        advice="copy it again from where it was recorded; if that one is the same, read the counts as lower bounds",
        evidence={"doubts": doubts},
    )


@rule("KM903", "context-not-known", "notice", since="0.2")
def context_not_known(ledger: Ledger) -> Iterator[Finding]:
    """Where the CPU was is not known, or in part, so that rules about atomic context see less.

    What it sees: allocations whose context is unknown; or many, of which none was under a spinlock or with preemption
    off: a kernel that is not preemptible counts neither spinlocks nor RCU sections, and only interrupts show.

    Why it matters: that KM201 finds nothing then says little.

    What to do: `kmwatch doctor` says what this kernel shows. A preemptible kernel (CONFIG_PREEMPT_DYNAMIC will do) and
    its BTF show all but interrupts that are merely off.

    When it is fine: where the report is about sizes and waste only.

    Kernel's own words: CONFIG_PREEMPT_COUNT (kernel/Kconfig.preempt) is what makes a spinlock count.

    Needs: ten thousand allocations before it judges by what is missing; that part is likely, and not certain.
    """
    memory = ledger.rows[np.isin(ledger.rows["kind"], [*ALLOCATIONS])]
    contexts, counts = memory["context"], memory["count"]
    total = int(counts.sum())
    unknown = int(counts[contexts & Context.UNKNOWN != 0].sum())
    shown = bool((contexts & (Context.PREEMPT_OFF | Context.RCU) != 0).any())
    if unknown > 0:
        message = f"the context of {number(unknown)} of {number(total)} allocations is unknown"
    elif not shown and total >= ledger.thresholds.context_events:
        message = f"none of {number(total)} allocations was under a spinlock: this kernel does not seem to count them"
    else:
        return
    yield Finding(
        site=RUN,
        message=message,
        advice="that KM201 finds nothing says little here; `kmwatch doctor` says what this kernel shows",
        evidence={"count": unknown or total, "allocations": total},
        confidence="certain" if unknown else "likely",
    )
