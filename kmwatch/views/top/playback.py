"""The time line of a source that can be paused, sought in, and played at another speed."""

from collections.abc import Callable
from datetime import datetime
from typing import ClassVar, Protocol, runtime_checkable

from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.widget import Widget

from kmwatch.units import seconds

STEP = 5.0
"""Seconds that an arrow key goes; a hundredth of all where that is more."""

BINDINGS: list[BindingType] = [
    Binding(keys, f"play('{name}')", show=False, priority=True)
    for keys, name in (
        ("left", "back"),
        ("right", "forward"),
        ("home", "begin"),
        ("end", "end"),
        ("minus", "slower"),
        ("plus,equals_sign", "faster"),
    )
]
FOOTER = (("← →", "seek"), ("- +", "speed"))

_SHORTEST_BAR = 12
_LONGEST_STATE = 10


@runtime_checkable
class Playable(Protocol):
    """The controls of a source that replays; all may be used from any thread.

    begin, end, length, position: seconds; all but the length since the recording began.
    """

    begin: float
    end: float

    @property
    def length(self) -> float:
        """From begin to end."""
        ...

    @property
    def position(self) -> float:
        """Where the batches go to, or will."""
        ...

    @property
    def speed(self) -> float:
        """Recorded seconds in each second; inf for as fast as possible."""
        ...

    @property
    def paused(self) -> bool:
        """Whether it stands still."""
        ...

    @property
    def seeking(self) -> bool:
        """Whether what it gives does not yet go to where was asked last."""
        ...

    @property
    def at_end(self) -> bool:
        """Whether all has been given."""
        ...

    def stay(self) -> None:
        """Stay at the end instead of ending there."""

    def pause(self) -> None:
        """Stand still."""

    def resume(self) -> None:
        """Go on."""

    def seek(self, seconds: float) -> None:
        """Go to a time."""

    def faster(self) -> None:
        """Double the speed."""

    def slower(self) -> None:
        """Halve the speed."""


def _step(source: Playable) -> float:
    return max(STEP, source.length / 100)


_ACTS: dict[str, Callable[[Playable], None]] = {
    "back": lambda source: source.seek(source.position - _step(source)),
    "forward": lambda source: source.seek(source.position + _step(source)),
    "begin": lambda source: source.seek(source.begin),
    "end": lambda source: source.seek(source.end),
    "slower": lambda source: source.slower(),
    "faster": lambda source: source.faster(),
    "pause": lambda source: source.resume() if source.paused else source.pause(),
}


class TimeLine(Widget):
    """One line: position, bar, length, speed, state, and what a clock showed. A click on the bar seeks.

    Args:
        source: what is played.
        start: when the recording began, in seconds since the epoch; 0.0 where unknown.
    """

    DEFAULT_CSS = "TimeLine { height: 1; }"
    FILLED: ClassVar[str] = "bold"

    def __init__(self, source: Playable, start: float) -> None:
        super().__init__()
        self._source, self._start = source, start

    def act(self, name: str) -> None:
        """Do what a key is for."""
        _ACTS[name](self._source)
        self.refresh()

    def render(self) -> Text:
        """The line as it is now."""
        left, bar, right = line_parts(self._source, self._start, self.size.width)
        place = _place(self._source, bar)
        return Text.assemble(left, ("━" * place + "●", self.FILLED), "─" * (bar - place - 1), right, no_wrap=True)

    def on_click(self, event: events.Click) -> None:
        """Go to what the bar has there; its first character is the beginning, its last the end."""
        left, bar, _ = line_parts(self._source, self._start, self.size.width)
        if len(left) <= event.x < len(left) + bar:
            part = (event.x - len(left)) / max(bar - 1, 1)
            self._source.seek(self._source.begin + part * self._source.length)
            self.refresh()


def line_parts(source: Playable, start: float, width: int) -> tuple[str, int, str]:
    """What stands before the bar, how long that is, and what stands after it."""
    end = seconds(source.end)
    left = f"{seconds(source.position):>{max(len(end), 5)}} "
    state = state_of(source).ljust(_LONGEST_STATE)
    date, clock = clock_at(start, source.position) if start else ("", "")
    speed = f"{speed_text(source.speed):>4}"
    # From all there is to say to what must be said.
    choices = (
        [end, speed, state, f"{date} {clock}".strip()],
        [end, speed, state, clock],
        [end, speed, state],
        [speed, state],
        [state],
    )
    for parts in choices:
        right = " " + "  ".join(filter(None, parts))
        bar = width - len(left) - len(right)
        if bar >= _SHORTEST_BAR:
            break
    return left, max(bar, 1), right


def state_of(source: Playable) -> str:
    """What it does."""
    if source.seeking:
        return "seeking"
    if source.at_end:
        return "at the end"
    return "paused" if source.paused else "playing"


def speed_text(speed: float) -> str:
    """A speed as `1x`, `64x`, `1/8x` or `max`."""
    if speed == float("inf"):
        return "max"
    whole = round(1 / speed)
    return f"1/{whole}x" if speed < 1 and whole * speed == 1 else f"{speed:.3g}x"


def clock_at(start: float, position: float) -> tuple[str, str]:
    """The date and the time that a clock here showed; empty where there is no such date."""
    try:
        shown = datetime.fromtimestamp(start + position).astimezone()
    except (ValueError, OverflowError, OSError):
        return "", ""
    return f"{shown:%Y-%m-%d}", f"{shown:%H:%M:%S}"


def _place(source: Playable, bar: int) -> int:
    """Where in the bar the position is."""
    part = (source.position - source.begin) / source.length if source.length > 0 else 1.0
    return round(min(max(part, 0.0), 1.0) * (bar - 1))
