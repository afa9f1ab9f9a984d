"""What kmwatch said, held against what it must say; each difference is one line."""

from collections.abc import Iterable, Iterator
from typing import Any

from kmwatch.findings import Found
from kmwatch.schema import Kind
from tests.guest import expected
from tests.guest.rows import Row


def sums_differ(wanted: expected.Sum, found: Iterable[dict[str, Any]], row: Row, did: dict[str, Any]) -> Iterator[str]:
    """What is wrong with the sites of a report that are those of one function and kind."""
    found, at = list(found), wanted.symbol

    def total(*names: str) -> int:
        return sum(site[name] for site in found for name in names)

    yield from differs(f"count at {at}", total("count"), wanted.count)
    yield from differs(f"failures at {at}", total("failures", "opportunistic_failures"), wanted.failures)
    yield from differs(f"bytes requested at {at}", total("bytes_requested"), wanted.requested)
    yield from differs(f"bytes allocated at {at}", total("bytes_allocated"), wanted.allocated)
    for site in found:
        yield from differs(f"module at {at}", site["module"], "kmwatch_lab")
        yield from differs(f"context at {at}", expected.plain_context(site["context"]), expected.context(row, did))
        yield from _flags_differ(wanted, site, row)
        if wanted.kind == Kind.CACHE_ALLOC and site["cache"] is not None:
            yield from differs(f"cache at {at}", site["cache"], expected.cache_name(row))


def _flags_differ(wanted: expected.Sum, site: dict[str, Any], row: Row) -> Iterator[str]:
    """The mask and, where only that of the row is right, its words too."""
    if int(site["gfp_mask"], 0) not in wanted.gfps:
        yield f"gfp at {wanted.symbol}: {site['gfp_mask']}, not {' or '.join(map(hex, sorted(wanted.gfps)))}"
    elif len(wanted.gfps) == 1 and wanted.gfps != {0}:
        words = {*row.gfp.split("|"), *expected.ADDED.get(row.op, "").split()}
        yield from differs(f"gfp at {wanted.symbol}", sorted(site["gfp"].split("|")), sorted(words))


def findings_differ(row: Row, did: dict[str, Any], judged: Iterable[Found]) -> Iterator[str]:
    """KM201 for each function of the row or for none, and for nothing else."""
    own = [f"lab_{row.op}"] + ["lab_krealloc_first"] * (row.op == "krealloc")
    found = [each.finding for each in judged if each.rule.code == "KM201"]
    named = {finding.site.partition("+")[0].partition(" ")[0] for finding in found}
    yield from differs("KM201", sorted(named), own if expected.sleeps_in_atomic(row, did) else [])


def differs(what: str, found: object, wanted: object) -> Iterator[str]:
    """A line where two values are not equal."""
    if found != wanted:
        yield f"{what}: {found}, not {wanted}"
