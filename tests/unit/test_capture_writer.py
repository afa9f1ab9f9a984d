"""Writing a capture: what each segment leaves on the disk, and what happens where there is no more room."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kmwatch.batch import Trust
from kmwatch.capture import journal, store
from kmwatch.capture.layout import JOURNAL, META
from kmwatch.capture.reader import Capture
from kmwatch.capture.writer import FullError, Writer
from kmwatch.errors import KmwatchError
from kmwatch.events import Segment, empty_columns
from tests.unit import rows
from tests.unit.captures import START, FakeRecorder, at, write_capture
from tests.unit.folded import folded, one_database

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _fast() -> Iterator[None]:
    with one_database():
        yield


def segments(length: int, events: int = 1) -> list[list[dict[str, Any]]]:
    """Seconds with so many kmallocs each."""
    return [[at(each + 0.5, rows.kmalloc("f+0x1", 60, count=events))] for each in range(length)]


def record(directory: Path, length: int, events: int = 1, **bounds: Any) -> Writer:
    """Write so many segments."""
    recorder = FakeRecorder(segments(length, events), {}, rows.meta(start=START))
    with Writer(directory, recorder, {}, **bounds) as writer:
        for segment in recorder.segments():
            writer.write(segment)
        writer.finish("the time was up", {"lost_by_kind": {}})
    return writer


def on_disk(directory: Path) -> int:
    """Bytes of all files but the journal."""
    return sum(path.stat().st_size for path in directory.iterdir() if path.name != JOURNAL)


def test_a_capture_ends_with_what_it_has(tmp_path: Path) -> None:
    writer = record(tmp_path / "a.kmw", 3, 5)
    capture = Capture(tmp_path / "a.kmw")

    assert writer.error is None
    assert writer.so_far() == {"seconds": 3.0, "events": 15, "lost": 0, "bytes": writer._store.bytes}
    assert capture.end
    assert {**capture.end, "bytes": 0} == {
        "reason": "the time was up",
        "seconds": 3.0,
        "events": 15,
        "lost": 0,
        "bytes": 0,
        "lost_by_kind": {},
    }
    assert json.loads((tmp_path / "a.kmw" / META).read_text())["end"] == capture.end
    assert (capture.doubts, capture.events, capture.seconds) == ([], 15, 3.0)


def test_empty_segments_are_lines_without_files(tmp_path: Path) -> None:
    directory = write_capture(tmp_path / "a.kmw", [[], segments(2)[1], [], []], trust={3: Trust(lost=4)})
    capture, ledger = folded(directory)

    assert [path.name for path in directory.glob("events-*")] == ["events-00001.parquet"]
    assert [(each.path is None, each.events, each.start) for each in capture.segments] == [
        (True, 0, 0.0),
        (False, 1, 1.0),
        (True, 0, 2.0),
        (True, 0, 3.0),
    ]
    assert (ledger.events(), ledger.seconds, ledger.trust.lost) == (1, 4.0, 4)


def test_a_recording_without_any_event_is_a_capture(tmp_path: Path) -> None:
    capture, ledger = folded(write_capture(tmp_path / "a.kmw", [[], []]))

    assert (len(ledger.rows), ledger.seconds, capture.doubts) == (0, 2.0, [])


def test_a_recording_that_ended_at_once_is_a_capture(tmp_path: Path) -> None:
    capture, ledger = folded(write_capture(tmp_path / "a.kmw", []))

    assert (len(ledger.rows), ledger.seconds, capture.seconds, capture.doubts) == (0, 0.0, 0.0, [])


def test_doubt_and_cost_of_every_segment_are_kept(tmp_path: Path) -> None:
    trust = {0: Trust(1, 2, 3, 4, 5, 6), 2: Trust(lost=10, unknown_stack=7)}
    capture, ledger = folded(write_capture(tmp_path / "a.kmw", segments(3), trust=trust))

    assert vars(ledger.trust) == vars(Trust(11, 2, 3, 4, 5, 13))
    assert [each.trust for each in capture.segments] == [trust[0], Trust(), trust[2]]
    assert (ledger.cost.kernel, ledger.cost.own) == pytest.approx((0.03, 0.06))
    assert capture.end
    assert capture.end["lost"] == 11


def test_at_the_size_allowed_it_stops_and_is_whole(tmp_path: Path) -> None:
    writer = record(tmp_path / "a.kmw", 30, most=16_000)
    capture, ledger = folded(tmp_path / "a.kmw")

    assert isinstance(writer.error, FullError)
    assert writer._store.bytes == on_disk(tmp_path / "a.kmw")
    assert capture.end
    assert capture.end["reason"] == str(writer.error) == f"--max-size reached, {capture.end['bytes']:,} bytes"
    assert 16_000 < capture.end["bytes"] < 18_000
    assert 2 < capture.events == ledger.events() == writer.events < 30
    assert capture.doubts == []


def test_rotating_keeps_the_newest_within_the_size(tmp_path: Path) -> None:
    writer = record(tmp_path / "a.kmw", 30, most=16_000, rotate=True)
    capture, ledger = folded(tmp_path / "a.kmw")
    kept = len(capture.segments)

    assert writer.error is None
    assert 2 < kept < 15
    assert [each.start for each in capture.segments] == list(range(30 - kept, 30))
    assert (capture.events, ledger.events(), capture.dropped_events) == (kept, kept, 30 - kept)
    assert (capture.seconds, ledger.start, ledger.seconds) == (30.0, START + 30 - kept, kept)
    assert on_disk(tmp_path / "a.kmw") < 17_000
    assert capture.doubts == []


def test_a_journal_written_anew_tells_of_spans_without_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An event may have been lost in one; it goes with the segments before it."""
    monkeypatch.setattr(store, "_LINES", 1)
    busy = segments(40)
    given = [events if second % 3 else [] for second, events in enumerate(busy)]
    recorder = FakeRecorder(given, {second: Trust(lost=1) for second in range(40)}, rows.meta(start=START))
    with Writer(tmp_path / "a.kmw", recorder, {}, most=16_000, rotate=True) as writer:
        for segment in recorder.segments():
            writer.write(segment)
        writer.finish("the time was up", {})
    capture, ledger = folded(tmp_path / "a.kmw")
    first = int(capture.segments[0].start)

    assert 2 < first < 37
    assert [each.start for each in capture.segments] == list(range(first, 40))
    assert (ledger.trust.lost, ledger.seconds) == (40 - first, 40 - first)
    assert writer._store.bytes == on_disk(tmp_path / "a.kmw")
    assert capture.doubts == []


