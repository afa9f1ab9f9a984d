"""What recorders keep, lose and take while stress-ng keeps every CPU busy with allocations.

First messages (kmalloc and kfree as fast as can be), then a mixture of processes, files, pipes and sockets; all ways
take turns, and at last kmwatch and perf record messages for long. It is no test: it ends with 0 whatever comes out.
"""

import os
import re
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from benchmarks import harness, peers, ways
from benchmarks.harness import Cell, Missing, Options, Result, Spread, Target
from benchmarks.watching import EVENTS, TWO
from kmwatch.sources.maps import LiveSource

MOST_SECONDS = 150.0  # for each load: no round begins later
SECONDS, LONG_SECONDS, LONG_SECONDS_IN_SHORT = 2.0, 60.0, 10.0
LOADS = {"messages": ("msg",), "mixture": ("fork", "pipe", "sock", "open", "dentry")}
LONG = "kmwatch record --kinds kmalloc,kfree"
LONG_PERF = "perf record -e kmem:kmalloc,kmem:kfree"
PEERS = {
    "messages": {
        LONG: peers.kmwatch(*TWO),
        LONG_PERF: peers.perf("record", "-a", *EVENTS),
        "ftrace to a file": peers.ftrace(),
        "bpftrace": peers.bpftrace(),
    },
    "mixture": {
        "kmwatch record": peers.kmwatch(),
        "kmwatch record --stacks sampled": peers.kmwatch("--stacks", "sampled"),
        "perf kmem record": peers.perf("kmem", "record"),
    },
}
COLUMNS = (
    "load and recorder",
    "speed of the load",
    "M events/s kept",
    "% lost",
    "bytes an event",
    "CPU s per M events",
)
ABOUT = f"""\
stress-ng on all CPUs at once, recorders beside it: messages are one stressor a CPU, the mixture is one each of
{", ".join(LOADS["mixture"])}. *Speed of the load* is what stress-ng gets done beside what it gets done with nothing
attached (of the mixture the geometric mean); what a recorder lost is its own count. CPU seconds are those of the
recording process from when it records to its end, what programs in the kernel take is in the speed of the load. A
recorder that loses much is fast for that reason. Empty programs, the ledger and bpftrace keep sums, not events; what
bpftrace has left out it does not tell."""


