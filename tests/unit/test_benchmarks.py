"""What benchmarks make of what they measure: shares, ratios, counts of other recorders, and that these are ended."""

import struct
import sys
import time
from pathlib import Path

import pytest

from benchmarks import commands, fleet, peers, recording, watching, ways
from benchmarks.harness import Found, Missing, Result, Spread
from benchmarks.perf_data import events_and_lost
from kmwatch.schema import Kind

PAIR = {Kind.KMALLOC: 1.0, Kind.KFREE: 1.0}


def record(kind: int, body: bytes) -> bytes:
    return struct.pack("<IHH", kind, 0, 8 + len(body)) + body


def perf_data(path: Path, records: list[bytes], *, finished: bool = True) -> Path:
    data = b"".join(records)
    header = b"PERFILE2" + bytes(32) + struct.pack("<QQ", 104, len(data) if finished else 0)
    path.write_bytes(header.ljust(104, b"\0") + data)
    return path


def found(**costs: float) -> Found:
    """Two rounds of every workload: what each way costs beside 1024 and 512 ns, in the second twice as much added."""
    return {
        way: {name: [1024 + added, 512 + 2 * added] for name in watching.WORKLOADS}
        | {watching.BEFORE + name: [1024.0, 512.0] for name in watching.WORKLOADS}
        for way, added in costs.items()
    }


EVERY_WAY = found(nothing=16, empty=100, ledger=150, stacks=180, out=160, **{"in": 320})


@pytest.mark.parametrize("finished", [True, False])
def test_perfs_samples_and_losses_are_counted_once(tmp_path: Path, finished: bool) -> None:
    """LOST comes as room is found again, LOST_SAMPLES at the end tells them all once more."""
    lost = [record(2, struct.pack("<QQ", 7, number)) for number in (5, 6)]
    records = [record(9, bytes(16)), lost[0], record(9, bytes(40)), record(1, bytes(8)), lost[1]]
    path = perf_data(tmp_path / "perf.data", [*records, record(13, struct.pack("<Q", 13))], finished=finished)

    assert events_and_lost(path) == (2, 13)
    assert events_and_lost(perf_data(tmp_path / "old", records)) == (2, 11)


def test_a_sample_of_objects_costs_its_share() -> None:
    assert ways.held({"out": [160.0], "in": [320.0]}) == [170.0]


def test_ratios_are_of_what_is_added_to_messages() -> None:
    assert watching.against(EVERY_WAY, "ledger", "empty") == Spread(1.5, 1.5, 1.5)
    assert watching.against(EVERY_WAY, "ledger", "perf kmem") is None


def test_the_table_tells_what_is_added_for_each_event_that_a_way_sees() -> None:
    events = {name: {**PAIR, Kind.PAGE_ALLOC: 2.0} for name in watching.WORKLOADS}
    result = watching.summary({**EVERY_WAY, **found(ftrace=300)}, events, {"memleak": "it is not installed"})
    rows = {row[0]: row[1:] for row in result.rows}

    assert rows["noise: nothing beside nothing, ratio"] == [Spread.of([1 + 1 / 64, 1 + 1 / 16])] * 6
    assert rows["events of an operation"] == [4.0] * 6
    assert rows["kmwatch: ledger (`report live`)"][0] == Spread.of([150 / 4, 300 / 4])
    assert rows["kmwatch: ledger, what is held, one object of 16"][0] == Spread.of([170 / 4, 340 / 4])
    assert rows["ftrace to a file: kmalloc, kfree"][0] == Spread.of([300 / 2, 600 / 2])
    assert result.notes == ["Rounds: 2.", "BCC's memleak is not in the table: it is not installed."]
    assert [each.verdict for each in result.targets] == [
        *("PASS", "not measured", "not measured", "not measured", "PASS", "PASS")
    ]
    assert Result.read(result.written()).written() == result.written()