def test_rotating_keeps_the_last_segment_whatever_its_size(tmp_path: Path) -> None:
    record(tmp_path / "a.kmw", 3, most=1, rotate=True)

    assert [each.start for each in Capture(tmp_path / "a.kmw").segments] == [2.0]


def test_the_journal_of_a_long_rotation_is_kept_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    length = 2 * store._LINES + 60
    record(tmp_path / "a.kmw", length, 2, most=16_000, rotate=True)
    found, (capture, ledger) = journal.read(tmp_path / "a.kmw"), folded(tmp_path / "a.kmw")
    kept = len(capture.segments)

    assert len(found.entries) < store._LINES
    assert kept < 15
    assert (found.bad, found.cut) == ((), False)
    assert (capture.dropped_events, ledger.events()) == (2 * (length - kept), 2 * kept)
    assert [each.start for each in capture.segments] == list(range(length - kept, length))
    assert capture.doubts == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_stops_it_and_it_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    replace = Path.replace

    def full(path: Path, target: Path) -> Path:
        if target.name == "events-00003.parquet":
            raise OSError(code, os.strerror(code))
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", full)
    writer = record(tmp_path / "a.kmw", 5)
    capture = Capture(tmp_path / "a.kmw")

    assert isinstance(writer.error, FullError)
    assert capture.end
    assert capture.end["reason"] == f"the disk of {tmp_path / 'a.kmw'} is full"
    assert capture.end["events"] == writer.events == 2


def test_where_even_the_manifest_finds_no_room_the_journal_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = FakeRecorder(segments(2), {}, rows.meta(start=START))
    with Writer(tmp_path / "a.kmw", recorder, {}) as writer:
        for segment in recorder.segments():
            writer.write(segment)
        monkeypatch.setattr(Path, "write_bytes", refuse(errno.ENOSPC))
        writer.finish("the time was up", {})
    capture, ledger = folded(tmp_path / "a.kmw")

    assert isinstance(writer.error, FullError)
    assert capture.end
    assert "is full" in capture.end["reason"]
    assert (ledger.events(), capture.doubts) == (2, [])


