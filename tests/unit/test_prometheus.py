"""What a scrape gets: valid in both formats whatever the kernel's names are, and what the library would write."""

import time
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client import parser as prometheus_parser
from prometheus_client.core import Metric as LibraryFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.samples import Sample as LibrarySample

from kmwatch.batch import Cache
from kmwatch.failures import Failure, ZoneState
from kmwatch.kernel.symbols import Site
from kmwatch.metrics import GROUPS, LABELS, METRICS
from kmwatch.schema import Kind
from kmwatch.serve.assembly import assemble
from kmwatch.serve.counters import Counters, Limits
from kmwatch.serve.holding import Holding
from kmwatch.serve.snapshot import SCRAPE_BOUNDS, Histogram, Own, Snapshot
from kmwatch.serve.window import Window
from kmwatch.views.prometheus import Collector, Exposition, text
from tests.unit import rows
from tests.unit.counted import START, kmallocs, known
from tests.unit.holding import held, of

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
PARSERS: dict[bool, Callable[[str], Iterable[LibraryFamily]]] = {
    False: prometheus_parser.text_string_to_metric_families,
    True: openmetrics_parser.text_string_to_metric_families,
}
HAVING = {metric.family for metric in METRICS.values() if metric.exemplars}
Shown = tuple[tuple[tuple[str, str], ...], float, float]
Sample = tuple[str, tuple[tuple[str, str], ...], float, Shown | None]


def snapshot(*sites: Site, caches: tuple[str, ...] = (), comm: str = "cat") -> Snapshot:
    """A snapshot with something in every family: each site and cache is seen twice, so that it enters."""
    meta = rows.meta(start=START)
    meta.sites += sites
    meta.caches += [Cache(name, 100, 128) for name in caches]
    seen = rows.rows_of(
        meta,
        *(rows.kmalloc("f+0x1", 20000, gfp="GFP_ATOMIC", failed=failed, count=7) for failed in (0, 1)),
        rows.kmalloc("f+0x1", 100, context=8),
        rows.pages("f+0x1", 3, zone=2, migratetype=1, count=3),
        *(rows.row(kind) for kind in Kind if kind.name in ("EXTFRAG", "DIRECT_RECLAIM", "COMPACTION", "OOM_VICTIM")),
        *(rows.kmalloc("x+0x1", 100, count=5) for _ in sites),
        *(rows.object_of(Cache("x", 1, 1), "f+0x1", count=5) for _ in caches),
    )
    seen["site"][len(seen) - len(sites) - len(caches) : len(seen) - len(caches)] = np.arange(1, len(sites) + 1)
    seen["cache"][len(seen) - len(caches) :] = np.arange(1, len(caches) + 1)
    counters, window, holding = Counters(meta, START, Limits(50)), Window(meta, 10.0), Holding(meta, 50)
    what = held(meta, *(of(rows.kmalloc(each.text, 100), held=1) for each in (Site("f+0x1", "f"), *sites)))
    for at in range(2):
        made = rows.batch(meta, start=START + 5 * at, seconds=5.0)
        counters.add(replace(made, rows=seen.copy()))
        window.add(replace(made, rows=seen.copy()))
        holding.add(replace(made, held=what))
    own = Own(3, 4, 0.5, {"ledger": 5}, {"ledger": 6}, 0.01, 0.02, 1, 1.0, 1 << 30, 2.5, Histogram().plus(0.002))
    asked = {"kind": "page", "order": 3, "gfp": rows.TABLE.encode("GFP_ATOMIC"), "event": "kmalloc"}
    meta.failures.append(Failure(**asked, comm=comm, seconds=6.25, site="f+0x1", taken="program"))
    meta.memory.append(ZoneState(0, "Normal", free=7, min=0, blocks=(3, 2)))
    return assemble(START + 10, meta, counters, holding, window, own)


