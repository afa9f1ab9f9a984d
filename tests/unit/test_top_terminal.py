"""The live screen in a real terminal: however it ends, the source is closed and the terminal is as before."""

import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from fcntl import ioctl
from pathlib import Path
from typing import Self

import pytest

from tests.support import wait_until

PATIENCE = 30.0  # seconds
ROOT = Path(__file__).parents[2]
LEAVE_ALTERNATE, SHOW_CURSOR = b"\x1b[?1049l", b"\x1b[?25h"
PROGRAM = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that it is told when the terminal goes away
from kmwatch.errors import KmwatchError
from kmwatch.views import top
from kmwatch.views.top.app import TopApp
from tests.unit.top_data import FakeSource

class Source(FakeSource):
    def __exit__(self, *error):
        os.write(int(sys.argv[1]), b"closed")

source = Source()
source.more()
if sys.argv[2] == "crash":
    TopApp.action_pause = lambda self: 1 / 0
try:
    top.run(source)
except KmwatchError as error:
    sys.exit(error.exit_code)
"""


class Terminal:
    """A process in a terminal of its own, 80x24, with a pipe on which it says that its source is closed."""

    def __init__(self, how: str) -> None:
        self.pipe, writing = os.pipe()
        self.output, self.gone = b"", False
        self.descriptor, theirs = pty.openpty()
        ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(writing), how],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            pass_fds=[writing],
            env={**os.environ, "TERM": "xterm-256color", "PYTHONPATH": str(ROOT)},
            start_new_session=True,
        )
        os.close(writing)
        os.close(theirs)
        os.set_blocking(self.descriptor, False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.pipe)
        if not self.gone:
            os.close(self.descriptor)

    def go_away(self) -> None:
        """Close the window."""
        self.gone = True
        os.close(self.descriptor)

    def read(self) -> bytes:
        """All that was written so far."""
        try:
            while not self.gone and (piece := os.read(self.descriptor, 1 << 16)):
                self.output += piece
        except OSError:  # nothing now, or no terminal any more
            pass
        return self.output

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self.descriptor, keys)

    def end(self) -> str:
        """The exit status once there is one; empty before."""
        self.read()
        return "" if self.process.poll() is None else str(self.process.returncode)

    def closed(self) -> bool:
        """Whether the source said so."""
        return os.read(self.pipe, 10) == b"closed"


ENDS: dict[str, tuple[Callable[[Terminal], None], int]] = {
    "q": (lambda terminal: terminal.type(b"q"), 0),
    "ctrl-c": (lambda terminal: terminal.type(b"\x03"), 0),
    "SIGINT": (lambda terminal: os.kill(terminal.process.pid, signal.SIGINT), 0),
    "SIGTERM": (lambda terminal: os.kill(terminal.process.pid, signal.SIGTERM), 143),
    "SIGHUP": (lambda terminal: os.kill(terminal.process.pid, signal.SIGHUP), 129),
    "crash": (lambda terminal: terminal.type(b" "), 5),
}


@pytest.mark.parametrize("how", ENDS)
def test_however_it_ends_the_terminal_is_restored(how: str) -> None:
    act, code = ENDS[how]
    with Terminal(how) as terminal:
        wait_until(lambda: b"ev/s" in terminal.read(), PATIENCE, "the first numbers")
        before = len(terminal.output)
        act(terminal)

        assert wait_until(terminal.end, PATIENCE, "the end") == str(code)
        assert terminal.closed()
        tail = terminal.read()[before:]
        assert LEAVE_ALTERNATE in tail
        assert SHOW_CURSOR in tail


def test_a_terminal_that_goes_away_leaves_nothing_behind() -> None:
    """As when the window is closed: the kernel sends SIGHUP, and whatever is written fails."""
    with Terminal("q") as terminal:
        wait_until(lambda: b"ev/s" in terminal.read(), PATIENCE, "the first numbers")
        terminal.go_away()

        assert wait_until(terminal.end, PATIENCE, "the end") == "129"
        assert terminal.closed()
