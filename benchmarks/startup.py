"""How long kmwatch takes to start: wall-clock and CPU seconds from the start of the process to what is waited for.

`help`: the text of `kmwatch --help` is out. `cold` and `warm`: `kmwatch report live` counts, with nothing compiled
before, and with everything; a command that it starts then tells the time, and what its parent has used. `top`: the
first frame of `kmwatch top` stands in a terminal. In turn, again and again, and the medians of all. It takes root.
It is no test: it ends with 0 whatever comes out.
"""

import argparse
import json
import os
import pty
import select
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable
from fcntl import ioctl
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
KMWATCH = (sys.executable, "-m", "kmwatch")
TARGETS = {"help": 0.15, "cold": None, "warm": 0.6, "top": 1.0}  # wall-clock seconds
WORDS = {
    "help": "kmwatch --help",
    "cold": "kmwatch report live counts, nothing compiled before",
    "warm": "kmwatch report live counts",
    "top": "first frame of kmwatch top",
}
TELL = 'date +%s%N; cat "/proc/$PPID/stat"'  # the time in nanoseconds; what the parent has used
FRAME = b"attaching"  # what the first frame says
PATIENCE = 60.0  # seconds

Took = tuple[float, float]
"""Wall-clock and CPU seconds."""


def environment(cache: str) -> dict[str, str]:
    """What kmwatch of this checkout needs."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "CACHE_DIRECTORY": cache, "TERM": "xterm-256color"}


def cpu_seconds(stat: str) -> float:
    """What a process has used, by the text of its /proc/PID/stat."""
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def help_shown(cache: str) -> Took:
    """The whole process: it ends at once."""
    before, began = os.times(), time.monotonic()
    subprocess.run([*KMWATCH, "--help"], check=True, capture_output=True, env=environment(cache))
    wall, after = time.monotonic() - began, os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return wall, used


def attached(cache: str) -> Took:
    """Until kmwatch counts, which is when it starts the command."""
    began = time.time_ns()
    command = [*KMWATCH, "report", "live", "--json", "--", "sh", "-c", TELL]
    ended = subprocess.run(command, check=True, capture_output=True, text=True, env=environment(cache))
    now, stat = ended.stdout.splitlines()[:2]
    return (int(now) - began) / 1e9, cpu_seconds(stat)


def attached_cold(_cache: str) -> Took:
    """The same, with an empty cache."""
    with tempfile.TemporaryDirectory() as empty:
        return attached(empty)


def first_frame(cache: str) -> Took:
    """Until the first frame is in the terminal."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    began, output = time.monotonic(), b""
    process = subprocess.Popen(
        [*KMWATCH, "top"], stdin=theirs, stdout=theirs, stderr=theirs, env=environment(cache), start_new_session=True
    )
    os.close(theirs)
    try:
        while FRAME not in output:
            if not select.select([ours], [], [], began + PATIENCE - time.monotonic())[0]:
                raise RuntimeError("kmwatch top draws nothing")
            output += os.read(ours, 1 << 16)
        return time.monotonic() - began, cpu_seconds(Path(f"/proc/{process.pid}/stat").read_text())
    finally:
        process.terminate()
        drain(ours, process)


def drain(terminal: int, process: "subprocess.Popen[bytes]") -> None:
    """Take what a process still writes until it ends: it would wait for that."""
    try:
        while os.read(terminal, 1 << 16):
            pass
    except OSError:  # it is gone
        pass
    process.wait(PATIENCE)
    os.close(terminal)


MEASURED: dict[str, Callable[[str], Took]] = {
    "help": help_shown,
    "cold": attached_cold,
    "warm": attached,
    "top": first_frame,
}


def measure(rounds: int) -> dict[str, list[Took]]:
    """What each took, a pair for each round."""
    found: dict[str, list[Took]] = {name: [] for name in MEASURED}
    with tempfile.TemporaryDirectory() as cache:
        attached(cache)  # so that it is warm
        for number in range(rounds):
            if sys.stderr.isatty():
                print(f"\rround {number + 1} of {rounds} ", end="", file=sys.stderr, flush=True)
            for name, take in MEASURED.items():
                found[name].append(take(cache))
    return found


def summary(found: dict[str, list[Took]]) -> list[dict[str, Any]]:
    """By what was measured: medians, the fastest, and whether the target is met."""
    rows = []
    for name, pairs in found.items():
        walls, used = zip(*pairs, strict=True)
        wall, target = statistics.median(walls), TARGETS[name]
        met = None if target is None else wall <= target
        rows.append({"name": name, "wall": wall, "least": min(walls), "cpu": statistics.median(used), "met": met})
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    """The result as text."""
    print(f"{'seconds, medians':56}{'wall':>8}{'least':>8}{'CPU':>8}{'target':>8}")
    for row in rows:
        target = TARGETS[row["name"]]
        verdict = "" if target is None else f"{target:8.2f}  {'PASS' if row['met'] else 'over'}"
        print(f"{WORDS[row['name']]:56}{row['wall']:8.2f}{row['least']:8.2f}{row['cpu']:8.2f}{verdict}")


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20, help="turns of all of them (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON, with every round")
    arguments = parser.parse_args()
    try:
        found = measure(arguments.rounds)
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        print(f"startup: {error}", file=sys.stderr)
        return 0
    rows = summary(found)
    if arguments.json:
        print(json.dumps({"unit": "seconds", "targets": TARGETS, "measured": rows, "rounds": found}, indent=2))
    else:
        show(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
