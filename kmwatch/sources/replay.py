"""A capture given again as it was recorded, second by second; what shows it can stop, seek and change the speed."""

import math
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

import numpy as np

from kmwatch.batch import Batch, Cost, Trust
from kmwatch.capture.reader import SegmentFile
from kmwatch.ledger import Ledger
from kmwatch.sources.capture import CaptureSource

SLOWEST, FASTEST = 1 / 8, 64.0
"""Bounds of what faster() and slower() reach."""
_AT_ONCE = 1 << 22  # events folded between two looks at what is asked
_FILES = 256


class Clock(threading.Condition):
    """What the replay waits on, until it is told something or until a time."""

    def now(self) -> float:
        """Seconds."""
        return time.monotonic()


@dataclass(frozen=True)
class _Move:
    """Where to go from the position, and by which request."""

    end: float
    seek: bool
    request: int


class ReplaySource:
    """The batches of a capture, `interval` seconds of recorded time each, at the pace at which it was recorded.

    After a seek the batches sum up to what was recorded from the beginning to there: where that does not go on from
    what was told, the first of them is `fresh`. The last of them has the `interval` before the new position. Where
    reading does not keep up with the speed, a batch has several intervals.

    All but the iteration may be used from any thread.

    Args:
        capture_source: not yet entered; entered and closed with this one.
        interval: seconds of recorded time.
        speed: recorded seconds in each second; 0 or inf for as fast as possible.
        clock: for tests.
    """

    def __init__(
        self, capture_source: CaptureSource, interval: float = 1.0, speed: float = 1.0, clock: Clock | None = None
    ) -> None:
        self._source, self._interval = capture_source, interval
        self.meta, self.notes = capture_source.meta, capture_source.notes
        self._segments = capture_source.capture.segments
        # An event may lie a little outside of its segment's span.
        spans = [_span(each) for each in self._segments] or [(0.0, 0.0)]
        self._firsts, self._lasts = np.array(spans).T
        self.begin = min((each.start for each in self._segments), default=0.0)
        self.end = max(float(self._lasts.max()), self.begin)
        """What the capture has, in seconds since its start: old segments may have been dropped."""
        self._whole: dict[int, bool] = {}
        self._told: frozenset[int] = frozenset()  # segments whose doubt has been given
        self._changed = clock or Clock()
        self._position = self.begin
        self._speed = speed or math.inf
        self._due: float | None = None
        self._target: float | None = None
        self._requests = 0
        self._paused = self._stopped = self._stays = False

    def __enter__(self) -> Self:
        self._source.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._source.__exit__(kind, error, trace)

    def __iter__(self) -> Iterator[Batch]:
        """The batches to the end of the capture; after stay() until stopped."""
        while (move := self._next()) is not None:
            yield from self._sought(move) if move.seek else self._played(move)

    def stop(self) -> None:
        """End the iteration soon."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._source.stop()

    def stay(self) -> None:
        """Do not end at the end of the capture, one can seek back there; and begin with a batch of nothing."""
        with self._changed:
            self._stays = True
        self.seek(self._position)

    def pause(self) -> None:
        """Give no further batch until resume(); seeking works."""
        self._set_paused(paused=True)

    def resume(self) -> None:
        """Go on."""
        self._set_paused(paused=False)

    @property
    def paused(self) -> bool:
        """Whether it is paused."""
        return self._paused

    def seek(self, seconds: float) -> None:
        """Go to a time in seconds since the start of the capture, or to the nearest that it has."""
        with self._changed:
            target = min(max(seconds, self.begin), self.end)
            if target == self.position > self.begin:
                return
            self._target = target
            self._requests += 1
            self._changed.notify_all()

    @property
    def seeking(self) -> bool:
        """Whether the batches do not yet go to where was asked last."""
        return self._target is not None

    @property
    def position(self) -> float:
        """Where the batches go to, or will when the seek is done: seconds since the start of the capture."""
        target = self._target
        return self._position if target is None else target

    @property
    def length(self) -> float:
        """Seconds from beginning to end."""
        return self.end - self.begin

    @property
    def at_end(self) -> bool:
        """Whether all has been given."""
        return self._target is None and self._position >= self.end

    @property
    def speed(self) -> float:
        """Recorded seconds in each second; inf for as fast as possible."""
        return self._speed

    def faster(self) -> None:
        """Double the speed."""
        self._set_speed(self._speed if self._speed > FASTEST else min(self._speed * 2, FASTEST))

    def slower(self) -> None:
        """Halve the speed."""
        self._set_speed(max(min(self._speed / 2, FASTEST), SLOWEST))

    def _set_speed(self, speed: float) -> None:
        with self._changed:
            self._speed, self._due = speed, None
            self._changed.notify_all()

    def _set_paused(self, *, paused: bool) -> None:
        with self._changed:
            self._paused, self._due = paused, None
            self._changed.notify_all()

    def _next(self) -> _Move | None:
        """What is to be done, when it is; None where nothing more is."""
        with self._changed:
            while not self._stopped:
                if self._target is not None:
                    return _Move(self._target, seek=True, request=self._requests)
                if self._position >= self.end and not self._stays:
                    return None
                if self._position >= self.end or self._paused:
                    self._changed.wait()
                elif steps := self._steps_due():
                    to = self._position + steps * self._interval
                    # What is left by rounding is no interval of its own.
                    end = self.end if to > self.end - 1e-6 else to
                    return _Move(end, seek=False, request=self._requests)
            return None

    def _steps_due(self) -> int:
        """How many intervals are to be given now; waits where there is none, until one may be."""
        now, step = self._changed.now(), self._interval / self._speed
        if self._due is None:
            self._due = now + step
        if now < self._due:
            self._changed.wait(self._due - now)
            return 0
        if not step:
            return 1
        late = int((now - self._due) / step)
        most = max(int(self._speed / self._interval), 1)  # of a second's worth
        self._due = now + step if late >= most else self._due + (late + 1) * step
        return min(late + 1, most)

    def _played(self, move: _Move) -> Iterator[Batch]:
        found = self._fold(self._position, move.end, self._told, move.request)
        if found:
            yield self._arrive(move.end, *found)

    def _sought(self, move: _Move) -> Iterator[Batch]:
        """The sums to an interval before the new position, and that interval; nothing more where asked elsewhere."""
        anew = move.end < self._position + self._interval
        begin, told = (self.begin, frozenset[int]()) if anew else (self._position, self._told)
        stop = max(begin, move.end - self._interval)
        if stop > begin:
            found = self._fold(begin, stop, told, move.request, fresh=anew)
            if found is None:
                return
            yield self._arrive(stop, *found)
            begin, told, anew = stop, self._told, False
        found = self._fold(begin, move.end, told, move.request, fresh=anew)
        if found:
            yield self._arrive(move.end, *found, move.request)

    def _arrive(self, position: float, batch: Batch, told: frozenset[int], request: int | None = None) -> Batch:
        """Note that this batch is given, and with it the seek done, if it was that request."""
        with self._changed:
            self._position, self._told = position, told
            if request == self._requests:
                self._target = self._due = None
        return batch

    def _fold(
        self, begin: float, end: float, told: frozenset[int], request: int, *, fresh: bool = False
    ) -> tuple[Batch, frozenset[int]] | None:
        """A span, and the segments whose doubt is told with it; None where it is not wanted any more."""
        first = begin if begin > self.begin else min(begin, float(self._firsts.min()))
        touched = np.flatnonzero((self._firsts < end) & (self._lasts > first)).tolist() if begin < end else []
        sums, trust = Ledger(self.meta), Trust()
        for piece in self._pieces(touched):
            sums.add(self._source.fold(tuple(self._segments[at] for at in piece), (first, end)))
            if self._stopped or request != self._requests:
                return None
            for at in piece:
                if at not in told:
                    trust.add(self._doubt(at))
        # Doubt and cost of a fold are those of whole segments; here each is to be told once.
        cost = self._cost(touched, begin, end)
        start = self.meta.start + begin
        batch = Batch(sums.rows, start, end - begin, trust, cost, fresh, stacked=sums.stacked)
        return batch, told | frozenset(touched)

    def _pieces(self, touched: list[int]) -> Iterator[list[int]]:
        piece: list[int] = []
        events = 0
        for at in touched:
            events += self._segments[at].events
            if piece and (len(piece) == _FILES or events > _AT_ONCE):
                yield piece
                piece, events = [], self._segments[at].events
            piece.append(at)
        if piece:
            yield piece

    def _doubt(self, at: int) -> Trust:
        """The doubt of a segment; the events of a damaged one are lost."""
        segment = self._segments[at]
        if at not in self._whole:
            self._whole[at] = self._source.capture.is_whole(segment)
        trust = replace(segment.trust)
        trust.lost += 0 if self._whole[at] else segment.events
        return trust

    def _cost(self, touched: list[int], begin: float, end: float) -> Cost:
        """Each segment's cost as far as it lies in the span."""
        kernel = own = 0.0
        for segment in (self._segments[at] for at in touched):
            inside = min(end, segment.start + segment.seconds) - max(begin, segment.start)
            share = max(inside, 0.0) / segment.seconds if segment.seconds else 0.0
            kernel, own = kernel + share * segment.cost.kernel, own + share * segment.cost.own
        return Cost(kernel, own)


def _span(segment: SegmentFile) -> tuple[float, float]:
    """A segment with all its events, in seconds since the start of the capture."""
    begin, end = segment.start, segment.start + segment.seconds
    if not segment.events:
        return begin, end
    return min(begin, segment.first / 1e9), max(end, (segment.last + 1) / 1e9)
