"""The golden captures: for each rule one recording in which it finds something, and a similar one in which it must not.

`make golden` records them anew, in guests, under tests/data/golden; truth.json beside them has what the module said
that it did. tests/unit/test_golden.py holds the rules to it.

    python -m tests.guest.golden [RULE…]
"""

import json
import shlex
import shutil
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from tests.guest.kernels import fetch
from tests.guest.module import build
from tests.guest.vm import Guest, run

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests/data/golden"
LARGEST = 50_000
"""Bytes that a capture may have, all of its files together."""
_SECONDS = 2400.0  # each recording compiles its programs, on an emulated processor


class Machine(NamedTuple):
    """Where captures are recorded: one of tests.guest.kernels.MATRIX, and the memory, below 4 GiB and in all."""

    kernel: str
    memory: str = "1G"
    below_4g: str = "2G"


MACHINES = {
    "small": Machine("newest"),  # has no zone Normal
    "zoned": Machine("newest", memory="3328M", below_4g="2G"),  # 1.25 GiB of it are in zone Normal
    "large": Machine("newest", memory="6G"),
    "uncounted": Machine("5.10"),  # counts neither spinlocks nor RCU sections
}
"""The machines, by the names that they have in the table."""


class Golden(NamedTuple):
    """A capture to be recorded: its name, which events, what the module is asked, and the finding to be expected.

    lines: as the module takes them, with the names of GFP flags in place of their numbers.
    finding: the function that the rule is to find, with how often it happened (None where that is not the module's to
    tell); none where it is to stay quiet.
    how: `small ring` records with so little room that events are lost, `killed` ends the recording without warning;
    `log` keeps what the kernel logged meanwhile, and imports it.
    on: one of MACHINES.
    """

    name: str
    kinds: str
    lines: tuple[str, ...]
    finding: tuple[str, int | None] | None = None
    how: str = ""
    on: str = "small"

    @property
    def rule(self) -> str:
        """The rule that it is about."""
        return self.name.partition("-")[0]


_K, _A, _KV = "op=kmalloc gfp=GFP_KERNEL", "op=kmalloc gfp=GFP_ATOMIC", "op=kvmalloc gfp=GFP_KERNEL"
_WARY, _SILENT = "|__GFP_NORETRY", "|__GFP_NORETRY|__GFP_NOWARN"
_SPLIT = "n=9999 flags=until_failure,fragmented"
_PAGES, _RECLAIM = "op=alloc_pages", "page_alloc,direct_reclaim"

