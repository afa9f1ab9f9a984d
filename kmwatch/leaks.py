"""Sites that may leak: what they hold grows as long as they are watched, and nothing says that it should."""

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

from kmwatch.coverage import GRADES, UNKNOWN, coverage, labels
from kmwatch.growth import BY
from kmwatch.held import Held, bounds
from kmwatch.kernel.allocators import via_of
from kmwatch.ledger import Ledger
from kmwatch.schema import Kind, Via

_STACKS = 3

# Caches that fill the memory that nobody needs, and shrink when somebody does, by name.
_BY_DESIGN = tuple(
    re.compile(each)
    for each in (
        r"dentry",  # names of files that were looked up
        r".*inode.*",  # those files
        r"buffer_head|xfs_buf",  # blocks of a file system
        r"radix_tree_node|xarray.*",  # where the pages of a file are
        r".*extent_(?:status|map|state|buffer)",  # where its blocks are
        r"jbd2_journal_head|mb(?:_cache_entry|cache)",  # the journal's and the attributes' share of them
    )
)


@dataclass(frozen=True)
class Suspect:
    """One site; objects and bytes are estimates, `low` and `high` what the objects lie between.

    site: its index in Meta.sites. caches: its caches or size classes, as Coverage names them. error: by how many bytes
    `bytes` may be off. grown_at_least: bytes that are more than at the first look, in spite of the errors.
    grade: the worst of its caches. stacks: the most frequent of its held objects' stacks (sites, innermost first), each
    with its share of those that have one.
    """

    kind: Kind
    site: int
    caches: tuple[str, ...]
    objects: int
    low: int
    high: int
    bytes: int
    error: int
    grown_at_least: int
    objects_per_second: float
    bytes_per_second: float
    grade: str
    stacks: tuple[tuple[tuple[int, ...], float], ...] = ()


@dataclass(frozen=True)
class Grown:
    """What grew: suspects, by bytes per second; by cache, the bytes of what grew by design; unknown caches."""

    suspects: tuple[Suspect, ...] = ()
    by_design: tuple[tuple[str, int], ...] = ()
    unknown: tuple[str, ...] = ()


def grown(ledger: Ledger) -> Grown:
    """What grew while it was watched; nothing where that was too short, or nobody looked at what is held."""
    held, limits = ledger.held, ledger.thresholds
    if held is None or len(ledger.growth) < max(limits.growth_looks, 2):
        return Grown()
    rows = ledger.growth.rows()
    rows = rows[(rows["bytes_per_second"] >= limits.growth_rate) & (rows["rising"] >= limits.growth_rising)]
    suspects, by_design, unknown = list[Suspect](), Counter[str](), set[str]()
    grades = {label: each.grade for label, each in coverage(ledger).items()} if len(rows) else {}
    for row in rows:
        key = int(row["kind"]), int(row["site"]), int(row["cache"])
        if ledger.growth.late(*key) < limits.growth_late * row["bytes_per_second"]:
            continue
        mine = _rows(held, key)
        found = sorted(set(labels(mine, ledger.meta.caches)))
        grade = max((grades[label] for label in found), default=UNKNOWN)
        suspect = _suspect(row, tuple(name for name, _ in found), grade, mine, ledger)
        if suspect.grown_at_least <= 0:
            continue
        if grade == UNKNOWN:
            unknown.add(suspect.caches[0])
        elif _is_by_design(ledger, key, mine):
            by_design[suspect.caches[0]] += suspect.bytes
        else:
            suspects.append(suspect)
    suspects.sort(key=lambda one: -one.bytes_per_second)
    return Grown(tuple(suspects), tuple(by_design.most_common()), tuple(sorted(unknown)))


def _rows(held: Held, key: tuple[int, int, int]) -> Any:
    """The rows of a kind, site and cache of which something is held."""
    chosen = held.rows["objects"] > 0
    for name, value in zip(BY, key, strict=True):
        chosen &= held.rows[name] == value
    return held.rows[chosen]


def _is_by_design(ledger: Ledger, key: tuple[int, int, int], rows: Any) -> bool:
    """Whether most of it is what the kernel takes back, or moves, when memory gets short."""
    # What SLUB keeps beside each slab, to whom objects are charged, grows with what is in the slabs.
    beside = via_of(ledger.meta.sites[key[1]].symbol) & Via.SLAB
    name = ledger.meta.caches[key[2]].name
    if beside or any(each.fullmatch(name) for each in _BY_DESIGN):
        return True
    gfp = ledger.meta.gfp
    flags = gfp.bit("__GFP_MOVABLE") | gfp.bit("__GFP_RECLAIMABLE")
    given_back = int(rows["bytes_allocated"][rows["gfp"] & flags != 0].sum())
    return 2 * given_back >= int(rows["bytes_allocated"].sum())


def _suspect(row: Any, caches: tuple[str, ...], grade: str, rows: Any, ledger: Ledger) -> Suspect:
    held = ledger.held or Held(rows)
    now, key = int(row["bytes"]), (int(row["kind"]), int(row["site"]), int(row["cache"]))
    squares = float(rows["bytes_squares"].sum())
    least, most = bounds(now, squares, held.bits)
    first = int(ledger.growth.series(*key)[0])
    # What was held at first was of about the same sizes.
    at_first = bounds(first, squares * first / max(now, 1), held.bits)[1]
    low, high = bounds(int(row["objects"]), float(rows["sampled"].sum()), held.bits)
    return Suspect(
        kind=Kind(key[0]),
        site=key[1],
        caches=caches or ("",),
        objects=int(row["objects"]),
        low=low,
        high=high,
        bytes=now,
        error=max(most - now, now - least),
        grown_at_least=least - at_first,
        objects_per_second=float(row["objects_per_second"]),
        bytes_per_second=float(row["bytes_per_second"]),
        grade=grade if grade in GRADES else UNKNOWN,
        stacks=_stacks(held, key[0], key[1], ledger),
    )


def _stacks(held: Held, kind: int, site: int, ledger: Ledger) -> tuple[tuple[tuple[int, ...], float], ...]:
    mine = held.stacks[(held.stacks[:, 0] == kind) & (held.stacks[:, 1] == site), 2].tolist()
    stacks = (ledger.meta.stacks[number] for number in mine if number in ledger.meta.stacks)
    # What lies above the site is the allocator and the tracing machinery.
    counted = Counter(stack[stack.index(site) :] if site in stack else stack for stack in stacks)
    return tuple((stack, count / len(mine)) for stack, count in counted.most_common(_STACKS))
