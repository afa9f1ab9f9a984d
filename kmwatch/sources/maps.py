"""The live source: the ledger that BPF programs keep in the kernel, read as batches of what was added since."""

import threading
import time
from collections.abc import Callable, Collection, Iterator
from types import TracebackType
from typing import Any, Self

import numpy as np

from kmwatch import schema
from kmwatch.batch import COUNTED, KEY, ROW, STACKED, Batch, Cost, Rows, sized
from kmwatch.errors import NotPossibleError
from kmwatch.events import KEY_TYPE
from kmwatch.held import Held, with_releases
from kmwatch.schema import KINDS, Kind, Stacks
from kmwatch.sources.bpf import Programs
from kmwatch.sources.delta import Readings, StackCounts
from kmwatch.sources.held import HeldTable, Hold
from kmwatch.sources.meter import Load
from kmwatch.sources.running import Again, RunningKernel
from kmwatch.sources.sampling import Sampling

_KEY, _VALUE, _FRONT = (schema.dtype(name) for name in ("ledger_key", "ledger_value", "front_row"))
_STACKED = schema.dtype("stacked_key")
_TICK = 0.05  # seconds between two looks at whether to stop


class LiveSource:
    """The running kernel, from entering the context to leaving it.

    Args:
        kinds: what to observe.
        interval: seconds between two batches.
        until: asked all the time; True ends the iteration with one last batch, read after the programs have been
            detached, so that its counts are final.
        restrained: where restrain() shall be possible, the seconds for which the kernel measures the programs' cost, at
            least.
        again: which programs have a second copy; the price is another program for each of their events.
        hold: what to look at of what is held; None where that is not asked.
        stacks: of which events stacks are counted: none, a sample, or all.
    """

    def __init__(
        self,
        kinds: frozenset[Kind],
        interval: float = 1.0,
        until: Callable[[], bool] = lambda: False,
        *,
        restrained: float | None = None,
        again: Again = Again.NONE,
        hold: Hold | None = None,
        stacks: Stacks = Stacks.NONE,
    ) -> None:
        kinds = with_releases(kinds) if hold else kinds
        self._interval, self._until, self._kinds = interval, until, kinds
        self._kernel = RunningKernel(kinds, pointers=hold is not None, patience=restrained or 0.0)
        self._hold = hold
        if hold and hold.sure and again == Again.NONE:
            again = Again.RELEASES
        self._held: HeldTable | None = None
        self._stacks, self._stacked = stacks, StackCounts()
        self.meta, self.notes = self._kernel.meta, self._kernel.notes
        self._readings, self._restrained, self._again = Readings(), restrained is not None, again
        self._sampling: Sampling | None = None
        self.load = Load.nothing()
        """What the programs did in the last interval."""
        self._stopped = threading.Event()

    def __enter__(self) -> Self:
        defines = {"SAMPLING": 1} if self._restrained else {}
        defines |= {"STACKS": self._stacks} if self._stacks else {}
        self._kernel.open("ledger.c", defines | (self._hold.defines() if self._hold else {}), self._again)
        if self._hold:
            self._held = HeldTable(self._kernel.programs, self._hold)
        if self._restrained:
            self._sampling = Sampling(self._kernel.programs, self._kernel.cpus)
        self._start, (self._read_at, self._cpu_at) = time.time(), _clocks()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kernel.close()
        if self._held:
            self._held.close()

    def __iter__(self) -> Iterator[Batch]:
        due = time.monotonic() + self._interval
        while not (self._until() or self._stopped.is_set()):
            self._stopped.wait(max(0.0, min(_TICK, due - time.monotonic())))
            if time.monotonic() >= due:
                due += self._interval
                yield self.read()
        yield self.finish()

    def stop(self) -> None:
        """End the iteration soon, from any thread."""
        self._stopped.set()

    def finish(self) -> Batch:
        """Detach the programs, and give the last batch, read when none of them runs any more."""
        end = _clocks()
        self._kernel.stop()
        return self.read(end)

    def read(self, end: tuple[float, float] | None = None) -> Batch:
        """What was added since the last reading, up to now or up to `end` (seconds of the clocks of _clocks())."""
        programs, (now, cpu) = self._kernel.programs, end or _clocks()
        start, seconds, own = self._start, now - self._read_at, cpu - self._cpu_at
        self._start, self._read_at, self._cpu_at = start + seconds, now, cpu
        rows = self._rows(*self._readings.gained(*self._ledger(programs)))
        self._kernel.learn_memory()
        self.load = self._loaded(rows, seconds)
        if self._sampling:
            rows = sized(self._sampling.whole(rows, self.load.left_out), self.meta)
        cost = Cost(self.load.cost(), own)
        held = self._read_held()
        stacked = self._read_stacked()
        return Batch(rows, start, seconds, self._kernel.trust(), cost, held=held, stacked=stacked)

    def _read_stacked(self) -> Rows:
        if not self._stacks:
            return np.zeros(0, STACKED)
        keys, counts = self._stacked.gained(*self._kernel.programs.read_hash("stacked", _STACKED, np.dtype("<u8")))
        self._kernel.learn_stacks()
        rows, named = np.zeros(len(keys), STACKED), self._named(keys["key"])
        for name in KEY:
            rows[name] = named[name]
        rows["failed"] &= ~np.uint8(schema.SEEN_AGAIN)
        rows["stack"], rows["count"] = keys["stack"], counts
        return rows

    def _read_held(self) -> Held | None:
        if self._held is None:
            return None
        found = self._held.read(self.meta, self._named)
        if len(found.stacks):
            self._kernel.learn_stacks()
        return found

    def _named(self, keys: Any) -> Rows:
        """Keys of the kernel with the numbers of sites and caches."""
        named = np.zeros(len(keys), KEY_TYPE)
        for name in KEY:
            if name not in ("site", "cache"):
                named[name] = keys[name]
        named["site"], named["cache"] = self._kernel.sites(keys["site"]), self._kernel.caches(keys["cache"])
        return named

    def is_readable(self) -> bool:
        """Whether the kernel lets this process read its own tables, with the privileges that it has now."""
        try:
            self._ledger(self._kernel.programs)
        except NotPossibleError:
            return False
        return True

    def restrain(self, dropped: Collection[Kind], bits: int) -> None:
        """Leave these kinds out, and of allocations keep one of 2^bits; () and 0 keep all.

        The second copies go the first time, for good: it takes privileges to attach them.
        """
        if self._sampling is None:
            raise NotPossibleError("this source was not made to be restrained")
        if self._again != Again.NONE:
            self._kernel.give_up_copies()
            self._again = Again.NONE
        self._sampling.choose(dropped, bits)

    def measure_on(self, needed: bool) -> None:
        """Say whether the kernel's own measuring is still needed; once it was not, it cannot begin again."""
        self._kernel.meter.needed = needed

    def _loaded(self, rows: Rows, seconds: float) -> Load:
        meter = self._kernel.meter
        measured = meter.look(usual=not (self._sampling and self._sampling.is_on))
        left_out = self._sampling.gained() if self._sampling else np.zeros(KINDS, np.int64)
        kept = np.bincount(rows["kind"], rows["count"], minlength=KINDS).astype(np.int64)
        again = meter.seconds_again() * (self._again != Again.NONE)
        return Load(seconds, kept, left_out, meter.seconds_by_kind(), again, measured)

    def fill(self) -> dict[str, tuple[int, int]]:
        """How many entries the tables in the kernel have and can have, by name, as of the last reading."""
        programs = self._kernel.programs
        used = self._used | ({"held": self._held.used} if self._held else {})
        return {name: (entries, programs.room(name)) for name, entries in used.items()}

    @property
    def slice_length(self) -> float:
        """Seconds between two batches."""
        return self._interval

    @property
    def attached(self) -> int:
        """How many programs are attached."""
        return self._kernel.programs.attached

    def _ledger(self, programs: Programs) -> tuple[Any, Any]:
        """All keys and values, of every CPU and from both places where rows are kept."""
        keys, values = programs.read_hash("ledger", _KEY, _VALUE, self._kernel.cpus)
        fronts = programs.read_arrays("fronts", _FRONT, self._kernel.cpus)
        taken = fronts[fronts["key"]["kind"] != 0]
        self._used = {"ledger": len(keys), "fronts": len(taken) // self._kernel.cpus}
        return (
            np.concatenate([np.repeat(keys, self._kernel.cpus), taken["key"]]),
            np.concatenate([values.ravel(), taken["value"]]),
        )

    def _rows(self, keys: Any, values: Any) -> Rows:
        rows = np.zeros(len(keys), ROW)
        named = self._named(keys)
        for name in KEY:
            rows[name] = named[name]
        rows["failed"] &= ~np.uint8(schema.SEEN_AGAIN)
        for name in COUNTED:
            rows[name] = values[name]
        wanted = np.isin(rows["kind"], [int(kind) for kind in self._kinds])
        return sized(rows[wanted], self.meta)


def _clocks() -> tuple[float, float]:
    """Seconds that have passed, and seconds of CPU time that this process took."""
    return time.monotonic(), time.process_time()
