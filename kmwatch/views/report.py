"""The report: plain data in the published form `kmwatch.report/1`, and the same as text."""

from collections.abc import Sequence
from typing import Any

from kmwatch import __version__, contexts
from kmwatch.batch import Cost
from kmwatch.findings import Found
from kmwatch.ledger import ALLOCATIONS, FREES, MAPPINGS, PRESSURE, Ledger
from kmwatch.mobility import migratetype
from kmwatch.schema import NO_ZONE, Kind, Via
from kmwatch.views import dimensions, outstanding

SCHEMA = "kmwatch.report/1"


def build(ledger: Ledger, findings: Sequence[Found], by: str | None = None) -> dict[str, Any]:
    """The report as plain data, as docs/report.schema.json describes it. Sites come by bytes allocated, descending.

    With `by`, one of kmwatch.views.dimensions.NAMES, it has also the groups of that dimension.
    """
    meta, totals, trust = ledger.meta, ledger.totals(), ledger.trust
    return {
        "schema": SCHEMA,
        "kmwatch": __version__,
        "host": {
            "hostname": meta.host.hostname,
            "kernel": meta.host.kernel,
            "boot_id": meta.host.boot_id,
            "cpus": meta.host.cpus,
        },
        "span": {"start": round(ledger.start, 6), "seconds": round(ledger.seconds, 6)},
        "trust": {
            "events": ledger.events(),
            "lost": trust.lost,
            "map_full": trust.map_full,
            "duplicates_removed": trust.duplicates_removed,
            "unknown_site": trust.unknown_site,
            "unknown_task": trust.unknown_task,
            "unknown_stack": trust.unknown_stack,
            "doubts": meta.doubts,
            "coverage": _coverage(ledger),
        },
        "totals": {
            "bytes_requested": totals.bytes_requested,
            "bytes_allocated": totals.bytes_allocated,
            "bytes_wasted": totals.bytes_wasted,
            "allocations": totals.allocations,
            "frees": totals.frees,
            "failures": {"real": totals.failures, "opportunistic": totals.opportunistic_failures},
        },
        "cost": _cost(ledger.cost),
        "pressure": {kind.name.lower(): ledger.events(kind) for kind in PRESSURE},
        "sites": sites(ledger),
        "findings": [finding(found) for found in findings],
        "by": by,
        "groups": dimensions.build(ledger, by) if by else [],
        "outstanding": outstanding.build(ledger),
    }


def finding(found: Found) -> dict[str, Any]:
    """One finding as plain data."""
    return {
        "rule": found.rule.code,
        "name": found.rule.name,
        "severity": found.severity,
        "confidence": found.finding.confidence,
        "site": found.finding.site,
        "message": found.finding.message,
        "advice": found.finding.advice,
        "evidence": found.finding.evidence,
        "saving_bytes_per_second": round(found.finding.saving, 1),
    }


def _coverage(ledger: Ledger) -> dict[str, Any]:
    """What was watched: each probe and how it is attached, or why not; events by kind; how the context was seen."""
    counts = {kind.name.lower(): ledger.events(kind) for kind in (*ALLOCATIONS, *MAPPINGS, *FREES)}
    return {
        "probes": ledger.meta.probes,
        "events": {name: count for name, count in counts.items() if count},
        "context": ledger.meta.context or "unknown",
    }


def _cost(cost: Cost) -> dict[str, float]:
    return {"kernel_cpu_seconds": round(cost.kernel, 6), "own_cpu_seconds": round(cost.own, 6)}


def sites(ledger: Ledger) -> list[dict[str, Any]]:
    """What each site does as plain data, in the order of Ledger.sites()."""
    return [_site(ledger, group) for group in ledger.sites()]


def _site(ledger: Ledger, group: Any) -> dict[str, Any]:
    meta, site = ledger.meta, ledger.meta.sites[group["site"]]
    kind = Kind(int(group["kind"]))
    paged = kind == Kind.PAGE_ALLOC
    zones = meta.zones
    return {
        "kind": kind.name.lower(),
        "site": site.text,
        "symbol": site.symbol,
        "module": site.module,
        "cache": meta.caches[group["cache"]].name or None,
        "gfp": meta.gfp.decode(int(group["gfp"])),
        "gfp_mask": f"{int(group['gfp']):#x}",
        "context": contexts.name(int(group["context"])),
        "atomic": bool(group["atomic"]),
        "may_sleep": bool(group["may_sleep"]),
        "zone": zones[group["zone"]] if group["zone"] < len(zones) else None,
        "zone_asked": str(group["zone_asked"]),
        "node": None if group["node"] == NO_ZONE else int(group["node"]),
        "migratetype": migratetype(int(group["migratetype"])),
        "order": int(group["order"]) if paged else None,
        "via": [str(via.name).lower() for via in Via if group["via"] & via],
        "counted_once": bool(group["counted_once"]),
        "count": int(group["count"]),
        "bytes_requested": int(group["bytes_requested"]),
        "bytes_allocated": int(group["bytes_allocated"]),
        "bytes_wasted": int(group["bytes_wasted"]),
        "min_request": int(group["min_request"]),
        "max_request": int(group["max_request"]),
        "failures": int(group["failures"]),
        "opportunistic_failures": int(group["opportunistic_failures"]),
    }