# A line each: these are read as a table.
# fmt: off
CAPTURES = (
    Golden("KM101-fires", "kmalloc", (f"{_K} size=40 n=2003",), ("lab_kmalloc", 2003)),
    Golden("KM101-quiet", "kmalloc", (f"{_K} size=250 n=1013",)),
    Golden("KM102-fires", "kmalloc", (f"{_K} size=33 n=1013",), ("lab_kmalloc", 1013)),
    Golden("KM102-quiet", "kmalloc", (f"{_K} size=40 n=2003",)),
    Golden("KM103-fires", "kmalloc", (f"{_K} size=20480 n=23",), ("lab_kmalloc", 23)),
    Golden("KM103-quiet", "kmalloc", (f"{_K} size=32768 n=23", f"{_K} size=30000 n=23", f"{_KV} size=20480 n=23")),
    Golden("KM104-fires", "kmalloc", (f"{_K} size=10176 n=211",), ("lab_kmalloc", 211)),
    Golden("KM104-quiet", "kmalloc", (f"{_K} size=10176 n=23", f"{_K} size=16384 n=211")),
    Golden("KM105-fires", "cache_alloc", ("op=cache gfp=GFP_KERNEL size=600 align=1024 n=3001",),
           ("cache kmwatch_lab_600_1024", 3001)),
    Golden("KM105-quiet", "cache_alloc", ("op=cache gfp=GFP_KERNEL size=1000 align=8 n=3001",)),
    Golden("KM201-fires", "kmalloc", (f"{_K} ctx=spin size=100 n=53",), ("lab_kmalloc", 53)),
    Golden("KM201-quiet", "kmalloc", (f"{_A} ctx=spin size=100 n=53", f"{_K} size=100 n=53")),
    Golden("KM202-fires", "kmalloc", (f"{_A} size=131072 failures=7 {_SPLIT}",), ("lab_kmalloc", 7)),
    Golden("KM202-quiet", "kmalloc", (f"{_A}{_SILENT} size=131072 failures=7 {_SPLIT}",)),
    Golden("KM203-fires", "kmalloc", (f"{_K}{_SILENT} size=131072 failures=11 {_SPLIT}",), ("lab_kmalloc", 11)),
    Golden("KM203-quiet", "kmalloc", (f"{_K}{_WARY} size=131072 failures=11 {_SPLIT}",)),
    Golden("KM204-fires", "kmalloc", (f"{_K}|__GFP_NOWARN size=5242880 n=5",), ("lab_kmalloc", 5)),
    Golden("KM204-quiet", "kmalloc", (f"{_K}|__GFP_NOWARN size=65536 n=5", f"{_K}{_SILENT} size=5242880 n=5")),
    Golden("KM205-fires", "page_alloc", (f"{_PAGES} gfp=GFP_ATOMIC order=4 failures=3 {_SPLIT}",),
           ("lab_alloc_pages", 1), "log"),  # the kernel logs one in ten seconds
    Golden("KM205-quiet", "page_alloc", (f"{_PAGES} gfp=GFP_ATOMIC|__GFP_NOWARN order=4 failures=3 {_SPLIT}",),
           how="log"),
    Golden("KM206-fires", "page_alloc", (f"{_PAGES} gfp=GFP_ATOMIC order=1 n=23",), ("lab_alloc_pages", 23)),
    Golden("KM206-quiet", "page_alloc", (f"{_PAGES} gfp=GFP_ATOMIC order=0 n=23",
                                         f"{_PAGES} gfp=GFP_KERNEL order=1 n=23")),
    Golden("KM207-fires", "kmalloc", (f"{_A} size=100 n=2003", "op=kmalloc gfp=GFP_NOWAIT ctx=spin size=100 n=3"),
           ("lab_kmalloc", 2003)),
    Golden("KM207-quiet", "kmalloc", (f"{_A} size=100 n=2003", f"{_A} ctx=spin size=100 n=3")),
    Golden("KM208-fires", _RECLAIM, (f"{_PAGES} gfp=GFP_KERNEL order=4 n=3 flags=fragmented",
           f"{_PAGES} gfp=GFP_ATOMIC order=3 n=4001"), ("lab_alloc_pages", 4001)),
    Golden("KM208-quiet", _RECLAIM, (f"{_PAGES} gfp=GFP_ATOMIC order=3 n=4001",)),
    Golden("KM209-fires", "kmalloc", (f"{_K}|__GFP_NOWARN size=5242880 n=5",), ("lab_kmalloc", 5)),
    Golden("KM209-quiet", "kmalloc", (f"{_K}{_SILENT} size=5242880 n=5",)),
    Golden("KM210-fires", "kmalloc", (f"{_K}|__GFP_NOWARN size=5242880 n=503",), ("lab_kmalloc", 503)),
    Golden("KM210-quiet", "kmalloc", (f"{_K}|__GFP_NOWARN size=5242880 n=23",)),
    Golden("KM301-fires", "kmalloc", (f"{_K} size=8193 n=23",), ("lab_kmalloc", 23)),
    Golden("KM301-quiet", "kmalloc", (f"{_K} size=8192 n=23", f"{_K}{_SILENT} size=8193 n=23", f"{_KV} size=8193")),
    Golden("KM302-fires", "kmalloc", (f"{_K} size=32769 n=29",), ("lab_kmalloc", 29)),
    Golden("KM302-quiet", "kmalloc", (f"{_K} size=32768 n=29", f"{_KV} size=32769 n=29")),
    Golden("KM303-fires", "vmalloc", ("op=vmalloc size=100 n=31",), ("lab_vmalloc", 31)),
    Golden("KM303-quiet", "vmalloc", ("op=vmalloc size=4097 n=31",)),
    Golden("KM304-fires", "kmalloc", (f"{_K} size=131073 n=5",), ("lab_kmalloc", 5)),
    Golden("KM304-quiet", "kmalloc", (f"{_K} size=131072 n=5", f"{_KV} size=131073 n=5")),
    Golden("KM305-fires", "kmalloc", (f"{_K}|__GFP_NOWARN size=5242880 n=5",), ("lab_kmalloc", 5)),
    Golden("KM305-quiet", "kmalloc", (f"{_K}{_SILENT} size=5242880 n=5",)),
    Golden("KM306-fires", "vmalloc,vfree", ("op=vmalloc size=8192 n=2003",), ("lab_vmalloc", 2003)),
    Golden("KM306-quiet", "vmalloc,vfree", ("op=vmalloc size=8192 n=101",)),
    Golden("KM307-fires", "kmalloc", (f"{_KV} size=8388608 n=23",), ("lab_kvmalloc", 23)),
    Golden("KM307-quiet", "kmalloc", (f"{_KV} size=65536 n=23",)),
    Golden("KM401-fires", "page_alloc", (f"{_PAGES} gfp=GFP_KERNEL|__GFP_NOFAIL order=2 n=3",),
           ("lab_alloc_pages", 3)),
    Golden("KM401-quiet", "page_alloc", (f"{_PAGES} gfp=GFP_KERNEL|__GFP_NOFAIL order=1 n=3",)),
    Golden("KM402-fires", "kmalloc", (f"{_K}|__GFP_DMA32 size=100 n=5",), ("lab_kmalloc", 5)),
    Golden("KM402-quiet", "kmalloc", (f"{_K}|__GFP_DMA size=100 n=5",)),
    Golden("KM403-fires", "kmalloc", (f"{_K}|__GFP_DMA size=100 n=5",), ("lab_kmalloc", 5)),
    Golden("KM403-quiet", "kmalloc", (f"{_K} size=100 n=5",)),
    Golden("KM404-fires", "kmalloc", ("op=kmalloc gfp=GFP_NOFS size=100 n=20011",), ("lab_kmalloc", 20_011)),
    Golden("KM404-quiet", "kmalloc", (f"{_K} size=100 n=20011", "op=kmalloc gfp=GFP_NOFS size=100 n=11")),
    Golden("KM405-fires", "page_alloc", (f"{_PAGES} gfp=GFP_KERNEL order=4 failures=3 {_SPLIT}",
                                         f"{_PAGES} gfp=GFP_KERNEL order=0 n=5"), ("lab_alloc_pages", 3)),
    Golden("KM405-quiet", "page_alloc", (f"{_PAGES} gfp=GFP_KERNEL{_SILENT} order=4 failures=3 {_SPLIT}",
                                         f"{_PAGES} gfp=GFP_KERNEL order=0 n=5")),
    Golden("KM407-fires", "kmalloc", (f"{_K}{_SILENT} size=131072 failures=23 {_SPLIT}",), ("lab_kmalloc", 23)),
    Golden("KM407-quiet", "kmalloc", (f"{_K}{_SILENT} size=131072 failures=23 {_SPLIT}", f"{_K} size=4096 n=23")),
    Golden("KM501-fires", "page_alloc", (f"{_PAGES} gfp=GFP_KERNEL order=9 n=1009 flags=hold",),
           ("page allocator", None), on="zoned"),
    Golden("KM501-quiet", "page_alloc", (f"{_PAGES} gfp=GFP_KERNEL order=9 n=97 flags=hold",)),
    Golden("KM502-fires", "page_alloc",
           (f"{_PAGES} gfp=GFP_ATOMIC|__GFP_NOWARN order=8 n=9999 flags=until_failure",), ("lab_alloc_pages", None)),
    Golden("KM502-quiet", "page_alloc", (f"{_PAGES} gfp=GFP_KERNEL|GFP_DMA order=2 n=37",)),
    Golden("KM503-fires", "extfrag", (f"{_PAGES} gfp=GFP_ATOMIC|__GFP_NOWARN order=9 n=9999 flags=until_failure",),
           ("page allocator", None), on="large"),
    Golden("KM503-quiet", "extfrag", (f"{_PAGES} gfp=GFP_KERNEL order=0 n=997",)),
    Golden("KM504-fires", "page_alloc", (f"{_PAGES} gfp=GFP_ATOMIC|__GFP_NOWARN order=10 n=151 flags=hold",),
           ("lab_alloc_pages", None)),
    Golden("KM504-quiet", "page_alloc", (f"{_PAGES} gfp=GFP_ATOMIC order=3 n=23",)),
    Golden("KM901-fires", "kmalloc", (f"{_K} size=64 n=5003",), ("kmwatch", 5003), "small ring"),
    Golden("KM901-quiet", "kmalloc", (f"{_K} size=64 n=5003",)),
    Golden("KM902-fires", "kmalloc", (f"{_K} size=64 n=37",), ("kmwatch", 37), "killed"),
    Golden("KM902-quiet", "kmalloc", (f"{_K} size=64 n=37",)),
    Golden("KM903-fires", "kmalloc", (f"{_K} size=64 n=10007", f"{_A} ctx=spin size=64 n=37"), ("kmwatch", 10_044),
           on="uncounted"),
    Golden("KM903-quiet", "kmalloc", (f"{_K} size=64 n=10007", f"{_A} ctx=spin size=64 n=37")),
)
# fmt: on


