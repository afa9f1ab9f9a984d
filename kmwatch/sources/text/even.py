"""Chunks whose lines are all plain slab events, taken apart by columns in place of line by line.

Such a line is `WHO SECONDS.FRACTION: EVENT: call_site=SYMBOL ptr=POINTER REST`. All of it but the time and the pointer
comes again and again, and is numbered: what is new is read as any line is, the rest are gathers from arrays. Where a
chunk is not even in any respect it is read line by line, which is what defines the meaning of a text.
"""

from typing import NamedTuple

import numpy as np

from kmwatch.events import Array, Numbers
from kmwatch.schema import Kind
from kmwatch.sources.text.cuts import WIDEST, Cuts, UnevenError, cells, cuts_of
from kmwatch.sources.text.lines import Line
from kmwatch.sources.text.shapes import PERF, Shape
from kmwatch.sources.text.tables import Threads
from kmwatch.sources.text.words import ALL_SPECS, Spec

_MOST_NUMBERS = 1 << 15
_LINES_PER_NEW = 2  # where more of the lines have something new, the next chunk will as well
_LONGEST_PAUSE = 64  # chunks

_UNKNOWN = (1 << 64) - 1  # there are not as many tasks that a thread is packed as that


class Template(NamedTuple):
    """What lines have in common that differ in time, thread and pointer; quiet: a kfree that ends with its pointer."""

    letters: str
    event: str
    before: str
    after: str
    spec: Spec
    quiet: bool


class Known:
    """The heads and templates so far, by number.

    keys: of an event that did not fail, -1 where it must be looked at; requested: bytes.
    silent: those of NULL are no events, whatever else is known; empty: those of a pointer to nothing are none.
    age: of all but the texts: it becomes void where a cache's sizes become known.
    """

    def __init__(self) -> None:
        self.heads: list[str] = []
        self.templates: list[Template] = []
        self.keys, self.requested = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self.silent, self.empty = np.zeros(0, bool), np.zeros(0, bool)
        self._packed = np.zeros(0, np.uint64)
        self._letters: dict[str, int] = {}
        self.letters = np.zeros(0, np.uint64)
        self.age = 0

    def add_heads(self, found: list[tuple[str, str]]) -> None:
        """Heads, each with the letters after it."""
        self.heads += [head for head, _ in found]
        numbers = [self._letters.setdefault(letters, len(self._letters)) for _, letters in found]
        self.letters = np.append(self.letters, np.array(numbers, np.uint64))
        self._packed = np.append(self._packed, np.full(len(found), _UNKNOWN, np.uint64))

    def packed(self, heads: Array, threads: Threads) -> Array:
        """What `threads` gives for the heads of lines, which it is asked for in their order."""
        packed = self._packed[heads]
        if (packed == _UNKNOWN).any():
            for head in heads[packed == _UNKNOWN].tolist():
                self._packed[head] = threads[self.heads[head]]
            packed = self._packed[heads]
        return packed

    def add_templates(self, found: list[Template]) -> None:
        """Templates of which nothing is known."""
        self.templates += found
        self.keys = np.append(self.keys, np.full(len(found), -1))
        self.requested = np.append(self.requested, np.zeros(len(found), np.int64))
        self.silent = np.append(self.silent, np.zeros(len(found), bool))
        self.empty = np.append(self.empty, np.zeros(len(found), bool))


class Even(NamedTuple):
    """The lines of a chunk: where they are cut, and the numbers of their heads and templates; so many are `new`."""

    text: str
    shape: Shape
    cuts: Cuts
    heads: Array
    templates: Array
    known: Known
    new: int

    def line(self, at: int) -> Line:
        """A line as any other is read; raises UnevenError where it is none."""
        cuts = self.cuts
        match = self.shape.line.fullmatch(self.text, int(cuts.starts[at]), int(cuts.ends[at]))
        if not match or match.start(3) != cuts.times_at[at] or match.end(3) != cuts.colons[at]:
            raise UnevenError
        return Line._make(group or "" for group in match.groups())


