"""One allocation failure: what was asked, by whom, and what was free then, as the kernel logged it or a program saw it.

The log's page counts and kilobytes are all kept in pages, so that they can be compared; `page_size` says how large a
page is. Why it failed is said by kmwatch.verdicts.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any

from kmwatch.errors import BadInputError

KINDS = ("page", "slab", "vmalloc", "percpu")
"""page: the page allocator had no pages; slab: a cache got no new slab; vmalloc: no area or no pages for one;
percpu: no room in the per-CPU chunks."""

TAKEN = {
    "log": "read from the kernel log",
    "program": "free lists read by the program that saw the failure",
}
"""Where the state of the zones is from, in words."""

MOST_IN_NAME = 200
"""Characters that a failure which a program saw keeps of a name."""

MOST_KEPT = 1000
"""Failures that are kept in detail at most; the events of all are counted."""

_EVENTS = ("kmalloc", "cache_alloc", "page_alloc", "vmalloc", "percpu_alloc", "ioremap", "vmap")
_OF_OLD = {"taken": "log", "event": "", "elsewhere": False}  # what captures of kmwatch 0.1 lack
_MOST_ZONES, _MOST_ORDERS, _MOST_FRAMES, _LONGEST = 512, 32, 64, 256
_AGAIN = "the failures are damaged or not kmwatch's: record the capture again"


@dataclass(frozen=True)
class ZoneState:
    """A zone when an allocation failed. All in pages, 0 where the log does not say.

    min, low, high: the watermarks, with what the kernel raised them by for a while: boost, of which a log says nothing.
    blocks: free blocks by order, empty where the log does not say; letters: whose they are, by order, as the kernel
    writes it (U unmovable, M movable, E reclaimable, R reserve, H high-order atomic, C CMA, I isolated).
    reserve: lowmem_reserve, by zone that a request may use at most.
    highatomic, cma: pages set aside, the free ones where the log tells them; cpu_lists: pages free in the CPUs' lists.
    """

    node: int
    name: str
    free: int
    min: int
    low: int = 0
    high: int = 0
    managed: int = 0
    blocks: tuple[int, ...] = ()
    letters: tuple[str, ...] = ()
    reserve: tuple[int, ...] = ()
    highatomic: int = 0
    cma: int = 0
    cpu_lists: int = 0
    boost: int = 0


@dataclass(frozen=True)
class SlabState:
    """A cache on one node when it got no new slab: slabs, objects, and free objects among them."""

    node: int
    slabs: int
    objects: int
    free: int


@dataclass(frozen=True)
class Failure:
    """What is known of one failure.

    taken: one of TAKEN. event: the kind of the event that a program saw, in lower case; "" where a log told of it.
    seconds: since the start of the log, or of the watching; stamp: the time as the log has it.
    order: of the pages; for a cache the smallest order that it can use. size: bytes of a vmalloc, else 0.
    gfp: mask in the table of the capture; mode: as logged, number and names. context: bits of schema.Context.
    node: asked for, -1 for any; nodes: those allowed, empty for all. kernel: its version, "" where unknown.
    cache, object_size, buffer_size: of a slab, sizes in bytes; "" and 0 where none.
    site: the first frame outside the allocators; symbol: its function; caller: the first beyond helpers like
    __alloc_skb() and dma_alloc_attrs(), whose request it is. stack: functions, innermost first.
    cgroup: a memory cgroup was at its limit. page_size: bytes.
    elsewhere: of pages: for a slab, an area or a per-CPU chunk, whose own failure is counted instead.
    """

    kind: str
    order: int
    gfp: int
    mode: str = ""
    comm: str = ""
    pid: int = 0
    seconds: float = 0.0
    stamp: str = ""
    size: int = 0
    node: int = -1
    nodes: tuple[int, ...] = ()
    kernel: str = ""
    context: int = 0
    cache: str = ""
    object_size: int = 0
    buffer_size: int = 0
    site: str = "unknown"
    symbol: str = "unknown"
    caller: str = "unknown"
    stack: tuple[str, ...] = ()
    zones: tuple[ZoneState, ...] = ()
    slabs: tuple[SlabState, ...] = ()
    cgroup: bool = False
    page_size: int = 4096
    taken: str = "log"
    event: str = ""
    elsewhere: bool = False

    def to_json(self) -> dict[str, Any]:
        """The failure as plain data, for a capture."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: object) -> "Failure":
        """The failure that `to_json` wrote; raises BadInputError on anything else."""
        known = _checked(cls, {**_OF_OLD, **data} if isinstance(data, dict) else data, _FAILURE)
        if known["kind"] not in KINDS or known["page_size"] not in (1 << 12, 1 << 13, 1 << 14, 1 << 16, 1 << 18):
            raise BadInputError(f"{data!r:.60} is not a failure; {_AGAIN}")
        if known["event"] not in (_EVENTS if known["taken"] == "program" else ("",)):
            raise BadInputError(f"{known['event']!r:.60} is not an event that fails; {_AGAIN}")
        zones = tuple(ZoneState(**_zone(row)) for row in known.pop("zones"))
        slabs = tuple(SlabState(**_checked(SlabState, row, _SLAB)) for row in known.pop("slabs"))
        return cls(**known, zones=zones, slabs=slabs)


