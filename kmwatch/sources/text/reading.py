"""Event lines as numbers of keys, pointers and requested bytes: what is done for every line of a text."""

from typing import NamedTuple

from kmwatch.batch import KEY, Trust
from kmwatch.schema import Context, Kind, Pair, Via
from kmwatch.sources.text.lines import Line, Lines
from kmwatch.sources.text.places import NO_STACK, Places, Stack
from kmwatch.sources.text.shapes import Shape
from kmwatch.sources.text.tables import Keys, Threads, pid_of
from kmwatch.sources.text.words import ALL_SPECS, BY_STACK, LARGE, LEFT_OUT, PLAIN, Entry, Key, Spec, Words, pointer

_MOST_MEMO = 1 << 17
_MOST_NAMES = 1000
_WORD = (1 << 64) - 1
_ZERO_SIZE_PTR = 16  # include/linux/slab.h: what kmalloc(0) returns
_PAIR_LINES = 4096  # between the two reports of one kmalloc: other CPUs write as well
_MOST_PENDING = 4096
_BY_TASK = 1 << 65  # no pointer is that large
_FAILED, _SITE, _VIA, _KIND = (KEY.index(name) for name in ("failed", "site", "via", "kind"))
_FREED = frozenset({int(Kind.KFREE), int(Kind.CACHE_FREE), int(Kind.PAGE_FREE), int(Kind.VFREE), int(Kind.PERCPU_FREE)})


class Read(NamedTuple):
    """One number each for every line; a key below 0 means that the line is no event. Pairs are marked by line."""

    keys: list[int]
    pointers: list[int]
    requested: list[int]
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
        self._line = 0
        self._recent: list[int] = []  # pointers of the lines before

    def read(self, lines: list[Line]) -> Read:
        """Every line of a chunk."""
        result = Read([], [], [], [])
        add_key, add_pointer, add_bytes = result.keys.append, result.pointers.append, result.requested.append
        specs, memo = ALL_SPECS, self._memo
        for line in lines:
            _, letters, _, event, words, _, _ = line
            spec = specs.get(event)
            if spec is None:
                self._count_other(event)
                add_key(-1), add_pointer(0), add_bytes(0)
                continue
            _, _, mark, base, trim = spec
            if mark:
                before, _, after = words.partition(mark)
                text, _, after = after.partition(" ")
                try:
                    value = int(text, base)
                except ValueError:
                    value, after = _odd_pointer(words, mark, base)
            else:
                before, after, value = words, "", 0
            if trim:
                before, after = trim(before, after)
            known = memo.get((letters, event, before, after)) or self._learn(line, spec, before, after)
            if _ZERO_SIZE_PTR < value < _WORD and known.number >= 0:
                add_key(known.number), add_pointer(value), add_bytes(known.requested)
            else:
                key, value = self._special(line, spec, known, value, result)
                add_key(key), add_pointer(value), add_bytes(known.requested)
        self._line += len(lines)
        self._recent = (self._recent + result.pointers)[-_PAIR_LINES:]
        return result

    def _learn(self, line: Line, spec: Spec, before: str, after: str) -> _Known:
        """Words that are new."""
        letters, event = line[1], line[3]
        context = self._contexts.get(letters)
        if context is None:
            if len(self._contexts) >= _MOST_NAMES:
                self._contexts.clear()
            context = self._contexts[letters] = self._shape.context(letters)
        self.context |= context != Context.UNKNOWN
        entry = self._words.entry(event, spec, context, before, after)
        if self._words.learned:
            self._words.learned = False
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

    def _special(self, line: Line, spec: Spec, known: _Known, value: int, result: Read) -> tuple[int, int]:
        """The key's number and the pointer of a line that is not plain: failures, owners by stack, pairs."""
        entry, kind = known.entry, spec.kind
        if known is _NOTHING or not -1 <= value <= _WORD:
            self._lines.skip(f"{line[3]}: {line[4]}")
            return -1, 0
        if kind == Kind.KFREE and value <= _ZERO_SIZE_PTR:
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
            key = self._paired(line, Entry(key, entry.requested, LARGE), value, result)
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

    def _paired(self, line: Line, entry: Entry, value: int, result: Read) -> Key:
        """The key of a large kmalloc, which may be one of two reports: pair_of() in bpf/large.h."""
        handle = value or pid_of(self._threads[line[0]]) | _BY_TASK
        key, at = entry.key, len(result.keys)
        first = self._pending.get(handle)
        if first and self._is_second(first, entry, value, at, result):
            del self._pending[handle]
            self.trust.duplicates_removed += 1
            result.pairs.append((at, int(Pair.SECOND)))
            return _changed(key, _VIA, key[_VIA] | first.entry.key[_VIA])
        if self._places.via(key[_SITE]):
            self._pending.pop(handle, None)
            if len(self._pending) >= _MOST_PENDING:
                del self._pending[next(iter(self._pending))]
            self._pending[handle] = _First(self._line + at, entry)
            result.pairs.append((at, int(Pair.FIRST)))
        return key

    def _is_second(self, first: _First, entry: Entry, value: int, at: int, result: Read) -> bool:
        """Whether it is the same request from elsewhere, soon after, and the memory was not freed in between."""
        if self._line + at - first.line > _PAIR_LINES or first.entry.requested != entry.requested:
            return False
        ours, other = list(entry.key), list(first.entry.key)
        same_site = ours[_SITE] == other[_SITE]
        ours[_SITE] = ours[_VIA] = other[_SITE] = other[_VIA] = 0
        since = first.line + 1 - self._line
        between = self._recent[since:] + result.pointers if since < 0 else result.pointers[since:]
        return ours == other and not same_site and not (value and value in between)

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