def refuse(code: int) -> Any:
    def refused(*_: Any) -> None:
        raise OSError(code, os.strerror(code))

    return refused


@pytest.mark.parametrize(
    ("code", "kind", "says"),
    [(errno.ENOSPC, FullError, "is full"), (errno.EROFS, KmwatchError, "cannot write to .+: .+ Read-only file system")],
)
def test_a_disk_that_takes_nothing_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, kind: type[KmwatchError], says: str
) -> None:
    monkeypatch.setattr(Path, "write_bytes", refuse(code))

    with pytest.raises(kind, match=says):
        record(tmp_path / "a.kmw", 1)


def test_an_error_that_is_not_of_the_disk_is_raised_where_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = FakeRecorder(segments(2), {}, rows.meta(start=START))
    with Writer(tmp_path / "a.kmw", recorder, {}) as writer:
        monkeypatch.setattr(store.Store, "put_table", refuse_with(ZeroDivisionError("a bug")))
        for segment in recorder.segments():
            writer.write(segment)
        with pytest.raises(ZeroDivisionError, match="a bug"):
            writer.finish("the time was up", {})

    assert not writer._thread.is_alive()
    assert Capture(tmp_path / "a.kmw").end is None


def refuse_with(error: Exception) -> Any:
    def refused(*_: Any) -> None:
        raise error

    return refused


def test_after_an_error_nothing_is_written_and_nobody_waits(tmp_path: Path) -> None:
    """More segments than the queue holds."""
    writer = record(tmp_path / "a.kmw", 40, most=1)

    assert writer.events == 1


FILL = """
import sys
from pathlib import Path
import numpy as np
from kmwatch.capture.writer import FullError, Writer
from kmwatch.events import Segment
from tests.unit import rows
from tests.unit.captures import START, FakeRecorder, at
from tests.unit.test_capture_writer import noise

recorder = FakeRecorder([[at(0.5, rows.kmalloc("f+0x1", 60))]], {}, rows.meta(start=START))
next(recorder.segments())
with Writer(Path(sys.argv[1]), recorder, {"formats": "x" * 9000}) as writer:
    for number in range(1000):
        writer.write(noise(number, int(sys.argv[2])))
        if writer.error:
            break
    writer.finish("the time was up", {})
assert isinstance(writer.error, FullError), writer.error
print(writer.events)
"""


def noise(number: int, events: int) -> Segment:
    """Events that cannot be compressed much, in second `number`."""
    columns = empty_columns(events)
    random = np.random.default_rng(number)
    columns["ptr"][:] = random.integers(1, 1 << 63, events)
    columns["time"][:] = number * 10**9 + np.arange(events)
    columns["requested"][:] = 60
    return Segment(columns, float(number), 1.0)


def can_mount() -> bool:
    """Whether this user may mount a file system that nobody else sees."""
    probe = ["unshare", "-m", "mount", "-t", "tmpfs", "-o", "size=64k", "none", "/mnt"]
    try:
        return os.geteuid() == 0 and subprocess.run(probe, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(("size", "events"), [("300k", 1000), ("100k", 300), ("1m", 30_000), ("56k", 10)])
def test_a_disk_that_is_really_full_leaves_a_whole_capture_that_says_why(
    tmp_path: Path, size: str, events: int
) -> None:
    if not can_mount():
        pytest.skip("only root can mount a small disk")
    script = (
        'mount -t tmpfs -o "size=$1" none "$2" && cd "$3" && "$4" -c "$5" "$2/a.kmw" "$6" && cp -a "$2/a.kmw" "$7" '
        '&& df --output=avail "$2" | tail -1'
    )
    (tmp_path / "disk").mkdir()
    given = [size, tmp_path / "disk", ROOT, sys.executable, FILL, str(events), tmp_path / "a.kmw"]
    result = subprocess.run(
        ["unshare", "-m", "sh", "-ec", script, "sh", *given], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    written, free = map(int, result.stdout.split())

    capture, ledger = folded(tmp_path / "a.kmw")
    assert written > 0
    assert free * 1024 < 1 << 20
    assert ledger.events() == capture.events == written
    assert capture.end
    assert capture.end["reason"] == f"the disk of {tmp_path / 'disk' / 'a.kmw'} is full"
    assert capture.end["events"] == written
    assert (capture.doubts, ledger.trust.lost) == ([], 0)
    assert not [path for path in (tmp_path / "a.kmw").iterdir() if path.name.startswith(".")]
