"""Counts of events that are alike, in a segment's file: when they are there, what they say, and who believes them."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import numpy as np
import pytest

from kmwatch.batch import Rows
from kmwatch.capture import counts
from kmwatch.capture.choosing import Choice
from kmwatch.capture.layout import SAMPLE
from kmwatch.capture.reader import Capture
from kmwatch.capture.store import Store
from kmwatch.errors import BadInputError
from kmwatch.events import Columns
from kmwatch.schema import Kind
from kmwatch.sources.capture import CaptureSource
from tests.unit import rows
from tests.unit.captures import at, entries, tell, write_capture
from tests.unit.folded import folded, one_database

FILE = "events-00001.parquet"
MANY, FEW = 257, 131
SIZES = {60: MANY, 3000: FEW}
SEGMENT = [
    at(0.1, rows.kmalloc("f+0x1", 60, count=MANY), ptr=1, comm="cat"),
    at(0.5, rows.kmalloc("g+0x1", 3000, count=FEW), ptr=2),
]


@pytest.fixture(autouse=True)
def _fast() -> Iterator[None]:
    with one_database():
        yield


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    """One second of two sites."""
    return write_capture(tmp_path / "a.kmw", [SEGMENT])


def found(directory: Path) -> tuple[Rows, list[Path]]:
    """What the files of a capture have counted, and those that have not."""
    with duckdb.connect(":memory:") as database:
        return counts.read(database, sorted(directory.glob("events-*")), len(Capture(directory).keys))


def events_of(directory: Path) -> Columns:
    """The events of the first segment."""
    with duckdb.connect(":memory:") as database:
        return dict(database.execute(f"FROM read_parquet('{directory / FILE}')").fetchnumpy())


def count_otherwise(directory: Path, value: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the first segment have this for counts, and the journal know of it."""
    columns = events_of(directory)
    store = Store(directory.with_name("other.kmw"))
    monkeypatch.setattr(counts, "of", lambda *_: value)
    store.put_segment(FILE, columns, {})
    store.close()
    (directory.with_name("other.kmw") / FILE).replace(directory / FILE)
    tell(directory, FILE)


def swapped(told: Rows) -> Rows:
    """Counts as those of the other row."""
    told["count"] = told["count"][::-1].copy()
    return told


def sizes(directory: Path, choice: Choice | None = None) -> dict[int, int]:
    """How many kmallocs of each size a report tells of."""
    ledger = folded(directory, choice)[1]
    return {int(row["min_request"]): int(row["count"]) for row in ledger.rows}


def test_a_segment_has_its_events_counted_by_key_and_size(capture: Path) -> None:
    told, others = found(capture)

    assert others == []
    by_hand = Counter(zip(*(events_of(capture)[name].tolist() for name in ("key", "requested")), strict=True))
    assert {(int(row["key"]), int(row["requested"])): int(row["count"]) for row in told} == by_hand
    assert sorted(by_hand.values()) == [FEW, MANY]


def test_the_events_of_the_sample_are_few_and_not_counted() -> None:
    told, others = found(SAMPLE)

    assert (len(told), [path.name for path in others]) == (0, [FILE, "events-00002.parquet"])


@pytest.mark.parametrize(("events", "counted"), [(63, False), (64, True)])
def test_where_few_are_alike_there_are_no_counts(tmp_path: Path, events: int, *, counted: bool) -> None:
    directory = write_capture(tmp_path / "a.kmw", [[at(0.1, rows.kmalloc("f+0x1", 60, count=events))]])

    assert bool(len(found(directory)[0])) is counted
    assert sizes(directory) == {60: events}


def test_what_is_added_up_whole_is_counts(capture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count_otherwise(capture, swapped(found(capture)[0]).tobytes(), monkeypatch)
    with CaptureSource(capture) as source:
        demand = next(source.demand())

    assert sizes(capture) == {60: FEW, 3000: MANY}
    assert sizes(capture, Choice(kinds=frozenset({Kind.KMALLOC}))) == {60: FEW, 3000: MANY}
    assert sizes(capture, Choice(sites=lambda site: site.symbol == "f")) == {60: FEW}
    assert dict(zip(demand.requests["size"].tolist(), demand.requests["count"].tolist(), strict=True)) == {
        60: FEW,
        3000: MANY,
    }


def test_parts_tasks_and_slices_are_of_the_events(capture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count_otherwise(capture, swapped(found(capture)[0]).tobytes(), monkeypatch)
    with CaptureSource(capture, slices=2) as source:
        parts = [{int(row["min_request"]): int(row["count"]) for row in batch.rows} for batch in source]

    assert sizes(capture, Choice(tasks=lambda _: True)) == SIZES
    assert sizes(capture, Choice(by_task=lambda task: task)) == SIZES
    assert sizes(capture, Choice(tasks=lambda task: task.comm == "cat")) == {60: MANY}
    assert {size: count for part in parts for size, count in part.items()} == SIZES
    _, ledger = folded(capture, begin=0.05, end=0.3)
    assert [int(row["count"]) for row in ledger.rows] == [MANY]


def test_files_without_counts_are_read_beside_those_that_have_them(tmp_path: Path) -> None:
    few = [[at(second + 0.5, rows.kmalloc("f+0x1", 60, count=2))] for second in (1, 2)]
    directory = write_capture(tmp_path / "a.kmw", [SEGMENT, *few])

    assert len(found(directory)[1]) == 2
    assert sizes(directory) == {60: MANY + 4, 3000: FEW}


def _changed(name: str, value: int) -> Callable[[Rows], bytes]:
    def change(told: Rows) -> bytes:
        told[name][0] = value
        return told.tobytes()

    return change


@pytest.mark.parametrize(
    "change",
    [
        lambda told: told.tobytes()[:-1],
        lambda _: b"\xff",
        _changed("key", 9),
        _changed("key", 0xFFFFFFFF),
        _changed("requested", -1),
    ],
)
def test_counts_of_another_form_are_none(
    capture: Path, change: Callable[[Rows], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    count_otherwise(capture, change(found(capture)[0]), monkeypatch)

    assert sizes(capture) == SIZES


@pytest.mark.parametrize(
    "change",
    [
        _changed("count", 0),
        _changed("count", MANY + 1),
        _changed("count", 0xFFFFFFFF),
        lambda told: np.concatenate([told, told]).tobytes(),
        lambda told: told[:1].tobytes(),
    ],
)
def test_counts_of_other_events_than_the_journal_has_are_refused(
    capture: Path, change: Callable[[Rows], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    count_otherwise(capture, change(found(capture)[0]), monkeypatch)

    for choice in (None, Choice(kinds=frozenset({Kind.KFREE}))):
        with pytest.raises(BadInputError, match="do not have the events that the journal tells of"):
            folded(capture, choice)


def test_a_size_that_overflows_is_refused(capture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count_otherwise(capture, _changed("requested", (1 << 63) - 1)(found(capture)[0]), monkeypatch)

    with pytest.raises(BadInputError, match="cannot be read"):
        folded(capture)


def test_a_damaged_file_is_left_out_with_its_counts(capture: Path) -> None:
    path = capture / FILE
    path.write_bytes(path.read_bytes()[:-100] + b"x" * 100)
    made, ledger = folded(capture)

    assert (ledger.events(), ledger.trust.lost) == (0, MANY + FEW)
    assert made.doubts == [f"{FILE} is damaged: its {MANY + FEW} events are in no number"]
    assert [each["events"] for each in entries(capture) if each.get("file") == FILE] == [MANY + FEW]
