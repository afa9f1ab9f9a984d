"""A capture given again: every event once, at its time, wherever one seeks."""

import math
import queue
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from kmwatch.batch import Batch, Cost, Trust
from kmwatch.ledger import Ledger
from kmwatch.sources.replay import ReplaySource
from tests.unit import rows
from tests.unit.captures import START, at, small_capture, small_segments, write_capture
from tests.unit.replays import PATIENCE, Held, ManualClock, long_capture, replay


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds; the second one lost 3 events."""
    return small_capture(tmp_path_factory.mktemp("captures") / "small.kmw", trust={1: Trust(lost=3)})


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 seconds."""
    return long_capture(tmp_path_factory.mktemp("captures") / "long.kmw")


def batches(source: ReplaySource) -> list[Batch]:
    with source:
        return list(source)


def counts(batch: Batch | Ledger) -> int:
    return int(batch.rows["count"].sum())


def recorded(end: float) -> int:
    """Events of small_segments() before a time."""
    return sum(event["count"] for segment in small_segments() for event in segment if event["time"] < end)


class Player:
    """Reads a source in a thread, as a screen does."""

    def __init__(self, source: ReplaySource) -> None:
        self.source, self.ledger = source, Ledger(source.meta)
        self.ended = threading.Event()
        self._given: queue.Queue[Batch] = queue.Queue()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        with self.source:
            for batch in self.source:
                self._given.put(batch)
        self.ended.set()

    def next(self) -> Batch:
        """The next batch, which joins the ledger."""
        batch = self._given.get(timeout=PATIENCE)
        self.ledger.add(batch)
        return batch

    @property
    def waiting(self) -> int:
        """Batches that were given and not yet taken."""
        return self._given.qsize()


@contextmanager
def playing(source: ReplaySource) -> Iterator[Player]:
    player = Player(source)
    player.thread.start()
    try:
        yield player
    finally:
        source.stop()
        assert player.ended.wait(PATIENCE)


@pytest.mark.parametrize(
    ("interval", "events", "lengths"),
    [
        (1.0, [5, 4, 9], [1.0, 1.0, 1.0]),
        (0.8, [4, 4, 4, 6], [0.8, 0.8, 0.8, 0.6]),
        (100.0, [18], [3.0]),
    ],
)
def test_a_batch_has_an_interval(small: Path, interval: float, events: list[int], lengths: list[float]) -> None:
    found = batches(replay(small, interval))

    assert [counts(each) for each in found] == events
    assert [each.seconds for each in found] == pytest.approx(lengths)
    assert [each.start - START for each in found] == pytest.approx([interval * at for at in range(len(found))])
    assert not any(each.fresh for each in found)


@pytest.mark.parametrize("interval", [0.1, 0.25, 0.7, 1.0, 2.0, 3.0])
def test_all_batches_are_the_capture(small: Path, interval: float) -> None:
    """Every sum, and the doubt and the cost, which a capture keeps by segment, once."""
    whole, played = Ledger(rows.meta()), Ledger(rows.meta())
    with Held(small) as source:
        for batch in source:
            whole.add(batch)
    for batch in batches(replay(small, interval)):
        played.add(batch)

    assert np.array_equal(np.sort(played.rows), np.sort(whole.rows))
    assert played.trust == whole.trust == Trust(lost=3)
    assert (played.cost.kernel, played.cost.own) == pytest.approx((0.03, 0.06))
    assert played.seconds == pytest.approx(whole.seconds)


def test_events_outside_of_their_segments_are_not_left_out(tmp_path: Path) -> None:
    """A buffer is read a moment later than another."""
    kmalloc = rows.kmalloc("f+0x1", 60)
    segments = [[at(-0.001, kmalloc)], [at(0.998, kmalloc)], [at(3.01, kmalloc)]]

    assert [counts(each) for each in batches(replay(write_capture(tmp_path / "a", segments)))] == [2, 0, 0, 1]


@pytest.mark.parametrize("interval", [0.3, 1.0, 5.0])
def test_a_damaged_segment_is_lost_once(small: Path, tmp_path: Path, interval: float) -> None:
    damaged = shutil.copytree(small, tmp_path / "damaged.kmw")
    (damaged / "events-00001.parquet").write_bytes(b"nothing")
    source = replay(damaged, interval)
    played = Ledger(source.meta)
    for batch in batches(source):
        played.add(batch)

    assert (counts(played), played.trust.lost) == (13, 3 + 5)
    assert source.meta.doubts == ["events-00001.parquet is damaged: its 5 events are in no number"]


