"""The filter of system calls, run here as the kernel would run it: classic BPF over a struct seccomp_data."""

import errno
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from kmwatch.serve import confine

X86_64, I386 = 0xC000003E, 0x40000003
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM
ROOT = Path(__file__).parents[2]


def verdict(number: int, argument: int = 0, architecture: int = X86_64) -> int:
    """What the filter returns for a system call."""
    data = struct.pack("<IIQ6Q", number, architecture, 0, argument, *[0] * 5)
    code = list(struct.iter_unpack("<HBBI", confine.program()))
    at, loaded = 0, 0
    while True:
        operation, if_so, if_not, value = code[at]
        at += 1
        match operation:
            case 0x20:
                (loaded,) = struct.unpack_from("<I", data, value)
            case 0x15:
                at += if_so if loaded == value else if_not
            case 0x35:
                at += if_so if loaded >= value else if_not
            case 0x06:
                return int(value)
            case _:
                pytest.fail(f"unknown operation {operation:#x}")


@pytest.mark.parametrize("number", [0, 1, 3, 20, 45, 202, 232, 288, 435])
def test_usual_calls_pass(number: int) -> None:
    assert verdict(number) == ALLOW


@pytest.mark.parametrize("number", [59, 101, 298, 322])
def test_what_the_service_never_does_is_refused(number: int) -> None:
    assert verdict(number) == REFUSE


@pytest.mark.parametrize("command", range(40))
def test_of_bpf_it_reads_and_writes_what_is_open(command: int) -> None:
    assert verdict(321, command) == (ALLOW if command in (1, 2, 3, 15, 24) else REFUSE)


def test_other_tables_of_calls_are_no_way_around() -> None:
    assert verdict(0, architecture=I386) == REFUSE
    assert verdict(0x40000000 + 59) == REFUSE
    assert verdict(0x40000000) == REFUSE


CHILD = """
import ctypes, errno, os, threading
from kmwatch.serve import confine
begun, go, answers = threading.Event(), threading.Event(), []
def attempt():
    begun.set(); go.wait()
    try:
        os.execv("/bin/true", ["true"])
    except OSError as error:
        answers.append(error.errno)
thread = threading.Thread(target=attempt); thread.start(); begun.wait()
assert ctypes.CDLL(None).prctl(38, 1, 0, 0, 0) == 0
confine.confine()
go.set(); thread.join()
attempt()
print(answers, len(os.listdir("/")) > 0)
"""


def test_the_kernel_takes_it_and_holds_every_thread_to_it() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [sys.executable, "-c", CHILD], env=environment, capture_output=True, text=True, check=False, timeout=60
    )

    assert run.stdout == f"[{errno.EPERM}, {errno.EPERM}] True\n", run.stderr
