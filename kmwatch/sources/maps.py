"""The live source: the ledger that BPF programs keep in the kernel, read as batches of what was added since."""

import mmap
import os
import platform
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from kmwatch import schema
from kmwatch.batch import COUNTED, KEY, ROW, Batch, Cache, Cost, Host, Meta, Rows, Trust
from kmwatch.errors import NotPossibleError
from kmwatch.kernel import slab, tracefs, zones
from kmwatch.kernel.gfp import GfpTable
from kmwatch.kernel.symbols import UNKNOWN, Symbols
from kmwatch.schema import Counter, Kind, Phase, Way
from kmwatch.sources.bpf import Programs, possible_cpus, run_time_statistics
from kmwatch.sources.delta import Readings
from kmwatch.sources.plan import make_plan

_KEY, _VALUE, _FRONT = (schema.dtype(name) for name in ("ledger_key", "ledger_value", "front_row"))
_TABLE, _CONFIG, _CACHE = schema.dtype("table"), schema.dtype("config"), schema.dtype("cache_info")
_RELOAD_AFTER = 5.0  # seconds between two readings of kallsyms because of an address that it did not have
_CALIBRATION_PAGES = 16
_TICK = 0.05  # seconds between two looks at whether to stop


class LiveSource:
    """The running kernel, from entering the context to leaving it.

    Args:
        kinds: what to observe.
        interval: seconds between two batches.
        until: asked all the time; True ends the iteration with one last batch, read after the programs have been
            detached, so that its counts are final.
    """

    def __init__(
        self, kinds: frozenset[Kind], interval: float = 1.0, until: Callable[[], bool] = lambda: False
    ) -> None:
        self.notes: list[str] = []
        self._interval, self._until, self._kinds = interval, until, kinds
        mount = tracefs.find()
        if mount.mounted:
            self.notes.append(f"mounted tracefs at {mount.path}")
        text = mount.format_text("kmem", "kmalloc")
        if text is None:
            raise NotPossibleError("this kernel has no kmem tracepoints: it needs CONFIG_EVENT_TRACING=y")
        gfp, self._symbols, self._symbols_at = GfpTable.from_format(text), Symbols.running(), time.monotonic()
        self._plan = make_plan(kinds, mount, gfp, self._symbols)
        self.notes += self._plan.doubts
        self._zones = zones.running()
        names = {zone.index: zone.name for zone in self._zones}
        zone_names = tuple(names.get(index, "") for index in range(max(names, default=-1) + 1))
        self.meta = Meta(_host(), gfp, slab.running_limits(), zone_names, self._plan.status, self._plan.context)
        self._programs: Programs | None = None
        self._readings, self._losses, self._cpus = Readings(), Trust(), possible_cpus()
        self._sites: dict[int, int] = {0: 0}
        self._caches: dict[int, int] = {0: 0}
        self._statistics, self._nanoseconds = ExitStack(), 0.0
        self._stopped = threading.Event()

    def __enter__(self) -> Self:
        plan = self._plan
        programs = Programs("ledger.c", plan.attachments + plan.calibrators, plan.defines)
        try:
            programs.write_array("text_table", _table(self._symbols.allocator_text))
            programs.write_array("zone_table", _table(_zone_stretches(self._zones)))
            programs.attach()
            if not _calibrate(programs, plan.per_cpu_offset):
                self.meta.context = ""
                self.notes.append("calibration saw no allocation of kmwatch's own: the context is unknown")
            programs.detach(plan.calibrators)
            _enter(programs, Phase.COUNTING)
        except BaseException:
            programs.close()
            raise
        self._programs = programs
        self._statistics.enter_context(run_time_statistics())
        self._start, (self._read_at, self._cpu_at) = time.time(), _clocks()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._statistics.close()
        if self._programs:
            self._programs.close()
            self._programs = None

    def __iter__(self) -> Iterator[Batch]:
        due = time.monotonic() + self._interval
        while not (self._until() or self._stopped.is_set()):
            self._stopped.wait(max(0.0, min(_TICK, due - time.monotonic())))
            if time.monotonic() >= due:
                due += self._interval
                yield self.read()
        yield self._last()

    def stop(self) -> None:
        """End the iteration soon, from any thread."""
        self._stopped.set()

    def _running(self) -> Programs:
        if self._programs is None:
            raise NotPossibleError("the live source is not open: use it as a context manager")
        return self._programs

    def _last(self) -> Batch:
        """Stop counting at once, detach, which takes a while, and read when no program runs any more."""
        programs, end = self._running(), _clocks()
        _enter(programs, Phase.STOPPED)
        programs.detach()
        return self.read(end)

    def read(self, end: tuple[float, float] | None = None) -> Batch:
        """What was added since the last reading, up to now or up to `end` (seconds of the clocks of _clocks())."""
        programs, (now, cpu) = self._running(), end or _clocks()
        start, seconds, own = self._start, now - self._read_at, cpu - self._cpu_at
        self._start, self._read_at, self._cpu_at = start + seconds, now, cpu
        rows = self._rows(*self._readings.gained(*self._ledger(programs)))
        kernel = self._kernel_cost(programs, int(rows["count"].sum()))
        return Batch(rows, start, seconds, self._trust(programs), Cost(kernel, own))

    def _ledger(self, programs: Programs) -> tuple[Any, Any]:
        """All keys and values, of every CPU and from both places where rows are kept."""
        keys, values = programs.read_hash("ledger", _KEY, _VALUE, self._cpus)
        fronts = programs.read_arrays("fronts", _FRONT, self._cpus)
        taken = fronts[fronts["key"]["kind"] != 0]
        return (
            np.concatenate([np.repeat(keys, self._cpus), taken["key"]]),
            np.concatenate([values.ravel(), taken["value"]]),
        )

    def _rows(self, keys: Any, values: Any) -> Rows:
        rows = np.zeros(len(keys), ROW)
        for name in KEY:
            if name not in ("site", "cache"):
                rows[name] = keys[name]
        for name in COUNTED:
            rows[name] = values[name]
        rows["site"] = _numbered(keys["site"], self._site)
        if any(cache not in self._caches for cache in np.unique(keys["cache"]).tolist()):
            self._learn_caches()
        rows["cache"] = _numbered(keys["cache"], lambda cache: self._caches.get(cache, 0))
        wanted = np.isin(rows["kind"], [int(kind) for kind in self._kinds])
        return self._sized(rows[wanted])

    def _sized(self, rows: Rows) -> Rows:
        """The bytes that follow from the key and are therefore not summed in the kernel; none where it failed."""
        cached, paged = rows["cache"] != 0, np.isin(rows["kind"], [Kind.PAGE_ALLOC, Kind.PAGE_FREE])
        caches = np.array([(each.object_size, each.size) for each in self.meta.caches], np.int64)[rows["cache"]]
        pages = self.meta.limits.page_size << rows["order"].astype(np.int64)
        implied = np.where(paged, pages, caches[:, 0])
        rows["bytes_requested"] = np.where(cached | paged, rows["count"] * implied, rows["bytes_requested"])
        for bound in ("min_request", "max_request"):
            rows[bound] = np.where(cached | paged, implied, rows[bound])
        taken = np.where(paged, pages, np.where(cached, caches[:, 1], rows["bytes_alloc"]))
        whole = rows["kind"] == Kind.VMALLOC  # the event tells whole pages: as many as are taken
        rows["bytes_allocated"] = np.where(whole, rows["bytes_requested"], rows["count"] * taken)
        for column in ("bytes_requested", "bytes_allocated"):
            rows[column][rows["failed"] != 0] = 0
        return rows

    def _site(self, address: int) -> int:
        """The number of a site in meta.sites; code loaded after the start makes the symbols be read again."""
        if address not in self._sites:
            site = self._symbols.resolve(address)
            if site is UNKNOWN and time.monotonic() - self._symbols_at > _RELOAD_AFTER:
                self._symbols, self._symbols_at = Symbols.running(), time.monotonic()
                site = self._symbols.resolve(address)
            if site is UNKNOWN:
                return 0
            self.meta.sites.append(site)
            self._sites[address] = len(self.meta.sites) - 1
        return self._sites[address]

    def _learn_caches(self) -> None:
        addresses, infos = self._running().read_hash("caches", np.dtype("<u8"), _CACHE)
        for address, info in zip(addresses.tolist(), infos[:, 0], strict=True):
            if address not in self._caches:
                name = bytes(info["name"]).decode("ascii", "backslashreplace")
                self.meta.caches.append(Cache(name, int(info["object_size"]), int(info["size"])))
                self._caches[address] = len(self.meta.caches) - 1

    def _trust(self, programs: Programs) -> Trust:
        def counter(which: int) -> int:
            return int(programs.read_array("losses", np.dtype("<u8"), which, self._cpus).sum())

        missed = sum(misses for _, _, misses in programs.costs().values())
        total = Trust(
            lost=missed + counter(Counter.LOST),
            map_full=counter(Counter.MAP_FULL),
            duplicates_removed=counter(Counter.DUPLICATES),
            unknown_site=counter(Counter.STACK_FAILED) + counter(Counter.STACK_DEEP),
        )
        gained = Trust(**{name: value - getattr(self._losses, name) for name, value in vars(total).items()})
        self._losses = total
        return gained

    def _kernel_cost(self, programs: Programs, events: int) -> float:
        """CPU seconds in the programs: measured by the kernel in the first interval, then by the same rate an event."""
        if not self._nanoseconds:
            costs = programs.costs().values()
            runs = sum(runs for _, runs, _ in costs)
            self._nanoseconds = sum(spent for spent, _, _ in costs) / runs if runs else 0.0
            if runs:
                self._statistics.close()
        return events * self._nanoseconds / 1e9


