"""What the reader of a report should know of a text, in sentences; they are made when all of it is read."""

from collections.abc import Iterator

from kmwatch.schema import Kind
from kmwatch.sources.text.doubts import counted
from kmwatch.sources.text.lines import Lines
from kmwatch.sources.text.places import MOST, Places
from kmwatch.sources.text.reading import Reading
from kmwatch.sources.text.shapes import PERF, Shape
from kmwatch.sources.text.tables import Clock, Threads
from kmwatch.sources.text.words import LEFT_OUT, Words
from kmwatch.units import number

_NAMED = 5  # other events that a note names
_STACKS = {PERF: "record with `perf record -g`"}
_OPTION = "trace with ftrace's option `stacktrace`"


def trace_notes(shape: Shape, lines: Lines, reading: Reading, words: Words, places: Places) -> Iterator[str]:
    """Notes on where things happened, on what, and on what is not counted."""
    if places.unnamed:
        sites = counted(places.unnamed, "call site is an address", "call sites are addresses")
        yield (
            f"{sites}, shown as site-1 and so on: `--kallsyms FILE`, a copy of /proc/kallsyms of that boot, names them"
        )
    if without := sum(reading.without_stack.values()):
        hint = _STACKS.get(shape.kind, _OPTION)
        events = counted(without, "page, vmalloc or per-CPU event has", "page, vmalloc or per-CPU events have")
        yield f"{events} no stack, so that who asked is unknown: {hint}"
    if areas := reading.without_stack.get(int(Kind.VMALLOC), 0):
        found = counted(areas, "vmalloc area counts", "vmalloc areas count")
        yield f"{found} as vmalloc: only a stack tells those of vmap and ioremap"
    if reading.probes and not reading.context:
        yield "the text has no context of the events: whether an allocation might sleep where it was made is unknown"
    if shape.depth:
        yield "every event begins with a preemption depth of 1 or more: 1 is taken for the tracer's own"
    if lines.unsaid:
        yield f"{counted(lines.unsaid, 'time', 'times')} the text says that events are lost, but not how many"
    if not reading.probes:
        yield "no event of an allocator is in the text: trace kmem, and for areas and per-CPU memory vmalloc and percpu"
    if full := places.full + words.full:
        beyond = counted(full, "name or stack", "names or stacks")
        yield f"{beyond} beyond the first {number(MOST)} of their kind: shown as unknown"


def event_notes(reading: Reading, threads: Threads, clock: Clock) -> Iterator[str]:
    """Notes on when and who, and on events of other kinds."""
    if clock.ticks:
        yield "the trace's clock counts something other than seconds: durations and rates mean nothing"
    if clock.back:
        early = counted(clock.back, "event is", "events are")
        yield f"{early} earlier than the first of the text: the time of that one is taken"
    if threads.full:
        beyond = counted(threads.full, "command name", "command names")
        yield f"{beyond} beyond the first {number(MOST)}: shown as unknown"
    for name, why in LEFT_OUT.items():
        if count := reading.others.get(name, 0):
            yield f"{number(count)} {name} left out: {why}"
    others = {name: count for name, count in reading.others.items() if name not in LEFT_OUT}
    if others:
        most = sorted(others, key=lambda name: -others[name])[:_NAMED]
        named = ", ".join(f"{name} {number(others[name])}" for name in most)
        total = counted(sum(others.values()), "event is no allocation", "events are no allocations")
        yield f"{total}: {named}" + (" and others" if len(others) > _NAMED else "")
