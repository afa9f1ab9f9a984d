"""Allocations by one thing that they have in common: a site, a module, a command, a zone."""

from collections.abc import Callable
from typing import Any

import numpy as np

from kmwatch import contexts
from kmwatch.batch import NO_TASK, Meta
from kmwatch.ledger import MEASURES, Ledger

_NONE = "none"
_NAMES: dict[str, tuple[str, Callable[[Meta, int], str]]] = {
    "site": ("site", lambda meta, number: meta.sites[number].label),
    "module": ("site", lambda meta, number: meta.sites[number].module or "the kernel itself"),
    "cache": ("cache", lambda meta, number: meta.caches[number].name or _NONE),
    "gfp": ("gfp", lambda meta, number: meta.gfp.decode(number)),
    "zone": ("zone", lambda meta, number: meta.zones[number] if number < len(meta.zones) else _NONE),
    "context": ("context", lambda _, number: contexts.name(number)),
    "comm": ("task", lambda meta, number: meta.tasks.get(number, NO_TASK).comm),
    "cgroup": ("task", lambda meta, number: meta.tasks.get(number, NO_TASK).cgroup or "unknown"),
    "host": ("task", lambda meta, number: meta.tasks.get(number, NO_TASK).host or meta.host.hostname),
    "kernel": ("task", lambda meta, number: meta.tasks.get(number, NO_TASK).kernel or meta.host.kernel),
}
NAMES = tuple(_NAMES)
"""What allocations can be grouped by."""


def build(ledger: Ledger, dimension: str) -> list[dict[str, Any]]:
    """One row for each value: its name and MEASURES, each piece of memory counted once; most bytes allocated first."""
    column, name = _NAMES[dimension]
    numbers, back = np.unique(ledger.rows[column], return_inverse=True)
    named = [name(ledger.meta, number) for number in numbers.tolist()]
    labels, places = np.unique(np.array(named, object), return_inverse=True)
    by_row = places.ravel()[back.ravel()] if len(numbers) else np.zeros(0, np.intp)
    groups = ledger.groups(once=True, labels={"label": by_row})
    rows = [
        {"name": labels[int(group["label"])], **{measure: int(group[measure]) for measure in MEASURES}}
        for group in groups
    ]
    return sorted(rows, key=lambda row: (-row["bytes_allocated"], -row["count"], row["name"]))
