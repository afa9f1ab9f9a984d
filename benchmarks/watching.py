"""What watching and recording cost a program that allocates: nanoseconds added, beside perf, bpftrace, ftrace, memleak.

One program (benchmarks/operations.c) does one operation again and again on the last CPU, recorders run on the others;
all ways take turns. It is no test: it ends with 0 whatever comes out.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from benchmarks import harness, peers, ways
from benchmarks.harness import ROOT, Cell, Found, Missing, Options, Result, Spread, Target
from kmwatch.schema import Kind

WORKLOADS = {
    "msg64": "message of 64 bytes",
    "msg2000": "message of 2000 bytes",
    "pipe": "pipe",
    "open": "open and close",
    "tcp": "TCP loopback",
    "exec": "fork and exec",
}
PROCESSES, STRETCHES = 5, 10  # where its memory lies makes one process slower than the next, as long as it lives
MOST_SECONDS = 900.0  # no round begins later
EVERYTHING = frozenset(Kind)
TWO = ("--kinds", "kmalloc,kfree")
EVENTS = ("-e", "kmem:kmalloc,kmem:kfree")
PEERS = {
    "record": peers.kmwatch(),
    "record two": peers.kmwatch(*TWO),
    "record stacks": peers.kmwatch("--stacks", "sampled"),
    "perf kmem": peers.perf("kmem", "record"),
    "perf record": peers.perf("record", "-a", *EVENTS),
    "bpftrace": peers.bpftrace(),
    "ftrace": peers.ftrace(),
    "memleak": peers.memleak(),
}
# What stands on the page, and which events it sees, so that what it adds can be told for each.
SHOWN = {
    "empty": ("empty raw tracepoint programs", EVERYTHING),
    "ledger": ("kmwatch: ledger (`report live`)", EVERYTHING),
    "stacks": ("kmwatch: ledger, stacks of a sample", EVERYTHING),
    "held": ("kmwatch: ledger, what is held, one object of 16", EVERYTHING),
    "record": ("kmwatch record", EVERYTHING),
    "record stacks": ("kmwatch record --stacks sampled", EVERYTHING),
    "record two": ("kmwatch record --kinds kmalloc,kfree", ways.TWO),
    "bpftrace": ("bpftrace, sums by call site and flags of kmalloc, kfree", ways.TWO),
    "perf record": ("perf record -e kmem:kmalloc,kmem:kfree", ways.TWO),
    "perf kmem": ("perf kmem record", ways.SLAB),
    "ftrace": ("ftrace to a file: kmalloc, kfree", ways.TWO),
    "memleak": ("BCC's memleak", ways.SLAB | {Kind.PAGE_ALLOC, Kind.PAGE_FREE}),
}
ABOUT = """\
What each way of watching adds to one operation of a program that does nothing else, in nanoseconds for each event that
this way sees of it; how many those are was counted by kmwatch. The program runs on the last CPU, recorders on the
others. Of each turn the best of many stretches of a millisecond counts, in five processes. A message is one kmalloc and
one kfree and nothing else, so there every way sees the same two events; the ratios of the targets are taken there, of
both sizes together. A machine that others share is faster now and slower then, for seconds: nothing attached is
measured again just before each way. *Noise* is nothing attached in place of a way."""
BEFORE = "before "
"""In front of a workload's name: what it took with nothing attached, just before."""


@contextmanager
def elsewhere() -> Iterator[int]:
    """Keep this process, and all that it starts, off the last CPU; gives that CPU."""
    allowed = os.sched_getaffinity(0)
    last = max(allowed)
    os.sched_setaffinity(0, allowed - {last} or allowed)
    try:
        yield last
    finally:
        os.sched_setaffinity(0, allowed)


class Workload:
    """The compiled program, on one CPU."""

    def __init__(self, directory: Path, cpu: int) -> None:
        compiler = shutil.which("cc")
        if not compiler:
            raise Missing("a C compiler is missing: apt install gcc")
        self._program, self._cpu = directory / "operations", cpu
        subprocess.run([compiler, "-O2", "-o", self._program, ROOT / "benchmarks" / "operations.c"], check=True)

    def best(self, name: str) -> float:
        """The nanoseconds of an operation in the best stretch of all processes."""
        return min(self._run(name, STRETCHES)[1] for _ in range(PROCESSES))

    def operations(self, name: str) -> int:
        """Do many operations in one process, so that its start does not count; how many they were."""
        return self._run(name, PROCESSES * STRETCHES)[0]

    def _run(self, name: str, stretches: int) -> tuple[int, float]:
        command = [str(self._program), name, str(stretches), str(self._cpu)]
        ended = subprocess.run(command, check=True, capture_output=True, text=True)
        operations, best, _ = ended.stdout.split()
        return int(operations), float(best)