def zones_from_json(data: object) -> list[ZoneState]:
    """The zones that `asdict` made plain; raises BadInputError on anything else."""
    if not isinstance(data, list | tuple) or len(data) > _MOST_ZONES:
        raise BadInputError(f"the zones must be a list of at most {_MOST_ZONES}; {_AGAIN}")
    return [ZoneState(**_zone(row)) for row in data]


def failures_to_json(failures: list[Failure]) -> list[dict[str, Any]]:
    """The failures as plain data; at most MOST_KEPT of them."""
    return [each.to_json() for each in failures[:MOST_KEPT]]


def failures_from_json(data: object) -> list[Failure]:
    """The failures that `failures_to_json` wrote; raises BadInputError on anything else."""
    if not isinstance(data, list | tuple) or len(data) > MOST_KEPT:
        raise BadInputError(f"the failures must be a list of at most {MOST_KEPT}; {_AGAIN}")
    return [Failure.from_json(each) for each in data]


Check = Callable[[object], bool]


def _number(top: int, least: int = 0) -> Check:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= top


def _text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= _LONGEST


def _list(most: int, of: Check) -> Check:
    return lambda value: isinstance(value, list | tuple) and len(value) <= most and all(of(each) for each in value)


_COUNT, _BYTES, _NODE = _number(1 << 52), _number(1 << 62), _number(1 << 16, -1)
_COUNTS = _list(_MOST_ORDERS, _COUNT)
_ZONE: dict[str, Check] = {
    **dict.fromkeys(("free", "min", "low", "high", "managed", "highatomic", "cma", "cpu_lists", "boost"), _COUNT),
    **dict.fromkeys(("blocks", "reserve"), _COUNTS),
    "node": _NODE,
    "name": _text,
    "letters": _list(_MOST_ORDERS, _text),
}
_SLAB: dict[str, Check] = {"node": _NODE, "slabs": _COUNT, "objects": _COUNT, "free": _COUNT}
_FAILURE: dict[str, Check] = {
    **dict.fromkeys(("kind", "mode", "comm", "stamp", "kernel", "cache", "site", "symbol", "caller"), _text),
    **dict.fromkeys(("size", "object_size", "buffer_size"), _BYTES),
    "order": _number(255),
    "gfp": _number((1 << 32) - 1),
    "pid": _number((1 << 32) - 1),
    "context": _number(255),
    "page_size": _BYTES,
    "node": _NODE,
    "nodes": _list(1024, _NODE),
    "seconds": lambda value: isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e12,
    "stack": _list(_MOST_FRAMES, _text),
    "zones": _list(_MOST_ZONES, lambda value: isinstance(value, dict)),
    "slabs": _list(_MOST_ZONES, lambda value: isinstance(value, dict)),
    **dict.fromkeys(("cgroup", "elsewhere"), lambda value: isinstance(value, bool)),
    "taken": lambda value: isinstance(value, str) and value in TAKEN,
    "event": _text,
}


def _checked(what: type, data: object, checks: dict[str, Check]) -> dict[str, Any]:
    """The fields of `what`, all of them sane, lists as tuples."""
    names = {each.name for each in fields(what)}
    if not isinstance(data, dict) or set(data) != names or not all(checks[name](data[name]) for name in names):
        raise BadInputError(f"{data!r:.60} is not a failure; {_AGAIN}")
    return {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}


def _zone(row: object) -> dict[str, Any]:
    known = _checked(ZoneState, {"boost": 0, **row} if isinstance(row, dict) else row, _ZONE)
    if len(known["letters"]) not in (0, len(known["blocks"])):
        raise BadInputError(f"{row!r:.60} is not the state of a zone; {_AGAIN}")
    return known
