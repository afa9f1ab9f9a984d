"""Texts of other tools as plain events, for the tests of kmwatch.sources.text."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kmwatch.batch import Cache, Trust
from kmwatch.schema import Kind
from kmwatch.sources.text import TextRecorder, open_text

DATA = Path(__file__).parent.parent / "data" / "texts"
TOOLS = ("ftrace-", "perf-", "trace-cmd-", "clock-")
NAMES = sorted(path.name for path in DATA.glob("*.txt") if path.name.startswith(TOOLS))


@dataclass(frozen=True)
class Event:
    """An event with its numbers resolved."""

    kind: Kind
    site: str
    gfp: str
    context: int
    requested: int
    ptr: int
    cache: Cache
    who: tuple[str, int]
    cpu: int
    time: int
    stack: tuple[str, ...]
    key: dict[str, int]


@dataclass(frozen=True)
class Read:
    """All that a text gave."""

    recorder: TextRecorder
    events: list[Event]
    trust: Trust

    def of(self, kind: Kind) -> list[Event]:
        """The events of a kind."""
        return [event for event in self.events if event.kind == kind]


def read(path: Path, **options: Any) -> Read:
    """Read a text to its end."""
    recorder = open_text(path, **options)
    assert isinstance(recorder, TextRecorder)
    trust, events = Trust(), list[Event]()
    for segment in recorder.segments():
        trust.add(segment.trust)
        lists = {name: column.tolist() for name, column in segment.columns.items()}
        rows = [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]
        events += [event_of(recorder, row) for row in rows]
    return Read(recorder, events, trust)


def event_of(recorder: TextRecorder, row: dict[str, int]) -> Event:
    """A row of the columns, resolved."""
    meta = recorder.meta
    names = recorder.keys.dtype.names
    assert names
    key = {name: int(recorder.keys[name][row["key"]]) for name in names}
    stack = tuple(meta.sites[site].label for site in meta.stacks[row["stack"]]) if row["stack"] else ()
    return Event(
        Kind(key["kind"]),
        meta.sites[key["site"]].label,
        meta.gfp.decode(key["gfp"]),
        key["context"],
        row["requested"],
        row["ptr"],
        meta.caches[key["cache"]],
        (meta.tasks[row["task"]].comm, row["pid"]),
        row["cpu"],
        row["time"],
        stack,
        key,
    )


def lines(tmp_path: Path, *texts: str, head: str = "# tracer: nop\n#\n") -> Path:
    """A file of such lines."""
    path = tmp_path / "text"
    path.write_text(head + "".join(f"{text}\n" for text in texts))
    return path
