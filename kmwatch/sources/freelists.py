"""What was free when an allocation failed, as the programs in the kernel saw it (bpf/freelists.h), as Failures."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from kmwatch import schema
from kmwatch.batch import Cache, Meta
from kmwatch.failures import MOST_IN_NAME, Failure, ZoneState
from kmwatch.kernel import zones
from kmwatch.kernel.btf import Btf
from kmwatch.ledger import ELSEWHERE
from kmwatch.schema import Context, Kind
from kmwatch.sources.bpf import Array, Programs

_KEY, _SEEN, _PLACES = (schema.dtype(name) for name in ("ledger_key", "free_lists", "zone_places"))
_MOST_ZONES, _MOST_RESERVES, _MOST_ORDERS, _MOST_TYPES = *_PLACES["address"].shape, 8, 16, 8
_MOST_NODES = 64
_POSSIBLE_NODES = Path("/sys/devices/system/node/possible")
_MEMBERS = {
    "TASK_CGROUPS": ("task_struct", "cgroups"),
    "CSS_SET_MEMORY": ("css_set", "subsys"),
    "CSS_PARENT": ("cgroup_subsys_state", "parent"),
    "MEMCG_CSS": ("mem_cgroup", "css"),
    "MEMCG_NODEINFO": ("mem_cgroup", "nodeinfo"),
    "MEMCG_MEMORY": ("mem_cgroup", "memory"),
    "NODEINFO_PGDAT": ("mem_cgroup_per_node", "lruvec.pgdat"),
    "COUNTER_USAGE": ("page_counter", "usage"),
    "COUNTER_MAX": ("page_counter", "max"),
    "COUNTER_PARENT": ("page_counter", "parent"),
    "PGDAT_NODE_ID": ("pglist_data", "node_id"),
    "PGDAT_ZONES": ("pglist_data", "node_zones"),
    "ZONE_FREE": ("zone", "vm_stat"),
    "ZONE_CMA": ("zone", "vm_stat"),
    "ZONE_WATERMARK": ("zone", "_watermark"),
    "ZONE_BOOST": ("zone", "watermark_boost"),
    "ZONE_RESERVE": ("zone", "lowmem_reserve"),
    "ZONE_MANAGED": ("zone", "managed_pages"),
    "ZONE_AREAS": ("zone", "free_area"),
    "AREA_LISTS": ("free_area", "free_list"),
    "AREA_COUNT": ("free_area", "nr_free"),
}
_WORDS = {  # arrays of words: which element, by a value of an enum
    "ZONE_FREE": ("zone_stat_item", "NR_FREE_PAGES"),
    "ZONE_CMA": ("zone_stat_item", "NR_FREE_CMA_PAGES"),
    "CSS_SET_MEMORY": ("cgroup_subsys_id", "memory_cgrp_id"),
}
# show_migration_types() of mm/show_mem.c
_LETTERS = {
    "MIGRATE_UNMOVABLE": "U",
    "MIGRATE_MOVABLE": "M",
    "MIGRATE_RECLAIMABLE": "E",
    "MIGRATE_HIGHATOMIC": "H",
    "MIGRATE_CMA": "C",
    "MIGRATE_ISOLATE": "I",
}
UNKNOWN = "what is free when an allocation fails is unknown"


def layout(btf: Btf | None) -> dict[str, int]:
    """The constants of bpf/freelists.h, and the numbers of the migrate types; empty where BTF does not show all."""
    if btf is None:
        return {}
    found = {define: btf.member_offset(*member) for define, member in _MEMBERS.items()}
    # Newer kernels count the free ones of those that are set aside.
    highatomic = [btf.member_offset("zone", name) for name in ("nr_free_highatomic", "nr_reserved_highatomic")]
    types = btf.values("migratetype")
    found |= {
        "ZONE_SIZE": btf.size("zone"),
        "ZONE_HIGHATOMIC": next((offset for offset in highatomic if offset is not None), None),
        "RESERVES": btf.length("zone", "lowmem_reserve"),
        "ORDERS": btf.length("zone", "free_area"),
        "AREA_SIZE": btf.size("free_area"),
        "MIGRATE_TYPES": types.get("MIGRATE_TYPES"),
        "ZONES": min(len(zones.running()), _MOST_ZONES) or None,
        "NODES": _nodes(),
    }
    known = {define: value for define, value in found.items() if value is not None}
    for define, (enum, name) in _WORDS.items():
        element = btf.values(enum).get(name)
        if define not in known or element is None:
            return {}
        known[define] += 8 * element
    tops = {"RESERVES": _MOST_RESERVES, "ORDERS": _MOST_ORDERS, "MIGRATE_TYPES": _MOST_TYPES}
    if len(known) < len(found) or any(known[define] > most for define, most in tops.items()):
        return {}
    return known | {name: types[name] for name in _LETTERS if name in types}


def _nodes() -> int:
    """How many nodes the kernel has room for (nr_node_ids), as far as they are looked at."""
    try:
        last = _POSSIBLE_NODES.read_text().strip().replace(",", "-").rpartition("-")[2]
    except OSError:  # a kernel without CONFIG_NUMA
        return 1
    return min(int(last) + 1, _MOST_NODES)


class FreeLists:
    """The states that the programs keep. To be made when the programs are calibrated: that is when they find the nodes.

    Args:
        programs: with bpf/freelists.h compiled in.
        defines: what they were compiled with.
        found: the zones of this kernel.
    """

    def __init__(self, programs: Programs, defines: dict[str, int], found: tuple[zones.Zone, ...]) -> None:
        self._programs, self._defines = programs, defines
        self._zones: tuple[zones.Zone, ...] = ()
        self._known: dict[bytes, tuple[int, Failure]] = {}
        self.doubt = f"{UNKNOWN}: BTF does not show where the zones are; see `kmwatch doctor`"
        """What is missing, in words; "" where nothing is."""
        if "ZONE_SIZE" in defines:
            self._point(found)

    def _point(self, found: tuple[zones.Zone, ...]) -> None:
        """Tell the programs where the zones are."""
        nodes = [
            int(self._programs.read_array("nodes", np.dtype("<u8"), at)[0]) for at in range(self._defines["NODES"])
        ]
        seen = [zone for zone in found if zone.node < len(nodes) and nodes[zone.node]]
        self._zones = tuple(seen[: self._defines["ZONES"]])
        places = np.zeros(1, _PLACES)
        for at, zone in enumerate(self._zones):
            offset = self._defines["PGDAT_ZONES"] + zone.index * self._defines["ZONE_SIZE"]
            places["address"][0, at] = nodes[zone.node] + offset
        self._programs.write_array("zone_places", places)
        missing = len(found) - len(self._zones)
        self.doubt = f"{UNKNOWN} in {missing} of {len(found)} zones: no memory cgroup leads there" if missing else ""

    def failures(
        self, sites: Callable[[Array], Array], caches: Callable[[Array], Array], meta: Meta, began: int
    ) -> list[Failure]:
        """The latest failure of each row, newest last; `sites` and `caches` number them as the tables of `meta` do.

        began: when the time of `meta` is 0, in nanoseconds of CLOCK_MONOTONIC.
        """
        if not self._zones:
            return []
        keys, states = self._programs.read_hash("free_lists", _KEY, _SEEN)
        states = states[:, 0]
        new = [at for at, key in enumerate(keys) if self._known.get(key.tobytes(), (0,))[0] != states["time"][at]]
        if new:
            numbers = zip(sites(keys["site"][new]).tolist(), caches(keys["cache"][new]).tolist(), strict=True)
            for at, (site, cache) in zip(new, numbers, strict=True):
                failure = self._failure(keys[at], states[at], meta, site, meta.caches[cache], began)
                self._known[keys[at].tobytes()] = int(states["time"][at]), failure
        return [failure for _, failure in sorted(self._known.values(), key=lambda each: each[0])]

    def _failure(self, key: Any, state: Any, meta: Meta, site: int, cache: Cache, began: int) -> Failure:
        name = meta.sites[site]
        interrupted = int(key["context"]) & (Context.SOFTIRQ | Context.HARDIRQ)
        comm = bytes(state["comm"]).partition(b"\0")[0].decode("utf-8", "backslashreplace")
        return Failure(
            **_asked(key, int(state["requested"]), meta, cache),
            taken="program",
            event=Kind(int(key["kind"])).name.lower(),
            comm="" if interrupted else comm,
            pid=0 if interrupted else int(state["pid"]),
            seconds=max(int(state["time"]) - began, 0) / 1e9,
            kernel=meta.host.kernel[:MOST_IN_NAME],
            context=int(key["context"]),
            site=name.label[:MOST_IN_NAME],
            symbol=name.symbol[:MOST_IN_NAME],
            caller=name.label[:MOST_IN_NAME],
            zones=tuple(self._zone(*each) for each in zip(self._zones, state["zones"], strict=False)),
            cgroup=bool(state["cgroup"]),
            page_size=meta.limits.page_size,
            elsewhere=bool(key["kind"] == Kind.PAGE_ALLOC and key["via"] & ELSEWHERE),
        )

    def _zone(self, zone: zones.Zone, state: Any) -> ZoneState:
        low, mid, high = (int(mark + state["boost"]) for mark in state["watermark"])
        orders = self._defines["ORDERS"]
        return ZoneState(
            node=zone.node,
            name=zone.name,
            free=_count(state["free"]),
            min=low,
            low=mid,
            high=high,
            managed=int(state["managed"]),
            blocks=tuple(state["blocks"][:orders].tolist()),
            letters=tuple(self._letters(int(owners)) for owners in state["owners"][:orders]),
            reserve=tuple(_count(each) for each in state["reserve"][: self._defines["RESERVES"]]),
            highatomic=_count(state["highatomic"]),
            cma=_count(state["cma"]),
            boost=_count(state["boost"]),
        )

    def _letters(self, owners: int) -> str:
        """Whose blocks there are, as the kernel writes it."""
        known = (letter for name, letter in _LETTERS.items() if owners >> self._defines.get(name, 63) & 1)
        return "".join(known)


def _asked(key: Any, requested: int, meta: Meta, cache: Cache) -> dict[str, Any]:
    """What was asked for, in the fields of a Failure: a large kmalloc is one of pages, a small one of a cache."""
    kind, gfp, limits = Kind(int(key["kind"])), int(key["gfp"]), meta.limits
    if kind == Kind.PAGE_ALLOC:
        return {"kind": "page", "order": int(key["order"]), "gfp": gfp}
    if kind == Kind.CACHE_ALLOC:
        size = cache.size or int(key["bytes_alloc"])
        asked = cache.object_size or requested
        return {"kind": "slab", "order": limits.order_for(size), "gfp": gfp, "cache": cache.name, "object_size": asked}
    if kind == Kind.PERCPU_ALLOC:
        return {"kind": "percpu", "order": 0, "gfp": gfp, "size": requested}
    if kind != Kind.KMALLOC:  # an area: a tracepoint tells no flags, and vmalloc() itself has these
        return {"kind": "vmalloc", "order": 0, "gfp": gfp or meta.gfp.bit("GFP_KERNEL"), "size": requested}
    order = min(limits.order_for(requested), 255)
    if requested > limits.largest_slab:
        return {"kind": "page", "order": order, "gfp": gfp}
    taken = limits.class_for(requested)
    order = limits.order_for(taken)
    return {"kind": "slab", "order": order, "gfp": gfp, "cache": f"kmalloc-{taken}", "object_size": requested}


def _count(value: Any) -> int:
    """The kernel's counters of pages are signed, and can be below 0 for a moment."""
    return max(int(np.int64(value)), 0)
