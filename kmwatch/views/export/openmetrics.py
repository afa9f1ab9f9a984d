"""OpenMetrics: what a Prometheus would have scraped of `kmwatch serve` in the time of a ledger, as text to import."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.core import Metric as LibraryFamily
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.registry import Collector

from kmwatch import __version__
from kmwatch.batch import Batch, Trust
from kmwatch.findings import Found
from kmwatch.ledger import Ledger
from kmwatch.metrics import METRICS, Metric
from kmwatch.schema import Kind
from kmwatch.serve.assembly import memory
from kmwatch.serve.cells import Labels, clean
from kmwatch.serve.counters import Counters, Limits
from kmwatch.serve.snapshot import Family, Snapshot
from kmwatch.views.export.slices import slices

JOB = "kmwatch"
_SCRAPED = ("job", "instance")


@dataclass(frozen=True)
class History:
    """Snapshots of one host, the oldest first."""

    instance: str
    snapshots: list[Snapshot]


def build(ledger: Ledger, findings: Sequence[Found]) -> History:
    """What there was to scrape at the start, when all counters were 0, and after each slice.

    Doubts are not known by slice, and come with the last; findings and free memory are known at the end only.
    """
    kinds = {Kind(int(kind)) for kind in set(ledger.rows["kind"].tolist())}
    counters = Counters(ledger.meta, ledger.start, Limits(idle=inf, at_once=True), kinds)
    parts, made = list(slices(ledger)), [Snapshot(ledger.start, _constant(ledger))]
    for at, part in enumerate(parts, 1):
        last = at == len(parts)
        counters.add(Batch(part.rows, part.start, part.seconds, ledger.trust if last else Trust()))
        families = counters.families() | _constant(ledger)
        if last:
            families |= memory(ledger.meta) | {"findings": _findings(findings)}
        made.append(Snapshot(part.start + part.seconds, families))
    return History(clean(ledger.meta.host.hostname), made)


def _constant(ledger: Ledger) -> dict[str, Family]:
    return {
        "start_time_seconds": Family(((),), (ledger.start,)),
        "build_info": Family(((__version__, clean(ledger.meta.host.kernel)),), (1,)),
    }


def _findings(findings: Sequence[Found]) -> Family:
    counts = Counter((each.rule.code, each.rule.name, each.severity) for each in findings)
    return Family(tuple(counts), tuple(counts.values()))


def render(data: History) -> bytes:
    """The text: the samples of a series side by side, each with its time in seconds since the epoch, to the ms.

    The labels `job` and `instance` are those that Prometheus adds when it scrapes: by them the dashboards choose.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Scraped(data))
    return bytes(generate_latest(registry))  # type: ignore[no-untyped-call]


@dataclass(eq=False)  # a registry wants it hashable
class _Scraped(Collector):
    """The families of all snapshots, those without any series left out."""

    history: History

    def collect(self) -> Iterator[LibraryFamily]:
        for metric in METRICS.values():
            shown = [(round(each.at, 3), _series(each, metric.name)) for each in self.history.snapshots]
            labels = dict.fromkeys(each for _, series in shown for each in series)
            if labels:
                yield _family(metric, (JOB, self.history.instance), list(labels), shown)


def _series(snapshot: Snapshot, name: str) -> dict[Labels, float]:
    family = snapshot.families.get(name)
    return dict(zip(family.labels, family.values, strict=True)) if family else {}


def _family(
    metric: Metric, scraped: Labels, labels: list[Labels], shown: list[tuple[float, dict[Labels, float]]]
) -> CounterMetricFamily | GaugeMetricFamily:
    """A counter is 0 before it is first seen; a gauge is not there."""
    counts = metric.type == "counter"
    made = (CounterMetricFamily if counts else GaugeMetricFamily)(
        metric.full, metric.help, labels=(*_SCRAPED, *metric.labels), unit=metric.unit
    )
    for each in labels:
        for at, series in shown:
            value = series.get(each, 0 if counts else None)
            if value is not None:
                made.add_metric((*scraped, *each), value, timestamp=at)
    return made
