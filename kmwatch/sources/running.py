"""The running kernel being watched: programs chosen for it, compiled, calibrated, attached; what their numbers mean.

Sources read what the programs keep; what the ledger in the kernel and the recording of events have in common is here.
"""

import enum
import mmap
import os
import platform
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from kmwatch import schema
from kmwatch.batch import Cache, Host, Meta, Trust
from kmwatch.errors import NotPossibleError
from kmwatch.kernel import abilities, modules, slab, symbols, tracefs, zones
from kmwatch.kernel.gfp import GfpTable
from kmwatch.kernel.kept import Kept
from kmwatch.kernel.symbols import UNKNOWN, Symbols
from kmwatch.schema import Counter, Kind, Phase, Way
from kmwatch.sources.bpf import Attachment, Programs, possible_cpus
from kmwatch.sources.freelists import FreeLists
from kmwatch.sources.meter import Meter
from kmwatch.sources.plan import make_plan

_TABLE, _CONFIG, _CACHE, _STACK = (schema.dtype(name) for name in ("table", "config", "cache_info", "stack"))
_LOOK_AFTER = 1.0  # seconds between two readings of /proc/zoneinfo, which is long where there are many CPUs
# Seconds between two readings of kallsyms because of an address that it did not have; twice as long each time in vain.
_RELOAD_AFTER, _RELOAD_AT_LAST = 5.0, 3600.0
_MODULES = Path("/proc/modules")
_CALIBRATION_PAGES = 16


class Again(enum.Enum):
    """Which programs have a second copy, for what comes while they run (bpf/again.h).

    None; those that release, so that what is held is right; all that are busy, so that nothing is lost.
    """

    NONE, RELEASES, ALL = range(3)


