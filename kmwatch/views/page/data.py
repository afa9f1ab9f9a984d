"""The page as plain data: the report itself, and what its charts draw."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from kmwatch.findings import PAGE_ALLOCATOR, RUN, Found
from kmwatch.ledger import ALLOCATIONS, MAPPINGS, SITE, Array, Ledger
from kmwatch.units import printable
from kmwatch.views import report
from kmwatch.views.page import flame, slices
from kmwatch.watermarks import atomic_headroom

_TELLING = ("kind", "gfp_mask", "context")  # what evidence has of a site, beside its name
_SECTIONS = {RUN: "trust", PAGE_ALLOCATOR: "zones"}


def build(ledger: Ledger, findings: Sequence[Found], how: dict[str, Any]) -> dict[str, Any]:
    """The page as plain data.

    how: `command` (the command line), `made` (when, in seconds since the epoch). report: the report as it is
    published; `ids` and `sleeping` go by its sites, `links` (where each leads in the page, None for nowhere) by its
    findings. The rest is what charts draw; all that is there by time is in `timeline`.
    """
    told = report.build(ledger, findings)
    ids = site_ids(told["sites"])
    sites = ledger.sites()
    return {
        "how": how,
        "report": told,
        "ids": ids,
        "sleeping": _sleeping(ledger, sites),
        "links": _links(told["findings"], told["sites"], ids),
        "mappings": [kind.name.lower() for kind in MAPPINGS],
        "timeline": slices.build(ledger, sites),
        "flame": flame.build(ledger),
        "memory": _memory(ledger),
    }


def site_ids(sites: list[dict[str, Any]]) -> list[str]:
    """A name for each site of a report, the same in every report of that kernel; each once."""
    seen: Counter[str] = Counter()
    names: dict[str, None] = {}
    for each in sites:
        module = f"[{each['module']}]" if each["module"] else ""
        order = None if each["order"] is None else f"order-{each['order']}"
        node = None if each["node"] is None else f"node-{each['node']}"
        more = (each["cache"], order, each["zone"], node, each["migratetype"], "+".join(each["via"]))
        parts = (each["kind"], each["site"] + module, each["gfp_mask"], each["context"], *filter(None, more))
        name = printable("/".join(parts))
        seen[name] += 1
        # Two caches can share a name.
        while (unique := name if seen[name] == 1 else f"{name}/{seen[name]}") in names:
            seen[name] += 1
        names[unique] = None
    return list(names)


def _sleeping(ledger: Ledger, sites: Array) -> list[int]:
    """The sites that may sleep where that is a bug."""
    groups = ledger.groups(*SITE, "sleeping_in_atomic", kinds=(*ALLOCATIONS, *MAPPINGS))
    wrong = set(slices.keys(groups[groups["sleeping_in_atomic"]]))
    return [at for at, key in enumerate(slices.keys(sites)) if key in wrong]


def _links(findings: list[dict[str, Any]], sites: list[dict[str, Any]], ids: list[str]) -> list[str | None]:
    """The fragment of what each finding is about: a part of the page, or the first site that its evidence fits."""
    places: defaultdict[str, list[int]] = defaultdict(list)
    for at, each in enumerate(sites):
        places[f"{each['site']} [{each['module']}]" if each["module"] else each["site"]].append(at)
    links: list[str | None] = []
    for finding in findings:
        there, evidence = places.get(finding["site"], []), finding["evidence"]
        wanted = {name: evidence[name] for name in _TELLING if name in evidence}
        fitting = (at for at in there if all(sites[at][name] == value for name, value in wanted.items()))
        best = next(fitting, there[0] if there else None)
        links.append(_SECTIONS.get(finding["site"]) if best is None else f"site={ids[best]}")
    return links


def _memory(ledger: Ledger) -> dict[str, Any]:
    """The zones when they were last looked at, in pages; headroom: further GFP_ATOMIC blocks by order."""
    meta = ledger.meta
    return {
        "page_size": meta.limits.page_size,
        "zones": [asdict(zone) for zone in meta.memory],
        "headroom": list(atomic_headroom(tuple(meta.memory), meta.gfp, meta.host.kernel)) if meta.memory else [],
    }