def _clocks() -> tuple[float, float]:
    """Seconds that have passed, and seconds of CPU time that this process took."""
    return time.monotonic(), time.process_time()


def _numbered(values: Any, number: Callable[[int], int]) -> Any:
    distinct, inverse = np.unique(values, return_inverse=True)
    return np.array([number(int(value)) for value in distinct], np.uint32)[inverse.ravel()]


def _table(stretches: list[tuple[int, int]]) -> Any:
    """A sorted table for the programs; one that has no room for all is refused."""
    if len(stretches) > schema.TABLE_SIZE:
        raise NotPossibleError(f"{len(stretches)} stretches of kernel text or memory, room for {schema.TABLE_SIZE}")
    table = np.zeros(1, _TABLE)
    table["boundary"] = np.uint64(1 << 62)  # above every page frame number; below kernel text by less than 2^63
    for at, (boundary, meaning) in enumerate(stretches):
        table["boundary"][0, at] = boundary
        table["meaning"][0, at] = meaning
    return table


def _zone_stretches(found: tuple[zones.Zone, ...]) -> list[tuple[int, int]]:
    none = schema.NO_ZONE << 8 | schema.NO_ZONE
    stretches, end = [(0, none)], 0
    for zone in sorted(found, key=lambda zone: zone.start_pfn):
        if zone.start_pfn > end and end:
            stretches.append((end, none))
        stretches.append((zone.start_pfn, min(zone.node, schema.NO_ZONE) << 8 | zone.index))
        end = zone.end_pfn
    return [*stretches, (end, none)]


