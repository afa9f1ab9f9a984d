"""What programs and code cost, as numbers that are the same at each run; tests/test_cost.py holds them to cost.json.

    python -m tests.cost --write

accepts what they are now; instructions only where this machine may compile programs.
"""

import json
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any
from unittest.mock import patch

from kmwatch.capture import counts
from kmwatch.ledger import Ledger
from kmwatch.rules import judge
from kmwatch.schema import Kind, Stacks
from kmwatch.sources.bpf import flags_for
from kmwatch.sources.capture import CaptureSource
from kmwatch.sources.compiled import INSTRUCTION, bcc_version, compile_file
from kmwatch.sources.running import RunningKernel
from kmwatch.views.report import build
from tests.support import why_not_live
from tests.unit import rows
from tests.unit.captures import Event, small_segments, write_capture

VALUES = Path(__file__).with_name("cost.json")
_OURS = str(Path(__file__).parent.parent / "kmwatch")
_INLINED = {"<listcomp>", "<dictcomp>", "<setcomp>"}  # a call each before Python 3.12, none since

Counts = dict[str, int]


def committed() -> dict[str, Any]:
    """What is accepted: `calls` by what is done, `instructions` by machine, file and program."""
    return dict(json.loads(VALUES.read_text()))


def machine() -> str:
    """What instructions depend on beside the programs' own text."""
    return f"BCC {bcc_version()}, Linux {platform.release()}"


def instructions() -> dict[str, Counts]:
    """The instructions of each program of the default set, by file, as BCC compiles them; nothing is attached."""
    kernel = RunningKernel(frozenset(Kind), pointers=True)
    try:
        plan = kernel.plan
        ring = {"RINGS": 2, "RING_EVENTS": 4096, "COMPARE_AND_SWAP": 1, "STACKS": Stacks.PAGES, "AGAIN": 1}
        recorded = {"events.c": _sizes("events.c", kernel, plan.copies, plan.defines | ring)}
    finally:
        kernel.close()
    kernel = RunningKernel(frozenset(Kind))
    try:
        return {"ledger.c": _sizes("ledger.c", kernel, (), kernel.plan.defines)} | recorded
    finally:
        kernel.close()


def _sizes(source: str, kernel: RunningKernel, copies: Any, defines: dict[str, int]) -> Counts:
    attachments = kernel.plan.attachments + kernel.plan.calibrators + copies
    made = compile_file(source, flags_for(attachments, defines)).programs
    names = sorted({name for each in attachments for name in each.programs})
    return {name: len(made[name]) // INSTRUCTION.itemsize for name in names}


def calls(times: int = 1) -> Counts:
    """How many functions of kmwatch are called: to fold a capture's counts or its events, to add batches, to report.

    What is folded and added has `times` as many events, which must not matter.
    """
    with tempfile.TemporaryDirectory() as directory:
        with patch.object(counts, "_LEAST", 0):  # however few events there are
            path = write_capture(Path(directory) / "c.kmw", [_repeated(each, times) for each in small_segments()])
        # How often its tables were written, and so the lines of its journal, is the writing thread's chance: it is
        # opened before anything is counted.
        made = _ledger()
        with CaptureSource(path) as counted, CaptureSource(path, slices=1) as read:
            return {
                "fold counts": _calls(lambda: list(counted)),
                "fold events": _calls(lambda: list(read)),
                "add": _calls(lambda: _add(times)),
                "report": _calls(lambda: build(made, judge(made))),
            }


def _repeated(events: list[Event], times: int) -> list[Event]:
    return [event for event in events for _ in range(times)]


def _ledger() -> Ledger:
    """Something of most that is reported."""
    return rows.ledger(
        rows.kmalloc("load_msg+0x41", 60, count=4000),
        rows.kmalloc("getname_flags+0x4a", 3000, count=70),
        rows.row(Kind.KFREE, "free_msg+0x99", count=3900),
        rows.pages("probe+0x9 [wifi]", 3, gfp="GFP_ATOMIC", failed=1, count=5),
        rows.pages("probe+0x9 [wifi]", zone=2, node=0, migratetype=0, count=300),
        rows.area("module_alloc+0x9 [wifi]", 8192, count=12),
        rows.percpu("alloc_fair+0x1", 512, count=8),
    )


def _add(times: int) -> None:
    ledger = Ledger(rows.meta())
    for site in ("first+0x1", "second+0x1", "first+0x1"):
        found = (rows.kmalloc(site, 60, count=4 * times), rows.row(Kind.KFREE, site, count=times), rows.pages(site, 1))
        ledger.add(rows.batch(ledger.meta, *found))


def _calls(work: Callable[[], object]) -> int:
    """Calls in this thread of kmwatch's functions; other packages' versions do not matter so."""
    work()  # what is imported or kept for ever is done before
    found = 0

    def count(frame: FrameType, event: str, _: object) -> None:
        nonlocal found
        code = frame.f_code
        found += event == "call" and code.co_filename.startswith(_OURS) and code.co_name not in _INLINED

    with _profiled(count):
        work()
    return found


@contextmanager
def _profiled(function: Callable[[FrameType, str, object], None]) -> Iterator[None]:
    before = sys.getprofile()
    sys.setprofile(function)
    try:
        yield
    finally:
        sys.setprofile(before)


def _write() -> None:
    try:
        values = committed()
    except FileNotFoundError:
        values = {"instructions": {}}
    values["calls"] = calls()
    if why_not := why_not_live():
        print(f"instructions stay as they were: {why_not}")  # noqa: T201
    else:
        values["instructions"][machine()] = instructions()
    VALUES.write_text(json.dumps(values, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(__doc__)
    _write()
