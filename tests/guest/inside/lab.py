"""The module, asked by another process: kmwatch leaves its own allocations out."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.guest.rows import PAGES, Row

DIRECTORY = Path("/sys/kernel/debug/kmwatch_lab")
_PERCPU_EVENT = Path("/sys/kernel/tracing/events/percpu/percpu_alloc_percpu/format")
# One shell for all requests, since starting a process takes longer than most of them. It answers each with a dot.
_WRITER = f'while read -r line; do echo "$line" > {DIRECTORY}/run; echo .; done 2> /dev/null'


class Lab:
    """The loaded module."""

    def __init__(self, writer: "subprocess.Popen[str]") -> None:
        self._writer = writer

    @property
    def pid(self) -> int:
        """The process in which the module does what it is asked."""
        return self._writer.pid

    def ask(self, line: str) -> dict[str, Any]:
        """Let it do what a line says; what it did. The line's form stands at the head of kmod/kmwatch_lab.c."""
        assert self._writer.stdin, "a pipe was asked for"
        assert self._writer.stdout, "a pipe was asked for"
        self._writer.stdin.write(f"{line}\n")
        self._writer.stdin.flush()
        assert self._writer.stdout.readline() == ".\n", "the shell that asks the module is gone"
        return self.result()

    def result(self) -> dict[str, Any]:
        """What it says of the last request, and of this kernel."""
        did: dict[str, Any] = json.loads((DIRECTORY / "result").read_text())
        return did


@contextmanager
def loaded() -> Iterator[Lab]:
    """The module that KMWATCH_LAB names, loaded until the context is left."""
    subprocess.run(["insmod", os.environ["KMWATCH_LAB"]], check=True)
    shell = ["sh", "-c", _WRITER]
    with subprocess.Popen(shell, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        yield Lab(writer)
    subprocess.run(["rmmod", "kmwatch_lab"], check=True)


def request(row: Row, mask: int) -> str:
    """The line that asks for a row, its flags in this kernel's numbers."""
    line = f"op={row.op} ctx={row.ctx} gfp={mask:#x} n={row.count}"
    line += f" order={row.order}" if row.op in PAGES else f" size={row.size}"
    return line + f" align={row.align}" * bool(row.align) + " flags=ctor" * row.ctor


def percpu_event_is_full() -> bool:
    """Whether the event of a per-CPU allocation tells its flags and what it took."""
    return "bytes_alloc" in _PERCPU_EVENT.read_text()
