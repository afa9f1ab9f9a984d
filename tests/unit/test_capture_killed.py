"""A capture is whole at every moment: killed between any two steps, or refused any, it opens with what it has."""

import errno
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kmwatch.capture import journal, store
from kmwatch.capture.layout import JOURNAL, TABLES
from kmwatch.capture.reader import Capture
from kmwatch.capture.writer import FullError, Writer
from kmwatch.errors import BadInputError, KmwatchError
from tests.support import wait_until
from tests.unit import rows
from tests.unit.captures import START, Event, FakeRecorder, at
from tests.unit.disks import Killed, refusing
from tests.unit.folded import folded, one_database

LENGTH = 5
MOST = 13_000  # bytes: a few segments and the tables
CUT = "the recording was cut"


@pytest.fixture(autouse=True)
def _fast() -> Iterator[None]:
    with one_database():
        yield


def growing(length: int = LENGTH) -> list[list[Event]]:
    """Segments that each bring a site, a task, a stack and a key; segment n has n + 1 events."""
    return [
        [
            at(
                number + 0.5,
                rows.kmalloc(f"f{number}+0x1", 60, count=number + 1),
                comm=f"c{number}",
                stack=(f"g{number}+0x1",),
            )
        ]
        for number in range(length)
    ]


def record(directory: Path, segments: list[list[Event]], **bounds: Any) -> Writer:
    """Write a capture to its end, each segment before the next is made: every one brings its tables."""
    recorder = FakeRecorder(segments, {}, rows.meta(start=START))
    with Writer(directory, recorder, {}, **bounds) as writer:
        for segment in recorder.segments():
            due = writer.events + len(segment)
            writer.write(segment)
            wait_until(lambda due=due: writer.error or writer.events == due, 10, "the writing thread")
        writer.finish("the test is over", {})
    return writer


def unannounced(directory: Path) -> list[str]:
    """Files that have their names, and are not what a line of the journal tells."""
    known = set(journal.digests(journal.read(directory).entries))
    named = [path for path in directory.iterdir() if not path.name.startswith(".") and path.name != JOURNAL]
    return [path.name for path in named if (path.name, hashlib.sha256(path.read_bytes()).hexdigest()) not in known]


def doubts(capture: Capture) -> list[str]:
    """What is doubted, without the numbers."""
    return [doubt.partition(":")[0] for doubt in capture.doubts]


def is_begun(directory: Path) -> bool:
    """Whether all that a capture needs is there."""
    return all((directory / name).exists() for name in ("meta.json", *TABLES))


def test_killed_between_any_two_steps_it_opens_with_all_segments_before(tmp_path: Path) -> None:
    disk = Killed(tmp_path / "a.kmw", tmp_path / "killed")
    with disk.watching():
        record(tmp_path / "a.kmw", growing())

    opens = ended = 0
    for state, born in zip(disk.states, disk.named, strict=True):
        if (state / JOURNAL).exists():
            assert unannounced(state) == []
        if not is_begun(state):
            with pytest.raises(BadInputError):
                Capture(state)
            continue
        capture, ledger = folded(state)
        has = len(list(state.glob("events-*")))
        assert has in (born, born - 1)
        assert ledger.events() == capture.events == sum(range(1, has + 1))
        assert (capture.seconds, ledger.trust.lost) == (has, 0)
        assert doubts(capture) == ([] if capture.end else [CUT])
        ended += capture.end is not None
        names = {ledger.meta.sites[number].text for number in ledger.rows["site"].tolist()}
        assert names == {f"f{number}+0x1" for number in range(has)}
        opens += 1
    assert (opens > 100, ended) == (True, 1)  # the end is one line: there, or not
    assert folded(tmp_path / "a.kmw")[0].doubts == []


def test_killed_while_the_oldest_are_dropped_it_opens_with_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while the journal is written anew without what is dropped."""
    monkeypatch.setattr(store, "_LINES", 2)
    disk = Killed(tmp_path / "a.kmw", tmp_path / "killed")
    with disk.watching():
        record(tmp_path / "a.kmw", growing(9), most=MOST, rotate=True)

    states = [(state, born) for state, born in zip(disk.states, disk.named, strict=True) if is_begun(state)]
    assert (tmp_path / "a.kmw" / "events-00009.parquet").exists()
    assert len(list((tmp_path / "a.kmw").glob("events-*"))) < 5
    ended = 0
    for state, born in states:
        assert unannounced(state) == []
        capture, ledger = folded(state)
        kept, all_born = capture.events, {sum(range(1, born + 1)), sum(range(1, born))}
        assert ledger.events() == kept
        assert kept + capture.dropped_events in all_born
        assert doubts(capture) == ([] if capture.end else [CUT])
        ended += capture.end is not None
    assert ended == 1


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_refused_any_step_it_ends_in_one_line_and_opens_with_all_segments_before(tmp_path: Path, code: int) -> None:
    segments, at_step, done = growing(2), 0, False
    while not done:
        directory, error = tmp_path / f"{at_step}.kmw", None
        with refusing(at_step, code) as taken:
            try:
                error = record(directory, segments).error
            except KmwatchError as caught:
                error = caught
        done = len(taken) <= at_step
        full = error is None if done else isinstance(error, FullError) == (code == errno.ENOSPC)
        assert full or at_step < 2, (at_step, taken[-1], error)  # before there is a journal the directory is refused
        if (directory / JOURNAL).exists():
            assert unannounced(directory) == []
            assert not list(directory.glob(".events*"))
        if is_begun(directory):
            capture, ledger = folded(directory)
            has = len(list(directory.glob("events-*")))
            assert ledger.events() == capture.events - ledger.trust.lost == sum(range(1, has + 1))
        at_step += 1
    assert at_step > 60
