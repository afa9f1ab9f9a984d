"""The small tables of a capture as columns, from what a recorder knows, and back."""

from typing import Any

import numpy as np

from kmwatch.batch import KEY, Cache, Meta, Rows, Task
from kmwatch.errors import BadInputError
from kmwatch.events import KEY_TYPE, Array, Columns
from kmwatch.kernel.symbols import UNKNOWN, Site
from kmwatch.schema import Kind

_LARGEST_ORDER = 32
_LARGEST_OBJECT = 1 << 30


def lengths(meta: Meta, keys: Rows) -> dict[str, int]:
    """By table: how much it has to tell; it is written again when that grows, before those that refer to it."""
    return {
        "symbols.parquet": len(meta.sites),
        "stacks.parquet": len(meta.stacks),
        "tasks.parquet": len(meta.tasks),
        "keys.parquet": len(keys),
    }


def columns(name: str, meta: Meta, keys: Rows) -> Columns:
    """The columns of a table, as capture.layout.TABLES lists them."""
    match name:
        case "keys.parquet":
            return _keys(meta, keys)
        case "symbols.parquet":
            sites = list(meta.sites)
            return {
                "symbol": np.arange(len(sites), dtype=np.uint32),
                "site": texts(site.text for site in sites),
                "function": texts(site.symbol for site in sites),
                "module": texts(site.module for site in sites),
            }
        case "stacks.parquet":
            frames = [
                (number, depth, site) for number, stack in list(meta.stacks.items()) for depth, site in enumerate(stack)
            ]
            table = np.array(frames, np.uint32).reshape(-1, 3)
            return {"stack": table[:, 0], "depth": table[:, 1].astype(np.uint8), "symbol": table[:, 2]}
        case "tasks.parquet":
            tasks = list(meta.tasks.items())
            return {
                "task": np.array([number for number, _ in tasks], np.uint32),
                "comm": texts(task.comm for _, task in tasks),
                "cgroup": texts(task.cgroup for _, task in tasks),
            }
    raise KeyError(name)


def _keys(meta: Meta, keys: Rows) -> Columns:
    caches = [meta.caches[number] for number in keys["cache"].tolist()]
    return {
        "key": np.arange(len(keys), dtype=np.uint32),
        **{name: np.ascontiguousarray(keys[name]) for name in KEY},
        "cache_name": texts(cache.name for cache in caches),
        "cache_object_size": np.array([cache.object_size for cache in caches], np.int64),
        "cache_size": np.array([cache.size for cache in caches], np.int64),
    }


def texts(words: Any) -> Array:
    """A column of texts."""
    # A fixed-width array of numpy would take the longest's room for each, and cut at zeros.
    return np.array([*words], object)


def keys_from(table: Columns, meta: Meta) -> Rows:
    """The keys of a capture, dtype KEY_TYPE; meta.caches is filled from them. Symbols must be there already.

    Raises BadInputError for a reference to nothing.
    """
    keys = np.zeros(len(table["key"]), KEY_TYPE)
    for name in KEY:
        keys[name] = table[name]
    if (table["key"] != np.arange(len(keys))).any() or (keys["site"] >= len(meta.sites)).any():
        raise BadInputError("keys.parquet refers to what symbols.parquet does not have")
    paged = np.isin(keys["kind"], [Kind.PAGE_ALLOC, Kind.PAGE_FREE])
    sizes = np.concatenate([table["cache_object_size"], table["cache_size"]])
    if not np.isin(keys["kind"], list(Kind)).all() or (keys["order"][paged] > _LARGEST_ORDER).any():
        raise BadInputError("keys.parquet has kinds or orders that no kernel has")
    if ((sizes < 0) | (sizes > _LARGEST_OBJECT)).any():
        raise BadInputError("keys.parquet has caches of a size that no kernel has")
    numbers, first = np.unique(keys["cache"], return_index=True)
    for at in first[numbers != 0].tolist():
        name, object_size, size = (table[column][at] for column in ("cache_name", "cache_object_size", "cache_size"))
        meta.caches.append(Cache(str(name), int(object_size), int(size)))
    places = np.searchsorted(numbers[numbers != 0], keys["cache"]) + 1
    keys["cache"] = np.where(keys["cache"] != 0, places, 0)
    return keys


def add_symbols(table: Columns, meta: Meta) -> None:
    """Fill meta.sites."""
    if (table["symbol"] != np.arange(len(table["symbol"]))).any():
        raise BadInputError("symbols.parquet is not numbered in order")
    rows = zip(table["site"].tolist(), table["function"].tolist(), table["module"].tolist(), strict=True)
    sites = [Site(str(site), str(function), str(module)) for site, function, module in rows]
    meta.sites[:] = [UNKNOWN, *sites[1:]]


def add_tasks(table: Columns, meta: Meta) -> None:
    """Fill meta.tasks."""
    rows = zip(table["task"].tolist(), table["comm"].tolist(), table["cgroup"].tolist(), strict=True)
    meta.tasks.update({number: Task(str(comm), str(cgroup)) for number, comm, cgroup in rows if number})


def add_stacks(table: Columns, meta: Meta) -> None:
    """Fill meta.stacks; frames that refer to nothing become unknown."""
    order = np.lexsort((table["depth"], table["stack"]))
    numbers, starts = np.unique(table["stack"][order], return_index=True)
    symbols = np.where(table["symbol"] < len(meta.sites), table["symbol"], 0)[order]
    for number, frames in zip(numbers.tolist(), np.split(symbols, starts)[1:], strict=True):
        meta.stacks[number] = tuple(frames.tolist())
