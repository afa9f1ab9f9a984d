"""What a capture adds up to is what the ledger would have had of the same events: all of them, or a part."""

import itertools
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kmwatch.batch import KEY, ROW, Cache, Task
from kmwatch.capture import counts
from kmwatch.capture.choosing import Choice, matching
from kmwatch.errors import UsageError
from kmwatch.ledger import Ledger
from kmwatch.schema import Context, Kind, Via
from kmwatch.sources import capture as source_of_captures
from kmwatch.sources.capture import CaptureSource
from tests.unit import rows
from tests.unit.captures import DENTRY, START, Event, at, write_capture
from tests.unit.folded import folded, one_database
from tests.unit.rows import Row

LENGTH, EVENTS = 6, 400  # segments, events
_EVENT_ONLY = ("time", "ptr", "pid", "cpu", "comm", "cgroup", "stack")
_FILP = Cache("filp", 232, 256)
_TASKS = (("", ""), ("cat", "/user.slice"), ("cat", "/docker/1"), ("dd", "/docker/1"), ("dd", ""))


@pytest.fixture(autouse=True, scope="module")
def _fast() -> Iterator[None]:
    with one_database():
        yield


def any_row(draw: random.Random) -> Row:
    """One observation of any kind."""
    site = draw.choice(["a+0x1", "b+0x2", "b+0x3 [drv]", "c+0x4 [nvme]", "unknown"])
    asked = draw.choice(
        [1, 7, 8, 9, 60, 64, 65, 96, 97, 190, 2000, 4096, 5000, 8192, 8193, 70_000, draw.randint(1, 1 << 22)]
    )
    order, failed = draw.randint(0, 9), int(draw.random() < 0.2)
    context, gfp = draw.choice([0, Context.SOFTIRQ, Context.UNKNOWN]), draw.choice(["GFP_KERNEL", "GFP_ATOMIC"])
    place = {"zone": draw.randint(0, 3), "node": 0, "migratetype": draw.randint(0, 2)} if not failed else {}
    freed = {"gfp": 0, **{name: rows.row(Kind.KFREE)[name] for name in ("zone", "node", "migratetype")}}
    makers: list[Callable[[], Row]] = [
        lambda: rows.kmalloc(site, asked, gfp=gfp, context=context, failed=failed),
        lambda: rows.kmalloc(site, asked, gfp=gfp, context=context),
        lambda: rows.object_of(draw.choice([DENTRY, _FILP]), site, gfp=gfp, context=context),
        lambda: rows.pages(site, order, gfp=gfp, failed=failed, via=draw.choice([0, Via.SLAB]), **place),
        lambda: rows.area(site, 4096 << order, context=context),
        lambda: rows.area(site, 4096 << order, kind=draw.choice([Kind.IOREMAP, Kind.VMAP])),
        lambda: rows.percpu(site, asked, gfp=gfp, failed=failed, bytes_alloc=asked),
        lambda: rows.row(draw.choice([Kind.KFREE, Kind.VFREE, Kind.IOUNMAP, Kind.PERCPU_FREE]), site),
        lambda: {**rows.pages(site, order), **freed, "kind": Kind.PAGE_FREE},
        lambda: {**rows.object_of(_FILP, site), **freed, "kind": Kind.CACHE_FREE},
        lambda: rows.row(
            draw.choice([Kind.EXTFRAG, Kind.DIRECT_RECLAIM, Kind.COMPACTION, Kind.OOM_VICTIM]), order=order
        ),
    ]
    return draw.choice(makers)()


def any_events(seed: int) -> list[Event]:
    """Events over LENGTH seconds, in the order of time."""
    draw, found = random.Random(seed), []  # noqa: S311  # for a test
    for _ in range(EVENTS):
        comm, cgroup = draw.choice(_TASKS)
        time = draw.choice([round(draw.random() * LENGTH, 3), float(draw.randrange(LENGTH))])
        found.append(at(time, any_row(draw), comm=comm, cgroup=cgroup, ptr=draw.randint(0, 50), pid=draw.randint(1, 9)))
    return sorted(found, key=lambda event: float(event["time"]))


def write(directory: Path, events: list[Event]) -> Path:
    """A capture with an event in the segment of its second."""
    return write_capture(
        directory, [[each for each in events if int(each["time"]) == second] for second in range(LENGTH)]
    )


Plain = dict[tuple[Any, ...], tuple[Any, ...]]