def parsed(body: bytes, *, openmetrics: bool) -> dict[str, list[Sample]]:
    """Samples by the name of their family, without `_total`, and without when a counter began."""
    families = {}
    for family in PARSERS[openmetrics](body.decode()):
        families[family.name] = sorted(
            (each.name, tuple(sorted(each.labels.items())), float(each.value), _exemplar(each))
            for each in family.samples
            if not each.name.endswith("_created")
        )
    return families


def _exemplar(sample: LibrarySample) -> Shown | None:
    shown = sample.exemplar
    return (tuple(sorted(shown.labels.items())), shown.value, float(shown.timestamp or 0)) if shown else None


@pytest.mark.parametrize("openmetrics", [False, True])
def test_the_families_are_the_table(*, openmetrics: bool) -> None:
    families = parsed(text(snapshot(caches=("dentry",)), openmetrics=openmetrics), openmetrics=openmetrics)
    assert set(families) == {metric.family for metric in METRICS.values()}
    assert [name for name, samples in families.items() if not samples] == [], "this test is to see all of them"
    for metric in METRICS.values():
        if metric.type != "histogram":
            labels = {tuple(name for name, _ in sample[1]) for sample in families[metric.family]}
            assert labels == {tuple(sorted(metric.labels))}


@pytest.mark.parametrize("openmetrics", [False, True])
def test_the_text_is_what_the_library_writes(*, openmetrics: bool) -> None:
    registry, shown = CollectorRegistry(), snapshot(Site('"+0x1', 'a"\\b', "m"))
    registry.register(Collector(lambda: shown))
    encoder, _ = choose_encoder(OPENMETRICS if openmetrics else "")
    library = parsed(encoder(registry), openmetrics=openmetrics)
    ours = parsed(text(shown, openmetrics=openmetrics), openmetrics=openmetrics)
    if not openmetrics:  # there the library makes gauges of when counters began
        library = {name: samples for name, samples in library.items() if not name.endswith("_created")}
    assert ours == library

    def head(body: bytes) -> list[str]:
        lines = [line for line in body.decode().splitlines() if line.startswith("#")]
        return [line for line in lines if "_created" not in line]

    assert head(text(shown, openmetrics=openmetrics)) == head(encoder(registry))


def test_a_counter_tells_when_it_began() -> None:
    families = PARSERS[True](text(snapshot(), openmetrics=True).decode())
    sites = next(family for family in families if family.name == "kmwatch_site_allocations")
    began = {each.labels["site"]: each.value for each in sites.samples if each.name.endswith("_created")}
    assert began == {"other": START, "f": START + 5}
    assert b"_created" not in text(snapshot(), openmetrics=False)


def test_the_latest_failure_is_an_exemplar_in_openmetrics_alone() -> None:
    families = parsed(text(snapshot(comm='a"b'), openmetrics=True), openmetrics=True)
    shown = {name: [sample for sample in families[name] if sample[3]] for name in families}
    assert {name for name, found in shown.items() if found} == HAVING

    ((_, series, value, told),) = shown["kmwatch_site_failures"]
    assert (dict(series)["site"], dict(series)["order"], value) == ("f", "3", 14.0)
    assert told == ((("bytes", "32768"), ("comm", "a'b")), 1.0, START + 6.25)
    ((_, series, _, told),) = shown["kmwatch_failures"]
    assert dict(series) == {"kind": "kmalloc", "outcome": "real"}
    assert told == ((("bytes", "32768"), ("comm", "a'b"), ("order", "3"), ("site", "f")), 1.0, START + 6.25)

    without = replace(snapshot(), families={k: replace(v, exemplars={}) for k, v in snapshot().families.items()})
    assert text(snapshot(), openmetrics=False) == text(without, openmetrics=False)
    assert text(snapshot(), openmetrics=True) != text(without, openmetrics=True)


names = st.text(min_size=1, max_size=30) | st.sampled_from(
    ['"', "\\", "\n", "a\\nb", 'a"} 1\n# EOF', "\r", "x" * 10_000, "other", "{", "\x00", "\ud800", "é", "\u2028"]
)


