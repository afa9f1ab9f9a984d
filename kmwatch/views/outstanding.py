"""What is held: by site, by cache, and beside /proc/meminfo; as plain data in a report, and as text."""

from typing import Any

import numpy as np
from rich.console import Console
from rich.text import Text

from kmwatch.coverage import UNKNOWN, Coverage, coverage, labels
from kmwatch.growth import BY
from kmwatch.held import Held, bounds, bucket_end, churn, median_seconds
from kmwatch.ledger import Ledger
from kmwatch.reconciliation import Account, reconciled
from kmwatch.schema import LARGE, Kind
from kmwatch.units import number, printable, size, span
from kmwatch.views.tables import show_table

_LOOKS = 2  # that make a slope
_SHOWN = 30  # rows of a table
_WIDE = 110  # columns from which there is room for all of them
_SUMS = ("objects", "bytes_allocated", "bytes_wasted")
_LIVES, _FLOWS = ("age", "lives", "elsewhere"), ("allocations", "released", "unseen")
_BY = ("kind", "site", "cache", "bytes_alloc")

Known = dict[tuple[str, Kind], Coverage]


def build(ledger: Ledger) -> dict[str, Any] | None:
    """What is held as plain data; None where nobody looked.

    Most bytes come first, then what is unknown, then what holds nothing. Of a cache whose grade is UNKNOWN no
    number of what is held is given.
    """
    held = ledger.held
    if held is None:
        return None
    known, rows = coverage(ledger), _by_site(held)
    named = labels(rows, ledger.meta.caches)
    unknown = np.array([known[label].grade == UNKNOWN for label in named], bool)
    last = np.where(unknown, 1, np.where(rows["objects"] > 0, 0, 2))
    slopes = _slopes(ledger)
    order = np.lexsort([-rows["objects"], -rows["bytes_allocated"], last])
    return {
        "sample": 1 << held.bits,
        "refused": held.refused,
        **_sums(rows[~unknown], held.bits),
        "unknown": int(unknown.sum()),
        "sites": [
            _site(ledger, rows[at], known[named[at]], slopes.get(tuple(rows[at][name].item() for name in BY)))
            for at in order.tolist()
        ],
        "caches": [_cache(each) for each in sorted(known.values(), key=_rank)],
        "memory": [_account(each) for each in reconciled(ledger, known)],
    }


def _by_site(held: Held) -> Any:
    """The rows of each site and cache; only size classes are told apart by their size."""
    rows = held.rows.copy()
    sized = (rows["kind"] == Kind.KMALLOC) & (rows["bytes_alloc"] <= LARGE)
    rows["bytes_alloc"] = np.where(sized, rows["bytes_alloc"], np.where(rows["kind"] == Kind.KMALLOC, LARGE + 1, 0))
    found = Held(rows).grouped(*_BY)
    return found[(found["objects"] + found["released"] + found["unseen"]) > 0]


def _rank(cache: Coverage) -> tuple[int, int, str, int]:
    last = 1 if cache.grade == UNKNOWN else 0 if cache.held else 2
    return last, -cache.held, cache.name, cache.kind


def _sums(rows: Any, bits: int) -> dict[str, Any]:
    """The estimates of one row, or of several together."""
    requested, allocated = int(rows["bytes_requested"].sum()), int(rows["bytes_allocated"].sum())
    return {
        "objects": _estimate(int(rows["objects"].sum()), float(rows["sampled"].sum()), bits),
        "bytes_allocated": _estimate(allocated, float(rows["bytes_squares"].sum()), bits),
        "bytes_wasted": _estimate(allocated - requested, float(rows["waste_squares"].sum()), bits),
    }


def _estimate(total: int, squares: float, bits: int) -> dict[str, int]:
    low, high = bounds(total, squares, bits)
    return {"estimate": total, "low": low, "high": high}


def _histogram(times: Any) -> list[dict[str, Any]]:
    """The buckets that have objects, with the time at which each ends."""
    return [{"seconds": bucket_end(at), "objects": int(times[at])} for at in np.flatnonzero(times).tolist()]


def _slopes(ledger: Ledger) -> dict[tuple[int, ...], float]:
    """Bytes per second by which each kind, site and cache grows; empty until there are two looks."""
    if len(ledger.growth) < _LOOKS:
        return {}
    rows = ledger.growth.rows()
    keys = zip(*(rows[name].tolist() for name in BY), strict=True)
    return dict(zip(keys, rows["bytes_per_second"].round(1).tolist(), strict=True))


def _site(ledger: Ledger, row: Any, cache: Coverage, slope: float | None) -> dict[str, Any]:
    site, known, held = ledger.meta.sites[row["site"]], cache.grade != UNKNOWN, ledger.held or Held(row)
    sums = _sums(row, held.bits)
    return {
        "kind": cache.kind.name.lower(),
        "site": site.text,
        "symbol": site.symbol,
        "module": site.module,
        "cache": cache.name,
        "grade": cache.grade,
        **(sums if known else dict.fromkeys(sums)),
        "age_seconds": median_seconds(row["ages"]) if known else None,
        "lifetime": (churn(row) or None) if known else None,
        "ages": _histogram(row["ages"]) if known else None,
        "lifetimes": _histogram(row["lifetimes"]),
        "bytes_per_second": slope if known else None,
        "kernel_bytes_grown": held.function_grown(site.symbol),
        "released": int(row["released"]),
        "released_elsewhere": int(row["elsewhere"]),
        "unseen": int(row["unseen"]),
    }


