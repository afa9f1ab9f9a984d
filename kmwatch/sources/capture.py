"""A capture as a source: folded a few segments at a time, so that memory stays bounded whatever its length."""

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from kmwatch.batch import ROW, STACKED, Batch, Cost, Rows, Trust
from kmwatch.capture.choosing import Choice
from kmwatch.capture.folding import ALWAYS, Folder
from kmwatch.capture.reader import Capture, SegmentFile
from kmwatch.demand import Demand
from kmwatch.errors import UsageError
from kmwatch.held import without_releases
from kmwatch.schema import Kind

_AT_ONCE = 1 << 26  # events folded in one query
_FILES = 256
_FOREVER = 1e9  # seconds


class OutsideError(UsageError):
    """A capture has nothing in the span that is asked for."""


class CaptureSource:
    """The directory of a capture.

    Args:
        path: the directory.
        choice: which events; all by default.
        outstanding: whether a last batch, without rows, tells what is held at the end.
        stacks: whether batches tell the stacks of their events.
        slices: into how many spans of equal length batches are split, at least; 0 for as few batches as can be.

    choice: which events. Raises BadInputError where it is no capture.
    """

    def __init__(
        self,
        path: Path,
        choice: Choice | None = None,
        *,
        outstanding: bool = False,
        stacks: bool = False,
        slices: int = 0,
    ) -> None:
        self.capture = Capture(path)
        self.meta = self.capture.meta
        self.notes: list[str] = []
        self.choice, self._outstanding = choice or Choice(), outstanding
        self._stacks, self._slices = stacks, slices
        self._unreleased = without_releases(_recorded(self.capture)) if outstanding else frozenset()
        if self._unreleased:
            names = ", ".join(kind.name.lower() for kind in sorted(self._unreleased))
            self.notes.append(f"no releases of {names} were recorded: what is held of them is not known")
        self._span: tuple[float, float] | None = None
        self._stopped = False

    def __enter__(self) -> Self:
        self._folder = Folder(self.meta, self.capture.keys, self.choice)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.close()

    def limit(self, begin: float | None, end: float | None) -> None:
        """Give only what lies between, in seconds since the start of the capture; OutsideError for nothing."""
        if begin is None and end is None:
            return
        first = min((segment.start for segment in self.capture.segments), default=0.0)
        last = self.capture.seconds
        begin, end = begin or 0.0, last if end is None else end
        if not max(begin, first) < min(end, last):
            raise OutsideError(f"nothing from {begin:g} s to {end:g} s: it has {first:.1f} s to {last:.1f} s")
        # Where it is not cut, what came shortly before the start or after the end belongs to it.
        self._span = begin if begin > first else -_FOREVER, end if end < last else _FOREVER

    def __iter__(self) -> Iterator[Batch]:
        """Batches of as many segments as fit in one query, or of a slice of their time each."""
        for taken in self._portions():
            if self._slices:
                yield from self._sliced(taken)
            else:
                yield self.fold(taken, self._span)
        if self._outstanding and not self._stopped:
            yield self._held()

    def demand(self) -> Iterator[Demand]:
        """In place of batches: the sizes that kmalloc was asked for, exactly."""
        for taken in self._portions():
            part = self._part(taken, self._span)
            asked = self._folder.sizes(part.files, part.first, part.last, events=part.events)
            yield Demand(True, asked, part.start, part.seconds, part.trust, part.cost)

    def stop(self) -> None:
        """End the iteration soon, from any thread."""
        self._stopped = True

    def fold(self, segments: tuple[SegmentFile, ...], span: tuple[float, float] | None) -> Batch:
        """What these segments have, in a span (seconds since the start of the capture) or in all.

        The events of a damaged segment count as lost. Doubt and cost are kept by segment: a span has all of those of
        the segments that it touches.
        """
        part = self._part(segments, span)
        rows, _ = self._folder.fold(part.files, part.first, part.last, events=part.events)
        return Batch(rows, part.start, part.seconds, part.trust, part.cost, stacked=self._stacked(part))

    def whole(self) -> "Part":
        """All that is wanted of it, in one part."""
        return self._part(tuple(self.capture.segments), self._span)

    def _stacked(self, part: "Part") -> Rows:
        if not self._stacks:
            return np.zeros(0, STACKED)
        return self._folder.stacks(part.files, part.first, part.last, events=part.events)

    @property
    def slice_length(self) -> float:
        """Seconds of a slice, where they are asked for."""
        begin, end = self._bounds()
        return max((end - begin) / max(self._slices, 1), 1e-6)

    def _bounds(self) -> tuple[float, float]:
        """Of all that is wanted; seconds since the start of the capture."""
        begin, end = self._span or (-_FOREVER, _FOREVER)
        first = min((segment.start for segment in self.capture.segments), default=0.0)
        return max(begin, first), max(min(end, self.capture.seconds), first)

    def _sliced(self, segments: tuple[SegmentFile, ...]) -> Iterator[Batch]:
        """Batches of a slice each; doubt, cost and stacks come with the first."""
        part, length, origin = self._part(segments, self._span), self.slice_length, self._bounds()[0]
        lengths = round(origin * 1e9), round(length * 1e9)
        rows, at = self._folder.fold(part.files, part.first, part.last, events=part.events, slices=lengths)
        begin = part.start - self.meta.start
        end = begin + part.seconds
        first, last = int((begin - origin) / length + 1e-6), math.ceil((end - origin) / length - 1e-6)
        # An event may lie a little outside of its segment's span.
        at = np.clip(at, first, max(last - 1, first))
        whole: dict[str, Any] = {"trust": part.trust, "cost": part.cost, "stacked": self._stacked(part)}
        for number in range(first, max(last, first + 1)):
            start, stop = max(begin, origin + number * length), min(end, origin + (number + 1) * length)
            yield Batch(rows[at == number], self.meta.start + start, max(stop - start, 0.0), **whole)
            whole = {}

    def _held(self) -> Batch:
        """What is held at the end of the span, of what was allocated in it; objects are followed from file to file."""
        part = self.whole()
        last = min(part.last, round(self.capture.seconds * 1e9))
        held = self._folder.held(part.files, part.first, part.last, events=part.events, at=last)
        followed = ~np.isin(held.rows["kind"], list(self._unreleased))
        return Batch(np.zeros(0, ROW), part.start + part.seconds, 0.0, held=replace(held, rows=held.rows[followed]))

    def _portions(self) -> Iterator[tuple[SegmentFile, ...]]:
        """As many segments at a time as fit in one query."""
        waiting = deque(self.capture.segments)
        while waiting and not self._stopped:
            taken = [waiting.popleft()]
            while waiting and len(taken) < _FILES and sum(each.events for each in (*taken, waiting[0])) <= _AT_ONCE:
                taken.append(waiting.popleft())
            yield tuple(taken)

    def _part(self, segments: tuple[SegmentFile, ...], span: tuple[float, float] | None) -> "Part":
        trust, cost, files, events = Trust(), Cost(), [], 0
        whole = min((each.start for each in segments), default=0.0), max(map(_end, segments), default=0.0)
        begin, end = span or whole
        first, last = (round(begin * 1e9), round(end * 1e9)) if span else ALWAYS
        wanted = [each for each in segments if each.path and each.events and each.first < last and first <= each.last]
        self.capture.look_at(wanted)
        for segment in segments:
            touched = segment.start < end and begin < segment.start + segment.seconds
            if touched or not span:
                trust.add(segment.trust)
                cost = Cost(cost.kernel + segment.cost.kernel, cost.own + segment.cost.own)
        for segment in wanted:
            if segment.path and self.capture.is_whole(segment):
                files.append(segment.path)
                events += segment.events
            else:
                trust.lost += segment.events
        begin, end = max(begin, whole[0]), min(end, whole[1])
        return Part(files, events, first, last, self.meta.start + begin, max(end - begin, 0.0), trust, cost)


def _recorded(capture: Capture) -> frozenset[Kind]:
    """The kinds that were to be recorded; of a text those that it has."""
    names = capture.manifest.get("kinds")
    if capture.imported:
        return frozenset(map(Kind, np.unique(capture.keys["kind"]).tolist()))
    if not isinstance(names, list):
        return frozenset(Kind)
    return frozenset(kind for kind in Kind if kind.name.lower() in names)


def _end(segment: SegmentFile) -> float:
    return segment.start + segment.seconds


@dataclass(frozen=True)
class Part:
    """Files to fold and how many events they have; the span in nanoseconds; the rest as in Batch."""

    files: list[Path]
    events: int
    first: int
    last: int
    start: float
    seconds: float
    trust: Trust
    cost: Cost