def test_dropped_segments_are_not_played(small: Path) -> None:
    """As when only the last ones were to be kept."""
    capture = Held(small)
    capture.capture.segments = capture.capture.segments[1:]
    source = ReplaySource(capture, 1.0, 0)

    assert (source.begin, source.end, source.length, source.position) == (1.0, 3.0, 2.0, 1.0)
    assert [counts(each) for each in batches(source)] == [4, 9]
    source.seek(0.0)
    assert source.position == 1.0


def test_nothing_was_recorded(tmp_path: Path) -> None:
    empty = write_capture(tmp_path / "empty.kmw", [])

    assert batches(replay(empty)) == []
    with playing(replay(empty, clock=ManualClock())) as player:
        player.source.stay()
        assert (player.next().seconds, player.source.at_end) == (0.0, True)


def test_recorded_time_passes_at_the_speed(small: Path) -> None:
    clock = ManualClock()
    with playing(replay(small, 1.0, 2.0, clock)) as player:
        assert clock.asleep() == 0.5
        clock.tick(0.375)
        assert (player.waiting, clock.asleep(), player.source.position) == (0, 0.125, 0.0)
        clock.tick(0.125)
        assert (counts(player.next()), player.source.position) == (5, 1.0)
        player.source.faster()
        assert clock.asleep() == 0.25
        clock.tick(0.25)
        assert (counts(player.next()), player.source.at_end) == (4, False)


def test_a_batch_has_several_intervals_where_reading_is_behind(long: Path) -> None:
    """But never more than a second's worth, so that the screen goes on."""
    clock = ManualClock()
    with playing(replay(long, 1.0, 4.0, clock)) as player:
        clock.asleep()
        clock.tick(0.5)
        assert player.next().seconds == 2.0
        clock.tick(0.25)
        assert player.next().seconds == 1.0
        clock.tick(7.0)
        assert player.next().seconds == 4.0
        assert clock.asleep() == 0.25


def test_pause_and_resume(small: Path) -> None:
    clock = ManualClock()
    with playing(replay(small, 1.0, 1.0, clock)) as player:
        player.source.pause()
        assert player.source.paused
        assert clock.asleep() == math.inf
        clock.tick(60.0)
        assert player.waiting == 0
        player.source.resume()
        assert clock.asleep() == 1.0
        clock.tick(1.0)
        assert counts(player.next()) == 5


def seek(player: Player, to: float) -> list[Batch]:
    """Seek while it is paused, and take what comes."""
    player.source.seek(to)
    assert isinstance(player.source._changed, ManualClock)
    player.source._changed.asleep()
    assert not player.source.seeking
    return [player.next() for _ in range(player.waiting)]


@pytest.fixture
def paused(small: Path) -> Iterator[Player]:
    """At second 0 of a source that stays, with intervals of half a second."""
    source = replay(small, 0.5, 1.0, ManualClock())
    source.stay()
    source.pause()
    with playing(source) as player:
        first = player.next()
        assert (first.fresh, first.seconds, counts(first)) == (True, 0.0, 0)
        yield player


@pytest.mark.parametrize(
    "places", [(2.5, 1.25), (1.25, 2.5), (3.0, 0.0, 3.0), (0.3, 0.2), (2.0, 2.1), (1.0, 1.0), (99.0, -5.0, 0.96)]
)
def test_after_a_seek_the_sums_are_as_if_all_had_been_watched(paused: Player, places: tuple[float, ...]) -> None:
    """Back and forth: every event before the place, the doubt of the segments before it, and the last half second."""
    for place in places:
        there = min(max(place, 0.0), 3.0)
        found = seek(paused, place)
        assert paused.source.position == there
        assert counts(paused.ledger) == recorded(there)
        assert paused.ledger.seconds == pytest.approx(there)
        assert paused.ledger.trust.lost == (3 if there > 1.0 else 0)
        if found:
            assert found[-1].seconds == pytest.approx(min(there, 0.5))
            assert counts(found[-1]) == recorded(there) - recorded(there - 0.5)


