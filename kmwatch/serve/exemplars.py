"""The latest failure that a series counts, as its exemplar: who asked, for how much, and when."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from kmwatch import contexts
from kmwatch.batch import Meta
from kmwatch.failures import MOST_IN_NAME, Failure
from kmwatch.kernel.symbols import Site
from kmwatch.metrics import EXEMPLAR_LABELS, METRICS
from kmwatch.serve.cells import OTHER, Labels, clean
from kmwatch.serve.counters import OUTCOMES
from kmwatch.serve.snapshot import Exemplar, Family

MOST_CHARACTERS = 128
"""Of an exemplar's names and values together, as OpenMetrics has it."""

_CONTIGUOUS = ("kmalloc", "page_alloc")  # the counters have no order of a cache's slabs
_Known = list[tuple[dict[str, str], float]]


def with_exemplars(families: Mapping[str, Family], meta: Meta) -> dict[str, Family]:
    """The families, and exemplars in those of which the table says that they have some.

    The rest has none, as it is nobody's. A failure from before a series began is not counted in it.
    """
    known = list(_told(meta))
    shown = {name: _of_family(name, family, known) for name, family in families.items() if METRICS[name].exemplars}
    return {**families, **shown}


def _of_family(name: str, family: Family, known: _Known) -> Family:
    names = METRICS[name].labels
    begun = dict(zip(family.labels, family.created, strict=True))
    found: dict[Labels, Exemplar] = {}
    for told, at in known:
        labels = tuple(told[label] for label in names)
        if at >= begun.get(labels, at + 1) and not ("site" in names and (told["site"], told["module"]) == (OTHER, "")):
            found[labels] = Exemplar(_fitted(told, names), round(at, 3))  # Prometheus keeps milliseconds
    return replace(family, exemplars=found)


def _told(meta: Meta) -> Iterator[tuple[dict[str, str], float]]:
    """What labels can say of each failure, and its time in seconds since the epoch; the newest last."""
    seen = [each for each in meta.failures if each.taken == "program" and not each.elsewhere]
    asked = {each.site for each in seen}
    sites = {label: site for site in meta.sites if (label := site.label[:MOST_IN_NAME]) in asked}
    for failure in sorted(seen, key=lambda each: each.seconds):
        if failure.site in sites:
            yield _words(failure, sites[failure.site], meta), meta.start + failure.seconds


def _words(failure: Failure, site: Site, meta: Meta) -> dict[str, str]:
    return {
        "kind": failure.event,
        "outcome": OUTCOMES[meta.gfp.opportunistic(failure.gfp)],
        "site": clean(site.symbol),
        "module": clean(site.module),
        "order": str(failure.order if failure.event in _CONTIGUOUS else 0),
        "context": contexts.name(failure.context),
        "bytes": str(failure.size or failure.object_size or failure.page_size << failure.order),
        "comm": clean(failure.comm),
    }


def _fitted(told: dict[str, str], names: tuple[str, ...]) -> dict[str, str]:
    """The labels of an exemplar: what the series does not tell, as far as there is room.

    No double quotes: some readers, prometheus-client among them, take an escaped one in an exemplar for the end.
    """
    made, left = {}, MOST_CHARACTERS
    for name in EXEMPLAR_LABELS:
        value = told[name].replace('"', "'")[: max(left - len(name), 0)]
        if value and name not in names:
            made[name] = value
            left -= len(name) + len(value)
    return made
