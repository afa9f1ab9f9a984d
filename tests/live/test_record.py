"""Recordings: the same run live and recorded gives the same ledger; a recording that is killed keeps what it had."""

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kmwatch.batch import KEY
from kmwatch.capture.reader import Capture
from kmwatch.capture.writer import Writer
from kmwatch.ledger import Ledger
from kmwatch.schema import Kind, Stacks
from kmwatch.sources import offsets, plan
from kmwatch.sources.capture import CaptureSource
from kmwatch.sources.maps import LiveSource
from kmwatch.sources.ring import RingRecorder
from tests.live.watching import ADD_KEY, KMWATCH, MAP, MESSAGE, PAYLOAD, PIPE, RING, TIMER, Workload, environment
from tests.support import wait_until

pytestmark = pytest.mark.live

_OWN = {*MESSAGE, *ADD_KEY, *PAYLOAD, *MAP, *PIPE, *RING, *TIMER}


def recorded(directory: Path, action: Callable[[], Any], stacks: Stacks = Stacks.NONE) -> Ledger:
    """What was recorded while the action ran, through a capture on the disk; the rings have room for all of it."""
    with RingRecorder(frozenset(Kind), stacks, lambda: True) as recorder, Writer(directory, recorder, {}) as writer:
        action()
        for segment in recorder.segments():
            writer.write(segment)
        writer.finish("the test ended", {})
    with CaptureSource(directory) as source:
        ledger = Ledger(source.meta)
        for batch in source:
            ledger.add(batch)
    assert source.meta.doubts == []
    return ledger


def rows_by_name(ledger: Ledger, symbols: set[str]) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """The rows of some functions, with names in place of indices: what was told apart, and what was counted."""
    meta, found = ledger.meta, {}
    for row in ledger.rows:
        site = meta.sites[row["site"]]
        if site.symbol.partition(".")[0] not in symbols:
            continue
        rest = [row[name].item() for name in KEY if name not in ("site", "cache")]
        fill = tuple(row["fill"].tolist()) if row["kind"] == Kind.KMALLOC else ()
        sums = ("count", "bytes_requested", "bytes_allocated", "min_request", "max_request")
        found[site.text, meta.caches[row["cache"]].name, *rest] = (*(row[name].item() for name in sums), fill)
    return found


def test_live_and_recorded_are_the_same_ledger(tmp_path: Path, workload: Workload) -> None:
    """Row by row: keys, sums, smallest and largest request, and where in their size class requests fall."""

    def run() -> None:
        for what, count, size in (
            ("msgsnd", 10007, 48),
            ("msgsnd", 1009, 5000),
            ("add_key", 101, 20000),  # large kmallocs, which the kernel reports twice
            ("bpf_map", 101, 65536),
            ("pipe", 101, 256),
            ("timer", 101, 0),
        ):
            workload.run(what, count, size)

    with LiveSource(frozenset(Kind)) as live:
        watched = Ledger(live.meta)

        def both() -> None:
            live.read()
            run()
            watched.add(live.read())

        kept = recorded(tmp_path / "both.kmw", both)
    one, other = rows_by_name(watched, _OWN), rows_by_name(kept, _OWN)

    assert len(one) > 15
    assert {key[4] for key in one} >= {Kind.KMALLOC, Kind.KFREE, Kind.VMALLOC, Kind.PAGE_ALLOC}
    assert one == other
    assert watched.trust.duplicates_removed >= 101
    assert kept.trust.duplicates_removed >= 101