class Evens:
    """Takes even chunks apart; where that does not pay it looks at fewer and fewer."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._colons = 3 if shape.kind == PERF else 2  # perf writes the category, `kmem:kfree: `
        self._pause = self._wait = 0
        self._widths = [8, 8, 8]  # bytes of heads, of the words to the pointer, and of those after it
        self._forget()

    def of(self, text: str) -> Even | None:
        """The lines of a chunk; None where it is not even."""
        if self._wait:
            self._wait -= 1
            return None
        if max(map(len, (self._heads, self._templates, self._afters))) > _MOST_NUMBERS:
            self._forget()
        try:
            return self._numbered(text, cuts_of(text, self._colons))
        except UnevenError:
            if (len(self._heads), len(self._templates)) != (len(self._known.heads), len(self._known.templates)):
                self._forget()
            self.judge(paid=False)
            return None

    def judge(self, *, paid: bool) -> None:
        """Whether it has paid to take the last chunk apart."""
        self._pause = 0 if paid else min(2 * self._pause or 1, _LONGEST_PAUSE)
        self._wait = self._pause

    def _forget(self) -> None:
        head, before, after = self._widths
        self._heads, self._templates, self._afters = (Numbers(np.dtype(f"V{at}")) for at in (head, 8 + before, after))
        self._known = Known()

    def _widen(self, cuts: Cuts) -> tuple[int, int, int]:
        """Widths that are enough for a chunk; narrow ones take less time."""
        spans = ((cuts.starts, cuts.times_at), (cuts.colons, cuts.pointers_at), (cuts.pointers_end, cuts.ends))
        widths = [-8 * (int((starts - ends).min()) // 8) for starts, ends in spans]
        if max(widths) > WIDEST:
            raise UnevenError
        if any(new > old for new, old in zip(widths, self._widths, strict=True)):
            self._widths = [max(pair) for pair in zip(widths, self._widths, strict=True)]
            self._forget()
        head, before, after = self._widths
        return head, before, after

    def _numbered(self, text: str, cuts: Cuts) -> Even:
        """Heads first: with the letters after them they tell templates apart, as the words after the pointer do."""
        (head_width, before, after), letters = self._widen(cuts), cuts.letters
        known = self._known
        heads = self._heads.of(cells(letters, cuts.starts, cuts.times_at, head_width))
        even = Even(text, self._shape, cuts, heads, heads, known, 0)
        new_heads = _new(heads, len(known.heads))
        known.add_heads([_head(even, at) for at in new_heads])
        words = np.empty((len(heads), 1 + before // 8), np.uint64)
        words[:, 0] = known.letters[heads] << np.uint64(32)
        rest = np.flatnonzero(cuts.pointers_end != cuts.ends)
        if len(rest):
            words[rest, 0] |= self._afters.of(
                cells(letters, cuts.pointers_end[rest], cuts.ends[rest], after)
            ) + np.uint64(1)
        words[:, 1:] = cells(letters, cuts.colons, cuts.pointers_at, before)
        templates = self._templates.of(words)
        new = _new(templates, len(known.templates))
        known.add_templates([_template(even, at) for at in new])
        return even._replace(templates=templates, new=len(new_heads) + len(new))


def _new(numbers: Array, count: int) -> list[int]:
    """The lines that have a number from `count` on first; raises UnevenError where they are many."""
    rows = np.flatnonzero(numbers >= count)
    if not len(rows):
        return []
    first = np.unique(numbers[rows], return_index=True)[1]
    if len(first) > 16 + len(numbers) // _LINES_PER_NEW:
        raise UnevenError
    lines: list[int] = rows[first].tolist()
    return lines


def _head(even: Even, at: int) -> tuple[str, str]:
    """The head of a line, and the letters after it."""
    line = even.line(at)
    if even.text[even.cuts.starts[at]] == "\t":  # perf's way of writing the frames of a stack
        raise UnevenError
    return line.head, line.letters


def _template(even: Even, at: int) -> Template:
    """The template of a line; raises UnevenError where its words say something else."""
    line, cuts = even.line(at), even.cuts
    spec = ALL_SPECS.get(line.event)
    if not spec or spec.mark != "ptr=" or spec.trim:
        raise UnevenError
    before, mark, rest = line.words.partition(spec.mark)
    if cuts.ends[at] - cuts.pointers_at[at] != len(rest) or not mark:
        raise UnevenError
    after = rest[cuts.pointers_end[at] - cuts.pointers_at[at] + 1 :]
    quiet = spec.kind == Kind.KFREE and before.endswith(" ") and cuts.pointers_end[at] == cuts.ends[at]
    return Template(line.letters, line.event, before, after, spec, bool(quiet))
