"""The golden captures: for each rule one recording in which it finds something, and a similar one in which it must not.

`make golden` records them anew, in a guest, under tests/data/golden; truth.json beside them has what the module said
that it did. tests/unit/test_golden.py holds the rules to it.

    python -m tests.guest.golden KERNEL
"""

import shlex
import shutil
import sys
import threading
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests/data/golden"
LARGEST = 50_000
"""Bytes that a capture may have, all of its files together."""
_SECONDS = 900.0


class Golden(NamedTuple):
    """A capture to be recorded: its name, which events, what the module is asked, and the finding to be expected.

    lines: as the module takes them, with the names of GFP flags in place of their numbers.
    finding: the function that the rule is to find, with how often it happened; none where it is to stay quiet.
    how: `small ring` records with so little room that events are lost, `killed` ends the recording without warning.
    """

    name: str
    kinds: str
    lines: tuple[str, ...]
    finding: tuple[str, int] | None = None
    how: str = ""

    @property
    def rule(self) -> str:
        """The rule that it is about."""
        return self.name.partition("-")[0]


_K, _A, _KV = "op=kmalloc gfp=GFP_KERNEL", "op=kmalloc gfp=GFP_ATOMIC", "op=kvmalloc gfp=GFP_KERNEL"
_WARY, _SILENT = "|__GFP_NORETRY", "|__GFP_NORETRY|__GFP_NOWARN"
_SPLIT = "n=9999 flags=until_failure,fragmented"

TO_BE_RECORDED = frozenset(
    f"{code}-{what}"
    for code in (
        *("KM103", "KM104", "KM105", "KM206", "KM207", "KM209", "KM210"),
        *("KM304", "KM305", "KM307", "KM401", "KM402", "KM403"),
    )
    for what in ("fires", "quiet")
) | {"KM101-fires", "KM102-quiet"}
"""Captures of the table below that do not exist yet: `make golden` records them all, and then this is empty."""

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
    Golden("KM206-fires", "page_alloc", ("op=alloc_pages gfp=GFP_ATOMIC order=1 n=23",), ("lab_alloc_pages", 23)),
    Golden("KM206-quiet", "page_alloc", ("op=alloc_pages gfp=GFP_ATOMIC order=0 n=23",
                                         "op=alloc_pages gfp=GFP_KERNEL order=1 n=23")),
    Golden("KM207-fires", "kmalloc", (f"{_A} size=100 n=2003", "op=kmalloc gfp=GFP_NOWAIT ctx=spin size=100 n=3"),
           ("lab_kmalloc", 2003)),
    Golden("KM207-quiet", "kmalloc", (f"{_A} size=100 n=2003", f"{_A} ctx=spin size=100 n=3")),
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
    Golden("KM307-fires", "kmalloc", (f"{_KV} size=8388608 n=23",), ("lab_kvmalloc", 23)),
    Golden("KM307-quiet", "kmalloc", (f"{_KV} size=65536 n=23",)),
    Golden("KM401-fires", "page_alloc", ("op=alloc_pages gfp=GFP_KERNEL|__GFP_NOFAIL order=2 n=3",),
           ("lab_alloc_pages", 3)),
    Golden("KM401-quiet", "page_alloc", ("op=alloc_pages gfp=GFP_KERNEL|__GFP_NOFAIL order=1 n=3",)),
    Golden("KM402-fires", "kmalloc", (f"{_K}|__GFP_DMA32 size=100 n=5",), ("lab_kmalloc", 5)),
    Golden("KM402-quiet", "kmalloc", (f"{_K}|__GFP_DMA size=100 n=5",)),
    Golden("KM403-fires", "kmalloc", (f"{_K}|__GFP_DMA size=100 n=5",), ("lab_kmalloc", 5)),
    Golden("KM403-quiet", "kmalloc", (f"{_K} size=100 n=5",)),
    Golden("KM901-fires", "kmalloc", (f"{_K} size=64 n=5003",), ("kmwatch", 5003), "small ring"),
    Golden("KM901-quiet", "kmalloc", (f"{_K} size=64 n=5003",)),
    Golden("KM902-fires", "kmalloc", (f"{_K} size=64 n=37",), ("kmwatch", 37), "killed"),
    Golden("KM902-quiet", "kmalloc", (f"{_K} size=64 n=37",)),
)
# fmt: on


def main(kernel: str) -> None:
    """Record all of them in a guest, and put them where the old ones were."""
    from tests.guest.kernels import fetch
    from tests.guest.module import build
    from tests.guest.vm import Guest, run

    command = shlex.join([sys.executable, "-m", "tests.guest.inside.recording"])
    fresh = GOLDEN.with_name("golden.new")
    shutil.rmtree(fresh, ignore_errors=True)
    settings = f"KMWATCH_LAB={build(kernel)}"
    guest = Guest(memory="1G", cpus=2, seconds=_SECONDS)
    ended = run(fetch(kernel), f"{settings} {command}", ROOT, guest, fresh, threading.Event())
    if ended.code:
        sys.exit(ended.output)
    shutil.rmtree(GOLDEN, ignore_errors=True)
    fresh.rename(GOLDEN)
    print(ended.output, end="")  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