def test_an_event_knows_its_time_its_thread_and_its_object(tmp_path: Path, workload: Workload) -> None:
    """Every message is freed: as many pointers, each first allocated and then freed, by the workload."""
    directory = tmp_path / "events.kmw"
    recorded(directory, lambda: workload.run("msgsnd", 1009, 700))
    events = ask(
        directory,
        "select ptr, list(kind order by time) kinds, any_value(comm) comm, count(distinct pid) pids from events"
        " where function = 'load_msg' or (function = 'free_msg') group by ptr",
    )

    assert sum(len(kinds) for _, kinds, _, _ in events) == 2 * 1009
    for pointer, kinds, comm, pids in events:
        assert pointer > 0
        assert Counter(kinds[::2]) == {"kmalloc": len(kinds) // 2}
        assert Counter(kinds[1::2]) == {"kfree": len(kinds) // 2}
        assert (comm, pids) == ("workload", 1)


def test_ordinary_tracepoints_record_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workload: Workload) -> None:
    """The way for kernels whose raw prototypes are not known, without preempt_count: the counts are the same."""
    known = plan._how
    monkeypatch.setattr(plan, "_how", lambda *of, **how: known(*of, **how).replace("raw ", ""))
    monkeypatch.setattr(offsets, "context", lambda *_: ("", 0, {}))
    directory = tmp_path / "ordinary.kmw"
    recorded(directory, lambda: (workload.run("msgsnd", 1009, 700), workload.run("add_key", 101, 20000)))
    query = "select kind, count(*), sum(requested) from events where function in {} and kind = 'kmalloc' group by kind"

    assert ask(directory, query.format(MESSAGE)) == [("kmalloc", 1009, 1009 * 748)]
    assert ask(directory, query.format((*PAYLOAD, ""))) == [("kmalloc", 101, 101 * 20024)]


def test_stacks_end_at_the_site(tmp_path: Path, workload: Workload) -> None:
    """With all stacks every message has one, and it passes through the system call."""
    directory = tmp_path / "stacks.kmw"
    ledger = recorded(directory, lambda: workload.run("msgsnd", 101, 700), Stacks.ALL)
    query = (
        "select count(distinct e.ptr || e.time::text), count(*) filter (where s.function like '%msgsnd%') from events e"
        " join stacks s using (stack) where e.function = 'load_msg' and e.kind = 'kmalloc'"
    )
    with_stack, through_msgsnd = ask(directory, query)[0]

    assert ledger.trust.unknown_stack == 0
    assert with_stack == 101
    assert through_msgsnd >= 101


def ask(directory: Path, query: str) -> list[tuple[Any, ...]]:
    """The rows that SQL gives."""
    from kmwatch.capture.database import ask as ask_capture

    return ask_capture(Capture(directory), query).rows(100_000)


def start(directory: Path) -> "subprocess.Popen[str]":
    """A recording by the command line."""
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*KMWATCH, "record", "-o", str(directory)], **quiet, **environment())


@pytest.mark.parametrize("seed", range(5))
def test_a_killed_recording_keeps_all_but_its_last_second(tmp_path: Path, seed: int) -> None:
    """Four recordings at a time, each killed at a random moment of its own."""
    moments = random.Random(seed)  # noqa: S311  # random moments are what is tested
    directories = [tmp_path / f"killed-{number}.kmw" for number in range(4)]
    processes, killed = [start(directory) for directory in directories], []
    wait_until(lambda: all(map(segments_of, directories)), 60, "a first segment of each")
    for process in processes:
        time.sleep(moments.uniform(0, 0.7))
        process.send_signal(signal.SIGKILL)
        killed.append(time.time())
    for process in processes:
        process.communicate(timeout=30)
    for directory, end in zip(directories, killed, strict=True):
        check_cut(directory, end)


def check_cut(directory: Path, killed: float) -> None:
    """It opens, says that it was cut, and has all but what was in memory: a second that was open, one on its way."""
    capture = Capture(directory)
    capture.check()
    assert [doubt.partition(":")[0] for doubt in capture.doubts] == ["the recording was cut"]
    assert capture.events > 0
    for before, after in itertools.pairwise(capture.segments):
        assert after.start == pytest.approx(before.start + before.seconds, abs=1e-5)
    assert killed - (capture.meta.start + capture.seconds) < 1.0 + 1.0
    with CaptureSource(directory) as source:
        ledger = Ledger(source.meta)
        for batch in source:
            ledger.add(batch)
    assert ledger.events() == capture.events


def segments_of(directory: Path) -> list[Path]:
    """The segments that are on the disk."""
    return list(directory.glob("events-*.parquet"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_recording_in_order(tmp_path: Path, number: signal.Signals) -> None:
    directory = tmp_path / "ended.kmw"
    process = start(directory)
    wait_until(lambda: segments_of(directory), 30, "a first segment")
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    capture = Capture(directory)

    assert process.returncode == 0, said
    assert capture.doubts == []
    assert capture.end
    assert capture.end["reason"] == "interrupted"
    assert f"kmwatch report {directory}" in said


@pytest.mark.parametrize(("option", "policies"), [("--realtime", ["2", "0"]), ("--no-realtime", ["0", "0"])])
def test_it_reads_in_real_time_and_the_command_runs_as_ever(tmp_path: Path, option: str, policies: list[str]) -> None:
    ask = f"import os; [print(os.sched_getscheduler(of) & ~{os.SCHED_RESET_ON_FORK:#x}) for of in (os.getppid(), 0)]"
    # The command begins before the reading: it asks once the first events are written.
    command = (
        f"while ! ls {tmp_path}/c.kmw/*00001* >/dev/null 2>&1; do sleep 0.05; done; exec {sys.executable} -c '{ask}'"
    )
    run = [*KMWATCH, "record", "-q", "-o", str(tmp_path / "c.kmw"), option, "--", "sh", "-c", command]

    told = subprocess.run(run, capture_output=True, text=True, timeout=60, check=True, **environment()).stdout

    assert told.split() == policies
