"""Allocation failures out of a kernel log: dmesg, journalctl, kern.log, a serial console, Linux 2.6.32 to today.

The kernel reports a failure with a call trace and the state of its zones (warn_alloc() in mm/page_alloc.c,
warn_alloc_failed() before Linux 4.9, slab_out_of_memory() in mm/slub.c). Each becomes one failed event, and a Failure
with what the report says.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kmwatch.batch import NO_TASK, Cache, Host, Meta, Rows, Task, Trust
from kmwatch.events import KEY_TYPE, Segment, empty_columns
from kmwatch.failures import MOST_KEPT, Failure
from kmwatch.kernel.gfp import built_in
from kmwatch.kernel.slab import AllocatorLimits
from kmwatch.kernel.symbols import Site
from kmwatch.schema import NO_ZONE, Context, Kind
from kmwatch.sources.text import old_gfp
from kmwatch.sources.text.doubts import counted
from kmwatch.sources.text.log_lines import Clock, Line, has_prefix, lines
from kmwatch.sources.text.log_report import SPAN, Report, head_of, kernel_of
from kmwatch.sources.text.masks import Masks
from kmwatch.sources.text.stream import Stream
from kmwatch.units import number
from kmwatch.watermarks import version_of

_EVENTS = 1 << 15  # of a segment
_MOST_OPEN = 64  # reports that are being read at one time, each of another caller
_MOST_TABLE = 1 << 16
_LARGEST_ORDER = 63
_LONGEST = 200
_HEADS = ("page allocation failure", "nable to allocate memory on", "vmalloc: allocation failure", "vmalloc error")
# Without an open report only such lines matter.
_TELLING = re.compile(
    r"llocation failure|nable to allocate memory on|vmalloc error|callbacks suppressed|allocation stalls|"
    r"Linux version |ainted|emory cgroup out of memory|as a result of limit of|invoked oom-killer"
)
_SUPPRESSED = re.compile(r"(?:warn_alloc|warn_alloc_failed|slab_out_of_memory): (\d{1,9}) callbacks suppressed")
_STALLS = re.compile(r"page allocation stalls for (\d{1,12})ms")
_CGROUP = re.compile(r"emory cgroup out of memory|killed as a result of limit of")
_BANNER = re.compile(r"Linux version (\d{1,2}\.\d{1,3}[\w.+~-]{0,80})")
_KINDS = {"page": Kind.PAGE_ALLOC, "slab": Kind.CACHE_ALLOC, "vmalloc": Kind.VMALLOC}

Event = tuple[int, int, int, int, int, int, int]
"""Time in nanoseconds, key, bytes requested, pid, task, stack, CPU."""


def looks_like(head: str) -> bool:
    """Whether a text that begins so is a kernel log: most of its first lines have its prefixes, or one is a report."""
    some = [line for line in head[: 1 << 16].split("\n")[:100] if line.strip()]
    if any(has_prefix(line) for line in some[:1]) and sum(map(has_prefix, some)) * 2 > len(some):
        return True
    return any(word in line[:512] for line in some for word in (*_HEADS, "Linux version "))


class KernelLog:
    """A recorder over a kernel log.

    Args:
        path: the log, `-` for standard input; or a stream of it.
        kallsyms: not used: the kernel names the functions in its log itself.
        strict: a line that looks like a report's and is not understood is an error (BadInputError).

    Raises BadInputError where the log cannot be read.
    """

    kind = "kernel log"

    def __init__(self, path: Path | Stream, kallsyms: Path | None = None, strict: bool = False) -> None:
        self._stream = path if isinstance(path, Stream) else Stream(path, lambda _read, _total: None)
        self.doubts = self._stream.doubts
        self.doubts.strict = strict or self.doubts.strict
        if kallsyms:
            self.doubts.note("a kernel log names the functions itself: the symbols given are not used")
        limits = AllocatorLimits(source="the usual values of x86-64 (a kernel log does not tell)")
        probes = {
            "kernel log": "failures that the kernel reported; at most ten in five seconds, none with __GFP_NOWARN"
        }
        self.meta = Meta(
            Host("unknown", "unknown", "", 1), built_in(), limits, (), probes, "the call trace of each failure"
        )
        # What the kernel warned of had no __GFP_NOWARN: a GFP_NOWAIT is that of before Linux 6.7.
        self._masks, self._clock = Masks(silent_nowait=False), Clock(self.doubts)
        self._keys: dict[tuple[int, ...], int] = {}
        self._sites: dict[Site, int] = {site: at for at, site in enumerate(self.meta.sites)}
        self._caches: dict[Cache, int] = {cache: at for at, cache in enumerate(self.meta.caches)}
        self._stacks: dict[tuple[int, ...], int] = {}
        self._tasks: dict[str, int] = {NO_TASK.comm: 0}
        self._open: dict[str, Report] = {}
        self._events: list[Event] = []
        self._trust = Trust()
        self._kernel, self._cgroup_at = "", -SPAN
        self._stalls = self._longest_stall = self._beyond = self._kills = 0

    @property
    def keys(self) -> Rows:
        """The keys so far, dtype KEY_TYPE."""
        return np.array(list(self._keys), KEY_TYPE)

    def segments(self) -> Iterator[Segment]:
        """The failures as events, in the order of time; the log's other lines leave nothing behind."""
        start = 0.0
        try:
            for number, raw in lines(self._stream):
                if self._open or number == 1 or _TELLING.search(raw):
                    self._take(number, self._clock.line(raw))
                if len(self._events) >= _EVENTS:
                    segment = self._segment(start)
                    start = segment.start + segment.seconds
                    yield segment
        finally:
            self._stream.close()
        for caller in list(self._open):
            self._finish(caller)
        self._final_notes()
        if self._events or self._trust != Trust():
            yield self._segment(start)

    def _take(self, number: int, line: Line) -> None:
        """One line: it begins a report, goes on with one, or tells something by itself."""
        text = line.text
        for caller in [one for one, report in self._open.items() if line.seconds > report.line.seconds + SPAN]:
            self._finish(caller)
        if any(word in text for word in _HEADS):
            self._begin(number, line)
        elif self._aside(line):
            pass
        elif report := self._open.get(line.caller):
            if not report.feed(line):
                self._finish(line.caller)
        elif kernel := kernel_of(text):
            self._running(kernel)

    def _begin(self, number: int, line: Line) -> None:
        new, old = head_of(line), self._open.get(line.caller)
        if new is None or new.order > _LARGEST_ORDER:
            self.doubts.skip(number, line.text)
            return
        if old and new.kind == "slab" and old.wants_cache(line):
            return  # the lines that follow go to the report of the page that the slab did not get
        if old and old.kind == "vmalloc" and old.number is None and new.kind == "page":
            old.number, old.names, old.comm, old.order = new.number, new.names, new.comm, new.order
            return
        if old:
            self._finish(line.caller)
        if len(self._open) >= _MOST_OPEN:
            self._finish(next(iter(self._open)))
        new.cgroup = line.seconds <= self._cgroup_at + 1
        self._open[line.caller] = new

    def _aside(self, line: Line) -> bool:
        """Take a line that belongs to no report; whether it was one."""
        text = line.text
        if match := _SUPPRESSED.search(text):
            self._trust.lost += int(match[1])
            self.doubts.lost += int(match[1])
        elif match := _STALLS.search(text):
            self._stalls, self._longest_stall = self._stalls + 1, max(self._longest_stall, int(match[1]))
            if line.caller in self._open:
                self._finish(line.caller)  # what follows belongs to the stall
        elif " invoked oom-killer: " in text:
            self._kills += 1
            if line.caller in self._open:
                self._finish(line.caller)  # its own trace and Mem-Info follow
        elif _CGROUP.search(text):
            self._cgroup_at = line.seconds
            for report in self._open.values():
                report.cgroup = True
        elif match := _BANNER.search(text):
            self._running(match[1])
        else:
            return False
        return True

    def _running(self, kernel: str) -> None:
        """The kernel that the log is of; the first that it names stays the capture's."""
        self._kernel = kernel[:_LONGEST]
        if self.meta.host.kernel == "unknown":
            self.meta.host = Host("unknown", self._kernel, "", 1)

    def _finish(self, caller: str) -> None:
        """A report is whole: an event, and a failure with its detail as long as there is room."""
        report = self._open.pop(caller)
        if report.kernel:
            self._running(report.kernel)
        mask, owner = self._mask(report), report.trace.owner()
        zones, memory = report.memory.zones(), report.memory
        for cut in memory.cut:
            self.doubts.skip(self.doubts.lines, cut)
        may_sleep = self.meta.gfp.may_sleep(mask)
        context = report.trace.context(may_sleep=may_sleep) if report.trace.frames else Context.UNKNOWN
        failure = Failure(
            kind=report.kind, order=report.order, gfp=mask, mode=report.mode[:_LONGEST], comm=report.comm[:_LONGEST],
            pid=min(report.pid, (1 << 32) - 1), seconds=round(report.line.seconds, 6), stamp=report.line.stamp,
            size=report.size, node=report.node, nodes=report.nodes, kernel=self._kernel, context=int(context),
            cache=report.cache, object_size=report.object_size, buffer_size=report.buffer_size,
            site=owner.site.label if owner else "unknown", symbol=owner.name if owner else "unknown",
            caller=caller_frame.site.label if (caller_frame := report.trace.caller()) else "unknown",
            stack=tuple(frame.site.symbol for frame in report.trace.reliable()), zones=zones,
            slabs=tuple(memory.slabs), cgroup=report.cgroup, page_size=memory.page_size,
        )  # fmt: skip
        if len(self.meta.failures) < MOST_KEPT:
            self.meta.failures.append(failure)
        else:
            self._beyond += 1
        self._event(failure, report)

    def _mask(self, report: Report) -> int:
        names = report.names
        if not names and report.number is not None:
            version = version_of(report.kernel or self._kernel)
            names = old_gfp.names(report.number, version)
            era = (
                f"Linux {version[0]}.{version[1]}"
                if version
                else "their time, guessed: the log does not name its kernel"
            )
            self.doubts.note(f"GFP masks without names (up to Linux 4.5) are read by the bits of {era}")
        mask = self._masks(names)
        self.meta.gfp = self._masks.table
        return mask

    def _event(self, failure: Failure, report: Report) -> None:
        frames = report.trace.reliable()
        owner = report.trace.owner()
        site = self._number(self._sites, self.meta.sites, owner.site) if owner else 0
        self._trust.unknown_site += not site
        sites = tuple(self._number(self._sites, self.meta.sites, frame.site) for frame in frames)
        kind, cache, taken = _KINDS[failure.kind], 0, 0
        requested = failure.size
        if failure.kind == "slab" and failure.cache.startswith(("kmalloc-", "size-", "dma-kmalloc-")):
            kind, taken, requested = Kind.KMALLOC, failure.buffer_size, failure.object_size
        elif failure.kind == "slab":
            known = Cache(failure.cache or "unknown", failure.object_size, failure.buffer_size)
            cache = self._number(self._caches, self.meta.caches, known)
        order = failure.order if failure.kind == "page" else 0
        nowhere = {"zone": NO_ZONE, "node": NO_ZONE, "migratetype": NO_ZONE}
        values = {
            "site": site, "cache": cache, "gfp": failure.gfp, "bytes_alloc": min(taken, 0xFFFFFFFF), "kind": int(kind),
            "context": failure.context, "failed": 1, "via": 0, "order": order, **nowhere,
        }  # fmt: skip
        names = KEY_TYPE.names or ()
        key = self._keys.setdefault(tuple(values[name] for name in names), len(self._keys))
        time = round(failure.seconds * 1e9)
        self._events.append(
            (time, key, requested, failure.pid, self._task(failure.comm), self._stack(sites), min(report.cpu, 65535))
        )
        self.doubts.events += 1

    def _task(self, comm: str) -> int:
        if comm and comm not in self._tasks and len(self._tasks) < _MOST_TABLE:
            self._tasks[comm] = len(self._tasks)
            self.meta.tasks[self._tasks[comm]] = Task(comm)
        return self._tasks.get(comm, 0)

    def _stack(self, sites: tuple[int, ...]) -> int:
        if sites and sites not in self._stacks and len(self._stacks) < _MOST_TABLE:
            self._stacks[sites] = len(self._stacks) + 1
            self.meta.stacks[self._stacks[sites]] = sites
        return self._stacks.get(sites, 0)

    @staticmethod
    def _number(numbers: dict[Any, int], table: list[Any], item: Any) -> int:
        """The number of an item of a table; 0, which stands for unknown, where the table is full."""
        if item not in numbers and len(table) < _MOST_TABLE:
            numbers[item] = len(table)
            table.append(item)
        return numbers.get(item, 0)

    def _segment(self, start: float) -> Segment:
        """The events so far as columns; a time before those given already is taken for theirs."""
        events, self._events = sorted(self._events), []
        columns = empty_columns(len(events))
        names = ("time", "key", "requested", "pid", "task", "stack", "cpu")
        for name, values in zip(names, zip(*events, strict=True), strict=False):
            columns[name][:] = values
        np.maximum(columns["time"], round(start * 1e9), out=columns["time"])
        trust, self._trust = self._trust, Trust()
        end = max(self._clock.line("").seconds, start) if not self._open else start
        if events:
            end = max(end, float(columns["time"][-1]) / 1e9)
        return Segment(columns, start, end - start, trust)

    def _final_notes(self) -> None:
        doubts = self.doubts
        for note in sorted(self._masks.notes):
            doubts.note(note)
        if self._stalls:
            stalled = counted(self._stalls, "allocation", "allocations")
            doubts.note(f"{stalled} stalled but did not fail, the longest for {number(self._longest_stall)} ms")
        if self._kills:
            times = counted(self._kills, "time", "times")
            doubts.note(f"the OOM killer ran {times}: it makes room, and no allocation has failed by that")
        if doubts.lost:
            more = counted(doubts.lost, "more failure", "more failures")
            doubts.note(f"the kernel kept {more} to itself (rate limit): counted as lost")
        if self._beyond:
            beyond = counted(self._beyond, "failure", "failures")
            doubts.note(f"{beyond} after the first {number(MOST_KEPT)}: counted without detail")
