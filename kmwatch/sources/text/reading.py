"""Event lines as numbers of keys, pointers and requested bytes: what is done for every line of a text."""

from typing import NamedTuple

import numpy as np

from kmwatch.batch import KEY, Trust
from kmwatch.events import Array
from kmwatch.schema import Context, Kind, Pair, Via
from kmwatch.sources.text.even import Even
from kmwatch.sources.text.lines import Line, Lines
from kmwatch.sources.text.places import NO_STACK, Places, Stack
from kmwatch.sources.text.shapes import Shape
from kmwatch.sources.text.tables import Keys, Threads, pid_of
from kmwatch.sources.text.words import (
    ALL_SPECS,
    BY_STACK,
    LARGE,
    LEFT_OUT,
    NULLS,
    PLAIN,
    Entry,
    Key,
    Spec,
    Words,
    pointer,
)

_MOST_MEMO = 1 << 17
_MOST_NAMES = 1000
_NULL_ENDS = tuple(f" ptr={null}" for null in NULLS)
_WORD = (1 << 64) - 1
_ZERO_SIZE_PTR = 16  # include/linux/slab.h: what kmalloc(0) returns
_PAIR_LINES = 4096  # between the two reports of one kmalloc: other CPUs write as well
_MOST_PENDING = 4096
_BY_TASK = 1 << 65  # no pointer is that large
_GATHERS = 32  # lines that are filled in while one is looked at
_FEW, _LINES_PER_LOOK = 64, 4  # where more of them are looked at, reading line by line is as fast
_FAILED, _SITE, _VIA, _KIND = (KEY.index(name) for name in ("failed", "site", "via", "kind"))
_FREED = frozenset({int(Kind.KFREE), int(Kind.CACHE_FREE), int(Kind.PAGE_FREE), int(Kind.VFREE), int(Kind.PERCPU_FREE)})


class Read(NamedTuple):
    """One number each for every line; a key below 0 means that the line is no event. Pairs are marked by line."""

    keys: Array
    pointers: Array
    requested: Array
    pairs: list[tuple[int, int]]


class _Place(NamedTuple):
    """A line's number in its chunk, the pointers of those before it (and more), and the chunk's pairs so far."""

    at: int
    pointers: list[int] | Array
    pairs: list[tuple[int, int]]


class _Known(NamedTuple):
    """What is known of lines with the same words: the key of one that did not fail, -1 where it must be looked at."""

    number: int
    requested: int
    entry: Entry


class _First(NamedTuple):
    """A kmalloc whose call site is inside the allocator, and the line that reports it."""

    line: int
    entry: Entry


