"""What `kmwatch serve` takes in the long run: memory, CPU time, scrapes and losses under a mixed load.

The service runs with its own defaults but for --max-overhead, which would lower what it observes. stress-ng (a package
of the distributions) makes processes, files, messages, sockets and memory come and go; somebody scrapes once a second.
It is no test: it ends with 0 whatever comes out.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))  # also where kmwatch is not installed

from scripts.prometheus import free_port  # noqa: E402

_STRESSORS = ("fork", "mmap", "msg", "pipe", "sock", "dentry", "open", "timer")
_WARM_SECONDS = 60.0  # until memory is compared
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Sample:
    """One look: when, in seconds since the start; memory in bytes; CPU time and what the scrape took, in seconds."""

    at: float
    memory: int
    cpu: float
    scrape: float


@contextmanager
def serving(address: str) -> Iterator[int]:
    """The service; gives its PID."""
    command = [sys.executable, "-m", "kmwatch", "serve", "--listen", address, "--max-overhead", "100%"]
    with subprocess.Popen(command, cwd=HERE.parent) as service:
        try:
            while not answers(address):
                time.sleep(0.2)
            yield service.pid
        finally:
            service.terminate()


@contextmanager
def stress(seconds: float) -> Iterator[None]:
    """One worker of each kind."""
    workers = [word for name in _STRESSORS for word in (f"--{name}", "1")]
    with (
        tempfile.TemporaryDirectory() as scratch,  # what it leaves behind goes with it
        subprocess.Popen(
            ["stress-ng", *workers, "--timeout", f"{seconds:.0f}s", "--temp-path", scratch, "-q"], cwd=scratch
        ) as load,
    ):
        try:
            yield
        finally:
            load.terminate()


def answers(address: str) -> bool:
    """Whether it is ready."""
    try:
        return get(address, "/-/ready")[0]
    except OSError:
        return False


def get(address: str, path: str) -> tuple[bool, str]:
    """Whether a page could be had, and the page."""
    connection = HTTPConnection(address, timeout=30)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status == 200, answer.read().decode()
    finally:
        connection.close()


def sample(pid: int, address: str, began: float) -> Sample:
    """One look at the service."""
    asked = time.monotonic()
    get(address, "/metrics")
    took = time.monotonic() - asked
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    cpu = (int(fields[11]) + int(fields[12])) / _TICK
    return Sample(asked - began, pages * os.sysconf("SC_PAGESIZE"), cpu, took)


def total(page: str, name: str) -> float:
    """The sum of a metric's samples."""
    return sum(float(line.rpartition(" ")[2]) for line in page.splitlines() if line.startswith(name))


def report(samples: list[Sample], page: str) -> None:
    """What came of it, a line for each number."""
    warm = [each for each in samples if each.at >= _WARM_SECONDS] or samples
    first, last = warm[0], warm[-1]
    span = max(last.at - first.at, 1e-9)
    scrapes = sorted(each.scrape for each in samples)
    events, lost = total(page, "kmwatch_events_total"), total(page, "kmwatch_events_lost_total")
    print(f"span      {last.at:.0f} s, compared from {first.at:.0f} s on")
    print(
        f"memory    {first.memory / 1e6:.1f} MB, then {min(e.memory for e in warm) / 1e6:.1f} to "
        f"{max(e.memory for e in warm) / 1e6:.1f} MB, at the end {last.memory / first.memory - 1:+.1%}"
    )
    print(f"CPU       {(last.cpu - first.cpu) / span:.2%} of one core, in user space and in its own system calls")
    print(
        f"scrapes   {len(scrapes)}: median {statistics.median(scrapes) * 1e3:.1f} ms, 99 of 100 below "
        f"{scrapes[int(len(scrapes) * 0.99) - 1] * 1e3:.1f} ms, longest {scrapes[-1] * 1e3:.1f} ms"
    )
    print(f"events    {events:,.0f}, of which lost {lost:,.0f}")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("-d", "--duration", type=float, default=600.0, help="seconds; 600 by default")
    options = parser.parse_args()
    address, samples = f"127.0.0.1:{free_port()}", list[Sample]()
    with serving(address) as pid, stress(options.duration):
        began = time.monotonic()
        while (now := time.monotonic()) - began < options.duration:
            samples.append(sample(pid, address, began))
            time.sleep(max(0.0, 1.0 - (time.monotonic() - now)))
        _, page = get(address, "/metrics")
    report(samples, page)


if __name__ == "__main__":
    main()
