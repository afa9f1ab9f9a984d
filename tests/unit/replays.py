"""Replays for tests: a clock that only a test moves, and a source whose reading a test can hold."""

import math
from pathlib import Path

from kmwatch.batch import Batch
from kmwatch.capture.reader import SegmentFile
from kmwatch.sources.capture import CaptureSource
from kmwatch.sources.replay import Clock, ReplaySource
from tests.support import wait_until
from tests.unit import rows
from tests.unit.captures import at, write_capture

PATIENCE = 10.0  # seconds


class ManualClock(Clock):
    """Time passes when tick() says so."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 100.0
        self._asleep: float | None = None

    def now(self) -> float:
        """Seconds."""
        return self._now

    def wait(self, timeout: float | None = None) -> bool:
        """Wait to be told, whatever the time."""
        self._asleep = math.inf if timeout is None else timeout
        return super().wait(PATIENCE)

    def notify_all(self) -> None:
        """Tell whoever waits."""
        self._asleep = None
        super().notify_all()

    def tick(self, seconds: float) -> None:
        """Let time pass; then wait until the source has done what is to be done."""
        with self:
            self._now += seconds
            self.notify_all()
        self.asleep()

    @property
    def waits(self) -> bool:
        """Whether the source waits."""
        return self._asleep is not None

    def asleep(self) -> float:
        """For how long the source waits now, inf for ever; waits until it does."""
        waits = wait_until(lambda: (self._asleep,) if self._asleep is not None else None, PATIENCE, "the source")
        assert waits
        return waits[0]


class Held(CaptureSource):
    """A capture whose folds call `hook` first."""

    def hook(self) -> None:
        """Set by a test."""

    def fold(self, segments: tuple[SegmentFile, ...], span: tuple[float, float] | None) -> Batch:
        """As any capture, after the hook."""
        self.hook()
        return super().fold(segments, span)


def long_capture(directory: Path, length: int = 20) -> Path:
    """One kmalloc of 60 bytes half way through each second: up to second n, n of them."""
    return write_capture(directory, [[at(each + 0.5, rows.kmalloc("f+0x1", 60))] for each in range(length)])


def replay(directory: Path, interval: float = 1.0, speed: float = 0.0, clock: Clock | None = None) -> ReplaySource:
    """A replay, as fast as possible by default."""
    return ReplaySource(Held(directory), interval, speed, clock)