def _cache(cache: Coverage) -> dict[str, Any]:
    return {
        "cache": cache.name,
        "kind": cache.kind.name.lower(),
        "grade": cache.grade,
        "allocations": cache.allocations,
        "released": cache.released,
        "unseen": cache.unseen,
        "held": cache.held if cache.grade != UNKNOWN else None,
        "grown": cache.grown,
    }


def _account(account: Account) -> dict[str, Any]:
    return {
        "field": account.field,
        "bytes": account.now,
        "bytes_grown": account.grown,
        "bytes_held": account.held,
        "bytes_not_seen": account.not_seen,
    }


def render(data: dict[str, Any], console: Console) -> None:
    """Print it: what is known, the largest sites and caches, and the kernel's own account."""
    console.print()
    console.print(Text(_told(data)))
    if data["sites"]:
        _sites(data, console)
        _caches(data, console)
    _memory(data, console)


def _told(data: dict[str, Any]) -> str:
    objects, taken, wasted = (data[name] for name in ("objects", "bytes_allocated", "bytes_wasted"))
    looked = "every object" if data["sample"] == 1 else f"one object of {data['sample']}"
    refused, unknown = data["refused"], data["unknown"]
    sites = f"{number(unknown)} {'sites' if unknown != 1 else 'site'}"
    return (
        f"held, of what was allocated since the start: {_counted(objects)} objects, {_sized(taken)}, "
        f"{_sized(wasted)} of it never asked for; {looked} was looked at"
        + f"; no room was found for {number(refused)} of them" * bool(refused)
        + f"; of {sites} it is unknown" * bool(unknown)
    )


def _error(estimate: dict[str, int]) -> int:
    return max(estimate["high"] - estimate["estimate"], estimate["estimate"] - estimate["low"])


def _counted(estimate: dict[str, int] | None) -> str:
    if estimate is None:
        return "unknown"
    error = _error(estimate)
    return number(estimate["estimate"]) + f" ± {number(error)}" * bool(error)


def _sized(estimate: dict[str, int] | None) -> str:
    if estimate is None:
        return "unknown"
    error = _error(estimate)
    return size(estimate["estimate"]) + f" ± {size(error)}" * bool(error)


def _sites(data: dict[str, Any], console: Console) -> None:
    """The sites that hold something, and those of which it is unknown."""
    wide = console.width >= _WIDE
    shown = [each for each in data["sites"] if each["objects"] is None or each["objects"]["estimate"]]
    if not shown:
        return
    rows = [_site_row(each, wide) for each in shown[:_SHOWN]]
    if rest := shown[_SHOWN:]:
        objects, *sizes = (sum(each[name]["estimate"] for each in rest if each[name]) for name in _SUMS)
        rows.append((f"{number(len(rest))} more", number(objects), *map(size, sizes), *[""] * 3 * wide, ""))
    show_table(("site", "objects", "bytes", "waste", *_LIVES * wide, "grade"), rows, console, words=1)


def _site_row(site: dict[str, Any], wide: bool) -> tuple[str, ...]:
    sums = ("unknown" if site[name] is None else size(site[name]["estimate"]) for name in _SUMS[1:])
    age = "" if site["age_seconds"] is None else span(site["age_seconds"])
    elsewhere = f"{site['released_elsewhere'] / site['released']:.0%}" if site["released"] else ""
    lives = [age, site["lifetime"] or "", elsewhere] * wide
    return _place(site), _counted(site["objects"]), *sums, *lives, site["grade"]


def _place(site: dict[str, Any]) -> str:
    module = f" [{site['module']}]" if site["module"] else ""
    return printable(f"{site['site']}{module} ({site['cache']})")


def _caches(data: dict[str, Any], console: Console) -> None:
    wide = console.width >= _WIDE
    flows, caches = _FLOWS * wide, data["caches"]
    rows = []
    for each in caches[:_SHOWN]:
        held = "unknown" if each["held"] is None else number(each["held"])
        grown = "" if each["grown"] is None else number(each["grown"])
        rows.append((printable(each["cache"]), *(number(each[name]) for name in flows), held, grown, each["grade"]))
    if rest := caches[_SHOWN:]:
        sums = (number(sum(each[name] or 0 for each in rest)) for name in (*flows, "held"))
        rows.append((f"{number(len(rest))} more", *sums, "", ""))
    console.print()
    show_table(("cache", *flows, "held", "kernel's own", "grade"), rows, console, words=1)
    console.print(Text("grade: A right, B nearly, C about right, D unknown; unseen: released without an event", "dim"))


def _memory(data: dict[str, Any], console: Console) -> None:
    console.print()
    if not data["memory"]:
        console.print(Text("what the kernel itself says of its memory is known of `live` only", "dim"))
        return
    names = ("bytes", "bytes_grown", "bytes_held", "bytes_not_seen")
    rows = [(each["field"], *(size(each[name]) for name in names)) for each in data["memory"]]
    show_table(("/proc/meminfo", "now", "grown", "held", "not seen"), rows, console, words=1)
    console.print(Text("not seen: asked for by nobody seen here; negative where older memory was released", "dim"))
