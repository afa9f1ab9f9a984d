"""What the programs saw of the free lists: which constants they get, and what is made of their bytes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kmwatch import schema
from kmwatch.batch import Cache
from kmwatch.kernel.symbols import Site
from kmwatch.kernel.zones import Zone
from kmwatch.schema import Context, Kind, Via
from kmwatch.sources import freelists
from kmwatch.sources.freelists import FreeLists, layout
from kmwatch.verdicts import judge
from tests.unit.rows import LIMITS, TABLE, meta

DMA = Zone(0, "DMA", 0, 1, 4096, 3998, 3840, 0, 0, 0, 0)
NORMAL = Zone(0, "Normal", 2, 1 << 20, 1 << 21, 1 << 20, 1_000_000, 0, 0, 0, 0)
NODE = 0xFFFF888000000000
DEFINES = {
    "ZONE_SIZE": 1664, "ZONES": 2, "NODES": 1, "PGDAT_ZONES": 64, "ORDERS": 11, "RESERVES": 5,
    "MIGRATE_UNMOVABLE": 0, "MIGRATE_MOVABLE": 1, "MIGRATE_RECLAIMABLE": 2, "MIGRATE_HIGHATOMIC": 3,
    "MIGRATE_CMA": 4, "MIGRATE_ISOLATE": 5,
}  # fmt: skip
ENUMS = {
    "zone_stat_item": {"NR_FREE_PAGES": 2, "NR_FREE_CMA_PAGES": 9},
    "cgroup_subsys_id": {"memory_cgrp_id": 4},
    "migratetype": {"MIGRATE_UNMOVABLE": 0, "MIGRATE_MOVABLE": 1, "MIGRATE_TYPES": 6},
}


class Programs:
    """The maps of programs that found the node and saw some failures."""

    def __init__(self, node: int = NODE) -> None:
        self._node = node
        self.written: dict[str, Any] = {}
        self.rows: list[tuple[Any, Any]] = []

    def read_array(self, name: str, dtype: Any, _: int) -> Any:
        """The node."""
        assert name == "nodes"
        return np.array([self._node], dtype)

    def write_array(self, name: str, value: Any) -> None:
        """Keep it."""
        self.written[name] = value

    def read_hash(self, _: str, key: Any, value: Any) -> tuple[Any, Any]:
        """The failures seen."""
        keys, values = np.zeros(len(self.rows), key), np.zeros((len(self.rows), 1), value)
        for at, row in enumerate(self.rows):
            keys[at], values[at, 0] = row
        return keys, values

    def saw(self, key: dict[str, int], *, at: int, requested: int = 0, cgroup: int = 0) -> None:
        """A failure at a time in nanoseconds: Normal has 100 blocks of a page and one of 16 pages, DMA nothing."""
        made, seen = np.zeros(1, schema.dtype("ledger_key")), np.zeros(1, schema.dtype("free_lists"))
        for name, value in key.items():
            made[name] = value
        seen["time"], seen["requested"], seen["comm"], seen["pid"], seen["cgroup"] = at, requested, b"cat", 7, cgroup
        normal = seen["zones"][0, 1:2]
        normal["free"], normal["watermark"], normal["boost"], normal["managed"] = 116, (40, 50, 60), 4, 1_000_000
        normal["blocks"][0, [0, 4]], normal["owners"][0, [0, 4]] = (100, 1), (0b111, 0b1000)
        seen["zones"]["reserve"][0, 0, :5] = (0, 10, 20, 20, 20)
        seen["zones"]["free"][0, 0] = 2**64 - 3  # counters of CPUs can be ahead of the zone's
        self.rows.append((made[0], seen[0]))


def free_lists(programs: Programs, defines: dict[str, int] | None = None) -> FreeLists:
    return FreeLists(programs, DEFINES if defines is None else defines, (DMA, NORMAL))  # type: ignore[arg-type]


def failures(made: FreeLists) -> list[Any]:
    known = meta(sites=[Site("unknown", "unknown", ""), Site("f+0x1", "f", "m")])
    known.caches.append(Cache("dentry", 190, 9000))
    sites, caches = (lambda numbers: (numbers != 0).astype(np.uint32)), (lambda numbers: numbers.astype(np.uint32))
    return made.failures(sites, caches, known, 1_000_000_000)


def test_the_zones_of_a_node_are_where_its_array_has_them() -> None:
    programs = Programs()

    assert free_lists(programs).doubt == ""
    places = programs.written["zone_places"]["address"][0].tolist()
    assert places == [NODE + 64, NODE + 64 + 2 * 1664, *[0] * 14]


@pytest.mark.parametrize(
    ("node", "defines", "doubt"), [(0, DEFINES, "in 2 of 2 zones"), (NODE, {}, "BTF does not show")]
)
def test_where_no_zone_is_found_nothing_is_read_and_a_doubt_says_so(
    node: int, defines: dict[str, int], doubt: str
) -> None:
    made = free_lists(Programs(node), defines)

    assert doubt in made.doubt
    assert failures(made) == []


def test_a_failure_says_what_was_asked_and_what_was_free() -> None:
    programs = Programs()
    gfp = TABLE.encode("GFP_ATOMIC")
    programs.saw({"kind": Kind.PAGE_ALLOC, "site": 9, "order": 2, "gfp": gfp, "context": 0}, at=3_500_000_000)

    (failure,) = failures(free_lists(programs))

    assert (failure.taken, failure.event, failure.kind, failure.order) == ("program", "page_alloc", "page", 2)
    assert (failure.site, failure.symbol, failure.comm, failure.pid) == ("f+0x1 [m]", "f", "cat", 7)
    assert (failure.seconds, failure.kernel, failure.gfp, failure.cgroup) == (2.5, "6.18.0", gfp, False)
    dma, normal = failure.zones
    assert (dma.name, dma.free, dma.reserve) == ("DMA", 0, (0, 10, 20, 20, 20))
    assert (normal.name, normal.free, normal.min, normal.low, normal.high) == ("Normal", 116, 44, 54, 64)
    assert (normal.managed, normal.boost) == (1_000_000, 4)
    assert normal.blocks == (100, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0)
    assert normal.letters == ("UME", "", "", "", "H", "", "", "", "", "", "")
    assert judge(failure, TABLE, LIMITS).name == "unknown"  # the reserve for atomic requests had a block for it


@pytest.mark.parametrize(
    ("key", "requested", "kind", "order", "cache"),
    [
        ({"kind": Kind.KMALLOC}, 100, "slab", 0, "kmalloc-128"),
        ({"kind": Kind.KMALLOC}, 8000, "slab", 1, "kmalloc-8192"),
        ({"kind": Kind.KMALLOC}, 9000, "page", 2, ""),
        ({"kind": Kind.KMALLOC}, 8 << 20, "page", 11, ""),
        ({"kind": Kind.CACHE_ALLOC, "cache": 1}, 0, "slab", 2, "dentry"),
        ({"kind": Kind.VMALLOC}, 1 << 30, "vmalloc", 0, ""),
        ({"kind": Kind.PERCPU_ALLOC}, 64, "percpu", 0, ""),
    ],
)
def test_each_kind_of_event_is_judged_as_what_it_asks_for(
    key: dict[str, int], requested: int, kind: str, order: int, cache: str
) -> None:
    programs = Programs()
    programs.saw(key, at=2_000_000_000, requested=requested)

    (failure,) = failures(free_lists(programs))

    assert (failure.kind, failure.order, failure.cache) == (kind, order, cache)
    assert judge(failure, TABLE, LIMITS).why
    assert failure.from_json(failure.to_json()) == failure


def test_the_latest_of_each_row_is_kept_and_who_was_interrupted_is_not_blamed() -> None:
    programs = Programs()
    made = free_lists(programs)
    programs.saw({"kind": Kind.KMALLOC, "site": 1, "context": Context.SOFTIRQ}, at=2_000_000_000, requested=8)
    programs.saw({"kind": Kind.KMALLOC, "site": 2}, at=4_000_000_000, requested=8, cgroup=1)
    first = failures(made)
    programs.rows = programs.rows[1:]
    programs.saw({"kind": Kind.KMALLOC, "site": 1, "context": Context.SOFTIRQ}, at=5_000_000_000, requested=8)

    assert [(each.seconds, each.comm, each.cgroup) for each in first] == [(1.0, "", False), (3.0, "cat", True)]
    assert [each.seconds for each in failures(made)] == [3.0, 4.0]


@pytest.mark.parametrize(("via", "elsewhere"), [(0, False), (Via.SLAB, True), (Via.VMALLOC, True), (Via.PAGE, False)])
def test_pages_for_something_else_are_told_from_pages_for_themselves(via: int, *, elsewhere: bool) -> None:
    programs = Programs()
    programs.saw({"kind": Kind.PAGE_ALLOC, "via": via, "order": 2}, at=2_000_000_000)

    (failure,) = failures(free_lists(programs))

    assert failure.elsewhere is elsewhere


class Btf:
    """Type information that has every member, or lacks some."""

    def __init__(self, *lacks: str) -> None:
        self._lacks = lacks

    def member_offset(self, _: str, path: str) -> int | None:
        """The same for each."""
        return None if path in self._lacks else 128

    def length(self, _: str, path: str) -> int | None:
        """Of two arrays."""
        return {"lowmem_reserve": 5, "free_area": 99 if "few orders" in self._lacks else 11}[path]

    def size(self, name: str) -> int:
        """Of two structs."""
        return {"zone": 1664, "free_area": 104}[name]

    def values(self, enum: str) -> dict[str, int]:
        """Of an enum."""
        return {} if enum in self._lacks else ENUMS[enum]


def test_elements_of_arrays_are_found_by_the_enums_of_this_kernel() -> None:
    found = layout(Btf("nr_free_highatomic"))  # type: ignore[arg-type]

    assert (found["ZONE_FREE"], found["ZONE_CMA"], found["CSS_SET_MEMORY"]) == (128 + 16, 128 + 72, 128 + 32)
    assert (found["ZONE_HIGHATOMIC"], found["ORDERS"], found["MIGRATE_TYPES"]) == (128, 11, 6)
    assert (found["MIGRATE_MOVABLE"], "MIGRATE_CMA" in found) == (1, False)


@pytest.mark.parametrize("lacks", ["memory", "lruvec.pgdat", "migratetype", "zone_stat_item", "few orders"])
def test_a_kernel_that_does_not_show_all_gets_no_constants(lacks: str) -> None:
    assert layout(Btf(lacks)) == {}  # type: ignore[arg-type]
    assert layout(None) == {}


def test_a_kernel_without_nodes_has_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freelists, "_POSSIBLE_NODES", tmp_path / "possible")
    assert freelists._nodes() == 1
    (tmp_path / "possible").write_text("0-3\n")
    assert freelists._nodes() == 4
