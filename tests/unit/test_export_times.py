"""Perfetto and OpenMetrics: each as its own readers understand it, with the ledger's sums over all slices."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from google.protobuf import unknown_fields as unknown
from google.protobuf.message import Message
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import BuiltinClock, Trace, TrackEvent
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from kmwatch.kernel.symbols import Site
from kmwatch.ledger import Ledger
from kmwatch.metrics import METRICS
from kmwatch.schema import Via
from kmwatch.views.export import openmetrics, perfetto
from kmwatch.views.export.slices import slices
from tests.unit import rows
from tests.unit.exports import START, exported, findings, hostile

LEDGERS = pytest.mark.parametrize("made", [exported, hostile])
Samples = dict[tuple[tuple[str, str], ...], list[tuple[float, float]]]


def unknown_fields(message: Message) -> list[str]:
    """Fields that its description does not have, in it and in all below."""
    found = [f"{message.DESCRIPTOR.name} {each.field_number}" for each in unknown.UnknownFieldSet(message)]
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            found += [each for below in (value if field.is_repeated else [value]) for each in unknown_fields(below)]
    return found


def trace_of(ledger: Ledger) -> Trace:
    """The trace, read by the library with Perfetto's own description."""
    read = Trace.FromString(perfetto.render(perfetto.build(ledger, findings())))
    assert unknown_fields(read) == []
    return read


def tracks(read: Trace) -> dict[int, Any]:
    return {
        each.track_descriptor.uuid: each.track_descriptor for each in read.packet if each.HasField("track_descriptor")
    }


def events(read: Trace, name: str) -> Iterator[tuple[float, TrackEvent]]:
    """Events of the tracks of this name, with their seconds since the start."""
    told = {uuid: each.name or each.thread.thread_name for uuid, each in tracks(read).items()}
    for each in read.packet:
        if each.HasField("track_event") and told[each.track_event.track_uuid] == name:
            yield each.timestamp / 1e9 - START, each.track_event


def notes(event: TrackEvent) -> dict[str, Any]:
    return {each.name: getattr(each, each.WhichOneof("value")) for each in event.debug_annotations}


@LEDGERS
def test_every_event_is_on_a_track_of_its_kind(made: Callable[[], Ledger]) -> None:
    read = trace_of(made())
    known = tracks(read)
    assert all(each.parent_uuid in {0, *known} for each in known.values())
    assert {each.trusted_packet_sequence_id for each in read.packet} == {1}
    for each in read.packet:
        if each.HasField("track_event"):
            event = each.track_event
            assert known[event.track_uuid].HasField("counter") == (event.type == TrackEvent.TYPE_COUNTER)
            assert event.HasField("double_counter_value") == (event.type == TrackEvent.TYPE_COUNTER)
    texts = [each.name for each in known.values()] + [each.thread.thread_name for each in known.values()]
    assert all(each.isprintable() for each in texts)


@pytest.mark.parametrize("ledger", [exported(), hostile(), exported(2.0)], ids=["plain", "hostile", "short"])
def test_counters_add_up_to_the_ledger(ledger: Ledger) -> None:
    """Also where the last slice is shorter than the others."""
    read = trace_of(ledger)
    lengths = [each.seconds for each in slices(ledger)]
    assert sum(lengths) == ledger.seconds
    for name, total in vars(ledger.totals()).items():
        shown = list(events(read, name.replace("_", " ")))
        amounts = [event.double_counter_value * length for (_, event), length in zip(shown, lengths, strict=True)]
        assert round(sum(amounts)) == total
        assert [round(at, 3) for at, _ in shown] == ([0, 2] if len(lengths) == 2 else [0, 1, 2])
    kinds = [name for name in ("kmalloc", "cache_alloc", "page_alloc", "vmalloc") if list(events(read, name))]
    by_kind = sum(
        event.double_counter_value * length
        for name in kinds
        for (_, event), length in zip(events(read, name), lengths, strict=True)
    )
    assert round(by_kind) == ledger.totals().bytes_allocated


def test_a_kind_that_is_counted_elsewhere_has_no_counter() -> None:
    read = trace_of(rows.ledger(rows.pages("new_slab+0x2", via=Via.SLAB), rows.kmalloc("f+0x1", 8)))
    assert (len(list(events(read, "kmalloc"))), list(events(read, "page_alloc"))) == (1, [])


def test_failures_stand_where_they_happened_and_findings_at_the_end() -> None:
    read = trace_of(exported())
    ((at, failed),) = events(read, "dd")
    assert (round(at, 6), failed.type, failed.name) == (1.5, TrackEvent.TYPE_INSTANT, "kmalloc failed")
    assert (notes(failed)["site"], notes(failed)["pid"]) == ("f+0x1 [nvme]", 77)
    ((at, of_log),) = events(read, "failed allocations")
    assert (round(at, 6), notes(of_log)["order"]) == (2.0, 2)
    (first, second) = events(read, "findings")
    assert (round(first[0], 6), first[1].name) == (3.0, "KM201 sleeping-allocation-in-atomic-context")
    assert notes(first[1])["evidence"] == '{"count": 7, "list": [1, 2]}'
    assert notes(first[1])["saving_bytes_per_second"] == 2.5
    assert notes(second[1])["message"].isprintable()
    assert [each.thread.tid for each in tracks(read).values() if each.HasField("thread")] == [77]


