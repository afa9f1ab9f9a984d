"""Recorders that are processes: kmwatch record, perf, bpftrace, memleak of BCC, and ftrace read to a file.

Each is started as its own manual says, runs until it is interrupted, and tells what it has seen and lost. One that is
not installed, or does not start, raises Missing with what it said.
"""

import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import ROOT, Missing
from benchmarks.perf_data import events_and_lost
from kmwatch.kernel import tracefs

PATIENCE = 30.0  # seconds for a recorder to start, and to end
_HEADERS = ROOT / "bpf" / "headers"
_AGGREGATION = """
interval:ms:20 { @ticks++; if (@ticks == 5) { printf("ready\\n"); } }
tracepoint:kmem:kmalloc { @[args->call_site, args->gfp_flags] = sum(args->bytes_alloc); }
tracepoint:kmem:kfree { @frees[args->call_site] = count(); }
"""


@dataclass
class Running:
    """A recorder at work in a directory of its own; `cpu` in seconds from when it records, once it has ended."""

    directory: Path
    process: subprocess.Popen[bytes]
    cpu: float = 0.0

    @property
    def said(self) -> str:
        """What it has printed so far."""
        return (self.directory / "said").read_text(encoding="utf-8", errors="replace")


@dataclass(frozen=True)
class Peer:
    """One recorder.

    Attributes:
        command: by the directory that it may write to.
        ready: whether it records by now.
        tell: events kept and events lost, both None where it tells neither.
        output: the file or directory that it writes, '' where it writes none.
        around: what must stand around it, by the directory.
        environment: variables, by the directory.
    """

    command: Callable[[Path], list[str]]
    ready: Callable[[Running], bool]
    tell: Callable[[Path], tuple[int | None, int | None]] = lambda _: (None, None)
    output: str = ""
    around: Callable[[Path], AbstractContextManager[object]] = nullcontext
    environment: Callable[[Path], dict[str, str]] = lambda _: {}

    @contextmanager
    def recording(self) -> Iterator[Running]:
        """From when it records to when it has ended; what it wrote goes with it."""
        with tempfile.TemporaryDirectory() as name, self.around(Path(name)), self.started(Path(name)) as running:
            yield running

    @contextmanager
    def started(self, directory: Path) -> Iterator[Running]:
        """The process, in a directory that stays: interrupted and waited for at the end."""
        command = self.command(directory)
        if not shutil.which(command[0]):
            raise Missing(f"{command[0]} is not installed")
        with (directory / "said").open("wb") as said:
            environment = {**os.environ, "PYTHONPATH": str(ROOT), **self.environment(directory)}
            # A session of its own: Ctrl-C is ours to hand on, and what it starts ends with it.
            process = subprocess.Popen(
                command, stdout=said, stderr=said, stdin=subprocess.DEVNULL, env=environment, start_new_session=True
            )
        running = Running(directory, process)
        try:
            deadline = time.monotonic() + PATIENCE
            while not self.ready(running):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise Missing(f"{command[0]} did not start: {running.said.strip()[-200:]}")
                time.sleep(0.01)
            starting = _used(process.pid)
            yield running
            running.cpu = _ended(process) - starting
        finally:
            _ended(process)

    def size(self, directory: Path) -> int:
        """Bytes that it has written."""
        path = directory / self.output
        return sum(each.stat().st_size for each in (path, *path.rglob("*")) if each.is_file()) if self.output else 0


def _used(pid: int) -> float:
    """CPU seconds of a process so far, and of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def _ended(process: subprocess.Popen[bytes]) -> float:
    """Interrupt a recorder, if it still runs, and wait; CPU seconds of it and of what it started."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode is None:
        for number, patience in ((signal.SIGINT, PATIENCE), (signal.SIGTERM, 5.0), (signal.SIGKILL, None)):
            try:
                os.killpg(process.pid, number)
                process.wait(patience)
                break
            except subprocess.TimeoutExpired:
                continue
            except ProcessLookupError:
                process.wait()
                break
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def kmwatch(*options: str) -> Peer:
    """`kmwatch record` with these options."""

    def command(directory: Path) -> list[str]:
        sign = f"touch {directory}/ready; exec sleep 100000"
        record = [sys.executable, "-m", "kmwatch", "record", "-q", "-o", str(directory / "kept.kmw"), *options]
        return [*record, "--", "sh", "-c", sign]

    def tell(directory: Path) -> tuple[int, int]:
        from kmwatch.capture.reader import Capture

        capture = Capture(directory / "kept.kmw")
        return capture.events, sum(segment.trust.lost for segment in capture.segments)

    def ready(running: Running) -> bool:
        return (running.directory / "ready").exists() and not _measures_itself(running.process.pid)

    return Peer(command, ready, tell, "kept.kmw")


