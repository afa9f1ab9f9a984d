"""KM9xx: how far the numbers can be trusted."""

from collections.abc import Iterator

from kmwatch.findings import Finding, rule
from kmwatch.ledger import Ledger
from kmwatch.units import number


@rule("KM901", "events-not-counted", "notice")
def events_not_counted(ledger: Ledger) -> Iterator[Finding]:
    """Some events are missing from every number.

    What it finds: events that no row was made for. The program was already running on that CPU when an interrupt
    allocated or freed (the kernel then skips it), or the ledger in the kernel was full; of a recording, a ring buffer
    was full, or a part of the capture is damaged; of an imported text, the other tool lost them.

    Why it matters: counts are lower bounds by that much. Rows of a full ledger are missing altogether.

    What to do: nothing where it is a few in a million, mostly frees in interrupts. Where the ledger or a ring
    was full, watch fewer kinds (`--kinds`).
    """
    trust, events = ledger.trust, ledger.events()
    missing = trust.lost + trust.map_full
    if missing <= 0:
        return
    many = missing > events / 1000
    partial = "read the counts as lower bounds"
    yield Finding(
        site="kmwatch",
        message=f"{number(missing)} of {number(events + missing)} events are not counted: "
        f"{number(trust.lost)} lost on the way, {number(trust.map_full)} for want of room",
        advice="watch fewer kinds with --kinds" if trust.map_full else partial if many else f"none needed: {partial}",
        evidence={"events": events, "lost": trust.lost, "map_full": trust.map_full},
        severity="warning" if trust.map_full or many else "",
    )


@rule("KM902", "capture-incomplete", "warning")
def capture_incomplete(ledger: Ledger) -> Iterator[Finding]:
    """Something is missing from the capture that the numbers come from.

    What it finds: a recording that was cut (the machine or kmwatch went down), files of a capture that are damaged or
    gone, and lines of its journal that are not what was written.

    Why it matters: what those held is in no number. Counts are lower bounds, and rates are too low where a segment is
    missing in the middle.

    What to do: where the recording was cut, nothing: all up to its last segment is there. Where files are damaged, copy
    the capture again from where it was recorded, or take a part of it that is whole (`--from`, `--to`).
    """
    doubts = [*ledger.meta.doubts]
    if not doubts:
        return
    yield Finding(
        site="kmwatch",
        message=f"the capture is not complete: {'; '.join(doubts)}",
        advice="copy it again from where it was recorded; if that one is the same, read the counts as lower bounds",
        evidence={"doubts": doubts},
    )