class Beside:
    """Ways of watching, each beside nothing attached just before it."""

    def __init__(self, workload: Workload) -> None:
        self._workload, self._before = workload, dict[str, float]()

    @contextmanager
    def nothing(self, way: ways.Making) -> Iterator[None]:
        """The way in force, once nothing attached has been measured."""
        self._before = {BEFORE + name: taken for name, taken in self._now().items()}
        with way():
            yield

    def measured(self, _: str) -> dict[str, float]:
        """Nanoseconds of each operation, and those just before."""
        return self._now() | self._before

    def _now(self) -> dict[str, float]:
        return {name: self._workload.best(name) for name in WORKLOADS}


def measure(options: Options) -> Result:
    """All ways, in turn."""
    missing: dict[str, str] = {}
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        workload = Workload(directory, stack.enter_context(elsewhere()))
        ours, source = stack.enter_context(ways.loaded())
        events = {name: ways.counts(source, partial(workload.operations, name)) for name in WORKLOADS}
        every = {**ours, **{name: peer.recording for name, peer in PEERS.items()}}
        beside = Beside(workload)
        turns = {name: partial(beside.nothing, way) for name, way in every.items()}
        found = harness.in_turn(turns, beside.measured, options.rounds, missing, MOST_SECONDS)
    return summary(found, events, missing)


def summary(found: Found, events: Mapping[str, Mapping[Kind, float]], missing: Mapping[str, str]) -> Result:
    """The table: ways by workloads, what each adds for an event; and the targets."""
    held = {name: ways.held({"out": found["out"][name], "in": found["in"][name]}) for name in found["out"]}
    found = {**found, "held": held}
    rows: list[list[Cell]] = [
        ["nothing: ns an operation", *(Spread.of(found["nothing"][name]) for name in WORKLOADS)],
        ["noise: nothing beside nothing, ratio", *(ratio_of_nothing(found["nothing"], name) for name in WORKLOADS)],
        ["events of an operation", *(sum(events[name].values()) for name in WORKLOADS)],
    ]
    for way, (words, kinds) in SHOWN.items():
        if way in found:
            rows.append([words, *(added_for_event(found, way, name, events[name], kinds) for name in WORKLOADS)])
    notes = [f"Rounds: {len(found['nothing']['msg64'])}."]
    notes += [f"{SHOWN[way][0]} is not in the table: {why}." for way, why in missing.items()]
    heads = ("added ns an event", *WORKLOADS.values())
    return Result("What watching adds to a program", ABOUT, heads, rows, targets(found), notes)


def ratio_of_nothing(nothing: Mapping[str, list[float]], name: str) -> Spread | None:
    """How far two equal measurements are apart."""
    return Spread.of(harness.ratios(nothing[name], nothing[BEFORE + name]))


def added(found: Found, way: str, name: str) -> list[float]:
    """Nanoseconds that a way adds to an operation, round by round."""
    return harness.added(found[way][name], found[way][BEFORE + name])


def added_for_event(
    found: Found, way: str, name: str, events: Mapping[Kind, float], kinds: frozenset[Kind]
) -> Spread | None:
    """Nanoseconds; None where the way sees no event of the operation."""
    count = sum(number for kind, number in events.items() if kind in kinds)
    return Spread.of(each / count for each in added(found, way, name)) if count else None


def against(found: Found, way: str, other: str) -> Spread | None:
    """What one way adds to messages of both sizes beside what another adds, round by round."""
    if way not in found or other not in found:
        return None

    def both(name: str) -> list[float]:
        pairs = zip(added(found, name, "msg64"), added(found, name, "msg2000"), strict=True)
        return [small + large for small, large in pairs]

    return Spread.of(harness.ratios(both(way), both(other)))


def targets(found: Found) -> list[Target]:
    """What is aimed at."""
    wanted = (
        (
            "ledger",
            "empty",
            1.6,
            "Finding the row of an event, and what the CPU is doing, takes what an empty program lacks.",
        ),
        ("ledger", "perf kmem", 0.2, "The call of a program through a tracepoint is a fixed part of it."),
        ("ledger", "bpftrace", 1.0, "bpftrace keeps one sum by two values, kmwatch a row by all that an event says."),
        ("record two", "perf record", 1 / 3, "Second copies of the programs run at each event, so that none is lost."),
        ("stacks", "ledger", 1.3, "Reading a stack is dear, even of one event in many."),
        ("held", "ledger", 1.3, "The address of each object is hashed, and one of 16 has an entry in a table."),
    )
    return [
        Target(f"added by {SHOWN[way][0]}, to 1 by {SHOWN[other][0]}", against(found, way, other), limit, reason=reason)
        for way, other, limit, reason in wanted
    ]


if __name__ == "__main__":
    harness.main("watching", measure)
