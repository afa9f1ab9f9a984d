"""Records the golden captures (tests/guest/golden.py) in a guest, and writes down what the module really did."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import bcc  # noqa: F401  # for all recordings, as is the rest
import duckdb  # noqa: F401

from kmwatch.__main__ import main as kmwatch
from kmwatch.cli import keeping  # noqa: F401
from kmwatch.kernel.gfp import running_table
from kmwatch.sources import ring
from tests.guest.golden import CAPTURES, LARGEST, Golden
from tests.guest.inside.lab import Lab, loaded
from tests.support import wait_until

_TEMPORARY = Path("/tmp/golden")  # noqa: S108  # the guest's own, in memory: files are renamed and mapped there
_DEADLINE = 120.0  # seconds; compiling takes most of them
_FORK = multiprocessing.get_context("fork")  # a new interpreter would take longer than the recording


def line(words: str) -> str:
    """A line for the module, its GFP flags in this kernel's numbers."""
    table = running_table()
    pairs = [word.partition("=") for word in words.split()]
    return " ".join(f"{key}={table.encode(value):#x}" if key == "gfp" else f"{key}={value}" for key, _, value in pairs)


def command_line(arguments: list[str], *, small: bool) -> None:
    """Run kmwatch; `small` with small rings: room for some tens of events until they are looked at again."""
    if small:
        ring.ring_sizes = lambda *_: (2, 32)
    sys.argv[1:] = arguments
    kmwatch()


def _directory(golden: Golden) -> Path:
    return _TEMPORARY / f"{golden.name}.kmw"


def logged(lab: Lab, golden: Golden) -> list[dict[str, Any]]:
    """Import what the kernel logs while the module does its lines; what it says of each."""
    log = _TEMPORARY / "log"
    subprocess.run(["dmesg", "-C"], check=True)
    Path("/dev/kmsg").write_text("kmwatch_lab: begins\n")
    did = [lab.ask(line(each)) for each in golden.lines]
    log.write_bytes(subprocess.run(["dmesg"], check=True, capture_output=True).stdout)
    arguments = ["import", str(log), "-q", "-o", str(_directory(golden))]
    importer = _FORK.Process(target=command_line, args=(arguments,), kwargs={"small": False})
    importer.start()
    importer.join()
    assert importer.exitcode == 0, importer.exitcode
    return did


def record(lab: Lab, golden: Golden) -> list[dict[str, Any]]:
    """Record a capture while the module does its lines; what it says of each."""
    directory = _directory(golden)
    arguments = ["record", "-q", "-o", str(directory), "--kinds", golden.kinds, "--stacks", "none", "-d", "600"]
    recorder = _FORK.Process(target=command_line, args=(arguments,), kwargs={"small": golden.how == "small ring"})
    recorder.start()
    assert recorder.pid, "it has begun"
    wait_until((directory / "journal.jsonl").exists, _DEADLINE, "the recording to begin")
    did = [lab.ask(line(each)) for each in golden.lines]
    end = signal.SIGINT
    if golden.how == "killed":
        had = len(list(directory.glob("events-*")))
        wait_until(lambda: len(list(directory.glob("events-*"))) > had + 1, _DEADLINE, "the events to be written")
        end = signal.SIGKILL
    os.kill(recorder.pid, end)
    recorder.join()
    assert recorder.exitcode == (-end if end == signal.SIGKILL else 0), recorder.exitcode
    return did


_SAID = ("op", "ctx", "gfp", "n", "size", "order", "done", "failed", "vmapped", "error")


def main(machine: str, *rules: str) -> int:
    """Record those of a machine and of these rules; what is too large or was not done is told, and 1 returned."""
    results, truth, failed = Path(os.environ["KMWATCH_RESULTS"]), dict[str, Any](), False
    _TEMPORARY.mkdir()
    with loaded() as lab:
        for golden in CAPTURES:
            if golden.on != machine or (rules and golden.rule not in rules):
                continue
            try:
                truth[golden.name] = _told(golden, (logged if golden.how == "log" else record)(lab, golden))
            except (AssertionError, OSError) as error:
                failed = True
                print(f"{golden.name}: {error!r:.500}", flush=True)  # noqa: T201
                continue
            finally:
                lab.ask("op=release")
            shutil.copytree(_directory(golden), results / f"{golden.name}.kmw")
    (results / "truth.json").write_text(json.dumps(truth))
    return int(failed)


def _told(golden: Golden, did: list[dict[str, Any]]) -> dict[str, Any]:
    """What truth.json has of a capture."""
    size = sum(path.stat().st_size for path in _directory(golden).iterdir())
    print(f"{golden.name:12} {size:7} {[(each['done'], each['failed']) for each in did]}", flush=True)  # noqa: T201
    assert not any(each["error"] for each in did), did
    assert size <= LARGEST, f"{size} bytes"
    finding = dict(zip(("site", "times"), golden.finding, strict=True)) if golden.finding else None
    said = [{name: each[name] for name in _SAID} for each in did]
    asked = {"kinds": golden.kinds, "how": golden.how, "on": golden.on, "lines": golden.lines}
    return {"kernel": os.uname().release, **asked, "did": said, "finding": finding}


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
