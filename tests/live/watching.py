"""How the live tests make the kernel allocate, watch it meanwhile, and pick their own rows out of everybody's."""

import ctypes
import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kmwatch.batch import Batch, Rows
from kmwatch.ledger import Ledger
from kmwatch.schema import Kind
from kmwatch.sources.maps import LiveSource
from kmwatch.views.report import build

ROOT = Path(__file__).resolve().parents[2]
KMWATCH = (sys.executable, "-m", "kmwatch")
ABSENT = 77  # how the workload says that this kernel has no such thing

# The functions that ask, by what the compiler of one kernel or another left of them.
MESSAGE = ("load_msg", "alloc_msg")
ADD_KEY = ("__do_sys_add_key", "__se_sys_add_key", "__x64_sys_add_key")
PAYLOAD = ("user_preparse",)
MAP = ("__bpf_map_area_alloc", "bpf_map_area_alloc")
PIPE = ("pipe_resize_ring", "pipe_set_size", "pipe_fcntl")
RING = ("packet_set_ring", "alloc_pg_vec", "packet_setsockopt")
TIMER = ("do_timer_create", "alloc_posix_timer", "__x64_sys_timer_create")

_SYS_BPF, _BPF_MAP_CREATE, _BPF_PROG_GET_FD_BY_ID, _BPF_OBJ_GET_INFO_BY_FD = 321, 0, 13, 15
_BPF_MAP_TYPE_ARRAY = 2


@dataclass(frozen=True)
class Workload:
    """The compiled workload."""

    program: Path

    def command(self, what: str, count: int, size: int = 0) -> list[str]:
        """The command line that does it."""
        return [str(self.program), what, str(count), str(size)]

    def run(self, what: str, count: int, size: int = 0) -> None:
        """Do `count` of it, each of `size`; fails where it says that it did not do them all."""
        self.check(subprocess.run(self.command(what, count, size), check=False, **_quiet()), count)

    def check(self, ended: "subprocess.CompletedProcess[str]", count: int) -> None:
        """Hold the workload to what it reports that it did, on the first line of its output."""
        if ended.returncode == ABSENT:
            pytest.skip(f"not on this kernel: {ended.stderr.strip()}")
        did = json.loads(ended.stdout.partition("\n")[0] or "{}")
        assert did.get("done") == count, f"the workload itself failed: {ended.stdout[:200]!r} {ended.stderr!r}"
        assert did["failed"] == 0, did

    @contextmanager
    def holding(self, what: str, count: int, size: int = 0) -> Iterator[None]:
        """Do it, and hold its memory until the context is left."""
        with subprocess.Popen(
            self.command(what, count, size), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout, "a pipe was asked for"
            line = process.stdout.readline()
            assert json.loads(line or "{}").get("done") == count, f"the workload itself failed: {line!r}"
            yield


def _quiet() -> dict[str, Any]:
    return {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True, "timeout": 60}


@dataclass(frozen=True)
class Watch:
    """An open live source, looked at in spans."""

    source: LiveSource

    def during(self, action: Callable[[], Any]) -> Ledger:
        """What was observed from just before the action until just after it."""
        self.source.read()
        action()
        return self.so_far(Ledger(self.source.meta))

    def so_far(self, ledger: Ledger) -> Ledger:
        """The same ledger with what was observed since it was last read."""
        ledger.add(self.source.read())
        return ledger


def only(ledger: Ledger, symbols: Collection[str], kind: Kind, size_class: int | None = None) -> Ledger:
    """The part of a ledger of one kind, from some functions, of requests rounded to one size where one is given."""
    named = [index for index, site in enumerate(ledger.meta.sites) if site.symbol.partition(".")[0] in symbols]
    rows: Rows = ledger.rows
    chosen = np.isin(rows["site"], named) & (rows["kind"] == kind)
    if size_class is not None:
        chosen &= rows["bytes_alloc"] == size_class
    part = Ledger(ledger.meta)
    part.add(Batch(rows[chosen], ledger.start, ledger.seconds))
    return part


def sites(ledger: Ledger) -> list[dict[str, Any]]:
    """The sites of a ledger as the report has them."""
    found: list[dict[str, Any]] = build(ledger, [])["sites"]
    return found


def kmwatch(*arguments: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    """Run kmwatch as a user would."""
    return subprocess.run([*KMWATCH, *arguments], check=False, **(_quiet() | environment() | options))


def environment() -> dict[str, Any]:
    """What a kmwatch of this checkout needs where it is not installed: a path to it."""
    return {"env": {**os.environ, "PYTHONPATH": str(ROOT)}}


def split_report(output: str) -> tuple[str, dict[str, Any]]:
    """What a watched command printed, and the JSON report after it."""
    before, brace, after = output.partition("{\n")
    assert brace, f"no report in {output!r:.500}"
    return before, json.loads(brace + after)


def message_parts(size: int) -> list[int]:
    """The requests that a message of `size` bytes makes: ipc/msgutil.c cuts it into pieces that fill a page each."""
    page, header, segment_header = os.sysconf("SC_PAGESIZE"), 48, 8  # sizeof struct msg_msg, struct msg_msgseg
    first = min(size, page - header)
    rest = range(first, size, page - segment_header)
    return [header + first, *(segment_header + min(size - at, page - segment_header) for at in rest)]


def rounded(size: int) -> int:
    """What kmalloc makes of a request: a size class of SLUB up to two pages, a power of two of pages above."""
    classes = (8, 16, 32, 64, 96, 128, 192)
    return next((each for each in classes if size <= each), 1 << (size - 1).bit_length())


def bpf(command: int, attributes: bytes) -> tuple[int, bytes]:
    """The system call without any library: its result, negative where it failed, and the attributes afterwards."""
    room = ctypes.create_string_buffer(attributes.ljust(128, b"\0"), 128)
    result = int(ctypes.CDLL(None, use_errno=True).syscall(_SYS_BPF, command, room, len(room)))
    return result, room.raw


def next_map_id() -> int:
    """The id that the kernel gives to a map made now: ids only grow, so two of them tell how many were made."""
    fd, _ = bpf(_BPF_MAP_CREATE, struct.pack("<5I", _BPF_MAP_TYPE_ARRAY, 4, 8, 1, 0))
    assert fd >= 0, f"BPF_MAP_CREATE: {os.strerror(ctypes.get_errno())}"
    info = ctypes.create_string_buffer(128)
    try:
        result, _ = bpf(_BPF_OBJ_GET_INFO_BY_FD, struct.pack("<IIQ", fd, len(info), ctypes.addressof(info)))
        assert result == 0, f"BPF_OBJ_GET_INFO_BY_FD: {os.strerror(ctypes.get_errno())}"
    finally:
        os.close(fd)
    return int(struct.unpack_from("<I", info, 4)[0])


def program_exists(number: int) -> bool:
    """Whether a BPF program of this id is loaded."""
    fd, _ = bpf(_BPF_PROG_GET_FD_BY_ID, struct.pack("<I", number))
    if fd >= 0:
        os.close(fd)
    return fd >= 0