class RunningKernel:
    """One C file's programs in the running kernel.

    Args:
        kinds: what to observe.
        pointers: whether it is wanted which object an event is about; some raw tracepoints do not tell.
        patience: seconds for which the kernel measures what the programs cost, at least.
    """

    def __init__(self, kinds: frozenset[Kind], *, pointers: bool = False, patience: float = 0.0) -> None:
        self.notes: list[str] = []
        self._tracefs = tracefs.find()
        if self._tracefs.mounted:
            self.notes.append(f"mounted tracefs at {self._tracefs.path}")
        text = self._tracefs.format_text("kmem", "kmalloc")
        if text is None:
            raise NotPossibleError("this kernel has no kmem tracepoints: it needs CONFIG_EVENT_TRACING=y")
        self._kallsyms, self._module_list = Kept(symbols.PATH), Kept(_MODULES)
        gfp = GfpTable.from_format(text)
        self._symbols, self._symbols_at = Symbols(self._kallsyms.read()), time.monotonic()
        self._modules = _modules(self._module_list)
        self.plan = make_plan(kinds, self._tracefs, gfp, self._symbols, pointers=pointers)
        self.notes += self.plan.doubts
        self._zones = zones.running()
        names = {zone.index: zone.name for zone in self._zones}
        zone_names = tuple(names.get(index, "") for index in range(max(names, default=-1) + 1))
        self.meta = Meta(_host(), gfp, slab.running_limits(), zone_names, self.plan.status, self.plan.context)
        self.meta.modules = modules.versions()
        self.cpus = possible_cpus()
        self._programs: Programs | None = None
        self._free_lists: FreeLists | None = None
        self.began = 0
        """When counting began: nanoseconds of CLOCK_MONOTONIC, which is meta.start since the epoch."""
        self._losses = Trust()
        self._missed: int | None = None
        self._again = False
        self._memory_at = -_LOOK_AFTER
        self._patience, self._reload_after = patience, _RELOAD_AFTER
        self._meter: Meter | None = None
        self._sites: dict[int, int] = {0: 0}
        self._caches: dict[int, int] = {0: 0}

    @property
    def programs(self) -> Programs:
        """The programs; NotPossibleError while they are not open."""
        if self._programs is None:
            raise NotPossibleError("the kernel is not being watched: use the source as a context manager")
        return self._programs

    @property
    def meter(self) -> Meter:
        """What the programs cost; NotPossibleError while they are not open."""
        if self._meter is None:
            raise NotPossibleError("the kernel is not being watched: use the source as a context manager")
        return self._meter

    def open(self, source: str, defines: dict[str, int], again: Again = Again.NONE) -> None:
        """Compile a C file, attach its programs, calibrate them, and let them count.

        Second copies of programs are used where they can be.
        """
        plan = self.plan
        copies = plan.copies if again == Again.ALL else _releasing(plan.copies) if again == Again.RELEASES else ()
        self._again = again == Again.ALL and bool(copies)
        wanted = {**plan.defines, **defines, **({"AGAIN": 1} if self._again else {})}
        programs = Programs(source, plan.attachments + plan.calibrators + copies, wanted)
        try:
            programs.write_array("text_table", _table(self._symbols.allocator_text))
            programs.write_array("zone_table", _table(_zone_stretches(self._zones)))
            programs.attach()
            if not _calibrate(programs, plan.per_cpu_offset):
                self.meta.context = ""
                self.notes.append("calibration saw no allocation of kmwatch's own: the context is unknown")
            self._free_lists = FreeLists(programs, wanted, self._zones)
            programs.detach(plan.calibrators)
            if self._again and not programs.read_array("config", _CONFIG, Way.RAW)["preempt_depth"][0]:
                programs.detach(copies)
            _enter(programs, Phase.COUNTING)
            self.began, self.meta.start = time.monotonic_ns(), time.time()
        except BaseException:
            programs.close()
            raise
        self._programs = programs
        self.notes += [self._free_lists.doubt] if self._free_lists.doubt else []
        self.trust()  # what was missed until now is of no interest
        self._meter = Meter(programs, self._patience)

    def give_up_copies(self) -> None:
        """Detach the second copies; from now on what their firsts are skipped for is lost."""
        self.programs.detach(tuple(each for each in self.programs.attachments if each.again))

    def stop(self) -> None:
        """Count no more, at once; then detach, which takes a while. The maps stay readable."""
        _enter(self.programs, Phase.STOPPED)
        self._missed = self._skipped()  # what is skipped from now on is not missed
        self.programs.detach()

    def close(self) -> None:
        """Free everything; a second call does no harm."""
        if self._meter:
            self._meter.close()
        if self._programs:
            self._programs.close()
            self._programs = None
        self._kallsyms.close()
        self._module_list.close()

    def formats(self) -> dict[str, str]:
        """The fields of each tracepoint that is attached, as its format file lists them, by "category:event"."""
        texts = {name: self._tracefs.format_text(*name.split(":")) for name in self.plan.status}
        return {name: text.partition("\n\nprint fmt:")[0] for name, text in texts.items() if text}

    def sites(self, addresses: Any) -> Any:
        """The numbers in meta.sites of return addresses."""
        distinct = np.unique(addresses).tolist()
        # A module that came after the symbols were read: its functions would go by the names of what lies before it.
        if any(address not in self._sites for address in distinct):
            modules = _modules(self._module_list)
            if self._modules != modules:
                self._read_symbols()
            self._modules = modules
        return _numbered(addresses, self.site)

    def caches(self, addresses: Any) -> Any:
        """The numbers in meta.caches of caches, given by the addresses of their structs."""
        if any(cache not in self._caches for cache in np.unique(addresses).tolist()):
            self._learn_caches()
        return _numbered(addresses, lambda cache: self._caches.get(cache, 0))

    def site(self, address: int) -> int:
        """The number in meta.sites of a return address; code loaded after the start makes the symbols be read again."""
        if address not in self._sites:
            site = self._symbols.resolve(address)
            if site is UNKNOWN and time.monotonic() - self._symbols_at > self._reload_after:
                self._read_symbols()
                site = self._symbols.resolve(address)
                self._reload_after = min(2 * self._reload_after, _RELOAD_AT_LAST) if site is UNKNOWN else _RELOAD_AFTER
            if site is UNKNOWN:
                return 0
            self.meta.sites.append(site)
            self._sites[address] = len(self.meta.sites) - 1
        return self._sites[address]

    def learn_stacks(self) -> None:
        """Bring meta.stacks up to date."""
        numbers, stacks = self.programs.read_hash("stacks", np.dtype("<u4"), _STACK)
        for number, stack in zip(numbers.tolist(), stacks[:, 0], strict=True):
            if number not in self.meta.stacks:
                frames = stack["frames"][stack["frames"] != 0]
                self.meta.stacks[number] = tuple(self.sites(frames).tolist())

    def learn_memory(self) -> None:
        """Bring up to date meta.failures, the latest of each row with what was free then, and meta.memory."""
        if self._free_lists:
            self.meta.failures[:] = self._free_lists.failures(self.sites, self.caches, self.meta, self.began)
        if time.monotonic() - self._memory_at > _LOOK_AFTER:
            self.meta.memory[:], self._memory_at = zones.running_states(), time.monotonic()

    def _read_symbols(self) -> None:
        self._symbols_at = time.monotonic()
        try:
            self._symbols = Symbols(self._kallsyms.read())
        except NotPossibleError as error:  # hidden since
            self.notes.append(f"code loaded from now on is unknown: {error}")

    def _learn_caches(self) -> None:
        addresses, infos = self.programs.read_hash("caches", np.dtype("<u8"), _CACHE)
        for address, info in zip(addresses.tolist(), infos[:, 0], strict=True):
            if address not in self._caches:
                name = bytes(info["name"]).decode("ascii", "backslashreplace")
                self.meta.caches.append(Cache(name, int(info["object_size"]), int(info["size"])))
                self._caches[address] = len(self.meta.caches) - 1

    def trust(self) -> Trust:
        """What was lost or doubtful since the last call."""
        missed = self._skipped() if self._missed is None else self._missed
        total = Trust(
            lost=missed + self._counter(Counter.LOST),
            map_full=self._counter(Counter.MAP_FULL),
            duplicates_removed=self._counter(Counter.DUPLICATES),
            unknown_site=self._counter(Counter.STACK_FAILED) + self._counter(Counter.STACK_DEEP),
            unknown_task=self._counter(Counter.TASKS_FULL),
            unknown_stack=self._counter(Counter.STACKS_FULL),
        )
        gained = Trust(**{name: value - getattr(self._losses, name) for name, value in vars(total).items()})
        self._losses = total
        return gained

    def _counter(self, which: int) -> int:
        return int(self.programs.read_array("losses", np.dtype("<u8"), which, self.cpus).sum())

    def _skipped(self) -> int:
        """Events that no program saw: those that firsts were skipped for, without those that their copies caught."""
        missed = {each: self.programs.missed(each) for each in self.programs.attachments if not each.again}
        if self._again:
            caught = self.programs.read_arrays("caught", np.dtype("<u8"), self.cpus).sum(axis=1)
            # An ordinary tracepoint's program may not count what it is skipped for: nothing is more than caught.
            missed = {
                each: max(0, count - int(caught[each.probe.kinds[0]])) if each.probe.busy else count
                for each, count in missed.items()
            }
        return sum(missed.values())


