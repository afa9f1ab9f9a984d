"""Running commands for a benchmark: how long each takes, and the most memory that it has."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from benchmarks.harness import ROOT, Missing

KMWATCH = (sys.executable, "-m", "kmwatch")


def run(command: Sequence[str | Path], output: Path = Path(os.devnull)) -> Mapping[str, float]:
    """Seconds, CPU seconds and memory (MB, the most that it had) of a command; Missing where it fails."""
    with output.open("wb") as out:
        began = time.monotonic()
        process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        took = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise Missing(f"{' '.join(map(str, command[:4]))} … ended with {process.returncode}")
    return {"seconds": took, "cpu": usage.ru_utime + usage.ru_stime, "memory": usage.ru_maxrss / 1024}


def run_tree(command: Sequence[str | Path], output: Path = Path(os.devnull)) -> Mapping[str, float]:
    """As `run`, of a command and all that it starts; `driver` and `own`: CPU seconds and MB of the command itself.

    Memory is the sum of what each process has to itself and its share of the rest, the most of five looks a second.
    """
    spent: dict[int, float] = {}
    most = own = 0.0
    began = time.monotonic()
    with (
        output.open("wb") as out,
        subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=subprocess.DEVNULL) as process,
    ):
        try:
            while process.poll() is None:
                taken = [_looked_at(pid, spent) for pid in _tree(process.pid)]
                most, own = max(most, sum(taken)), max(own, taken[0])
                with suppress(subprocess.TimeoutExpired):
                    process.wait(0.2)
        finally:
            process.terminate()
    took = time.monotonic() - began
    if process.returncode:
        raise Missing(f"{' '.join(map(str, command[:4]))} … ended with {process.returncode}")
    driver = spent[process.pid]
    return {"seconds": took, "cpu": sum(spent.values()), "driver": driver, "memory": most, "own": own}


def _tree(root: int) -> list[int]:
    """A process and all below it."""
    parents: dict[int, list[int]] = {}
    for pid, fields in _stats():
        parents.setdefault(int(fields[1]), []).append(pid)
    found = [root]
    for pid in found:  # it grows
        found += parents.get(pid, [])
    return found


def _stats() -> Iterator[tuple[int, list[str]]]:
    """Each process with the fields of its `stat` from the third on."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended
            yield int(path.parent.name), path.read_text(errors="replace").rpartition(")")[2].split()


def _looked_at(pid: int, spent: dict[int, float]) -> float:
    """The memory of a process in MB, 0 where it has ended; `spent` gets its CPU seconds."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        spent[pid] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:")), 0.0)


def make(capture: Path, events: int) -> Path:
    """A capture of so many made-up events, in a process of its own: what that takes would count as ours."""
    run((sys.executable, ROOT / "benchmarks" / "make_capture.py", capture, str(events)))
    return capture


def record(directory: Path, seconds: float, pages: int = 0) -> Path:
    """The perf.data of every kmalloc and kfree under `stress-ng --msg`, through rings of so many pages or perf's own.

    Raises Missing where perf or stress-ng is.
    """
    data = directory / "perf.data"
    load = ("stress-ng", "--msg", str(os.cpu_count() or 1), "--timeout", f"{seconds:g}", "--quiet")
    rings = ("-m", str(pages)) if pages else ()
    command = ("perf", "record", "-q", "-a", *rings, "-e", "kmem:kmalloc,kmem:kfree", "-o", data, "--", *load)
    try:
        run(command)
    except FileNotFoundError as error:
        raise Missing("perf is missing: apt install linux-perf (dnf install perf)") from error
    return data


def samples(data: Path) -> int:
    """How many events a perf.data has."""
    command = ("perf", "report", "--stats", "-i", data)
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"^\s*SAMPLE events:\s+(\d+)", told, re.MULTILINE)
    return int(found[1]) if found else 0