def test_a_way_that_sees_none_of_the_events_adds_nothing_for_each() -> None:
    none = watching.added_for_event(EVERY_WAY, "ledger", "pipe", {Kind.PAGE_ALLOC: 1.0}, ways.TWO)

    assert none is None


def test_a_recording_is_a_line_of_shares() -> None:
    nothing = {"speed fork": [10.0], "speed pipe": [1000.0]}
    measured = {"speed fork": [5.0], "speed pipe": [500.0], "cpu": [0.5], "seconds": [2.0]}
    measured |= {"events": [4e6], "lost": [1e6], "size": [16e6]}

    row = recording.row("x", measured, nothing)

    assert len(row) == len(recording.COLUMNS)
    assert [cell.median for cell in row[1:] if isinstance(cell, Spread)] == pytest.approx([0.5, 2.0, 20.0, 4.0, 0.125])
    assert recording.row("x", {"speed fork": [5.0], "speed pipe": [500.0]}, nothing)[2:] == [None] * 4
    assert [each.verdict for each in recording.targets(measured)] == ["over", "PASS", "PASS"]


def shell(text: str) -> peers.Peer:
    return peers.Peer(lambda _: ["sh", "-c", text], lambda running: "up" in running.said)


def test_a_recorder_is_interrupted_and_its_own_time_told() -> None:
    with shell("i=0; trap 'exit 0' INT; echo up; while :; do i=$((i+1)); done").recording() as running:
        assert running.process.poll() is None
        time.sleep(0.3)

    assert running.process.returncode == 0
    assert 0.02 < running.cpu < 5


def test_a_recorder_is_ended_when_what_is_measured_fails() -> None:
    with pytest.raises(ValueError, match="broken"), shell("echo up; exec sleep 1000").recording() as running:
        raise ValueError("broken")

    assert running.process.returncode is not None


def test_a_recorder_that_is_not_there_or_does_not_start_is_missing() -> None:
    gone = peers.Peer(lambda _: ["no-such-recorder"], lambda _: True)

    with pytest.raises(Missing, match="no-such-recorder is not installed"), gone.recording():
        pass
    with pytest.raises(Missing, match="did not start: it cannot"), shell("echo it cannot").recording():
        pass


def test_a_command_is_measured_with_all_that_it_starts() -> None:
    """The shell does nothing itself; two children have 40 MB and half a second of CPU time each."""
    child = "import time; kept = bytearray(40 << 20)\nwhile time.process_time() < 0.5: pass\ntime.sleep(0.3)"
    found = commands.run_tree(["sh", "-c", f"{sys.executable} -c '{child}' & {sys.executable} -c '{child}'; wait"])

    assert found["cpu"] > 0.9
    assert found["driver"] < 0.2
    assert 80 < found["memory"] < 400
    assert found["own"] < 10
    assert found["seconds"] > 0.5


def test_a_command_that_fails_is_missing() -> None:
    with pytest.raises(Missing, match="ended with 3"):
        commands.run_tree(["sh", "-c", "exit 3"])


def test_reports_of_fleets_are_measured_at_several_sizes_and_once_with_long_captures() -> None:
    short, full = fleet.sizes(full=False), fleet.sizes(full=True)
    measured = {"seconds": [1.0, 3.0], "memory": [90.0], "own": [80.0], "cpu": [2.0], "driver": [0.5]}

    assert [captures for captures, _ in short[:-1]] == [10, 30, 100, 300]
    assert full[-2][0] == 1000
    assert short[-1] == full[-1] == (10, max(events for _, events in full))
    assert fleet.row("duckdb", 10, 39_000, measured) == (
        *("duckdb", 10, 39_000, Spread(1.5, 2, 2.5)),
        *(Spread(value, value, value) for value in (90.0, 80.0, 2.0, 0.5)),
    )
    assert len(fleet.row("duckdb", 10, 39_000, measured)) == len(fleet.COLUMNS)
