"""Tables that grow while a text is read: keys, who ran, and when."""

from collections.abc import Callable, Sequence

import numpy as np

from kmwatch.batch import Rows, Task
from kmwatch.events import KEY_TYPE, Array
from kmwatch.sources.text.places import MOST
from kmwatch.sources.text.words import Key

_MOST_KEYS = 1 << 20
_MOST_MEMO = 1 << 16
_TASK, _PID = 16, 34  # bits below a task's number, of which there are at most MOST, and below a thread id
_MOST_CPU, _MOST_PID = (1 << 16) - 1, (1 << 30) - 1  # the kernel's PID_MAX_LIMIT is 2^22
_SECOND = 1_000_000_000
_MOST_SECONDS, _LONGEST_SECONDS = 9_200_000_000, 9  # seconds and digits: what 64 bits hold in nanoseconds


class Keys:
    """Numbers for keys, in order of first sight."""

    def __init__(self) -> None:
        self._numbers: dict[Key, int] = {}
        self._rows: Rows = np.zeros(1024, KEY_TYPE)

    @property
    def rows(self) -> Rows:
        """The keys so far."""
        return self._rows[: len(self._numbers)]

    def number(self, key: Key) -> int:
        """The number of a key; -1 where there is no room for one more."""
        number = self._numbers.get(key)
        if number is None:
            number = len(self._numbers)
            if number >= _MOST_KEYS:
                return -1
            if number >= len(self._rows):
                self._rows = np.concatenate([self._rows, np.zeros_like(self._rows)])
            self._rows[number] = key
            self._numbers[key] = number
        return number


class Threads(dict[str, int]):
    """Thread id, task number and CPU for the head of a line, packed in one number; fills the table of tasks.

    Args:
        who: reads a head as command name, thread id and CPU.
        tasks: the table to fill, as Meta.tasks.
    """

    def __init__(self, who: Callable[[str], tuple[str, int, int]], tasks: dict[int, Task]) -> None:
        super().__init__()
        self._who, self._tasks = who, tasks
        self._numbers = {"": 0}
        self.full = 0

    def __missing__(self, head: str) -> int:
        comm, pid, cpu = self._who(head)
        number = self._numbers.get(comm)
        if number is None:
            if len(self._tasks) >= MOST:
                number = 0
                self.full += 1
            else:
                number = self._numbers[comm] = len(self._tasks)
                self._tasks[number] = Task(comm)
        if len(self) >= _MOST_MEMO:
            self.clear()
        packed = min(pid, _MOST_PID) << _PID | number << _TASK | min(cpu, _MOST_CPU)
        self[head] = packed
        return packed

    def columns(self, heads: Sequence[str]) -> tuple[Array, Array, Array]:
        """Thread ids, task numbers and CPUs of many heads."""
        return self.unpacked(np.fromiter(map(self.__getitem__, heads), np.uint64, len(heads)))

    @staticmethod
    def unpacked(packed: Array) -> tuple[Array, Array, Array]:
        """The same of what is packed."""
        tasks = packed >> np.uint64(_TASK) & np.uint64((1 << _PID - _TASK) - 1)
        return packed >> np.uint64(_PID), tasks, packed & np.uint64(_MOST_CPU)


def pid_of(packed: int) -> int:
    """The thread id in what Threads gives."""
    return packed >> _PID


class Clock:
    """Nanoseconds since the first event, which is where the clock starts.

    ticks: the text counts something other than seconds; they are taken for nanoseconds.
    back: events that are earlier than the first: they are put beside it.
    """

    def __init__(self) -> None:
        self._first: int | None = None
        self.ticks = False
        self.back = 0

    def of(self, texts: Sequence[str]) -> Array:
        """Times for texts of digits with a point, or without: those are no seconds."""
        times = _even_times(texts)
        if times is None:
            times = np.fromiter(map(self._time, texts), np.int64, len(texts))
        return self.since_first(times)

    def since_first(self, times: Array) -> Array:
        """The same for nanoseconds, which are changed in place."""
        if self._first is None:
            self._first = int(times[0])
        # Both are positive: the difference fits.
        times -= self._first
        early = times < 0
        if early.any():
            self.back += int(early.sum())
            times[early] = 0
        return times

    def _time(self, text: str) -> int:
        whole, _, decimals = text.partition(".")
        if not decimals:
            self.ticks = True
            return int(whole)
        return min(int(whole), _MOST_SECONDS) * _SECOND + int(decimals.ljust(9, "0"))


def _even_times(texts: Sequence[str]) -> Array | None:
    """Nanoseconds, where all texts have their point at one place and are equally long; None otherwise."""
    width, point = len(texts[0]), texts[0].find(".")
    if point < 0 or point > _LONGEST_SECONDS or set(map(len, texts)) != {width}:
        return None
    letters = np.frombuffer("".join(texts).encode("ascii"), np.uint8).reshape(len(texts), width)
    if not (letters[:, point] == ord(".")).all():
        return None
    digits = np.delete(letters, point, axis=1).astype(np.int64) - ord("0")
    scale = 10 ** np.arange(width - 2, -1, -1, dtype=np.int64)
    times: Array = (digits @ scale) * 10 ** (10 + point - width)
    return times
