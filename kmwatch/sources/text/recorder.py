"""A trace that another tool wrote as text, as a recorder of single events."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import compress
from pathlib import Path

import numpy as np

from kmwatch.batch import Host, Meta, Rows, Trust
from kmwatch.events import Array, Columns, Segment, concatenated, empty_columns
from kmwatch.kernel.slab import AllocatorLimits
from kmwatch.scramble import Scrambler
from kmwatch.sources.pairs import Pairs
from kmwatch.sources.text import shapes
from kmwatch.sources.text.even import Even, Evens
from kmwatch.sources.text.lines import Line, Lines
from kmwatch.sources.text.masks import Masks
from kmwatch.sources.text.notes import event_notes, trace_notes
from kmwatch.sources.text.places import Places, symbols_of
from kmwatch.sources.text.reading import Read, Reading
from kmwatch.sources.text.stream import Stream, without_last_stack
from kmwatch.sources.text.tables import Clock, Threads
from kmwatch.sources.text.words import Words

_SEGMENT_EVENTS = 250_000  # at most a chunk more
_MOST_LOST = 1 << 48  # more than any trace loses: a capture holds no number without end


class TextRecorder:
    """A text of ftrace, perf script or trace-cmd report; its segments can be read once.

    Args:
        stream: the text.
        shape: how its lines are read.
        kallsyms: a copy of /proc/kallsyms of the boot that was traced, to name addresses.
        strict: a line that is not understood is an error.

    kind: which tool wrote it. doubts: what was not understood, or is missing; it grows while the text is read.
    Raises BadInputError, while reading as well.
    """

    def __init__(self, stream: Stream, shape: shapes.Shape, kallsyms: Path | None, *, strict: bool) -> None:
        self.kind, self.doubts = shape.kind, stream.doubts
        self.doubts.strict = strict
        self._header = header = shapes.header_of(stream.head)
        silent_nowait = not shapes.before_silent_nowait(stream.head, header.kernel)
        self._stream, self._shape, self._masks = stream, shape, Masks(silent_nowait=silent_nowait)
        host = Host(header.hostname or "unknown", header.kernel or "unknown", "", max(header.cpus, 1))
        self.meta = Meta(host, self._masks.table, AllocatorLimits(), (), {}, "")
        self._places = Places(self.meta.sites, self.meta.stacks, symbols_of(kallsyms) if kallsyms else None)
        self._words = Words(self._places, self._masks, self.meta.caches)
        self._words.cpus = host.cpus
        self._threads, self._clock = Threads(shape.who, self.meta.tasks), Clock()
        self._lines, self._evens = Lines(shape, self.doubts), Evens(shape)
        self._reading = Reading(shape, self._lines, self._words, self._places, self._threads)
        self._reading.probes = self.meta.probes
        self._scramble, self._pairs, self._since = Scrambler(), Pairs(), 0.0

    @property
    def keys(self) -> Rows:
        """The keys so far, dtype KEY_TYPE."""
        return self._reading.keys.rows

    def segments(self) -> Iterator[Segment]:
        """The events in the order of the text, up to some 280 000 in a segment."""
        with _uncollected():
            yield from self._segments()

    def _segments(self) -> Iterator[Segment]:
        parts: list[Columns] = [empty_columns(0)]
        pairs: list[Array] = [np.zeros(0, np.uint8)]
        before = 0  # events of the segments before
        for text in self._stream.chunks(without_last_stack):
            if even := self._evens.of(text):
                columns, pair = self._even_columns(even)
            elif lines := self._lines.of(text):
                columns, pair = self._columns(lines)
            else:
                continue
            parts.append(columns)
            pairs.append(pair)
            if self.doubts.events - before >= _SEGMENT_EVENTS:
                yield self._segment(concatenated(parts), np.concatenate(pairs), last=False)
                del parts[1:], pairs[1:]
                before = self.doubts.events
        yield self._segment(concatenated(parts), np.concatenate(pairs), last=True)

    def close(self) -> None:
        """Close the text; reading it to the end does so as well."""
        self._stream.close()

    def _columns(self, lines: list[Line]) -> tuple[Columns, Array]:
        """The events of a chunk, and enum pair of each."""
        read = self._reading.read(lines)
        kept = read.keys >= 0
        if not kept.any():
            return empty_columns(0), np.zeros(0, np.uint8)
        heads, _, times, _, _, stacks, _ = zip(*compress(lines, kept.tolist()), strict=True)
        columns = self._filled(read, kept, self._clock.of(times), self._threads.columns(heads))
        if any(stacks):
            stack_of = self._places.stack
            columns["stack"][:] = [stack_of(each).number if each else 0 for each in stacks]
        return columns, _marks(read)[kept]

    def _even_columns(self, even: Even) -> tuple[Columns, Array]:
        """The same of an even chunk."""
        self._lines.count(even.text, len(even.heads))
        read, paid = self._reading.read_even(even)
        self._evens.judge(paid=paid)
        kept = read.keys >= 0
        if not kept.any():
            return empty_columns(0), np.zeros(0, np.uint8)
        who = self._threads.unpacked(even.known.packed(even.heads[kept], self._threads))
        columns = self._filled(read, kept, self._clock.since_first(even.cuts.times[kept]), who)
        return columns, _marks(read)[kept]

    def _filled(self, read: Read, kept: Array, times: Array, who: tuple[Array, Array, Array]) -> Columns:
        """What is read alike of every chunk."""
        columns = empty_columns(len(times))
        self.doubts.events += len(times)
        columns["time"][:], columns["key"][:] = times, read.keys[kept]
        columns["ptr"][:], columns["requested"][:] = self._scramble(read.pointers[kept]), read.requested[kept]
        columns["pid"][:], columns["task"][:], columns["cpu"][:] = who
        self._count_cpus(int(columns["cpu"].max()) + 1)
        return columns

    def _count_cpus(self, count: int) -> None:
        host = self.meta.host
        if count > host.cpus:
            self.meta.host = Host(host.hostname, host.kernel, host.boot_id, count)
            self._words.cpus = count

    def _segment(self, columns: Columns, pair: Array, *, last: bool) -> Segment:
        """The segment up to the latest event so far."""
        end = max(self._since, int(columns["time"].max()) / 1e9 if len(pair) else 0.0)
        columns = self._pairs.settle(columns, pair, last=last)
        trust, self._reading.trust = self._reading.trust, Trust()
        lost = min(max(self._header.overwritten, self._lines.lost), _MOST_LOST)
        trust.lost, self.doubts.lost = lost - self.doubts.lost, lost
        self.meta.gfp = self._masks.table
        self.meta.context = "trace letters" if self._reading.context else ""
        if last:
            self._note()
        segment = Segment(columns, self._since, end - self._since, trust)
        self._since = end
        return segment

    def _note(self) -> None:
        reading = self._reading
        notes = [
            *trace_notes(self._shape, self._lines, reading, self._words, self._places),
            *event_notes(reading, self._threads, self._clock),
            *sorted(self._masks.notes),
        ]
        if self._lines.rows < self._header.entries:
            msg = f"the text was cut: its head speaks of {self._header.entries} entries, {self._lines.rows} are there"
            notes.insert(0, msg)
        for note in notes:
            self.doubts.note(note)


def _marks(read: Read) -> Array:
    """Enum pair of every line."""
    marks = np.zeros(len(read.keys), np.uint8)
    for at, which in read.pairs:
        marks[at] = which
    return marks


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the garbage collector, which would look again and again at tuples of texts that are in no cycle."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