def main(*rules: str) -> None:
    """Record the captures of these rules, of all by default, in guests; they replace the old ones."""
    chosen = [golden for golden in CAPTURES if not rules or golden.rule in rules]
    machines = [name for name in MACHINES if any(golden.on == name for golden in chosen)]
    fresh = GOLDEN.with_name("golden.new")
    shutil.rmtree(fresh, ignore_errors=True)
    for name in machines:  # one after the other: they share a directory for downloads
        fetch(MACHINES[name].kernel)
        build(MACHINES[name].kernel)
    with ThreadPoolExecutor(2) as pool:
        truths = list(pool.map(lambda name: _record(name, fresh / name, rules), machines))
    truth = json.loads((GOLDEN / "truth.json").read_text()) | {name: each for of in truths for name, each in of.items()}
    for golden in chosen:
        shutil.rmtree(GOLDEN / f"{golden.name}.kmw", ignore_errors=True)
        (fresh / golden.on / f"{golden.name}.kmw").rename(GOLDEN / f"{golden.name}.kmw")
    known = {golden.name: truth[golden.name] for golden in CAPTURES}
    (GOLDEN / "truth.json").write_text(json.dumps(known, indent=1) + "\n")
    shutil.rmtree(fresh)


def _record(name: str, results: Path, rules: tuple[str, ...]) -> dict[str, Any]:
    """Record the captures of one machine; what really happened, by capture."""
    machine = MACHINES[name]
    command = shlex.join([sys.executable, "-m", "tests.guest.inside.recording", name, *rules])
    guest = Guest(machine.memory, cpus=2, seconds=_SECONDS, below_4g=machine.below_4g)
    lab = f"KMWATCH_LAB={build(machine.kernel)}"
    ended = run(fetch(machine.kernel), f"{lab} {command}", ROOT, guest, results, threading.Event())
    print(ended.output, end="", flush=True)  # noqa: T201
    if ended.code:
        sys.exit(f"{name}: not all could be recorded, nothing is replaced; what there is lies in {results}")
    truth: dict[str, Any] = json.loads((results / "truth.json").read_text())
    return truth


if __name__ == "__main__":
    main(*sys.argv[1:])