def _releasing(copies: tuple[Attachment, ...]) -> tuple[Attachment, ...]:
    return tuple(each for each in copies if {Kind.KFREE, Kind.CACHE_FREE}.intersection(each.probe.kinds))


def _modules(file: Kept) -> list[list[bytes]]:
    """What modules there are and where; how often each is used changes all the time and is left out."""
    try:
        lines = file.read().splitlines()
    except NotPossibleError:  # a kernel without modules
        return []
    return [fields[:2] + fields[5:6] for fields in map(bytes.split, lines)]  # name, size, address


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
    namespace = Path("/proc/self/ns/pid").stat()
    config["per_cpu_offset"], config["own_tgid"] = per_cpu_offset, os.getpid()
    config["own_ns_dev"], config["own_ns_ino"] = namespace.st_dev, namespace.st_ino
    for way in Way:
        programs.write_array("config", config, way)
    with mmap.mmap(-1, _CALIBRATION_PAGES * mmap.PAGESIZE) as pages:
        for at in range(_CALIBRATION_PAGES):
            pages[at * mmap.PAGESIZE] = 1  # a page
            for descriptor in os.pipe():  # a kmalloc, and some cache objects
                os.close(descriptor)
            abilities.programs()  # a vmalloc, of a program
    seen = [programs.read_array("config", _CONFIG, way) for way in Way]
    for way, config in zip(Way, seen, strict=True):
        config["self_tgid"] = max(each["self_tgid"] for each in seen)
        programs.write_array("config", config, way)
    programs.write_array("config", seen[Way.RAW], Way.AGAIN)  # it saw only what its first was skipped for
    return any(config["samples"][0] for config in seen)


def _enter(programs: Programs, phase: Phase) -> None:
    for way in Way:
        config = programs.read_array("config", _CONFIG, way)
        config["phase"] = phase
        programs.write_array("config", config, way)


def _host() -> Host:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return Host(socket.gethostname(), platform.release(), boot, os.cpu_count() or 1)
