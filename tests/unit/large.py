"""A ledger of a busy machine with many drivers: thousands of sites, a hundred thousand stacks."""

from dataclasses import replace
from typing import Any

import numpy as np

from kmwatch.batch import KEY, ROW, STACKED, Batch, Cache, Meta, Rows, sized
from kmwatch.kernel.symbols import Site
from kmwatch.ledger import Ledger
from kmwatch.schema import NO_ZONE, Context, Kind
from kmwatch.timeline import SLICES, Timeline
from tests.unit import rows
from tests.unit.captures import START

_FUNCTIONS, _MODULES, _CALLERS = 4000, 60, 3000
_DEPTHS = 6, 24
_MASKS = ("GFP_KERNEL", "GFP_ATOMIC", "GFP_NOWAIT", "GFP_KERNEL_ACCOUNT", "GFP_NOFS", "GFP_KERNEL|__GFP_ZERO")
_CONTEXTS = (0, 0, 0, 0, int(Context.SOFTIRQ), int(Context.HARDIRQ))
_KINDS = (Kind.KMALLOC, Kind.KMALLOC, Kind.KMALLOC, Kind.CACHE_ALLOC, Kind.PAGE_ALLOC)


def ledger(sites: int = 5000, stacks: int = 100_000, slices: int = SLICES, seed: int = 1) -> Ledger:
    """The same for the same arguments; each slice of a second has a quarter of the sites, every site has stacks."""
    chance = np.random.default_rng(seed)
    known = _meta(sites, chance)
    whole = _rows(known, sites, chance)
    stacked = _stacked(known, whole, stacks, chance)
    made = Ledger(known, timeline=Timeline(1.0))
    for at in range(slices):
        part = whole[chance.random(sites) < 0.25] if at else whole
        batch = Batch(_times(part, known, chance), START + at, 1.0)
        made.add(batch if at else replace(batch, stacked=stacked))
    return made


def _meta(sites: int, chance: np.random.Generator) -> Meta:
    """Functions of the kernel and of modules; names as long as the kernel's own are."""
    known = rows.meta(start=START)
    words = ("alloc", "queue", "submit", "bio", "skb", "inode", "page", "dev", "xfer", "ring", "commit", "handle", "do")
    for number in range(max(sites, _FUNCTIONS)):
        name = "_".join(words[at] for at in chance.integers(0, len(words), 3)) + f"_{number}"
        module = f"driver_{number % _MODULES}" if number % 3 == 0 else ""
        known.sites.append(Site(f"{name}+{int(chance.integers(16, 4096)):#x}", name, module))
    known.caches += [Cache(f"cache_{at}", 64 * at - at % 8, 64 * at) for at in range(1, 200)]
    return known


def _rows(known: Meta, count: int, chance: np.random.Generator) -> Rows:
    """A row for each site."""
    made = np.zeros(count, ROW)
    made["site"] = np.arange(1, count + 1)
    made["kind"] = chance.choice([int(kind) for kind in _KINDS], count)
    made["gfp"] = chance.choice([rows.TABLE.encode(mask) for mask in _MASKS], count)
    made["context"] = chance.choice(_CONTEXTS, count)
    for name in ("zone", "node", "migratetype"):
        made[name] = NO_ZONE
    paged, cached, sized_ = (made["kind"] == kind for kind in (Kind.PAGE_ALLOC, Kind.CACHE_ALLOC, Kind.KMALLOC))
    made["zone"][paged], made["node"][paged], made["migratetype"][paged] = 2, 0, 0
    made["order"][paged] = chance.choice([0, 0, 0, 1, 2, 3], int(paged.sum()))
    made["cache"][cached] = chance.integers(1, len(known.caches), int(cached.sum()))
    asked = chance.integers(8, 6000, int(sized_.sum()))
    made["min_request"][sized_] = made["max_request"][sized_] = asked
    made["bytes_alloc"][sized_] = [known.limits.class_for(size) for size in asked.tolist()]
    return made


def _times(part: Rows, known: Meta, chance: np.random.Generator) -> Rows:
    """The rows, each seen some times: mostly a few, sometimes very often; one of fifty failed as well."""
    seen = part.copy()
    seen["count"] = np.ceil(chance.pareto(1.0, len(seen)) * 20).clip(1, 1_000_000)
    seen["bytes_requested"] = seen["count"] * seen["max_request"]
    eighths = (seen["max_request"].astype(np.int64) - 1) * 8 // _top(seen["bytes_alloc"])
    at = np.flatnonzero(seen["kind"] == Kind.KMALLOC)
    seen["fill"][at, eighths[at]] = seen["count"][at]
    failed = seen[chance.random(len(seen)) < 0.02]
    failed["failed"], failed["count"], failed["fill"] = 1, 1, 0
    return sized(np.concatenate([seen, failed]), known)


def _top(classes: Any) -> Any:
    """The next power of two."""
    return 1 << np.ceil(np.log2(classes.astype(np.int64).clip(1))).astype(np.int64)


def _stacked(known: Meta, whole: Rows, count: int, chance: np.random.Generator) -> Rows:
    """Stacks, each of one site: from a tree of callers, so that they have their outer frames in common."""
    above = [0, *(int(chance.integers(max(0, at - 400), at)) for at in range(1, _CALLERS))]
    chains: list[tuple[int, ...]] = [(1,)]
    for at in range(1, _CALLERS):
        chains.append((at + 1, *chains[above[at]])[: _DEPTHS[1]])
    owners = np.arange(count) % len(whole)
    starts = chance.integers(0, _CALLERS, (count, 2))
    for number, (owner, (near, far)) in enumerate(zip(owners.tolist(), starts.tolist(), strict=True), 1):
        inner = chains[near][: _DEPTHS[0]]
        known.stacks[number] = (int(whole["site"][owner]), *inner, *chains[far])[: _DEPTHS[1]]
    made = np.zeros(count, STACKED)
    for name in KEY:
        made[name] = whole[name][owners]
    made["stack"], made["count"] = np.arange(1, count + 1), chance.integers(1, 100, count)
    return made
