"""KM9xx: how far the numbers can be trusted."""

from collections.abc import Iterator

from kmwatch.findings import Finding, rule
from kmwatch.ledger import Ledger
from kmwatch.units import number


@rule("KM901", "events-not-counted", "notice")
def events_not_counted(ledger: Ledger) -> Iterator[Finding]:
    """Some events are missing from every number.

    What it finds: events that no row was made for: the program was already running on that CPU when an interrupt
    allocated or freed (the kernel then skips it), or the ledger in the kernel was full.

    Why it matters: counts are lower bounds by that much. Rows of a full ledger are missing altogether.

    What to do: nothing where it is a few in a million, mostly frees in interrupts. Where the ledger was full, watch
    fewer kinds (`--kinds`).
    """
    trust, events = ledger.trust, ledger.events()
    missing = trust.lost + trust.map_full
    if missing <= 0:
        return
    yield Finding(
        site="kmwatch",
        message=f"{number(missing)} of {number(events + missing)} events are not counted: "
        f"{number(trust.lost)} skipped by the kernel, {number(trust.map_full)} for want of room",
        advice="watch fewer kinds with --kinds" if trust.map_full else "none needed: read the counts as lower bounds",
        evidence={"events": events, "lost": trust.lost, "map_full": trust.map_full},
        severity="warning" if trust.map_full or missing > events / 1000 else "",
    )
