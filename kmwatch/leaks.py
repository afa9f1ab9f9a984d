"""Sites that may leak: what they hold grows as long as they are watched, and nothing says that it should."""

import re
from collections import Counter
from dataclasses import dataclass

from kmwatch.coverage import UNKNOWN, coverage, labels
from kmwatch.growth import BY
from kmwatch.held import Held, bounds
from kmwatch.ledger import Array, Ledger
from kmwatch.schema import Kind

LEAST_LOOKS = 8
"""Looks at what is held, before anything can be said of its growth."""

_LEAST_SAMPLED = 5  # objects looked at that are held: fewer prove nothing
_LASTING = 0.5  # of the early growth: less in the end, and it levels off
_ABOVE_NOISE = 3.0  # times the median distance from the line
_RISING = 0.8  # of any two looks: less, and it comes and goes
_STACKS = 3

# Caches that the kernel fills as long as there is memory, and empties when it needs it: each has a shrinker, or goes
# with one that has. Pages of files and of processes are told by their flags.
BY_DESIGN = re.compile(r"dentry|.*inode.*|buffer_head|radix_tree_node|xfs_buf|xfs_ili|kernfs_node_cache|.*_extent_.*")
"""The names of caches that grow by design."""


@dataclass(frozen=True)
class Suspect:
    """One site; objects and bytes are estimates, `low` and `high` what the objects lie between.

    cache: its cache or size class, as Coverage names it. stacks: the most frequent of its held objects' stacks (sites,
    innermost first), each with its share of those that have one.
    """

    kind: Kind
    site: int
    cache: str
    objects: int
    low: int
    high: int
    bytes: int
    objects_per_second: float
    bytes_per_second: float
    grade: str
    stacks: tuple[tuple[tuple[int, ...], float], ...] = ()


@dataclass(frozen=True)
class Grown:
    """What grew: suspects, by bytes per second; and bytes of what is no suspect though it grew, by cache and reason."""

    suspects: tuple[Suspect, ...]
    by_design: dict[str, int]
    unknown: dict[str, int]


def grown(ledger: Ledger) -> Grown:
    """What grew while it was watched; nothing where that was too short, or nobody looked at what is held."""
    held = ledger.held
    if held is None or len(ledger.growth) < LEAST_LOOKS:
        return Grown((), {}, {})
    rows = ledger.growth.rows()
    rows = rows[_steady(rows, held.bits)]
    graded = coverage(ledger)
    details = _details(held)
    suspects, by_design, unknown = [], dict[str, int](), dict[str, int]()
    for row in rows:
        key = (int(row["kind"]), int(row["site"]), int(row["cache"]))
        mine = details[key]
        label = labels(mine, ledger.meta.caches)[0]
        grade = graded[label].grade
        if _is_by_design(label, mine, ledger):
            by_design[label[0]] = by_design.get(label[0], 0) + int(row["bytes"])
        elif grade == UNKNOWN:
            unknown[label[0]] = unknown.get(label[0], 0) + int(row["bytes"])
        else:
            suspects.append(_suspect(row, label, grade, held, ledger))
    suspects.sort(key=lambda one: -one.bytes_per_second)
    return Grown(tuple(suspects), by_design, unknown)


def _steady(rows: Array, bits: int) -> Array:
    """Which grew all the time, by more than chance: noise of its own, and that of the sample."""
    early, late = rows["early"], rows["late"]
    chance = _ABOVE_NOISE * rows["noise"]
    steady: Array = (
        (rows["bytes_per_second"] > 0)
        & (rows["rising"] >= _RISING)
        & (rows["objects"] >= _LEAST_SAMPLED << bits)
        & (early > 0)
        & (late >= _LASTING * early)
        & (early + late > chance)
    )
    return steady


def _details(held: Held) -> dict[tuple[int, ...], Array]:
    """The rows of each site."""
    found: dict[tuple[int, ...], list[int]] = {}
    for at, key in enumerate(zip(*(held.rows[name].tolist() for name in BY), strict=True)):
        found.setdefault(key, []).append(at)
    return {key: held.rows[at] for key, at in found.items()}


def _is_by_design(label: tuple[str, Kind], rows: Array, ledger: Ledger) -> bool:
    if label[1] == Kind.PAGE_ALLOC:
        return bool((rows["gfp"] & ledger.meta.gfp.bit("__GFP_MOVABLE")).all())
    return label[1] == Kind.CACHE_ALLOC and bool(BY_DESIGN.fullmatch(label[0]))


def _suspect(row: Array, label: tuple[str, Kind], grade: str, held: Held, ledger: Ledger) -> Suspect:
    low, high = bounds(int(row["objects"]), int(row["objects"]) >> held.bits, held.bits)
    return Suspect(
        label[1],
        int(row["site"]),
        label[0],
        int(row["objects"]),
        low,
        high,
        int(row["bytes"]),
        float(row["objects_per_second"]),
        float(row["bytes_per_second"]),
        grade,
        _stacks(held, int(row["kind"]), int(row["site"]), ledger),
    )


def _stacks(held: Held, kind: int, site: int, ledger: Ledger) -> tuple[tuple[tuple[int, ...], float], ...]:
    mine = held.stacks[(held.stacks[:, 0] == kind) & (held.stacks[:, 1] == site), 2].tolist()
    stacks = (ledger.meta.stacks[number] for number in mine if number in ledger.meta.stacks)
    # What lies above the site is the allocator and the tracing machinery.
    counted = Counter(stack[stack.index(site) :] if site in stack else stack for stack in stacks)
    return tuple((stack, count / len(mine)) for stack, count in counted.most_common(_STACKS))
