"""Disks for tests: one that is looked at before every step that is taken on it, and one that refuses a step."""

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kmwatch.capture.layout import segment_number

_STEPS = ((os, ("write", "fsync", "ftruncate")), (Path, ("replace", "unlink", "write_bytes", "mkdir")))
"""How a capture changes the disk, apart from DuckDB, which only writes files aside."""


@contextmanager
def _steps(before: Callable[[str, tuple[Any, ...]], None]) -> Iterator[None]:
    """Call `before` with the name and the arguments of each step."""
    busy = threading.local()

    def watched(name: str, step: Callable[..., Any]) -> Callable[..., Any]:
        def taken(*arguments: Any, **more: Any) -> Any:
            if getattr(busy, "now", False):
                return step(*arguments, **more)
            busy.now = True
            try:
                before(name, arguments)
                return step(*arguments, **more)
            finally:
                busy.now = False

        return taken

    with pytest.MonkeyPatch.context() as patch:
        for owner, names in _STEPS:
            for name in names:
                patch.setattr(owner, name, watched(name, getattr(owner, name)))
        yield


class Killed:
    """What is on the disk when the machine goes down before a step: one directory for each, in order.

    A line of the journal that is being written is there by half in one more.
    """

    def __init__(self, directory: Path, kept: Path) -> None:
        self._directory, self._kept = directory, kept
        self.states: list[Path] = []
        self.named: list[int] = []
        """For each state: the numbers of segments that had got their names, as often as they got one."""
        self._born = 0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Keep a state before each step from here on."""
        with _steps(self._before):
            yield

    def _before(self, name: str, arguments: tuple[Any, ...]) -> None:
        self._keep()
        if name == "write" and isinstance(arguments[1], bytes):
            half = self._keep()
            open_as = Path(f"/proc/self/fd/{arguments[0]}").readlink().name  # the journal, or a new one aside
            with (half / open_as).open("ab") as file:
                file.write(arguments[1][: len(arguments[1]) // 2])
        if name == "replace" and segment_number(Path(arguments[1]).name) is not None:
            self._born += 1

    def _keep(self) -> Path:
        state = self._kept / f"{len(self.states):04}"
        if self._directory.exists():
            shutil.copytree(self._directory, state)
        else:
            state.mkdir(parents=True)
        self.states.append(state)
        self.named.append(self._born)
        return state


@contextmanager
def refusing(at: int, code: int) -> Iterator[list[str]]:
    """The step of this number fails with this errno; gives the names of the steps that were taken."""
    taken: list[str] = []

    def before(name: str, arguments: tuple[Any, ...]) -> None:  # noqa: ARG001
        taken.append(name)
        if len(taken) - 1 == at:
            raise OSError(code, os.strerror(code))

    with _steps(before):
        yield taken
