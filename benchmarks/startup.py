"""How long kmwatch takes to start: wall-clock and CPU seconds from the start of the process to what is waited for.

Attached is when `kmwatch report live` counts: a command that it starts then tells the time, and what its parent has
used. Drawn is when the first frame of `kmwatch top` stands in a terminal. It takes root. It is no test: it ends with 0
whatever comes out.
"""

import os
import pty
import select
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable
from contextlib import nullcontext
from fcntl import ioctl
from functools import partial
from pathlib import Path

from benchmarks.commands import KMWATCH
from benchmarks.harness import ROOT, Missing, Options, Result, Spread, Target, in_turn, main

HELP, WARM, FRAME = "kmwatch --help", "kmwatch report live counts", "kmwatch top draws its first frame"
COLD = f"{WARM}, nothing compiled before"
_TELL = 'date +%s%N; cat "/proc/$PPID/stat"'  # the time in nanoseconds; what the parent has used
_DRAWN = b"attaching"  # what the first frame says
_PATIENCE = 60.0  # seconds

Took = dict[str, float]
"""Wall-clock and CPU seconds: wall, cpu."""


def _environment(cache: str) -> dict[str, str]:
    """What kmwatch of this checkout needs."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "CACHE_DIRECTORY": cache, "TERM": "xterm-256color"}


def _cpu_seconds(stat: str) -> float:
    """What a process has used, by the text of its /proc/PID/stat."""
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _ended(command: tuple[str, ...], cache: str) -> Took:
    """A whole process, which ends at once."""
    before, began = os.times(), time.monotonic()
    subprocess.run(command, check=True, capture_output=True, env=_environment(cache))
    wall, after = time.monotonic() - began, os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return {"wall": wall, "cpu": used}


def _attached(cache: str) -> Took:
    """Until kmwatch counts, which is when it starts the command."""
    began = time.time_ns()
    command = [*KMWATCH, "report", "live", "--json", "--", "sh", "-c", _TELL]
    ended = subprocess.run(command, capture_output=True, text=True, env=_environment(cache), check=False)
    if ended.returncode:
        raise Missing(ended.stderr.strip())
    now, stat = ended.stdout.splitlines()[:2]
    return {"wall": (int(now) - began) / 1e9, "cpu": _cpu_seconds(stat)}


def _attached_cold() -> Took:
    """The same, with an empty cache."""
    with tempfile.TemporaryDirectory() as empty:
        return _attached(empty)


def _drawn(cache: str) -> Took:
    """Until the first frame is in the terminal."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    began, output = time.monotonic(), b""
    process = subprocess.Popen(
        [*KMWATCH, "top"], stdin=theirs, stdout=theirs, stderr=theirs, env=_environment(cache), start_new_session=True
    )
    os.close(theirs)
    try:
        while _DRAWN not in output:
            if not select.select([ours], [], [], max(began + _PATIENCE - time.monotonic(), 0))[0]:
                raise Missing("kmwatch top draws nothing")
            output += os.read(ours, 1 << 16)
        wall = time.monotonic() - began
        return {"wall": wall, "cpu": _cpu_seconds(Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8"))}
    except OSError as error:  # it has ended
        raise Missing(f"kmwatch top draws nothing: {output[-200:].decode(errors='replace')}") from error
    finally:
        process.terminate()
        _drain(ours, process)


def _drain(terminal: int, process: "subprocess.Popen[bytes]") -> None:
    """Take what a process still writes until it ends: it would wait for that."""
    try:
        while os.read(terminal, 1 << 16):
            pass
    except OSError:  # it is gone
        pass
    process.wait(_PATIENCE)
    os.close(terminal)


def _ways(cache: str) -> dict[str, Callable[[], Took]]:
    """What is started, by its name on the page."""
    python = (sys.executable, "-c")
    return {
        "python, nothing imported": partial(_ended, (*python, ""), cache),
        "python, kmwatch.cli imported": partial(_ended, (*python, "import kmwatch.cli"), cache),
        HELP: partial(_ended, (*KMWATCH, "--help"), cache),
        COLD: _attached_cold,
        WARM: partial(_attached, cache),
        FRAME: partial(_drawn, cache),
    }


def measure(options: Options) -> Result:
    """All of them in turn; the first round, which does not count, is the one that compiles."""
    missing: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as cache:
        ways = _ways(cache)
        found = in_turn(dict.fromkeys(ways, nullcontext), lambda name: ways[name](), options.rounds, missing)
    wall = {name: Spread.of(each["wall"]) for name, each in found.items()}
    return Result(
        title="Starting",
        about="From the start of the process to what is waited for, in turn. The start that compiles is the first one "
        "on a kernel; what it compiles is kept for the next ones.",
        columns=("start", "seconds", "CPU seconds"),
        rows=[(name, wall[name], Spread.of(each["cpu"])) for name, each in found.items()],
        targets=[
            Target(HELP, wall.get(HELP), 0.15, "s"),
            Target(WARM, wall.get(WARM), 0.6, "s", reason="The kernel verifies programs for most of it."),
            Target(FRAME, wall.get(FRAME), 1.0, "s"),
        ],
        notes=[f"{name} is left out: {reason}" for name, reason in missing.items()],
    )


if __name__ == "__main__":
    main("startup", measure)