def test_free_pages_are_shown_where_they_are_known() -> None:
    read = trace_of(exported())
    free = [(round(at, 6), event.double_counter_value) for at, event in events(read, "free pages, node 0 Normal")]
    assert free == [(1.5, 1234), (3, 1234)]


def test_what_was_watched_is_a_slice_of_all_the_time_by_the_clock_of_the_day() -> None:
    read = trace_of(exported())
    (begin, first), (end, last) = events(read, "watched")
    assert (round(begin, 6), first.type, round(end, 6), last.type) == (0, 1, 3, 2)
    assert notes(first)["lost"] == 5
    (clocks,) = (each.clock_snapshot.clocks for each in read.packet if each.HasField("clock_snapshot"))
    assert {each.clock_id: each.timestamp for each in clocks} == dict.fromkeys(
        (BuiltinClock.BUILTIN_CLOCK_BOOTTIME, BuiltinClock.BUILTIN_CLOCK_REALTIME), START * 1e9
    )
    (about,) = (each.system_info for each in read.packet if each.HasField("system_info"))
    assert (about.utsname.release, about.num_cpus) == ("6.18.0", 4)


def test_a_failure_of_another_time_is_left_out() -> None:
    ledger = exported()
    ledger.start += 100
    assert list(events(trace_of(ledger), "dd")) == []


def test_without_a_timeline_all_is_one_slice() -> None:
    ledger = exported()
    ledger.timeline = None
    ((_, event),) = events(trace_of(ledger), "frees")
    assert event.double_counter_value == 0
    ((_, event),) = events(trace_of(ledger), "allocations")
    assert round(event.double_counter_value * 3) == ledger.totals().allocations


def history(ledger: Ledger) -> dict[str, Samples]:
    """Values by metric and labels, with their seconds since the start, as prometheus-client's own parser reads them."""
    text = openmetrics.render(openmetrics.build(ledger, findings())).decode()
    assert text.endswith("# EOF\n")
    made: dict[str, Samples] = {}
    for family in text_string_to_metric_families(text):
        series: Samples = defaultdict(list)
        for each in family.samples:
            key = tuple(sorted((name, value) for name, value in each.labels.items()))
            series[key].append((round(float(each.timestamp) - START, 3), each.value))
        made[family.name] = dict(series)
    return made


@LEDGERS
def test_a_history_has_the_metrics_of_serve_and_the_sums_of_the_ledger(made: Callable[[], Ledger]) -> None:
    ledger = made()
    read, totals = history(ledger), ledger.totals()
    assert set(read) <= {metric.family for metric in METRICS.values()}
    for name, total in (
        ("allocations", totals.allocations),
        ("allocated_bytes", totals.bytes_allocated),
        ("requested_bytes", totals.bytes_requested),
        ("wasted_bytes", totals.bytes_wasted),
        ("failures", totals.failures + totals.opportunistic_failures),
        ("events", ledger.events()),
    ):
        assert sum(series[-1][1] for series in read[f"kmwatch_{name}"].values()) == total
        if f"kmwatch_site_{name}" in read:
            assert sum(series[-1][1] for series in read[f"kmwatch_site_{name}"].values()) == total


@LEDGERS
def test_counters_begin_at_nothing_and_never_go_back(made: Callable[[], Ledger]) -> None:
    types = {metric.family: metric.type for metric in METRICS.values()}
    for name, series in history(made()).items():
        for samples in series.values():
            assert all(before[0] < after[0] for before, after in pairwise(samples))
            if types[name] == "counter":
                assert [at for at, _ in samples] == [0, 1, 2, 3]
                assert samples[0][1] == 0
                assert all(before[1] <= after[1] for before, after in pairwise(samples))


def test_a_site_is_counted_from_its_first_slice_on() -> None:
    ledger = exported()
    (of_f,) = (each for each in history(ledger)["kmwatch_site_allocations"].items() if ("site", "f") in each[0])
    assert of_f[0] == (("instance", "box"), ("job", "kmwatch"), ("kind", "kmalloc"), ("module", "nvme"), ("site", "f"))
    assert of_f[1] == [(0, 0), (1, 101), (2, 203), (3, 306)]


def test_labels_steer_no_terminal() -> None:
    text = openmetrics.render(openmetrics.build(hostile(), findings())).decode()
    assert all(line.isprintable() for line in text.removesuffix("\n").split("\n"))
    assert "</script>" in text


def test_gauges_are_there_when_they_are_known() -> None:
    read = history(exported())
    assert list(read["kmwatch_findings"].values()) == [[(3, 2)]]
    assert sorted(samples[0] for samples in read["kmwatch_free_blocks"].values()) == [(3, 4), (3, 5)]
    (built,) = read["kmwatch_build_info"].values()
    assert built == [(at, 1) for at in range(4)]
    lost = read["kmwatch_events_lost"]
    assert {samples[-1] for key, samples in lost.items() if ("reason", "lost") in key} == {(3, 5)}


def test_a_site_that_is_called_as_the_rest_is_no_series_twice() -> None:
    ledger = exported()
    ledger.meta.sites[1] = Site("other+0x1", "other", "")
    sites = history(ledger)["kmwatch_site_allocations"]
    assert sum(samples[-1][1] for samples in sites.values()) == ledger.totals().allocations
