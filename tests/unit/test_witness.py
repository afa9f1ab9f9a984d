"""The kernel's own word on what is held, from its texts, also from damaged ones."""

import pytest

from kmwatch.errors import NotPossibleError
from kmwatch.kernel.kept import Kept
from kmwatch.kernel.slab import parse_slabinfo
from kmwatch.kernel.witnesses import Witnesses
from kmwatch.witness import MEMINFO, Witness, kmalloc_name, parse_allocinfo, parse_meminfo, slabs_of
from tests.unit.rows import DATA, LIMITS

SLABINFO = (DATA / "linux-6.18" / "slabinfo").read_text()
HEAD = "slabinfo - version: 2.1\n# name <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab>\n"
REST = ": tunables    0    0    0 : slabdata      1      1      0\n"
ALLOCINFO = """\
allocinfo - version: 1.0
#     <size>  <calls> <tag info>
    4096        1 mm/slub.c:2345 func:alloc_slab_page
  393216       96 drivers/net/lab.c:77 [kmwatch_lab] func:lab_alloc
       0        0 kernel/fork.c:311 func:alloc_thread_stack_node
    8192        2 mm/slub.c:2399 func:alloc_slab_page
"""


def lines(*caches: tuple[str, int, int]) -> str:
    """A slabinfo of caches: name, objects in use, objects of a slab."""
    return HEAD + "".join(f"{name} {active} 999 64 {per_slab} 1 {REST}" for name, active, per_slab in caches)


def test_the_slabs_of_a_real_kernel() -> None:
    """Of 64 bytes there are plain ones, accounted ones and reclaimable ones; those for DMA are told apart."""
    slabs = slabs_of(parse_slabinfo(SLABINFO))

    assert slabs["dentry"] == (114_513, 21)
    assert slabs["maple_node"] == (777, 16)
    assert slabs["kmalloc-64"] == (2479 + 128 + 0, 64)
    assert slabs["dma-kmalloc-64"] == (0, 64)
    assert {kmalloc_name(size) for size in LIMITS.classes} <= set(slabs)


def test_the_kmalloc_caches_of_one_size_are_added_up() -> None:
    names = ("kmalloc-1k", "kmalloc-rnd-01-1k", "kmalloc-rnd-15-1k", "kmalloc-cg-1k", "kmalloc-rcl-1k")
    text = lines(*((name, 10**at, 16 << (at == 2)) for at, name in enumerate(names)), ("my kmalloc-1k", 7, 1))

    assert slabs_of(parse_slabinfo(text)) == {"kmalloc-1k": (11_111, 32), "my kmalloc-1k": (7, 1)}


def test_caches_of_one_name_are_added_up() -> None:
    assert slabs_of(parse_slabinfo(lines(("TCP", 3, 10), ("TCP", 4, 12)))) == {"TCP": (7, 12)}


@pytest.mark.parametrize(("size", "name"), [(8, "8"), (96, "96"), (512, "512"), (1024, "1k"), (8192, "8k")])
def test_a_size_class_has_the_kernels_name(size: int, name: str) -> None:
    assert kmalloc_name(size) == f"kmalloc-{name}"


def test_damaged_lines_of_slabinfo_are_left_out() -> None:
    text = lines(("good", 5, 10)) + "bad 1 2\nworse -1 2 3 4 5 : tunables\n\x00\nlonger " + "9" * 40 + " 1 1 1 1 : x\n"

    assert slabs_of(parse_slabinfo(text)) == {"good": (5, 10)}


def test_the_fields_of_meminfo_are_bytes() -> None:
    text = "MemTotal:  9 kB\nSlab:   1234 kB\nSReclaimable: 1 kB\nVmallocUsed:   0 kB\nPercpu:  3 kB\n"
    text += "KernelStack:   12 kB\nPageTables:  5 kB\nSecPageTables: 7 kB\n"

    assert parse_meminfo(text) == dict(zip(MEMINFO, (1234 << 10, 0, 3 << 10, 12 << 10, 5 << 10), strict=True))


@pytest.mark.parametrize(
    "line",
    ["Slab: kB", "Slab: -5 kB", "Slab: 5 MB", " Slab: 5 kB", "Slab 5 kB", f"Slab: {'9' * 16} kB", "Slab: ٣ kB", ""],
)
def test_damaged_lines_of_meminfo_are_left_out(line: str) -> None:
    assert parse_meminfo(f"{line}\nPercpu: 2 kB\n") == {"Percpu": 2 << 10}


def test_the_functions_of_allocinfo_hold_bytes() -> None:
    """Lines of one function are added up; what holds nothing is left out."""
    assert parse_allocinfo(ALLOCINFO) == {"alloc_slab_page": 12_288, "lab_alloc": 393_216}


@pytest.mark.parametrize(
    "line",
    [
        "    4096        1 mm/slub.c:2345",
        "    4096        mm/slub.c:2345 func:half",
        "    4096        1 mm/slub.c func:half",
        "    4096        1 mm/slub.c:2345 [lab func:half",
        "   -4096        1 mm/slub.c:2345 func:half",
        "  0x4096        1 mm/slub.c:2345 func:half",
        f"{'9' * 19} 1 mm/slub.c:2345 func:half",
        "    4096        1 mm/slub.c:2345 func:",
        "",
    ],
)
def test_damaged_lines_of_allocinfo_are_left_out(line: str) -> None:
    assert parse_allocinfo(f"{line}\n{ALLOCINFO}{line}") == parse_allocinfo(ALLOCINFO)


def test_a_look_reads_all_three(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {"slabinfo": lines(("filp", 5, 16)), "meminfo": "Slab: 1 kB\n\xff", "allocinfo": ALLOCINFO}
    monkeypatch.setattr(Kept, "read", lambda self: texts[self.path.name].encode("latin-1"))

    assert Witnesses().look() == Witness({"filp": (5, 16)}, {"Slab": 1024}, parse_allocinfo(ALLOCINFO))


def test_what_cannot_be_read_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: Kept) -> bytes:
        raise NotPossibleError("run as root")

    monkeypatch.setattr(Kept, "read", refused)

    assert Witnesses().look() == Witness()