def stress(load: str, seconds: float) -> dict[str, float]:
    """Operations a second of each stressor."""
    names = LOADS[load]
    count = (os.cpu_count() or 1) if len(names) == 1 else 1
    with tempfile.TemporaryDirectory() as scratch:
        told = Path(scratch) / "told"
        words = [word for name in names for word in (f"--{name}", str(count))]
        command = ["stress-ng", *words, "--timeout", f"{seconds:g}s", "-q", "--metrics", "--yaml", str(told)]
        command += ["--temp-path", scratch]
        process = subprocess.Popen(command, cwd=scratch, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait()
        finally:
            process.terminate()  # it ends its own
            process.wait()
        text = told.read_text(encoding="utf-8")
    speeds = re.findall(r"stressor: ([\w-]+)\n(?:.*\n)*?\s+bogo-ops-per-second-real-time: ([\d.]+)", text)
    if {name for name, _ in speeds} != set(names):
        raise Missing(f"stress-ng did not tell how fast {load} were: {text[-200:]}")
    return {f"speed {name}": float(speed) for name, speed in speeds}


Measured = dict[str, float]


def recorded(peer: peers.Peer, load: str, seconds: float) -> Measured:
    """One recording: what the load did, events and lost ones, bytes, CPU seconds."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with peer.around(directory), peer.started(directory) as running:
            speeds = stress(load, seconds)
        events, lost = peer.tell(directory)
        found = {**speeds, "cpu": running.cpu, "seconds": seconds}
        if events is not None and lost is not None:
            found |= {"events": events, "lost": lost, "size": peer.size(directory)}
        return found


def emptily(way: ways.Making, load: str) -> Measured:
    """With empty programs attached."""
    with way():
        return stress(load, SECONDS)


def counted(source: LiveSource, load: str, seconds: float) -> Measured:
    """The ledger: the same, as far as it has it."""
    with ways.counting(source) as sums:
        speeds = stress(load, seconds)
    return {**speeds, "seconds": seconds, "events": sum(sums.events.values()), "lost": sums.lost}


Runs = dict[str, Callable[[], Measured]]


def runs_of(load: str, others: Mapping[str, peers.Peer], empty: ways.Making, source: LiveSource) -> Runs:
    """What to do for each way under a load."""
    return {
        "nothing": partial(stress, load, SECONDS),
        "nothing again": partial(stress, load, SECONDS),
        "empty programs": partial(emptily, empty, load),
        "kmwatch: ledger": partial(counted, source, load, SECONDS),
        **{name: partial(recorded, peer, load, SECONDS) for name, peer in others.items()},
    }


def called(runs: Runs, name: str) -> Measured:
    """What one of them measures."""
    return runs[name]()


def measure(options: Options) -> Result:
    """Both loads with all ways in turn, and then for long."""
    if not shutil.which("stress-ng"):
        raise Missing("stress-ng is missing: apt install stress-ng (dnf install stress-ng)")
    rounds, missing = max(1, options.rounds // 3), dict[str, str]()
    rows, notes = list[list[Cell]](), list[str]()
    with ways.loaded() as (ours, source):
        for load, others in PEERS.items():
            runs = runs_of(load, others, ours["empty"], source)
            found = harness.in_turn(
                dict.fromkeys(runs, nullcontext), partial(called, runs), rounds, missing, MOST_SECONDS
            )
            notes.append(f"Rounds of {SECONDS:g} s with {load}: {len(found['nothing']['speed ' + LOADS[load][0]])}.")
            rows += [row(f"{load}: {name}", found[name], found["nothing"]) for name in found if name != "nothing"]
    seconds = LONG_SECONDS if options.full else LONG_SECONDS_IN_SHORT
    long = {name: longer(name, seconds) for name in (LONG, LONG_PERF) if name not in missing}
    rows += [row(f"messages, {seconds:g} s: {name}", found, None) for name, found in long.items()]
    notes += [f"{name} is not in the table: {why}." for name, why in missing.items()]
    return Result("Recording under full load", ABOUT, COLUMNS, rows, targets(long[LONG]), notes)


Rounds = Mapping[str, Sequence[float]]
"""What one way came to, by what was measured: one number for each round."""


def longer(name: str, seconds: float) -> Rounds:
    """One recording of messages for so long."""
    harness.say(f"{name}, {seconds:g} s")
    os.sync()  # what other recorders have left to be written would hold up this one
    found = recorded(PEERS["messages"][name], "messages", seconds)
    harness.say("")
    return {name: [value] for name, value in found.items()}


def row(name: str, found: Rounds, nothing: Rounds | None) -> list[Cell]:
    """A line of the table, in the order of COLUMNS."""
    speed = Spread.of(slowdown(found, nothing)) if nothing else None
    if "events" not in found:
        return [name, speed, None, None, None, None]
    events = [max(each, 1) for each in found["events"]]
    rate = [count / 1e6 / seconds for count, seconds in zip(events, found["seconds"], strict=True)]
    size = Spread.of(harness.ratios(found["size"], events)) if "size" in found else None
    return [name, speed, Spread.of(rate), Spread.of(lost(found)), size, Spread.of(cpu(found)) if size else None]


def slowdown(found: Rounds, nothing: Rounds) -> list[float]:
    """The speed of all stressors beside their speed with nothing attached: the geometric mean, by round."""
    names = [name for name in nothing if name.startswith("speed ")]
    by_name = [harness.ratios(found[name], nothing[name]) for name in names]
    return [statistics.geometric_mean(each) for each in zip(*by_name, strict=True)]


def lost(found: Rounds) -> list[float]:
    """Percent of all events, by round."""
    return [100 * gone / max(gone + kept, 1) for gone, kept in zip(found["lost"], found["events"], strict=True)]


def cpu(found: Rounds) -> list[float]:
    """CPU seconds for each million of events, by round."""
    return [1e6 * seconds / max(kept, 1) for seconds, kept in zip(found["cpu"], found["events"], strict=True)]


def targets(long: Rounds) -> list[Target]:
    """What the long recording is held to."""
    seconds, events = long["seconds"][0], long["events"][0]
    return [
        Target(
            f"events lost in {seconds:g} s of messages",
            long["lost"][0],
            0,
            reason="A ring was full: the thread that reads it did not run for a second, although in real time.",
        ),
        Target(
            "bytes an event on the disk",
            long["size"][0] / events,
            4,
            reason="Pointers are scrambled, and times to the nanosecond hardly compress.",
        ),
        Target(
            "CPU seconds of the recorder for a million events",
            cpu(long)[0],
            0.2,
            reason="Encoding Parquet takes most of it.",
        ),
    ]


if __name__ == "__main__":
    harness.main("recording", measure)
