"""The second witness of what is held: what the kernel itself says of its memory at one time."""

import re
from dataclasses import dataclass, field

from kmwatch.kernel.slab import SlabInfo

MEMINFO = ("Slab", "VmallocUsed", "Percpu", "KernelStack", "PageTables")
"""The fields of /proc/meminfo that are memory of the kernel."""

_FIELD = re.compile(r"(\w+):\s+(\d{1,15}) kB", re.ASCII)
_CODE = re.compile(r"\s*(\d{1,18})\s+(\d{1,18})\s+\S+:\d+\s+(?:\[\S+\]\s+)?func:(\S{1,128})", re.ASCII)
_KMALLOC = re.compile(r"kmalloc-(?:[a-z]+-)*(?:rnd-\d+-)?(\d+[kM]?)", re.ASCII)


@dataclass(frozen=True)
class Witness:
    """What the kernel says.

    slabs: by cache, objects in use (with those free in slabs that a CPU has taken) and objects of one slab; the kmalloc
    caches of one size together, as kmalloc-SIZE. Empty where /proc/slabinfo cannot be read.
    meminfo: bytes, by field of MEMINFO.
    functions: bytes held, by the function that asked: /proc/allocinfo, empty where the kernel does not have it.
    """

    slabs: dict[str, tuple[int, int]] = field(default_factory=dict)
    meminfo: dict[str, int] = field(default_factory=dict)
    functions: dict[str, int] = field(default_factory=dict)


def kmalloc_name(size: int) -> str:
    """The name that Witness.slabs has for a size class."""
    return f"kmalloc-{size}" if size < 1 << 10 else f"kmalloc-{size >> 10}k"


def slabs_of(caches: tuple[SlabInfo, ...]) -> dict[str, tuple[int, int]]:
    """Witness.slabs of /proc/slabinfo's lines; those of one name are added up."""
    slabs: dict[str, tuple[int, int]] = {}
    for cache in caches:
        size = _KMALLOC.fullmatch(cache.name)
        name = f"kmalloc-{size[1]}" if size else cache.name
        active, per_slab = slabs.get(name, (0, 0))
        slabs[name] = active + cache.active_objs, max(per_slab, cache.objperslab)
    return slabs


def parse_meminfo(text: str) -> dict[str, int]:
    """Bytes by field of MEMINFO, those that the text has."""
    found = ((match[1], int(match[2]) << 10) for match in map(_FIELD.match, text.splitlines()) if match)
    return {name: size for name, size in found if name in MEMINFO}


def parse_allocinfo(text: str) -> dict[str, int]:
    """Bytes held by function, of the text of /proc/allocinfo (Linux 6.10, CONFIG_MEM_ALLOC_PROFILING).

    Lines that are not understood are left out: the first two are headings.
    """
    held: dict[str, int] = {}
    for match in map(_CODE.match, text.splitlines()):
        if match and int(match[1]):
            held[match[3]] = held.get(match[3], 0) + int(match[1])
    return held
