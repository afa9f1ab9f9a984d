"""Other tools' texts of a run that kmwatch records too: the same counts and bytes at the workload's sites."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kmwatch.capture.writer import Writer
from kmwatch.kernel import tracefs
from kmwatch.ledger import Ledger
from kmwatch.schema import Kind, Stacks
from kmwatch.sources.capture import CaptureSource
from kmwatch.sources.ring import RingRecorder
from kmwatch.sources.text import open_text
from tests.live.watching import ADD_KEY, MESSAGE, Workload

pytestmark = pytest.mark.live

_EVENTS = ("kmalloc", "kfree", "kmem_cache_alloc", "kmem_cache_free")
_SITES = {*MESSAGE, *ADD_KEY, "free_msg", "key_alloc"}
_KINDS = (Kind.KMALLOC, Kind.KFREE, Kind.CACHE_ALLOC, Kind.CACHE_FREE)  # of these events
Sums = dict[tuple[str, str], tuple[int, int, int]]


def sums(directory: Path) -> Sums:
    """Count, bytes requested and bytes allocated by kind and site, of the workload's sites, in a capture."""
    with CaptureSource(directory) as source:
        ledger = Ledger(source.meta)
        for batch in source:
            ledger.add(batch)
    assert source.meta.doubts == []
    found: Sums = {}
    for row in ledger.rows:
        site = ledger.meta.sites[row["site"]]
        if row["kind"] in _KINDS and site.symbol.partition(".")[0] in _SITES:
            kind = Kind(int(row["kind"])).name.lower()
            before = found.get((kind, site.text), (0, 0, 0))
            now = (int(row["count"]), int(row["bytes_requested"]), int(row["bytes_allocated"]))
            # The size of a freed object is known to who sees the struct of its cache, not from a text.
            now = now if kind.endswith("alloc") else (now[0], 0, 0)
            found[kind, site.text] = (before[0] + now[0], before[1] + now[1], before[2] + now[2])
    return found


def imported(text: Path, directory: Path) -> Sums:
    """The same of a text."""
    recorder = open_text(text, strict=True)
    with Writer(directory, recorder, {}) as writer:
        for segment in recorder.segments():
            writer.write(segment)
        writer.finish("the text ended", {})
    assert recorder.doubts.lost == 0
    return sums(directory)


@contextmanager
def ftrace(text: Path) -> Iterator[None]:
    """Let ftrace trace into an instance of its own; what it traced is in the file afterwards."""
    instance = tracefs.find().path / "instances" / "kmwatch-test"
    instance.mkdir()
    try:
        (instance / "buffer_size_kb").write_text("65536")
        for event in _EVENTS:
            (instance / "events" / "kmem" / event / "enable").write_text("1")
        yield
        (instance / "tracing_on").write_text("0")
        with (instance / "trace").open("rb") as traced, text.open("wb") as file:
            shutil.copyfileobj(traced, file)
    finally:
        (instance / "events" / "enable").write_text("0")
        instance.rmdir()


def test_ftrace_perf_and_kmwatch_agree_on_one_run(tmp_path: Path, workload: Workload) -> None:
    if not shutil.which("perf"):
        pytest.skip("no perf here: apt install linux-perf")
    data, traced, script = (tmp_path / name for name in ("perf.data", "trace.txt", "perf.txt"))
    events = ",".join(f"kmem:{event}" for event in _EVENTS)
    perf = ["perf", "record", "-q", "-a", "-m", "16M", "-e", events, "-o", str(data), "--"]
    own = tmp_path / "own.kmw"
    with ftrace(traced), RingRecorder(frozenset(Kind), Stacks.NONE, lambda: True) as recorder:
        for what, count, size in (("msgsnd", 10007, 700), ("add_key", 101, 20000)):
            run = [*perf, *workload.command(what, count, size)]
            subprocess.run(run, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            with script.open("ab") as file:
                lines = ["perf", "script", "--ns", "--show-lost-events", "-i", str(data)]
                subprocess.run(lines, check=True, stdout=file, stderr=subprocess.DEVNULL)
        with Writer(own, recorder, {}) as writer:
            for segment in recorder.segments():
                writer.write(segment)
            writer.finish("the test ended", {})
    expected = sums(own)

    assert sum(count for (kind, _), (count, _, _) in expected.items() if kind == "kmalloc") >= 10007 + 101
    assert imported(script, tmp_path / "perf.kmw") == expected
    assert imported(traced, tmp_path / "ftrace.kmw") == expected
