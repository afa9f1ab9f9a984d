"""How long to watch: a number of seconds, or while a command runs; Ctrl-C and SIGTERM end it early and cleanly."""

import signal
import subprocess
import time
from types import FrameType, TracebackType
from typing import Any, Self

from kmwatch.errors import UsageError

_PATIENCE = 2.0  # seconds that a command has to end after SIGTERM


class Workload:
    """A command to run, or time to pass, or both: whichever ends first.

    While it is entered, SIGINT and SIGTERM only set `interrupted`, so that what was seen is still reported. The command
    gets Ctrl-C from the terminal itself; what is left of it is ended on exit.
    """

    def __init__(self, command: tuple[str, ...], duration: float | None) -> None:
        self._command, self._duration = command, duration
        self._process: subprocess.Popen[bytes] | None = None
        self._ends: float | None = None
        self._before: dict[int, Any] = {}
        self.interrupted = False

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._interrupt)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def start(self) -> None:
        """Start the command and the clock; raises UsageError where the command cannot be started."""
        if self._command:
            try:
                self._process = subprocess.Popen(self._command)
            except OSError as error:
                raise UsageError(f"cannot run {self._command[0]!r}: {error.strerror}") from error
        if self._duration is not None:
            self._ends = time.monotonic() + self._duration

    def finished(self) -> bool:
        """Whether to stop watching."""
        if self.interrupted or (self._process and self._process.poll() is not None):
            return True
        return self._ends is not None and time.monotonic() >= self._ends

    def why(self) -> str:
        """What ended it."""
        if self.interrupted:
            return "interrupted"
        return "the command ended" if self._process and self._process.poll() is not None else "the time was up"

    def _interrupt(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002  # a handler's signature
        self.interrupted = True
