"""Prometheus: a snapshot as families of prometheus-client, and as text. It decides nothing, and never meets the kernel.

The library writes text at some 10 µs a line, a second for ten thousand sites. So the text is written here, each label
once for all metrics that share it, and once for all who scrape the same snapshot; the tests hold it against what the
library writes of the same families.
"""

from collections.abc import Callable, Iterator

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.core import (
    Metric as LibraryFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector as LibraryCollector
from prometheus_client.samples import Exemplar as LibraryExemplar

from kmwatch.metrics import METRICS, Metric
from kmwatch.serve.cells import Labels
from kmwatch.serve.snapshot import SCRAPE_BOUNDS, Exemplar, Family, Histogram, Snapshot

_NONE = Family((), ())


class Collector(LibraryCollector):
    """A custom collector of the library: shows the snapshot that `current` gives.

    Its families are exactly the table of kmwatch.metrics, also those without any series.
    """

    def __init__(self, current: Callable[[], Snapshot]) -> None:
        self._current = current

    def collect(self) -> Iterator[LibraryFamily]:
        """The families, each with its series."""
        snapshot = self._current()
        for metric in METRICS.values():
            yield _family(metric, snapshot)

    def describe(self) -> Iterator[LibraryFamily]:
        """The families alone: a registry asks for them when the collector enters it."""
        empty = Snapshot(0.0, {})
        return (_family(metric, empty) for metric in METRICS.values())


def _family(metric: Metric, snapshot: Snapshot) -> LibraryFamily:
    """The library's form of one metric."""
    if metric.type == "histogram":
        buckets, total = _buckets(snapshot.scrapes), snapshot.scrapes.seconds
        return HistogramMetricFamily(metric.full, metric.help, buckets=buckets, sum_value=total, unit=metric.unit)
    family, found = snapshot.families.get(metric.name, _NONE), None
    if metric.type == "counter":
        found = CounterMetricFamily(metric.full, metric.help, labels=metric.labels, unit=metric.unit)
        for labels, value, created in zip(family.labels, family.values, family.created, strict=True):
            shown = family.exemplars.get(labels)
            exemplar = LibraryExemplar(dict(shown.labels), 1, shown.at) if shown else None
            found.add_metric(labels, value, created=created, exemplar=exemplar)
        return found
    gauge = GaugeMetricFamily(metric.full, metric.help, labels=metric.labels, unit=metric.unit)
    for labels, value in zip(family.labels, family.values, strict=True):
        gauge.add_metric(labels, value)
    return gauge


def _buckets(scrapes: Histogram) -> list[tuple[str, float]]:
    bounds = [str(bound) for bound in SCRAPE_BOUNDS]
    return [*zip(bounds, map(float, scrapes.at_most), strict=True), ("+Inf", float(scrapes.count))]


class Exposition:
    """The latest snapshot as text, for any number of scrapers; `publish` and `render` may run in different threads."""

    def __init__(self) -> None:
        self._latest: tuple[Snapshot, dict[bool, bytes]] = (Snapshot(0.0, {}), {})

    @property
    def snapshot(self) -> Snapshot:
        """What is shown now."""
        return self._latest[0]

    def publish(self, snapshot: Snapshot) -> None:
        """Show this one from now on."""
        self._latest = snapshot, {}

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The text in the form that an Accept header asks for, and its Content-Type."""
        content_type = choose_encoder(accept)[1]
        openmetrics = content_type.startswith("application/openmetrics-text")
        snapshot, texts = self._latest
        if openmetrics not in texts:
            texts[openmetrics] = text(snapshot, openmetrics=openmetrics)
        return texts[openmetrics], content_type


def text(snapshot: Snapshot, *, openmetrics: bool) -> bytes:
    """The snapshot in the OpenMetrics format, or in Prometheus's own, which has no place for when a counter began."""
    parts: list[str] = []
    labelled: dict[tuple[int, tuple[str, ...]], list[str]] = {}
    for metric in METRICS.values():
        parts.append(_head(metric, openmetrics=openmetrics))
        if metric.type == "histogram":
            parts.append(_histogram(metric, snapshot.scrapes))
            continue
        family = snapshot.families.get(metric.name, _NONE)
        # Metrics of one table share the tuple of their labels.
        shown = labelled.setdefault((id(family.labels), metric.labels), [])
        if not shown:
            shown += [_braced(metric.labels, labels) for labels in family.labels]
        name, created = metric.full, f"{metric.family}_created"
        if openmetrics and metric.type == "counter":  # what belongs to one series stands together
            ends = [_exemplar(family.exemplars.get(labels)) for labels in family.labels]
            lines = zip(shown, family.values, ends, family.created, strict=True)
            parts += [f"{name}{each} {value}{end}\n{created}{each} {began}\n" for each, value, end, began in lines]
        else:
            parts += [f"{name}{each} {value}\n" for each, value in zip(shown, family.values, strict=True)]
    return "".join([*parts, "# EOF\n" if openmetrics else ""]).encode()


def _head(metric: Metric, *, openmetrics: bool) -> str:
    name = metric.family if openmetrics else metric.full
    unit = f"# UNIT {name} {metric.unit}\n" if openmetrics and metric.unit else ""
    return f"# HELP {name} {_escaped(metric.help, quotes=openmetrics)}\n# TYPE {name} {metric.type}\n{unit}"


def _histogram(metric: Metric, scrapes: Histogram) -> str:
    lines = [f'{metric.full}_bucket{{le="{bound}"}} {count}\n' for bound, count in _buckets(scrapes)]
    return "".join([*lines, f"{metric.full}_count {scrapes.count}\n{metric.full}_sum {scrapes.seconds}\n"])


def _exemplar(shown: Exemplar | None) -> str:
    return f" # {_braced(tuple(shown.labels), tuple(shown.labels.values()))} 1 {shown.at}" if shown else ""


def _braced(names: tuple[str, ...], labels: Labels) -> str:
    pairs = ",".join(f'{name}="{_escaped(value)}"' for name, value in zip(names, labels, strict=True))
    return f"{{{pairs}}}" if pairs else ""


def _escaped(value: str, *, quotes: bool = True) -> str:
    plain = value.replace("\\", r"\\").replace("\n", r"\n")
    return plain.replace('"', r"\"") if quotes else plain