def _calibrate(programs: Programs, per_cpu_offset: int) -> bool:
    """Let the programs see allocations of ours that may sleep; false where no way of attaching saw one.

    Programs of a way that saw none say that the context is unknown; who kmwatch is they learn from the other way.
    """
    config = np.zeros(1, _CONFIG)
    config["per_cpu_offset"] = per_cpu_offset
    for way in Way:
        programs.write_array("config", config, way)
    with mmap.mmap(-1, _CALIBRATION_PAGES * mmap.PAGESIZE) as pages:
        for at in range(_CALIBRATION_PAGES):
            pages[at * mmap.PAGESIZE] = 1  # a page
            for descriptor in os.pipe():  # a kmalloc, and some cache objects
                os.close(descriptor)
    seen = [programs.read_array("config", _CONFIG, way) for way in Way]
    for way, config in zip(Way, seen, strict=True):
        config["self_tgid"] = max(each["self_tgid"] for each in seen)
        programs.write_array("config", config, way)
    return any(config["samples"][0] for config in seen)


def _enter(programs: Programs, phase: Phase) -> None:
    for way in Way:
        config = programs.read_array("config", _CONFIG, way)
        config["phase"] = phase
        programs.write_array("config", config, way)


def _host() -> Host:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return Host(socket.gethostname(), platform.release(), boot, os.cpu_count() or 1)
