"""Perfetto's own form: a Trace of counters over time, and of failures and findings as instants.

Its other form, the JSON of Chrome's tracing, knows no units, no groups of tracks and no clock; and of this one there is
a published description, which tests hold it to. Field numbers are those of protos/perfetto/trace/.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from typing import Any, NamedTuple

from kmwatch import __version__, contexts
from kmwatch.batch import Meta
from kmwatch.failures import Failure
from kmwatch.findings import Found
from kmwatch.ledger import Ledger
from kmwatch.schema import Context, Kind
from kmwatch.units import printable
from kmwatch.views.export import protobuf
from kmwatch.views.export.slices import slices
from kmwatch.views.report import finding

BEGIN, END, INSTANT, COUNTER = 1, 2, 3, 4
"""Types of TrackEvent."""

_REALTIME, _BOOTTIME = 1, 6
_SEQUENCE = 1
_INTERRUPT = Context.SOFTIRQ | Context.HARDIRQ | Context.NMI
"""Where these asked, whom they interrupted has nothing to do with it."""


class Track(NamedTuple):
    """A track: its name, the number of the one that it belongs to, the unit of a counter, the number of a thread."""

    name: str
    parent: int = 0
    unit: str | None = None
    thread: int = 0


class Event(NamedTuple):
    """What happens on a track (by its number) at a time in seconds since the epoch; notes are shown with it."""

    at: float
    track: int
    type: int
    name: str = ""
    value: float = 0.0
    notes: dict[str, Any] = {}  # noqa: RUF012  # never changed


@dataclass
class Trace:
    """Tracks, each by its number, and their events; what they are of."""

    start: float
    kernel: str
    cpus: int
    tracks: dict[Track, int] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)

    def track(self, *of: Any, **named: Any) -> int:
        """The number of a track."""
        return self.tracks.setdefault(Track(*of, **named), len(self.tracks) + 1)


def build(ledger: Ledger, findings: Sequence[Found]) -> Trace:
    """The trace. Findings have no time of their own and stand at the end."""
    host, end = ledger.meta.host, ledger.start + ledger.seconds
    made = Trace(ledger.start, host.kernel, host.cpus)
    root = made.track(f"kernel memory of {host.hostname}")
    notes = {"kmwatch": __version__, "kernel": host.kernel, **asdict(ledger.totals()), **vars(ledger.trust)}
    watched = made.track("watched", root)
    made.events += [Event(ledger.start, watched, BEGIN, "watched", notes=notes), Event(end, watched, END)]
    _add_counters(made, ledger, root)
    _add_free_pages(made, ledger, root)
    failed = [each for each in ledger.meta.failures if ledger.start - 1 < _when(each, ledger.meta) < end + 1]
    for each in failed:
        known = each.pid and not each.context & _INTERRUPT
        task = made.track(each.comm, thread=each.pid) if known else made.track("failed allocations", root)
        told = _told(each, ledger.meta)
        made.events.append(Event(_when(each, ledger.meta), task, INSTANT, f"{told['kind']} failed", notes=told))
    for found in findings:
        told = finding(found)
        name = f"{told.pop('rule')} {told.pop('name')}"
        made.events.append(Event(end, made.track("findings", root), INSTANT, name, notes=told))
    return made


def _add_counters(made: Trace, ledger: Ledger, root: int) -> None:
    """What each slice came to, by the second, of all kinds and of each."""
    group = made.track("bytes allocated by kind", root)
    kinds = sorted({int(each) for each in ledger.groups("kind", once=True)["kind"]})
    for begin, seconds, rows in slices(ledger):
        part = ledger.at(rows)
        for name, amount in asdict(part.totals()).items():
            unit = "B/s" if name.startswith("bytes") else "/s"
            track = made.track(name.replace("_", " "), root, unit)
            made.events.append(Event(begin, track, COUNTER, value=amount / seconds))
        by = {int(each["kind"]): int(each["bytes_allocated"]) for each in part.groups("kind", once=True)}
        for kind in kinds:
            track = made.track(Kind(kind).name.lower(), group, "B/s")
            made.events.append(Event(begin, track, COUNTER, value=by.get(kind, 0) / seconds))


def _add_free_pages(made: Trace, ledger: Ledger, root: int) -> None:
    """The free pages of each zone: as failures saw them, and as they were at last."""
    meta, end = ledger.meta, ledger.start + ledger.seconds
    looks = [(_when(each, meta), each.zones) for each in meta.failures]
    for at, zones in (*looks, (end, meta.memory)):
        for zone in zones:
            track = made.track(f"free pages, node {zone.node} {zone.name}", root, "pages")
            made.events.append(Event(at, track, COUNTER, value=zone.free))


def _when(failure: Failure, meta: Meta) -> float:
    return meta.start + failure.seconds


def _told(failure: Failure, meta: Meta) -> dict[str, Any]:
    return {
        "kind": failure.event or failure.kind,
        "site": failure.site,
        "caller": failure.caller,
        "gfp": meta.gfp.decode(failure.gfp),
        "context": contexts.name(failure.context),
        "order": failure.order,
        "size": failure.size or failure.object_size,
        "cache": failure.cache,
        "comm": failure.comm,
        "pid": failure.pid,
        "stack": " < ".join(failure.stack),
    }


def render(data: Trace) -> bytes:
    """The Trace as bytes."""
    tracks = (_packet(data.start, protobuf.message(60, *_described(each, at))) for each, at in data.tracks.items())
    events = (_packet(each.at, protobuf.message(11, *_event(each))) for each in data.events)
    return b"".join(chain(_about(data), tracks, events))


def _about(data: Trace) -> Iterator[bytes]:
    """That its clock is the time of day, and whose it is."""
    now = protobuf.integer(2, _nanoseconds(data.start))
    clocks = (protobuf.message(1, protobuf.integer(1, clock), now) for clock in (_BOOTTIME, _REALTIME))
    yield _packet(data.start, protobuf.message(6, *clocks))
    names = protobuf.message(1, protobuf.text(1, "Linux"), protobuf.text(3, printable(data.kernel)))
    yield _packet(data.start, protobuf.message(45, names, protobuf.integer(8, data.cpus)))


def _packet(at: float, content: bytes) -> bytes:
    return protobuf.message(1, protobuf.integer(8, _nanoseconds(at)), protobuf.integer(10, _SEQUENCE), content)


def _nanoseconds(at: float) -> int:
    return max(round(at * 1e9), 0)


def _described(track: Track, at: int) -> Iterator[bytes]:
    yield protobuf.integer(1, at)
    name = printable(track.name)
    if track.thread:  # the process is not known: it has the number of its first thread, which mostly is this one
        yield protobuf.message(
            4, protobuf.integer(1, track.thread), protobuf.integer(2, track.thread), protobuf.text(5, name)
        )
        return
    yield protobuf.text(2, name)
    if track.parent:
        yield protobuf.integer(5, track.parent)
    if track.unit is not None:
        yield protobuf.message(8, protobuf.text(6, track.unit))


def _event(event: Event) -> Iterable[bytes]:
    yield protobuf.integer(9, event.type)
    yield protobuf.integer(11, event.track)
    if event.name:
        yield protobuf.text(23, printable(event.name))
    if event.type == COUNTER:
        yield protobuf.double(44, event.value)
    for name, value in event.notes.items():
        yield protobuf.message(4, protobuf.text(10, name), _note(value))


def _note(value: Any) -> bytes:
    match value:
        case bool():
            return protobuf.integer(2, value)
        case int():
            return protobuf.integer(4, value)
        case float():
            return protobuf.double(5, value)
        case str():
            return protobuf.text(6, printable(value))
    return protobuf.text(6, printable(json.dumps(value)))