@given(st.lists(st.tuples(names, names), max_size=8, unique=True), st.lists(names, max_size=8, unique=True), names)
@settings(max_examples=40, deadline=None)
def test_hostile_names_come_out_valid(sites: list[tuple[str, str]], caches: list[str], comm: str) -> None:
    """Whatever a module, a function, a cache or a command is called: both can be read, nothing is lost or forged."""
    given_sites = (Site(f"{name}+0x1", name, module) for name, module in sites)
    shown = snapshot(*given_sites, caches=tuple(caches), comm=comm)
    for openmetrics in (False, True):
        body = text(shown, openmetrics=openmetrics)
        families = parsed(body, openmetrics=openmetrics)
        for name, each in shown.families.items():
            metric = METRICS[name]
            told = {
                (metric.full, tuple(sorted(zip(metric.labels, labels, strict=True))), float(value))
                for labels, value in zip(each.labels, each.values, strict=True)
            }
            assert {sample[:3] for sample in families[metric.family]} == told
        kmalloc = [each for each in families["kmwatch_site_allocations"] if ("kind", "kmalloc") in each[1]]
        assert sum(value for _, _, value, _ in kmalloc) == 2 * (7 + 1 + 5 * len(sites))
        assert max(map(len, body.splitlines())) < 2000
        failed = [told for name in HAVING for *_, told in families[name] if told]
        assert len(failed) == (2 if openmetrics else 0)
        assert all(sum(map(len, sum(labels, ()))) <= 128 for labels, *_ in failed)


def test_a_scrape_of_ten_thousand_sites_takes_less_than_100_ms() -> None:
    """CPU time, as the machine may be busy; and all sites have series of their own, forty times the usual."""
    meta = known(10_000)
    counters = Counters(meta, START, Limits(10_000))
    for at in range(2):
        counters.add(kmallocs(np.arange(1, 20_001), np.arange(1, 20_001), at=START + 5 * at))
    shown = assemble(START, meta, counters, Holding(meta, 50), Window(meta, 300.0), Own())
    for openmetrics in (True, False):
        spent = []
        for _ in range(3):
            began = time.process_time()
            body = text(shown, openmetrics=openmetrics)
            spent.append(time.process_time() - began)
        assert body.count(b"\nkmwatch_site_wasted_bytes_total{") == 10_001
        assert min(spent) < 0.1


def test_a_text_is_made_once_and_the_format_is_negotiated() -> None:
    exposition = Exposition()
    assert exposition.render()[0].startswith(b"# HELP kmwatch_allocations_total ")  # before the first snapshot too
    exposition.publish(snapshot())
    body, kind = exposition.render(OPENMETRICS)
    assert kind.startswith("application/openmetrics-text; version=1.0.0")
    assert body.endswith(b"# EOF\n")
    assert exposition.render(OPENMETRICS)[0] is body
    plain, kind = exposition.render("text/html, */*;q=0.1")
    assert kind.startswith("text/plain; version=0.0.4")
    assert plain != body
    exposition.publish(replace(exposition.snapshot, at=START))
    assert exposition.render(OPENMETRICS)[0] is not body


def test_scrapes_are_put_in_buckets() -> None:
    made = Histogram()
    for seconds in (0.0005, SCRAPE_BOUNDS[0], 0.07, 100.0):
        made = made.plus(seconds)
    assert made.at_most == (2, 2, 2, 2, 2, 3, 3, 3)
    assert (made.count, round(made.seconds, 4)) == (4, 100.0715)


def test_the_table_keeps_to_what_prometheus_expects() -> None:
    """Its naming rules, as `promtool check metrics` has them; and every label is explained, and used."""
    listed = [metric for group in GROUPS.values() for metric in group]
    assert len(listed) == len(METRICS)
    for metric in listed:
        assert metric.name.endswith("_total") == (metric.type == "counter"), metric.name
        assert metric.family.endswith(f"_{metric.unit}" if metric.unit else ""), metric.name
        assert not metric.help.endswith(".")
    assert {label for metric in listed for label in metric.labels} == set(LABELS)