def _measures_itself(pid: int) -> bool:
    """Whether the kernel's statistics are on for it, as in the first second of kmwatch: all programs are slower."""
    links = []
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed just now
            links.append(str(path.readlink()))
    return "anon_inode:bpf-stats" in links


def perf(*arguments: str) -> Peer:
    """Perf with a subcommand that records; no build ids, which it would search for in all it has recorded."""

    def command(directory: Path) -> list[str]:
        control = f"fifo:{directory}/ask,{directory}/answer"
        return ["perf", *arguments, "-B", "-o", str(directory / "perf.data"), "--control", control]

    @contextmanager
    def around(directory: Path) -> Iterator[None]:
        for name in ("ask", "answer"):
            os.mkfifo(directory / name)
        # Open at both ends from the start: nobody waits for the other.
        ends = [os.open(directory / name, os.O_RDWR | os.O_NONBLOCK) for name in ("ask", "answer")]
        os.write(ends[0], b"ping\n")
        try:
            yield
        finally:
            for end in ends:
                os.close(end)

    def ready(running: Running) -> bool:
        answer = os.open(running.directory / "answer", os.O_RDONLY | os.O_NONBLOCK)
        try:
            return b"ack" in os.read(answer, 64)
        except BlockingIOError:
            return False
        finally:
            os.close(answer)

    return Peer(command, ready, lambda directory: events_and_lost(directory / "perf.data"), "perf.data", around)


def bpftrace() -> Peer:
    """The aggregation by call site and flags that a user would write, and releases by call site."""
    return Peer(lambda _: ["bpftrace", "-B", "none", "-e", _AGGREGATION], lambda running: "ready" in running.said)


def memleak() -> Peer:
    """BCC's memleak on the kernel, with kmwatch's headers and the one macro that they lack for it."""

    def environment(directory: Path) -> dict[str, str]:
        headers = directory / "headers"
        shutil.copytree(_HEADERS, headers)
        with (headers / "include" / "linux" / "log2.h").open("a", encoding="utf-8") as file:
            file.write("#define roundup_pow_of_two(n) (1ull << (64 - __builtin_clzll((n) - 1)))\n")
        return {"BCC_KERNEL_SOURCE": str(headers)}

    def command(_: Path) -> list[str]:
        found = shutil.which("memleak-bpfcc") or shutil.which("memleak", path="/usr/share/bcc/tools")
        if not found:
            raise Missing("memleak of BCC is not installed (bpfcc-tools)")
        return [sys.executable, "-u", found, "100000"]

    return Peer(command, lambda running: "Attaching to kernel" in running.said, environment=environment)


def ftrace() -> Peer:
    """Events kept by the kernel's own tracer, its text read to a file."""
    instance = tracefs.find().path / "instances" / "kmwatch-benchmark"
    switches = [instance / "events" / "kmem" / event / "enable" for event in ("kmalloc", "kfree")]

    @contextmanager
    def around(directory: Path) -> Iterator[None]:
        try:
            instance.mkdir()
        except OSError as error:
            raise Missing(f"tracefs: {error}") from error
        try:
            for switch in switches:
                switch.write_text("1")
            yield
        finally:
            for switch in switches:
                switch.write_text("0")
            stats = (each.read_text() for each in instance.glob("per_cpu/cpu*/stats"))
            (directory / "stats").write_text("".join(stats))
            instance.rmdir()

    def command(directory: Path) -> list[str]:
        return ["dd", f"if={instance}/trace_pipe", f"of={directory}/text", "bs=64k", "status=none"]

    def tell(directory: Path) -> tuple[int, int]:
        lines = (line.partition(":") for line in (directory / "stats").read_text().splitlines())
        counted = [(name, number) for name, _, number in lines]

        def total(*wanted: str) -> int:
            return sum(int(number) for name, number in counted if name in wanted)

        return total("read events"), total("overrun", "dropped events")

    return Peer(command, lambda running: (running.directory / "text").exists(), tell, "text", around)