def plain(ledger: Ledger, *, by_task: bool = False) -> Plain:
    """The rows by what their numbers mean, whatever the numbers are."""
    found: Plain = {}
    for row in ledger.rows:
        key = {name: int(row[name]) for name in KEY}
        meant = (ledger.meta.sites[key.pop("site")], ledger.meta.caches[key.pop("cache")])
        task = ledger.meta.tasks[int(row["task"])] if by_task else int(row["task"])
        names = [name for name in ROW.names or () if name not in (*KEY, "task")]
        found[(*meant, task, *key.items())] = tuple(row[name].tolist() for name in names)
    assert len(found) == len(ledger.rows)
    return found


def by_hand(events: list[Event], *, by_task: bool = False) -> Plain:
    """The same rows as the ledger makes them of single observations."""
    meta = rows.meta()
    given = []
    for event in events:
        task = Task(event["comm"], event["cgroup"]) if event["comm"] else meta.tasks[0]
        number = next((number for number, each in meta.tasks.items() if each == task), len(meta.tasks))
        meta.tasks[number] = task
        given.append(
            {name: value for name, value in event.items() if name not in _EVENT_ONLY} | {"task": number * by_task}
        )
    return plain(rows.ledger(*given, known=meta), by_task=by_task)


@pytest.fixture(scope="module", params=["no counts", "all counted", "every second one counted"])
def recorded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Event]]:
    """A capture of any events, and the events; its segments have their counts, or have not."""
    events, number, count = any_events(len(request.param)), itertools.count(1), counts.of
    every = {"no counts": 1 << 30, "all counted": 1, "every second one counted": 2}[request.param]
    with one_database(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(counts, "_LEAST", 0)
        patch.setattr(counts, "of", lambda *given: b"" if next(number) % every else count(*given))
        directory = write(tmp_path_factory.mktemp("capture") / "a.kmw", events)
    return directory, events


def test_a_capture_adds_up_to_the_same_ledger(recorded: tuple[Path, list[Event]]) -> None:
    directory, events = recorded
    capture, ledger = folded(directory)

    assert plain(ledger) == by_hand(events)
    assert len(ledger.rows) > 100
    assert {int(kind) for kind in ledger.rows["kind"]} == {int(kind) for kind in Kind if kind}
    assert (ledger.events(), capture.events) == (EVENTS, EVENTS)
    assert (ledger.start, ledger.seconds, capture.doubts) == (START, LENGTH, [])


def test_it_does_not_matter_how_many_segments_are_folded_at_once(
    recorded: tuple[Path, list[Event]], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = plain(folded(recorded[0])[1])

    for name, value in (("_FILES", 1), ("_FILES", 4), ("_AT_ONCE", 150), ("_AT_ONCE", 1)):
        monkeypatch.setattr(source_of_captures, name, value)
        ledger = folded(recorded[0])[1]
        assert (plain(ledger), ledger.seconds) == (whole, LENGTH)


def test_tasks_are_told_apart_on_demand(recorded: tuple[Path, list[Event]]) -> None:
    directory, events = recorded
    _, ledger = folded(directory, Choice(by_task=lambda task: task))

    assert plain(ledger, by_task=True) == by_hand(events, by_task=True)
    assert len({ledger.meta.tasks[number] for number in ledger.rows["task"].tolist()}) == len(_TASKS)
    assert not folded(directory)[1].rows["task"].any()


def test_tasks_that_are_shown_alike_are_one_row(recorded: tuple[Path, list[Event]]) -> None:
    directory, events = recorded
    _, apart = folded(directory, Choice(by_task=lambda task: task))
    _, alike = folded(directory, Choice(by_task=lambda task: task.comm))
    comms = [{ledger.meta.tasks[number].comm for number in ledger.rows["task"].tolist()} for ledger in (apart, alike)]

    assert comms[0] == comms[1]
    assert len(np.unique(alike.rows["task"])) == len(comms[1])
    assert len(alike.rows) <= len(apart.rows)
    assert (alike.events(), alike.totals()) == (len(events), apart.totals())


def label(event: Event) -> str:
    return str(event["site"])


CHOICES: dict[str, tuple[Choice, Callable[[Event], bool]]] = {
    "kinds": (
        Choice(kinds=frozenset({Kind.KMALLOC, Kind.KFREE})),
        lambda event: event["kind"] in (Kind.KMALLOC, Kind.KFREE),
    ),
    "site": (Choice(sites=lambda site: "drv" in site.label), lambda event: "drv" in label(event)),
    "kinds and site": (
        Choice(kinds=frozenset({Kind.PAGE_ALLOC}), sites=lambda site: site.text.startswith("b")),
        lambda event: event["kind"] == Kind.PAGE_ALLOC and label(event).startswith("b"),
    ),
    "comm": (Choice(tasks=lambda task: task.comm == "cat"), lambda event: event["comm"] == "cat"),
    "cgroup": (Choice(tasks=lambda task: "docker" in task.cgroup), lambda event: "docker" in event["cgroup"]),
    "an unknown comm": (Choice(tasks=lambda task: task.comm == "unknown"), lambda event: not event["comm"]),
    "everything": (
        Choice(
            frozenset({Kind.KMALLOC}),
            lambda site: site.text == "a+0x1",
            lambda task: task.comm == "dd",
            lambda task: task,
        ),
        lambda event: event["kind"] == Kind.KMALLOC and label(event) == "a+0x1" and event["comm"] == "dd",
    ),
    "nothing": (Choice(sites=lambda _: False), lambda _: False),
}


@pytest.mark.parametrize("name", CHOICES)
def test_a_choice_is_what_the_chosen_events_add_up_to(recorded: tuple[Path, list[Event]], name: str) -> None:
    directory, events = recorded
    choice, wanted = CHOICES[name]
    chosen = [event for event in events if wanted(event)]
    capture, ledger = folded(directory, choice)

    assert plain(ledger, by_task=bool(choice.by_task)) == by_hand(chosen, by_task=bool(choice.by_task))
    assert (len(chosen) > 0) == (name != "nothing")
    assert capture.doubts == []  # what was not asked for is not missing


SPANS = [
    (None, 2.0),
    (2.0, None),
    (0.0, 6.0),
    (1.0, 4.0),
    (1.25, 1.75),
    (0.5, 5.125),
    (5.999, 6.0),
    (0.0, 1e12),
    (3.0, 3.001),
]


@pytest.mark.parametrize(("begin", "end"), SPANS)
def test_a_span_has_what_happened_since_and_before(
    recorded: tuple[Path, list[Event]], begin: float | None, end: float | None
) -> None:
    directory, events = recorded
    first, last = begin or 0.0, LENGTH if end is None else min(end, LENGTH)
    inside = [event for event in events if first <= event["time"] < last]
    _, ledger = folded(directory, begin=begin, end=end)

    assert plain(ledger) == by_hand(inside)
    assert (ledger.start, ledger.seconds) == (pytest.approx(START + first), pytest.approx(last - first))


def test_the_parts_of_a_capture_add_up_to_the_whole(recorded: tuple[Path, list[Event]]) -> None:
    directory, events = recorded
    edges = [None, 0.5, 1.0, 2.345, 5.0, None]

    parts = [folded(directory, begin=edges[at], end=edges[at + 1])[1] for at in range(len(edges) - 1)]

    assert sum(part.events() for part in parts) == len(events)
    assert sum(part.seconds for part in parts) == pytest.approx(LENGTH)


def test_what_came_just_before_the_start_or_after_the_end_belongs_to_an_open_span(tmp_path: Path) -> None:
    """Programs run a moment before the clock of the capture begins, and one more after the last reading."""
    directory = write_capture(
        tmp_path / "a.kmw",
        [
            [
                at(-0.001, rows.kmalloc("a+0x1", 60)),
                at(0.5, rows.kmalloc("b+0x1", 60)),
                at(1.001, rows.kmalloc("c+0x1", 60)),
            ]
        ],
    )

    def sites(begin: float | None, end: float | None) -> list[str]:
        ledger = folded(directory, begin=begin, end=end)[1]
        return sorted(ledger.meta.sites[number].symbol for number in ledger.rows["site"].tolist())

    assert sites(None, None) == sites(0.0, 1.0) == sites(None, 9.0) == sites(0.0, None) == ["a", "b", "c"]
    assert sites(None, 0.5) == ["a"]
    assert sites(0.25, None) == ["b", "c"]
    assert sites(0.25, 0.75) == ["b"]


@pytest.mark.parametrize(("begin", "end"), [(6.0, None), (3.0, 3.0), (4.0, 2.0), (None, 0.0), (7.0, 8.0), (None, -5.0)])
def test_a_span_of_nothing_is_a_mistake(
    recorded: tuple[Path, list[Event]], begin: float | None, end: float | None
) -> None:
    with pytest.raises(UsageError, match=r"nothing from .* s to .* s: it has 0\.0 s to 6\.0 s"):
        CaptureSource(recorded[0]).limit(begin, end)


def test_regular_expressions_are_searched_for_and_wrong_ones_refused() -> None:
    found = matching(r"\[nvme\]$")

    assert matching(None) is None
    assert found
    assert (found("c+0x4 [nvme]"), found("nvme_x+0x4")) == (True, False)
    with pytest.raises(UsageError, match=re.escape("'(' is not a regular expression: missing ), unterminated")):
        matching("(")
