"""Which events of a capture are wanted, and rows of the ledger from what adding these up gives."""

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kmwatch.batch import KEY, ROW, Meta, Rows, Task, sized
from kmwatch.errors import UsageError
from kmwatch.events import Array
from kmwatch.kernel.symbols import Site
from kmwatch.schema import FILL_BUCKETS, Kind

_NO_REQUEST = 0xFFFFFFFF


@dataclass(frozen=True)
class Choice:
    """Which events are added up.

    kinds: of these kinds; None for all. sites, tasks: asked of each; None for all.
    by_task: what rows are told apart by: one row for all tasks of which it says the same, under the first of them.
    """

    kinds: frozenset[Kind] | None = None
    sites: Callable[[Site], bool] | None = None
    tasks: Callable[[Task], bool] | None = None
    by_task: Callable[[Task], object] | None = None


def chosen_keys(meta: Meta, keys: Rows, choice: Choice) -> Array:
    """Whether each key (dtype KEY_TYPE) is wanted."""
    chosen: Array = np.isin(keys["kind"], list(choice.kinds or Kind))
    if choice.sites is not None:
        wanted = np.array([choice.sites(site) for site in meta.sites], bool)
        chosen &= wanted[keys["site"]]
    return chosen


def shown_tasks(meta: Meta, choice: Choice) -> dict[str, Array]:
    """The tasks wanted, and the one that each is shown as; none where nothing depends on them."""
    shown, firsts = [], dict[object, int]()
    if choice.tasks or choice.by_task:
        for number, task in meta.tasks.items():
            if choice.tasks is None or choice.tasks(task):
                first = firsts.setdefault(choice.by_task(task), number) if choice.by_task else 0
                shown.append((number, first))
    table = np.array(shown, np.uint32).reshape(-1, 2)
    return {"task": table[:, 0].copy(), "shown": table[:, 1].copy()}


def rows_of(found: dict[str, Array], keys: Rows, meta: Meta) -> Rows:
    """Rows of the ledger (dtype ROW) from the columns that ledger.sql gives, with the key (KEY_TYPE) of each."""
    rows = np.zeros(len(keys), ROW)
    for name in KEY:
        rows[name] = keys[name]
    rows["task"] = found["task"]
    rows["count"], rows["bytes_requested"] = found["count"], found["bytes_requested"]
    for name in ("min_request", "max_request"):
        rows[name] = np.clip(found[name], 0, _NO_REQUEST)
    kmallocs = np.flatnonzero(rows["kind"] == Kind.KMALLOC)
    rows["fill"][kmallocs, found["eighth"][kmallocs].astype(np.int64) % FILL_BUCKETS] = found["count"][kmallocs]
    return sized(rows, meta)


def matching(pattern: str | None) -> Callable[[str], bool] | None:
    """Whether a regular expression is found in a text; UsageError where it is not one, None for none."""
    if pattern is None:
        return None
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"{pattern!r} is not a regular expression: {error}") from error
    return lambda text: compiled.search(text) is not None
