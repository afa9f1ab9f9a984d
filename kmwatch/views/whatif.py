"""What other size classes would cost, as plain data in the form `kmwatch.whatif/1`, and as text."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from kmwatch import __version__
from kmwatch.batch import Meta
from kmwatch.demand import Demand
from kmwatch.kernel.geometry import Slab
from kmwatch.units import number, printable, seconds, size
from kmwatch.views.tables import show_table
from kmwatch.views.text import show_lines, whose
from kmwatch.whatif.caches import OwnCache, best_caches
from kmwatch.whatif.classes import Served, best_extra, served, strange
from kmwatch.whatif.prices import Prices

SCHEMA = "kmwatch.whatif/1"

_KNOWN = {
    "exact": "known exactly",
    "eighths": "known to an eighth of their class, each taken for the largest that it can be",
}
_MOST_NAMED = 20  # classes in a line
_WIDE = 100  # columns from which there is room for all numbers


def build(demand: Demand, meta: Meta, classes: Sequence[int] | None, extra: int) -> dict[str, Any]:
    """The answer as plain data, as docs/whatif.schema.json describes it.

    Args:
        demand: what was asked for.
        meta: of the kernel that was asked.
        classes: bytes, ascending: what these would cost; None to find the best.
        extra: how many classes to find at most, beside today's.
    """
    prices, requests = Prices(meta.limits, meta.host.cpus), demand.requests
    then = classes or sorted({*meta.limits.classes, *best_extra(requests, prices, extra)})
    every, took = served(requests, prices, then), max(demand.seconds, 1e-9)
    today, taken = (sum(getattr(each, name) for each in every) for name in ("today", "taken"))
    host, trust = meta.host, demand.trust
    return {
        "schema": SCHEMA,
        "kmwatch": __version__,
        "host": {"hostname": host.hostname, "kernel": host.kernel, "boot_id": host.boot_id, "cpus": host.cpus},
        "span": {"start": round(demand.start, 6), "seconds": round(demand.seconds, 6)},
        "trust": {
            "lost": trust.lost,
            "map_full": trust.map_full,
            "unknown_site": trust.unknown_site,
            "of_other_classes": strange(requests, prices),
            "doubts": meta.doubts,
        },
        "cost": {"kernel_cpu_seconds": round(demand.cost.kernel, 6), "own_cpu_seconds": round(demand.cost.own, 6)},
        "sizes": {
            "known": "exact" if demand.exact else "eighths",
            "requests": int(requests["count"].sum()),
            "distinct": len(set(requests["size"].tolist())),
            "sites": len(set(requests["site"].tolist())),
            "bytes_requested": sum(each.requested for each in every),
        },
        "today": {"classes": list(meta.limits.classes), "source": meta.limits.source, "bytes_taken": round(today)},
        "then": {
            "searched": classes is None,
            "classes": [_class(each) for each in every],
            "bytes_taken": round(taken),
            **_saved(today - taken, took),
        },
        "caches": [_cache(each, meta, took) for each in best_caches(requests, prices)] if classes is None else [],
    }


def _saved(saved: float, took: float) -> dict[str, Any]:
    return {"bytes_saved": round(saved), "bytes_saved_per_second": round(saved / took, 1)}


def _slab(slab: Slab) -> dict[str, Any]:
    each = round(slab.each, 2)
    return {"order": slab.order, "objects": slab.objects, "bytes": slab.length, "bytes_each": each}


def _class(each: Served) -> dict[str, Any]:
    """`size` is None for whole pages."""
    return {
        "size": each.size or None,
        "new": each.new,
        "slab": _slab(each.slab) if each.slab else None,
        "requests": each.count,
        "bytes_requested": each.requested,
        "bytes_taken_today": round(each.today),
        "bytes_taken": round(each.taken),
    }


def _cache(cache: OwnCache, meta: Meta, took: float) -> dict[str, Any]:
    return {
        "site": meta.sites[cache.site].label,
        "requests": cache.count,
        "min_request": cache.low,
        "max_request": cache.high,
        "object_size": cache.slab.object_size,
        "align": cache.align,
        "hwcache_align": cache.lines,
        "room": cache.slab.room(cache.align),
        "slab": _slab(cache.slab),
        "best_slab": _slab(cache.best),
        **_saved(cache.saved, took),
    }


def render(data: dict[str, Any], console: Console, top: int = 20) -> None:
    """Print it, with the `top` caches."""
    _summary(data, console)
    if not data["sizes"]["requests"]:
        console.print(Text("\nno kmalloc was seen", "dim"))
        return
    _classes(data, console)
    if data["then"]["searched"]:
        _caches(data, console, top)


def _summary(data: dict[str, Any], console: Console) -> None:
    sizes, trust, then, cost = data["sizes"], data["trust"], data["then"], data["cost"]
    took = max(data["span"]["seconds"], 1e-9)
    strangers = trust["of_other_classes"]
    asked = f"{number(sizes['requests'])} kmallocs, {size(sizes['bytes_requested'])}"
    lines = {
        "kmwatch": f"{whose(data['host'])}, {seconds(took)}",
        "asked": f"{asked}, of {number(sizes['distinct'])} sizes at {number(sizes['sites'])} sites; "
        f"sizes {_KNOWN[sizes['known']]}",
        "classes": f"{_named(data['today']['classes'])}: {data['today']['source']}",
        "today": f"{size(data['today']['bytes_taken'])} taken ({size(data['today']['bytes_taken'] / took)}/s)",
        "then": _then(then),
        "trust": f"{number(trust['lost'])} lost, {number(trust['map_full'])} for want of room"
        + f"; {number(strangers)} were given another size than these classes have" * bool(strangers),
        "missing": "; ".join(trust["doubts"]),
        "cost": f"{cost['kernel_cpu_seconds']:.2f} s of CPU time in the kernel, "
        f"{cost['own_cpu_seconds']:.2f} s in kmwatch" * any(cost.values()),  # an imported text took none
    }
    show_lines(lines, console)


def _named(classes: Sequence[int]) -> str:
    names = [str(each) for each in classes[:_MOST_NAMED]]
    return ", ".join(names + ["…"] * (len(classes) > _MOST_NAMED))


def _then(then: dict[str, Any]) -> str:
    new = [each["size"] for each in then["classes"] if each["new"]]
    if then["searched"] and not new:
        return "no other class would save"
    which = f"{len(new)} more, {_named(new)}" if then["searched"] else "the given classes"
    total, rate = then["bytes_saved"], then["bytes_saved_per_second"]
    words = f"{'costs' if total < 0 else 'saves'} {size(abs(rate))}/s, {size(abs(total))} in all"
    return f"{size(then['bytes_taken'])} taken with {which}: {words}"


def _classes(data: dict[str, Any], console: Console) -> None:
    """The new classes where they were searched for, else all."""
    then, took = data["then"], max(data["span"]["seconds"], 1e-9)
    shown = [each for each in then["classes"] if each["new"] or (not then["searched"] and each["requests"])]
    if not shown:
        return
    rows = []
    for each in shown:
        saved = each["bytes_taken_today"] - each["bytes_taken"]
        slab = _place(each["slab"]) if each["slab"] else ""
        taken = (size(each[name]) for name in ("bytes_requested", "bytes_taken"))
        name = number(each["size"]) if each["size"] else "whole pages"
        rows.append((name, slab, number(each["requests"]), *taken, size(saved / took), size(saved)))
    console.print()
    show_table(("class", "slab", "requests", "asked", "taken", "saves/s", "saves"), rows, console)


def _caches(data: dict[str, Any], console: Console, top: int) -> None:
    caches = data["caches"]
    console.print()
    if not caches:
        console.print(Text("no site would save with a kmem_cache of its own", "green"))
        return
    console.print(Text("a kmem_cache of its own, each by itself and with today's classes:"))
    rows, wide = [], console.width >= _WIDE
    for each in caches[:top]:
        low, high = each["min_request"], each["max_request"]
        asked = number(high) if low == high else f"{number(low)}-{number(high)}"
        objects = (number(each["object_size"]), *[number(each["room"])] * wide, _place(each["slab"]))
        saved = (size(each["bytes_saved_per_second"]), size(each["bytes_saved"]))
        rows.append((printable(each["site"]), asked, *objects, *saved))
    names = ("site", "asks for", "object", *["room"] * wide, "slab", "saves/s", "saves")
    show_table(names, rows, console, words=1)
    if len(caches) > top:
        console.print(Text(f"{number(len(caches) - top)} more rows: --top N shows more, --json shows all", "dim"))
    if wide:
        console.print(Text("room: the largest object of which a slab holds as many", "dim"))


def _place(slab: dict[str, Any]) -> str:
    return f"{number(slab['objects'])} in {slab['bytes'] >> 10} KiB"
