"""What grows, as plain data and as text: the sites, their stacks, and how much of it is whose module."""

from typing import Any

import numpy as np
from rich.console import Console
from rich.text import Text

from kmwatch import __version__
from kmwatch.held import HELD, Held
from kmwatch.leaks import Grown, Suspect
from kmwatch.ledger import Ledger
from kmwatch.units import number, printable, seconds, size
from kmwatch.views.tables import show_table

SCHEMA = "kmwatch.leaks/1"
_FRAMES = 10  # of a stack, in text
_KERNEL = "the kernel itself"


def build(ledger: Ledger, grown: Grown) -> dict[str, Any]:
    """What grew while it was watched as plain data, as docs/leaks.schema.json describes it."""
    host, held = ledger.meta.host, ledger.held or Held(np.zeros(0, HELD))
    suspects = [_suspect(one, ledger) for one in grown.suspects]
    modules: dict[str, float] = {}
    for one in suspects:
        modules[one["module"]] = modules.get(one["module"], 0.0) + one["bytes_per_second"]
    return {
        "schema": SCHEMA,
        "kmwatch": __version__,
        "host": {"hostname": host.hostname, "kernel": host.kernel, "boot_id": host.boot_id, "cpus": host.cpus},
        "span": {"start": round(ledger.start, 6), "seconds": round(ledger.seconds, 6)},
        "trust": {"lost": ledger.trust.lost, "map_full": ledger.trust.map_full, "refused": held.refused},
        "cost": {
            "kernel_cpu_seconds": round(ledger.cost.kernel, 6),
            "own_cpu_seconds": round(ledger.cost.own, 6),
        },
        "sample": 2.0**-held.bits,
        "looks": len(ledger.growth),
        "least_looks": max(int(ledger.thresholds.growth_looks), 2),
        "sites": suspects,
        "modules": [
            {"module": name, "bytes_per_second": round(rate, 1)}
            for name, rate in sorted(modules.items(), key=lambda one: -one[1])
        ],
        "by_design": dict(grown.by_design),
        "unknown": list(grown.unknown),
    }


def _suspect(one: Suspect, ledger: Ledger) -> dict[str, Any]:
    site = ledger.meta.sites[one.site]
    return {
        "kind": one.kind.name.lower(),
        "site": site.text,
        "symbol": site.symbol,
        "module": site.module,
        "caches": list(one.caches),
        "objects": one.objects,
        "low": one.low,
        "high": one.high,
        "bytes": one.bytes,
        "objects_per_second": round(one.objects_per_second, 3),
        "bytes_per_second": round(one.bytes_per_second, 1),
        "grade": one.grade,
        "stacks": [
            {"share": round(share, 3), "frames": [ledger.meta.sites[frame].label for frame in frames]}
            for frames, share in one.stacks
        ],
    }


def render(console: Console, data: dict[str, Any], most: int) -> None:
    """The text; `most` sites with their stacks."""
    span, sites = data["span"]["seconds"], data["sites"]
    sampled = "each object" if data["sample"] == 1 else f"one object of {round(1 / data['sample'])}"
    console.print(f"{seconds(span)} watched, {sampled} looked at; what was allocated before is not known", style="dim")
    if data["looks"] < data["least_looks"]:
        console.print(f"{data['looks']} looks are too few to tell what grows: watch longer (-d)")
        return
    console.print(Text(_verdict(sites), style="bold"))
    if sites:
        _sites(console, sites[:most])
        _modules(console, data["modules"])
    _rest(console, data)


def _verdict(sites: list[dict[str, Any]]) -> str:
    if not sites:
        return "nothing grows that should not"
    worst = sites[0]
    where = f"{worst['site']}{' [' + worst['module'] + ']' if worst['module'] else ''}"
    others = f"; {number(len(sites) - 1)} more sites grow" if len(sites) > 1 else ""
    return printable(f"{where} grows by {size(worst['bytes_per_second'])} a second{others}")


def _sites(console: Console, sites: list[dict[str, Any]]) -> None:
    rows = [_row(one) for one in sites]
    show_table(("site", "held", "between", "bytes", "grows by", "grade"), rows, console, words=1)
    for one in sites:
        for stack in one["stacks"]:
            console.print(Text(printable(f"{one['site']}: {stack['share']:.0%} of them by")))
            for frame in stack["frames"][:_FRAMES]:
                console.print(Text(f"    {printable(frame)}"), style="dim")


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    module = f" [{one['module']}]" if one["module"] else ""
    between = f"{number(one['low'])} to {number(one['high'])}" if one["low"] < one["high"] else "exact"
    return (
        printable(f"{one['site']}{module} ({', '.join(one['caches'])})"),
        number(one["objects"]),
        between,
        size(one["bytes"]),
        f"{size(one['bytes_per_second'])}/s",
        one["grade"],
    )


def _modules(console: Console, modules: list[dict[str, Any]]) -> None:
    named = (f"{one['module'] or _KERNEL} {size(one['bytes_per_second'])}/s" for one in modules)
    console.print(Text(printable("by module: " + ", ".join(named))))


def _rest(console: Console, data: dict[str, Any]) -> None:
    by_design = [f"{cache} {size(taken)}" for cache, taken in data["by_design"].items()]
    unknown = "cannot be told: releases have no event, grade D"
    for words, caches in (("grows by design", by_design), (unknown, data["unknown"])):
        if caches:
            console.print(Text(printable(f"{words}: {', '.join(caches)}")), style="dim")
    if refused := data["trust"]["refused"]:
        console.print(f"{number(refused)} objects found no room in the table: held is more", style="dim")
