"""Many captures as one source: one Meta that grows, and batches in its numbers, capture by capture."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np

from kmwatch.batch import ROW, Batch, Meta, Task
from kmwatch.demand import Demand
from kmwatch.errors import BadInputError
from kmwatch.fleet.layout import Place
from kmwatch.fleet.merging import Merging, Tell, sum_of
from kmwatch.held import Held
from kmwatch.sources.fleet.engine import Engine, Opening, Skipped, opened_each

TOLD_APART: dict[str, Tell] = {
    "comm": lambda task, _: Task(task.comm),
    "cgroup": lambda task, _: Task(task.comm, task.cgroup),
    "host": lambda task, host: Task(task.comm, host=host.hostname),
    "kernel": lambda task, host: Task(task.comm, kernel=host.kernel),
}
"""What rows of a task are told apart by, by the name of the dimension."""


@dataclass(frozen=True)
class Member:
    """One capture of a fleet: its batches in numbers of its own meta, and the same in those of the fleet."""

    name: str
    meta: Meta
    batches: Sequence[Batch]
    translated: Sequence[Batch]


class FleetSource:
    """Captures at these places.

    Args:
        places: one at least.
        opening: opens each with what is chosen of it.
        engine: adds them up.
        by: the dimension that rows are told apart by, beside those that they always are.

    skipped: those that could not be read, as far as the iteration has come. Iterating raises BadInputError where there
    is no other.
    """

    def __init__(self, places: Sequence[Place], opening: Opening, engine: Engine, by: str | None = None) -> None:
        self._places, self._opening, self._engine = places, opening, engine
        self._merging = Merging(TOLD_APART.get(by or ""))
        self.meta = self._merging.meta
        self.notes: list[str] = []
        self.skipped: list[Skipped] = []
        self._held: list[Held] = []
        self._stopped = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the iteration soon, from any thread."""
        self._stopped = True

    def members(self) -> Iterator[Member]:
        """Each capture that can be read, in the order of their names."""
        found = False
        for folded in self._engine.fold(self._places, self._opening):
            if self._stopped:
                return
            if isinstance(folded, Skipped):
                self._skip(folded)
                continue
            found = True
            name, meta = folded.place.name, folded.meta
            translation = self._merging.translation(name, meta)
            self._held += [translation.held(each.held) for each in folded.batches if each.held]
            yield Member(name, meta, folded.batches, [translation.batch(each) for each in folded.batches])
        if not found:
            self._refuse()

    def __iter__(self) -> Iterator[Batch]:
        """Batches of one capture after another; a last one, without rows, tells what all of them hold."""
        end = 0.0
        for member in self.members():
            for batch in member.translated:
                end = max(end, batch.start + batch.seconds)
                yield batch
        if held := self.held():
            yield Batch(np.zeros(0, ROW), end, 0.0, held=held)

    def held(self) -> Held | None:
        """What all captures so far hold together; None where that was not asked for."""
        return sum_of(self._held)

    def demand(self) -> Iterator[Demand]:
        """In place of batches: the sizes that kmalloc was asked for, exactly."""
        found = False
        for opened in opened_each(self._places, self._opening):
            if self._stopped:
                return
            if isinstance(opened, Skipped):
                self._skip(opened)
                continue
            found, (place, source) = True, opened
            translation = self._merging.translation(place.name, source.meta)
            for demand in source.demand():
                yield translation.demand(demand)
        if not found:
            self._refuse()

    def _skip(self, skipped: Skipped) -> None:
        self.skipped.append(skipped)
        self.meta.doubts.append(f"{skipped.place.name} is in no number: {skipped.reason}")

    def _refuse(self) -> None:
        why = f": {self.skipped[0].place.name}: {self.skipped[0].reason}" if self.skipped else ""
        raise BadInputError(f"none of {len(self._places):,} captures has anything that was asked for{why}")
