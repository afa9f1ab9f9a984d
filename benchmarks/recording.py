"""What recording every kmalloc and kfree takes, beside perf record, under a workload that does little else.

`stress-ng --msg` sends messages as fast as two processes a CPU can. Each recorder runs beside it by itself; what is
compared is events lost, bytes on the disk for each event, and CPU time of the recording process for each million of
events: in all, and without its start, which is over before the workload begins and costs the same for a second and for
a day. It is no test: it ends with 0 whatever comes out.

A recording also has a price by the second, of some 0.04 CPU seconds, and ends with 0.2. On two CPUs that others used
too, one run at a million events a second took 0.18 CPU seconds a million without the start; at half of that rate it
took 0.24 to 0.27.

    python benchmarks/recording.py [SECONDS] [SECONDS-OF-PERF]
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from kmwatch.capture.reader import Capture  # noqa: E402

TARGET = "0 lost, at most 4 bytes an event, at most 0.2 CPU seconds a million without the start"


class Result(NamedTuple):
    """What came of one recording: events, lost events, bytes, CPU seconds, those of them before it was up, seconds."""

    events: int
    lost: int
    size: int
    cpu: float
    start: float
    seconds: float


def run(recorder: list[str], ready: Path, seconds: float) -> tuple[float, float]:
    """Run the workload beside a recorder, which is up when `ready` exists; its CPU seconds, in all and until then."""
    process = subprocess.Popen(recorder, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not ready.exists():
        if process.poll() is not None:
            sys.exit(f"{recorder[0]} did not start: {' '.join(recorder)}")
        time.sleep(0.05)
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    start = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")  # its own and its children's, user and system
    workload = ["stress-ng", "--msg", str(os.cpu_count() or 1), "--timeout", f"{seconds}s", "--quiet"]
    subprocess.run(workload, check=True)
    process.send_signal(signal.SIGINT)
    _, _, usage = os.wait4(process.pid, 0)
    process.returncode = 0
    return usage.ru_utime + usage.ru_stime, start


def kmwatch(directory: Path, seconds: float) -> Result:
    """Record with kmwatch."""
    target = directory / "kmwatch.kmw"
    command = [sys.executable, "-m", "kmwatch", "record", "--kinds", "kmalloc,kfree", "-o", str(target)]
    cpu, start = run(command, target / "events-00001.parquet", seconds)
    capture = Capture(target)
    size = sum(path.stat().st_size for path in target.iterdir())
    lost = sum(segment.trust.lost for segment in capture.segments)
    return Result(capture.events, lost, size, cpu, start, capture.seconds)


def perf(directory: Path, seconds: float) -> Result:
    """Record with perf, as its manual says."""
    target = directory / "perf.data"
    command = ["perf", "record", "-q", "-a", "-e", "kmem:kmalloc,kmem:kfree", "-o", str(target)]
    cpu, start = run(command, target, seconds)
    told = subprocess.run(
        ["perf", "report", "--stats", "-i", target], capture_output=True, text=True, check=True
    ).stdout

    def count(name: str) -> int:
        found = re.search(rf"^\s*{name} events:\s+(\d+)", told, re.MULTILINE)
        return int(found[1]) if found else 0

    return Result(count("SAMPLE"), _lost(target) if count("LOST") else 0, target.stat().st_size, cpu, start, seconds)


def _lost(data: Path) -> int:
    """The sum of what perf's LOST records tell; it prints them one by one only."""
    dump = subprocess.Popen(["perf", "report", "-D", "-i", data], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    lost = subprocess.run(
        ["grep", "-ao", "lost [0-9]*"], stdin=dump.stdout, capture_output=True, text=True, check=False
    )
    dump.wait()
    return sum(int(line.split()[1]) for line in lost.stdout.splitlines() if line[5:])


def show(name: str, result: Result) -> None:
    """One line."""
    millions = max(result.events, 1) / 1e6
    print(
        f"{name:9} {result.events / result.seconds / 1e6:6.2f} M events/s   {result.lost:10,} lost   "
        f"{result.size / max(result.events, 1):7.1f} bytes an event   {result.cpu / millions:6.3f} CPU s a million, "
        f"{(result.cpu - result.start) / millions:6.3f} without the start"
    )


def main() -> None:
    """Compare, and print."""
    if not shutil.which("stress-ng"):
        sys.exit("stress-ng is missing: apt install stress-ng (dnf install stress-ng)")
    seconds, of_perf = (float(word) for word in (sys.argv[1:] + ["30", "5"][len(sys.argv) - 1 :]))
    print(f"recording kmalloc and kfree under stress-ng --msg, {seconds:g} s, {of_perf:g} s of perf")
    with tempfile.TemporaryDirectory() as directory:
        show("kmwatch", kmwatch(Path(directory), seconds))
        if shutil.which("perf"):
            show("perf", perf(Path(directory), of_perf))
    print(f"target: {TARGET}")


if __name__ == "__main__":
    main()