def test_only_what_cannot_go_on_starts_anew(paused: Player) -> None:
    assert [each.fresh for each in seek(paused, 1.5)] == [False, False]
    assert [each.fresh for each in seek(paused, 2.5)] == [False, False]
    assert [each.fresh for each in seek(paused, 2.0)] == [True, False]
    assert [each.fresh for each in seek(paused, 2.0)] == []
    assert [each.fresh for each in seek(paused, 0.4)] == [True]


def test_one_can_seek_back_from_the_end(paused: Player) -> None:
    seek(paused, 3.0)
    at_end = [paused.source.at_end]
    paused.source.resume()
    seek(paused, 2.5)
    assert [*at_end, paused.source.at_end] == [True, False]
    assert isinstance(paused.source._changed, ManualClock)
    paused.source._changed.tick(0.5)
    assert counts(paused.next()) == recorded(3.0) - recorded(2.5)
    assert paused.source._changed.asleep() == math.inf


def test_without_staying_it_ends_at_the_end(small: Path) -> None:
    clock = ManualClock()
    with playing(replay(small, 3.0, 1.0, clock)) as player:
        clock.asleep()
        with clock:
            clock._now += 3.0
            clock.notify_all()
        assert player.ended.wait(PATIENCE)
        assert player.source.at_end


def test_a_further_seek_ends_the_one_that_works(small: Path) -> None:
    """What was folded for the first is never given."""
    source = replay(small, 0.5)
    folds: list[float] = []

    def hook() -> None:
        folds.append(source.position)
        if len(folds) == 1:
            source.seek(1.5)

    assert isinstance(source._source, Held)
    source._source.hook = hook  # type: ignore[method-assign]
    with source:
        source.seek(2.5)
        found = iter(source)
        given = [next(found), next(found)]

    assert [each.start + each.seconds - START for each in given] == pytest.approx([1.0, 1.5])
    assert [each.fresh for each in given] == [False, False]
    assert folds[0] == 2.5
    assert (source.position, source.seeking) == (1.5, False)


def test_a_seek_that_comes_when_the_one_before_is_done_is_not_forgotten(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = replay(small, 0.5)
    cost, late = source._cost, [1.5]

    def asked_meanwhile(touched: list[int], begin: float, end: float) -> Cost:
        if end == 2.5 and late:
            source.seek(late.pop())
        return cost(touched, begin, end)

    monkeypatch.setattr(source, "_cost", asked_meanwhile)
    source.seek(2.5)
    with source:
        found = iter(source)
        given = [next(found) for _ in range(4)]

    assert [each.start + each.seconds - START for each in given] == pytest.approx([2.0, 2.5, 1.0, 1.5])
    assert [each.fresh for each in given] == [False, False, True, False]


def test_stopping_ends_a_seek(long: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the piece that is being read."""
    monkeypatch.setattr("kmwatch.sources.replay._AT_ONCE", 2)
    source = replay(long)
    folds: list[None] = []

    def hook() -> None:
        folds.append(None)
        if len(folds) == 3:
            source.stop()

    assert isinstance(source._source, Held)
    source._source.hook = hook  # type: ignore[method-assign]
    source.seek(20.0)

    assert batches(source) == []
    assert len(folds) == 3


def test_a_seek_reads_piece_by_piece(long: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same sums."""
    monkeypatch.setattr("kmwatch.sources.replay._AT_ONCE", 3)
    source = replay(long)
    source.seek(19.0)
    with source:
        found = next(iter(source))

    assert (counts(found), found.seconds) == (18, 18.0)


def test_speeds(small: Path) -> None:
    source = replay(small, speed=3.0)
    for _ in range(9):
        source.faster()
    assert source.speed == 64.0
    for _ in range(12):
        source.slower()
    assert source.speed == 1 / 8
    fastest = replay(small, speed=0.0)
    assert fastest.speed == math.inf
    fastest.faster()
    assert fastest.speed == math.inf
    fastest.slower()
    assert fastest.speed == 64.0


def test_a_fresh_batch_replaces_what_a_ledger_had() -> None:
    known = rows.meta()
    made = rows.ledger(rows.kmalloc("f+0x1", 60, count=7), known=known, trust=Trust(lost=1))
    made.add(Batch(rows.rows_of(known, rows.kmalloc("g+0x1", 8)), 5.0, 2.0, fresh=True))

    assert (counts(made), made.seconds, made.start, made.trust.lost) == (1, 2.0, 5.0, 0)