class Reading:
    """Reads lines; keeps what it has seen, so that words that come again cost little.

    probes: "category:event" of what was seen, as Meta.probes.
    others, left_out: how many events of each other kind there were.
    without_stack: events by kind whose owner only a stack would tell.
    """

    def __init__(self, shape: Shape, lines: Lines, words: Words, places: Places, threads: Threads) -> None:
        self._shape, self._lines, self._words, self._places, self._threads = shape, lines, words, places, threads
        self.keys, self.trust = Keys(), Trust()
        self.probes: dict[str, str] = {}
        self.others: dict[str, int] = {}
        self.without_stack: dict[int, int] = {}
        self.context = False
        self._memo: dict[tuple[str, str, str, str], _Known] = {}
        self._contexts: dict[str, int] = {"": int(Context.UNKNOWN)}
        self._pending: dict[int, _First] = {}
        self._freeing: set[str] = set()  # kfree's names in the text: one in four can be of NULL, and is told by its end
        self._line = self._learned = 0
        self._recent: list[int] = []  # pointers of the lines before

    def read(self, lines: list[Line]) -> Read:
        """Every line of a chunk."""
        keys, pointers, requests, pairs = list[int](), list[int](), list[int](), list[tuple[int, int]]()
        add_key, add_pointer, add_bytes = keys.append, pointers.append, requests.append
        specs, memo, freeing = ALL_SPECS, self._memo, self._freeing
        for line in lines:
            _, letters, _, event, words, _, _ = line
            spec = specs.get(event)
            if spec is None:
                self._count_other(event)
                add_key(-1), add_pointer(0), add_bytes(0)
                continue
            if event in freeing and words.endswith(_NULL_ENDS):
                add_key(-1), add_pointer(0), add_bytes(0)
                continue
            _, _, mark, base, trim = spec
            if mark:
                before, _, after = words.partition(mark)
                text, _, after = after.partition(" ")
                try:
                    value = 0 if text in NULLS else int(text, base)
                except ValueError:
                    value, after = _odd_pointer(words, mark, base)
            else:
                before, after, value = words, "", 0
            if trim:
                before, after = trim(before, after)
            known = memo.get((letters, event, before, after)) or self._learn(letters, event, before, after, spec)
            key, requested, _ = known
            if key < 0 or not _ZERO_SIZE_PTR < value < _WORD:
                key, value = self._special(line, spec, known, value, _Place(len(keys), pointers, pairs))
            add_key(key), add_pointer(value), add_bytes(requested)
        self._line += len(lines)
        self._recent = (self._recent + pointers)[-_PAIR_LINES:]
        return Read(np.array(keys, np.int64), np.array(pointers, np.uint64), np.array(requests, np.int64), pairs)

    def read_even(self, even: Even) -> tuple[Read, bool]:
        """Every line of an even chunk, where only what is new or not plain is looked at; and whether these were few."""
        count, start, work = len(even.templates), 0, even.new
        read = Read(np.zeros(count, np.int64), even.cuts.pointers, np.zeros(count, np.int64), [])
        while start < count:
            looked = self._looked_at(even, start, read)
            work += len(looked) + (count - start) // _GATHERS
            start = self._rest(even, looked, read)
        self._line += count
        self._recent = (self._recent + read.pointers[-_PAIR_LINES:].tolist())[-_PAIR_LINES:]
        return read, work < _FEW + count // _LINES_PER_LOOK

    def _rest(self, even: Even, looked: list[int], read: Read) -> int:
        """Looks at some lines, up to where what is known of templates becomes void; tells where that is."""
        known, null = even.known, even.cuts.null
        for at in looked:
            number, value = int(even.templates[at]), int(read.pointers[at])
            template = known.templates[number]
            if template.quiet and null[at] and template.event in self._freeing:
                known.silent[number], read.keys[at] = True, -1
                continue
            letters, event, before, after, spec, _ = template
            found = self._memo.get((letters, event, before, after)) or self._learn(letters, event, before, after, spec)
            key, read.requested[at], _ = found
            known.keys[number], known.requested[number] = key, found.requested
            if key < 0 or not _ZERO_SIZE_PTR < value < _WORD:
                place = _Place(at, read.pointers, read.pairs)
                key, read.pointers[at] = self._special(even.line(at), spec, found, value, place)
                known.empty[number] |= spec.kind == Kind.KFREE and found.number >= 0 and value <= _ZERO_SIZE_PTR
            read.keys[at] = key
            if known.age != self._learned:
                return at + 1
        return len(read.keys)

    def _looked_at(self, even: Even, start: int, read: Read) -> list[int]:
        """Fill in what is known of the lines from `start` on; tells which are to be looked at."""
        known, numbers, values = even.known, even.templates[start:], read.pointers[start:]
        if known.age != self._learned:
            known.keys[:], known.age = -1, self._learned
        nothing = values <= _ZERO_SIZE_PTR
        left_out = (even.cuts.null[start:] & known.silent[numbers]) | (nothing & known.empty[numbers])
        keys = np.where(left_out, -1, known.keys[numbers])
        read.keys[start:], read.requested[start:] = keys, known.requested[numbers]
        special = (keys < 0) | nothing
        values[left_out] = 0
        lines: list[int] = (start + np.flatnonzero(special & ~left_out)).tolist()
        return lines

    def _learn(self, letters: str, event: str, before: str, after: str, spec: Spec) -> _Known:
        """Words that are new."""
        context = self._contexts.get(letters)
        if context is None:
            if len(self._contexts) >= _MOST_NAMES:
                self._contexts.clear()
            context = self._contexts[letters] = self._shape.context(letters)
        self.context |= context != Context.UNKNOWN
        entry = self._words.entry(event, spec, context, before, after)
        if self._words.learned:
            self._words.learned = False
            self._learned += 1
            self._memo.clear()
        if entry is None:
            return _NOTHING
        self.probes.setdefault(f"{spec.category}:{event.rpartition(':')[2]}", f"imported from {self._shape.kind}")
        number = self.keys.number(entry.key) if entry.mode == PLAIN and not entry.key[_FAILED] and spec.mark else -1
        known = _Known(number, entry.requested, entry)
        if len(self._memo) >= _MOST_MEMO:
            self._memo.clear()
        self._memo[letters, event, before, after] = known
        return known

    def _special(self, line: Line, spec: Spec, known: _Known, value: int, place: _Place) -> tuple[int, int]:
        """The key's number and the pointer of a line that is not plain: failures, owners by stack, pairs."""
        entry, kind = known.entry, spec.kind
        if known is _NOTHING or not -1 <= value <= _WORD:
            self._lines.skip(f"{line[3]}: {line[4]}")
            return -1, 0
        if kind == Kind.KFREE and value <= _ZERO_SIZE_PTR:
            self._freeing.add(line[3])
            return -1, 0  # as in bpf/observe.h: nothing is freed
        key = entry.key
        if kind == Kind.PAGE_ALLOC and value in (-1, 0, _WORD):  # page frame 0 is never handed out
            value = -1
        if value <= 0 and spec.mark and kind not in _FREED:
            value, key = 0, _changed(key, _FAILED, 1)
        if key[_FAILED]:
            value = 0
        if entry.mode == BY_STACK:
            key = self._owned(key, line[5])
        elif entry.mode == LARGE:
            key = self._paired(line, Entry(key, entry.requested, LARGE), value, place)
        number = self.keys.number(key)
        self.trust.map_full += number < 0
        return number, max(value, 0)

    def _owned(self, key: Key, block: str) -> Key:
        """The key of an event without a call site, as bpf/observe.h makes it from the stack."""
        stack = self._places.stack(block) if block else NO_STACK
        self.trust.unknown_site += stack.unknown
        kind = key[_KIND]
        if stack is NO_STACK:
            self.without_stack[kind] = self.without_stack.get(kind, 0) + 1
            return key
        key = _changed(key, _SITE, stack.site)
        if kind == Kind.PAGE_ALLOC:
            return _changed(key, _VIA, stack.via & ~int(Via.PAGE | Via.TRACING))
        return _changed(key, _KIND, _area(stack)) if kind == Kind.VMALLOC else key

    def _paired(self, line: Line, entry: Entry, value: int, place: _Place) -> Key:
        """The key of a large kmalloc, which may be one of two reports: pair_of() in bpf/large.h."""
        handle = value or pid_of(self._threads[line[0]]) | _BY_TASK
        key, at, pairs = entry.key, place.at, place.pairs
        first = self._pending.get(handle)
        if first and self._is_second(first, entry, value, place):
            del self._pending[handle]
            self.trust.duplicates_removed += 1
            pairs.append((at, int(Pair.SECOND)))
            return _changed(key, _VIA, key[_VIA] | first.entry.key[_VIA])
        if self._places.via(key[_SITE]):
            self._pending.pop(handle, None)
            if len(self._pending) >= _MOST_PENDING:
                del self._pending[next(iter(self._pending))]
            self._pending[handle] = _First(self._line + at, entry)
            pairs.append((at, int(Pair.FIRST)))
        return key

    def _is_second(self, first: _First, entry: Entry, value: int, place: _Place) -> bool:
        """Whether it is the same request from elsewhere, soon after, and the memory was not freed in between."""
        if self._line + place.at - first.line > _PAIR_LINES or first.entry.requested != entry.requested:
            return False
        ours, other = list(entry.key), list(first.entry.key)
        same_site = ours[_SITE] == other[_SITE]
        ours[_SITE] = ours[_VIA] = other[_SITE] = other[_VIA] = 0
        since = first.line + 1 - self._line
        between = place.pointers[max(since, 0) : place.at]
        freed = value and (value in between or (since < 0 and value in self._recent[since:]))
        return ours == other and not same_site and not freed

    def _count_other(self, event: str) -> None:
        name = event.rpartition(":")[2][:64] or "functions and notes"
        name = name if name in LEFT_OUT or len(self.others) < _MOST_NAMES or name in self.others else "more"
        self.others[name] = self.others.get(name, 0) + 1


_NOTHING = _Known(-1, 0, Entry((), 0, PLAIN))


def _odd_pointer(words: str, mark: str, base: int) -> tuple[int, str]:
    """A pointer that is not a number, and the words after it; -2 where it is none."""
    text = words.partition(mark)[2].lstrip()
    value = pointer(text, base)
    return -2 if value is None else value, text.partition(" ")[2]


def _changed(key: Key, at: int, value: int) -> Key:
    return (*key[:at], int(value), *key[at + 1 :])


def _area(stack: Stack) -> int:
    return int(Kind.IOREMAP if stack.via & Via.IOREMAP else Kind.VMALLOC if stack.via & Via.VMALLOC else Kind.VMAP)
