"""The lines of a chunk: what each event line has in front of its words, and what the others are."""

from operator import itemgetter
from typing import NamedTuple

from kmwatch.sources.text import shapes
from kmwatch.sources.text.doubts import KEPT_LINES, Doubts

_STACK_TRACE = (
    "<stack trace"  # what ftrace writes over the stack of the event before; trace-cmd writes a blank after it
)
_OTHER = itemgetter(-1)
_NEAR = 64  # lines between an event and its stack: other CPUs write as well


class Line(NamedTuple):
    """An event: everything as text, and the lines of its stack; `head` tells who and which CPU. `other` is empty."""

    head: str
    letters: str
    time: str
    event: str
    words: str
    stack: str
    other: str


class Lines:
    """Takes chunks apart.

    rows: event lines so far, those of stacks included.
    lost: events that lines say are missing; unsaid: such lines without a number.
    """

    def __init__(self, shape: shapes.Shape, doubts: Doubts) -> None:
        self._shape, self._doubts = shape, doubts
        self._text, self._first, self._cursor = "", 1, 0
        self.rows = self.lost = self.unsaid = 0

    def of(self, text: str) -> list[Line]:
        """The event lines of the next chunk, in order."""
        self._begin(text, text.count("\n") + (not text.endswith("\n")))
        found: list[Line] = self._shape.line.findall(text)  # plain tuples: a chunk has tens of thousands
        if any(map(_OTHER, found)):
            found = self._with_others(found)
        self.rows += len(found)
        return _with_stacks(found) if _STACK_TRACE in text else found

    def count(self, text: str, rows: int) -> None:
        """The next chunk, whose lines are all event lines and taken apart elsewhere."""
        self._begin(text, rows)
        self.rows += rows

    def _begin(self, text: str, count: int) -> None:
        self._first, self._text, self._cursor = self._doubts.lines + 1, text, 0
        self._doubts.lines += count

    def skip(self, line: str) -> None:
        """Count a line that is not understood."""
        number = 0
        if self._doubts.strict or len(self._doubts.first) < KEPT_LINES:
            place = self._text.find(f"{line}\n", self._cursor)
            place = place if place >= 0 else max(self._text.rfind(line), 0)  # at the end, without one
            number = self._first + self._text.count("\n", 0, place)
            self._cursor = place + 1
        self._doubts.skip(number, line)

    def _with_others(self, rows: list[Line]) -> list[Line]:
        """The event lines, those among the others as well, each of these with the frames that follow it."""
        found: list[Line] = []
        frames: dict[int, list[str]] = {}
        last = -1  # in `found`, where frames may follow that are still to be taken
        for row in rows:
            text = row[-1]
            if last >= 0 and text.startswith(shapes.FRAME_MARKS) and len(text) <= shapes.LONGEST:
                frames.setdefault(last, []).append(text)
                continue
            line = self._other(text) if text else row
            last = len(found) if text and line else -1
            if line:
                found.append(line)
        for at, texts in frames.items():
            found[at] = Line._make([*found[at][:5], "\n".join(texts), ""])
        return found

    def _other(self, line: str) -> Line | None:
        """A line that is no usual event line: perhaps one with a strange command name."""
        if len(line) > shapes.LONGEST:
            self.skip(line)
            return None
        match = self._shape.slow.fullmatch(line)
        if match:
            return Line._make([*(group or "" for group in match.groups()), ""])
        lost = shapes.lost_events(line)
        if lost is not None:
            self.lost += lost
            self.unsaid += not lost
        elif not shapes.is_remark(line):
            self.skip(line)
        return None


def _with_stacks(lines: list[Line]) -> list[Line]:
    """A stack that ftrace writes as a line of its own goes to the thread's last event on that CPU, and its line out."""
    found: list[Line | None] = list(lines)
    for at, row in enumerate(lines):
        head, _, _, event, words, stack, _ = row
        if not words.lstrip().startswith(_STACK_TRACE) or event not in ("", "kernel_stack"):
            continue
        found[at] = None
        for before in range(at - 1, max(at - _NEAR, -1), -1):
            line = found[before]
            if line is not None and line[0] == head:
                found[before] = Line._make([*line[:5], line[5] or stack, ""])
                break
    return [line for line in found if line is not None]
