"""What several rules share: the groups that they judge, and the evidence that tells one from another."""

from collections.abc import Iterator
from typing import Any

from kmwatch import contexts
from kmwatch.kernel.geometry import Geometry
from kmwatch.ledger import ALLOCATIONS, MAPPINGS, Ledger
from kmwatch.schema import Kind

WHERE = ("kind", "site", "gfp", "context", "order", "zone_asked", "atomic", "may_sleep", "counted_once")
"""All that a failure or a context depends on."""


def groups(ledger: Ledger, kinds: tuple[Kind, ...] = ALLOCATIONS, *more: str) -> Iterator[Any]:
    """Groups by WHERE and `more`; pages that another allocator took are its own affair."""
    for group in ledger.groups(*WHERE, *more, kinds=kinds):
        if group["counted_once"] or group["kind"] in MAPPINGS:
            yield group


def evidence(ledger: Ledger, group: Any) -> dict[str, Any]:
    """A group of `groups` in words, ready for JSON."""
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
        "order": order(ledger, group),
        "min_request": int(group["min_request"]),
        "max_request": int(group["max_request"]),
    }


def order(ledger: Ledger, group: Any) -> int:
    """The order of the pages that a group asks for, at most."""
    if group["kind"] == Kind.PAGE_ALLOC:
        return int(group["order"])
    return ledger.meta.limits.order_for(int(group["max_request"]))


def attempts(group: Any) -> int:
    """How often a group asked, whatever came of it."""
    return int(group["count"] + group["failures"] + group["opportunistic_failures"])


def site(ledger: Ledger, group: Any) -> str:
    """The group's call site as findings name it."""
    return str(ledger.meta.sites[group["site"]].label)


def per_second(ledger: Ledger, amount: float) -> float:
    """An amount by the second of the ledger's span."""
    return amount / max(ledger.seconds, 1e-9)


def geometry(ledger: Ledger) -> Geometry:
    """Slabs on the machine that was watched."""
    return Geometry(ledger.meta.limits.page_size, ledger.meta.host.cpus)


def wasteful(ledger: Ledger, wasted: int, allocated: int) -> bool:
    """Whether so many bytes of those allocated are worth a finding, by share, rate and amount."""
    limits = ledger.thresholds
    return wasted >= max(limits.waste_share * allocated, limits.waste_rate * ledger.seconds, limits.waste_bytes)
