"""What sources give: batches of observations as columns, and what is known of the kernel they come from."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np

from kmwatch import schema
from kmwatch.failures import Failure, ZoneState
from kmwatch.kernel.gfp import GfpTable
from kmwatch.kernel.slab import AllocatorLimits
from kmwatch.kernel.symbols import UNKNOWN, Site
from kmwatch.schema import Kind

if TYPE_CHECKING:
    from kmwatch.held import Held

Rows = np.ndarray[Any, np.dtype[np.void]]


def _column(member: schema.Member) -> tuple[str, str, tuple[int, ...]]:
    """Addresses become indices into Meta's tables: no kernel address goes further than its source.

    Sums are signed: a batch may take back what an earlier one counted.
    """
    if member.name in ("site", "cache"):
        return member.name, "<u4", ()
    return member.name, "<i8" if member.type == "<u8" else member.type, member.shape


KEY = tuple(member.name for member in schema.members("ledger_key"))
COUNTED = ("count", "bytes_requested", "min_request", "max_request", "fill")
GROUPING = (*KEY, "task")
ROW = np.dtype(
    [
        *(_column(member) for member in schema.members("ledger_key")),
        ("task", "<u4"),
        *(_column(member) for member in schema.members("ledger_value") if member.name in COUNTED),
        ("bytes_allocated", "<i8"),
    ]
)
"""One observation: a key of the ledger and its counts. One event has count 1, an aggregate count n.

task: number of who ran, as in Meta.tasks; 0 where rows are not told apart by it.
bytes_allocated: what was taken; it follows from the rest, and sources fill it in.
"""

STACKED = np.dtype([*((name, ROW[name]) for name in KEY), ("stack", "<u4"), ("count", "<i8")])
"""Of a key's events whose stack was taken: how many had this one (a number of Meta.stacks), or stand for so many."""


@dataclass(frozen=True)
class Cache:
    """A kmem_cache: its name, the bytes its owner asked for and the bytes an object takes."""

    name: str
    object_size: int
    size: int


NO_CACHE = Cache("", 0, 0)


@dataclass(frozen=True)
class Task:
    """Who ran: a command name, and the path of its cgroup in the unified hierarchy, "" where unknown.

    host, kernel: where, of a fleet whose rows are told apart by that; "" otherwise.
    """

    comm: str
    cgroup: str = ""
    host: str = ""
    kernel: str = ""


NO_TASK = Task("unknown")


@dataclass(frozen=True)
class Host:
    """Whose memory it is."""

    hostname: str
    kernel: str
    boot_id: str
    cpus: int


@dataclass
class Trust:
    """Doubt, travelling with the data; every number counts events.

    lost: not counted, because the program was already running on that CPU or the row could not be made.
    map_full: not counted, because the ledger in the kernel had no room for a new row.
    duplicates_removed: second reports of one large kmalloc.
    unknown_site: counted, but the stack did not tell who asked.
    unknown_task, unknown_stack: recorded without command name and cgroup, or without the stack, for want of room.
    """

    lost: int = 0
    map_full: int = 0
    duplicates_removed: int = 0
    unknown_site: int = 0
    unknown_task: int = 0
    unknown_stack: int = 0

    def add(self, other: "Trust") -> None:
        """Add another span's doubt to this one."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


@dataclass
class Meta:
    """The kernel that a source observes. The tables only grow; batches hold indices into sites and caches.

    tasks, stacks: by number; a stack is indices into `sites`, innermost first.
    failures: those of which is known what was free then: told by a kernel log, or the latest of each row of a ledger.
    memory: the zones as they were when last looked at; empty where nobody did.
    doubts: one line for each thing that is missing from a capture.
    start: seconds since the epoch at which the time of events is 0; 0.0 where unknown.
    zones: names in the order of /proc/zoneinfo, as the zone column numbers them.
    probes: every probe wanted, with how it is attached, or why it is not.
    context: how the context is seen; "" where it is not.
    modules: versions of the modules that have one, by name.
    """

    host: Host
    gfp: GfpTable
    limits: AllocatorLimits
    zones: tuple[str, ...]
    probes: dict[str, str]
    context: str
    sites: list[Site] = field(default_factory=lambda: [UNKNOWN])
    caches: list[Cache] = field(default_factory=lambda: [NO_CACHE])
    tasks: dict[int, Task] = field(default_factory=lambda: {0: NO_TASK})
    stacks: dict[int, tuple[int, ...]] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    memory: list[ZoneState] = field(default_factory=list)
    start: float = 0.0
    doubts: list[str] = field(default_factory=list)
    modules: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Cost:
    """What watching took, in CPU seconds: in the kernel's programs (an estimate) and in kmwatch itself."""

    kernel: float = 0.0
    own: float = 0.0


@dataclass(frozen=True)
class Batch:
    """Observations (dtype ROW) of a span of time: its start in seconds since the epoch, its length in seconds.

    fresh: what the batches before it told is to be forgotten: this one starts anew where the source starts.
    held: what is held at its end; None where nobody looked.
    stacked: dtype STACKED, of a share of the same events; empty where no stacks were asked for.
    """

    rows: Rows
    start: float
    seconds: float
    trust: Trust = field(default_factory=Trust)
    cost: Cost = field(default_factory=Cost)
    fresh: bool = False
    held: "Held | None" = None
    stacked: Rows = field(default_factory=lambda: np.zeros(0, STACKED))


def sized(rows: Rows, meta: Meta) -> Rows:
    """The rows with the bytes that follow from their keys and are summed nowhere else; none where it failed."""
    cached, paged = rows["cache"] != 0, np.isin(rows["kind"], [Kind.PAGE_ALLOC, Kind.PAGE_FREE])
    caches = np.array([(each.object_size, each.size) for each in meta.caches], np.int64)[rows["cache"]]
    pages = meta.limits.page_size << rows["order"].astype(np.int64)
    implied = np.where(paged, pages, caches[:, 0])
    rows["bytes_requested"] = np.where(cached | paged, rows["count"] * implied, rows["bytes_requested"])
    for bound in ("min_request", "max_request"):
        rows[bound] = np.where(cached | paged, implied, rows[bound])
    taken = np.where(paged, pages, np.where(cached, caches[:, 1], rows["bytes_alloc"]))
    # The tracepoint tells whole pages: as many as are taken.
    whole = (rows["kind"] == Kind.VMALLOC) & (rows["bytes_alloc"] == 0)
    rows["bytes_allocated"] = np.where(whole, rows["bytes_requested"], rows["count"] * taken)
    for column in ("bytes_requested", "bytes_allocated"):
        rows[column][rows["failed"] != 0] = 0
    return rows


class Source(Protocol):
    """A context manager that gives batches until it is exhausted or closed."""

    meta: Meta

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def __iter__(self) -> Iterator[Batch]: ...

    def stop(self) -> None:
        """End the iteration soon, from any thread."""
