"""Which failure is whose exemplar, and what it says."""

from typing import Any

import pytest

from kmwatch.batch import Cache, Meta
from kmwatch.failures import Failure
from kmwatch.kernel.symbols import Site
from kmwatch.metrics import EXEMPLAR_LABELS, METRICS
from kmwatch.schema import Via
from kmwatch.serve.counters import Counters, Limits
from kmwatch.serve.exemplars import MOST_CHARACTERS, with_exemplars
from kmwatch.serve.snapshot import Exemplar, Family
from tests.unit import rows
from tests.unit.counted import START

KERNEL = rows.TABLE.encode("GFP_KERNEL")
BY_SITE, TOTAL = "site_failures_total", "failures_total"


def pages(seconds: float, site: str = "f+0x1 [m]", **changes: Any) -> Failure:
    """Three pages' order failed in a process, `seconds` after the start."""
    known = {"kind": "page", "order": 2, "gfp": KERNEL, "comm": "cat", "pid": 7, "event": "page_alloc"}
    return Failure(**{**known, "taken": "program", "seconds": seconds, "site": site, **changes})


def shown(meta: Meta, *asked: rows.Row, limits: Limits | None = None) -> dict[str, Family]:
    """The families after a batch of these rows, of five seconds from the start."""
    counters = Counters(meta, START, limits)
    counters.add(rows.batch(meta, *asked, start=START, seconds=5.0))
    return with_exemplars(counters.families(), meta)


def failed(site: str = "f+0x1 [m]", order: int = 2, **columns: Any) -> rows.Row:
    """A failure of pages, as the kernel's ledger counts it."""
    return rows.pages(site, order, failed=1, **columns)


def test_the_latest_of_each_series_is_shown_with_its_time() -> None:
    told = [pages(3.0, comm="new"), pages(1.0, comm="old"), pages(2.0, "g+0x1", order=0)]
    families = shown(rows.meta(start=START, failures=told), failed(), failed("g+0x1", 0))

    assert families[BY_SITE].exemplars == {
        ("f", "m", "page_alloc", "2", "process", "real"): Exemplar({"bytes": "16384", "comm": "new"}, START + 3),
        ("g", "", "page_alloc", "0", "process", "real"): Exemplar({"bytes": "4096", "comm": "cat"}, START + 2),
    }
    latest = Exemplar({"bytes": "16384", "order": "2", "comm": "new", "site": "f"}, START + 3)
    assert families[TOTAL].exemplars == {("page_alloc", "real"): latest}
    assert list(families[TOTAL].exemplars[("page_alloc", "real")].labels) == list(EXEMPLAR_LABELS)


def test_it_is_in_those_families_of_which_the_table_says_so() -> None:
    families = shown(rows.meta(start=START, failures=[pages(1.0)]), failed())

    assert {name for name, family in families.items() if family.exemplars} == {BY_SITE, TOTAL}
    assert {metric.name for metric in METRICS.values() if metric.exemplars} == {BY_SITE, TOTAL}


@pytest.mark.parametrize(
    ("row", "failure", "told"),
    [
        (
            rows.object_of(Cache("dentry", 190, 9000), "f+0x1", failed=1),
            pages(1.0, "f+0x1", kind="slab", event="cache_alloc", cache="dentry", object_size=190),
            {"bytes": "190", "comm": "cat"},
        ),
        (
            rows.kmalloc("f+0x1", 100_000, failed=1, gfp="GFP_NOWAIT|__GFP_NORETRY|__GFP_NOWARN"),
            pages(
                1.0, "f+0x1", order=5, event="kmalloc", gfp=rows.TABLE.encode("GFP_NOWAIT|__GFP_NORETRY|__GFP_NOWARN")
            ),
            {"bytes": "131072", "comm": "cat"},
        ),
        (
            rows.area("f+0x1", 70_000, failed=1, gfp=0),
            pages(1.0, "f+0x1", kind="vmalloc", order=0, event="vmalloc", size=70_000),
            {"bytes": "70000", "comm": "cat"},
        ),
        (
            rows.percpu("f+0x1", 64, failed=1, context=8),
            pages(1.0, "f+0x1", kind="percpu", order=0, event="percpu_alloc", size=64, context=8, comm=""),
            {"bytes": "64"},
        ),
    ],
    ids=["cache", "large-opportunistic", "area", "interrupt"],
)
def test_a_failure_of_each_kind_finds_its_series(row: rows.Row, failure: Failure, told: dict[str, str]) -> None:
    families = shown(rows.meta(start=START, failures=[failure]), row)

    assert [dict(each.labels) for each in families[BY_SITE].exemplars.values()] == [told]
    assert len(families[TOTAL].exemplars) == 1


@pytest.mark.parametrize(
    "told",
    [
        pages(-0.001),  # before the series began
        pages(1.0, taken="log", event=""),
        pages(1.0, elsewhere=True),
        pages(1.0, "unheard+0x1"),
    ],
    ids=["early", "logged", "elsewhere", "unknown"],
)
def test_what_a_series_does_not_count_is_not_its_exemplar(told: Failure) -> None:
    families = shown(rows.meta(start=START, failures=[told]), failed(), failed(via=Via.SLAB))

    assert families[BY_SITE].exemplars == families[TOTAL].exemplars == {}


def test_the_rest_has_none_nor_who_is_called_like_it() -> None:
    told = [pages(1.0), pages(2.0, "other+0x1")]
    families = shown(
        rows.meta(start=START, failures=told),
        failed(count=1),
        failed("other+0x1"),
        failed("g+0x1", count=9),
        limits=Limits(top=0),
    )

    assert {labels[0] for labels in families[BY_SITE].labels} == {"other"}
    assert families[BY_SITE].exemplars == {}
    assert len(families[TOTAL].exemplars) == 1


@pytest.mark.parametrize("comm", ["\\xff" * 15, "c" * 256, "\x1b[2J\n", "\ud800" * 15])
@pytest.mark.parametrize("symbol", ["f" * 512, "\u2028f"])
def test_hostile_names_are_cleaned_and_fit(comm: str, symbol: str) -> None:
    meta = rows.meta(start=START, sites=[Site(f"{symbol}+0x1", symbol, "m")])
    meta.failures.append(pages(1.0, meta.sites[0].label[:200], comm=comm))
    families = shown(meta, failed(f"{symbol}+0x1 [m]"))

    (by_site,), (total,) = families[BY_SITE].exemplars.values(), families[TOTAL].exemplars.values()
    for each in (by_site, total):
        assert sum(len(name) + len(value) for name, value in each.labels.items()) <= MOST_CHARACTERS
        assert all(value.isprintable() for value in each.labels.values())
        assert each.labels["bytes"] == "16384"
        assert each.labels["comm"][0] in "\\c\N{REPLACEMENT CHARACTER}"
