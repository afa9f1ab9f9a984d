"""The probes: which tracepoint each is, which kinds it observes, and the raw prototype it may be attached with.

A probe is compiled from its entry point in bpf/compat.h. Where BTF shows exactly the prototype that compat.h was
written for, the raw tracepoint is used (35 ns an event against 56 ns, empty); otherwise the ordinary one, whose fields
come from the running kernel's format files.
"""

from dataclasses import dataclass

from kmwatch.errors import UsageError
from kmwatch.schema import Kind

_SITE, _POINTER, _CACHE = "long unsigned int", "const void *", "struct kmem_cache *"


@dataclass(frozen=True)
class Probe:
    """One tracepoint.

    `raw` is the prototype that compat.h knows by position; None means that the ordinary tracepoint is always used.
    `note` says why a kernel may lack it; "" where every kernel has it. An `old` event is not missed where it is absent.
    A `busy` one can come in an interrupt while its own program runs: bpf/events.c has a second copy.
    `raw_pointer` is false where only the ordinary tracepoint tells which object it is about, as other events name it.
    """

    category: str
    event: str
    kinds: tuple[Kind, ...]
    raw: tuple[str, ...] | None = None
    note: str = ""
    old: bool = False
    raw_pointer: bool = True
    busy: bool = False

    @property
    def define(self) -> str:
        """The name that switches it on in bpf/compat.h."""
        return f"PROBE_{self.event.upper()}"


_VMALLOC = "vmalloc has tracepoints since Linux 6.2"
_COMPACTION = "needs CONFIG_COMPACTION"

PROBES = (
    Probe("kmem", "kmalloc", (Kind.KMALLOC,), (_SITE, _POINTER, "size_t", "size_t", "gfp_t", "int"), busy=True),
    Probe("kmem", "kmalloc_node", (Kind.KMALLOC,), old=True),
    Probe("kmem", "kfree", (Kind.KFREE,), (_SITE, _POINTER), busy=True),
    Probe("kmem", "kmem_cache_alloc", (Kind.CACHE_ALLOC,), (_SITE, _POINTER, _CACHE, "gfp_t", "int"), busy=True),
    Probe("kmem", "kmem_cache_alloc_node", (Kind.CACHE_ALLOC,), old=True),
    Probe("kmem", "kmem_cache_free", (Kind.CACHE_FREE,), (_SITE, _POINTER, f"const {_CACHE}"), busy=True),
    Probe("kmem", "mm_page_alloc", (Kind.PAGE_ALLOC,)),
    Probe("kmem", "mm_page_free", (Kind.PAGE_FREE,), ("struct page *", "unsigned int"), raw_pointer=False, busy=True),
    Probe("vmalloc", "alloc_vmap_area", (Kind.VMALLOC, Kind.IOREMAP, Kind.VMAP), note=_VMALLOC),
    Probe("vmalloc", "free_vmap_area_noflush", (Kind.VFREE,), note=_VMALLOC),
    Probe("percpu", "percpu_alloc_percpu", (Kind.PERCPU_ALLOC,)),
    Probe("percpu", "percpu_alloc_percpu_fail", (Kind.PERCPU_ALLOC,)),
    Probe("percpu", "percpu_free_percpu", (Kind.PERCPU_FREE,)),
    Probe("kmem", "mm_page_alloc_extfrag", (Kind.EXTFRAG,)),
    Probe("vmscan", "mm_vmscan_direct_reclaim_begin", (Kind.DIRECT_RECLAIM,)),
    Probe("compaction", "mm_compaction_try_to_compact_pages", (Kind.COMPACTION,), note=_COMPACTION),
    Probe("oom", "mark_victim", (Kind.OOM_VICTIM,)),
)


def parse_kinds(text: str | None) -> frozenset[Kind]:
    """The kinds named in a comma-separated list, all of them for None; UsageError for a name that is none."""
    if text is None:
        return frozenset(Kind)
    names = {kind.name.lower(): kind for kind in Kind}
    chosen = [word.strip() for word in text.split(",") if word.strip()]
    unknown = [word for word in chosen if word not in names]
    if unknown or not chosen:
        what = f"unknown kind {', '.join(unknown)!r}" if unknown else "no kind given"
        raise UsageError(f"{what}; choose from {', '.join(names)}")
    return frozenset(names[word] for word in chosen)


def wanted(kinds: frozenset[Kind]) -> tuple[Probe, ...]:
    """The probes that observe at least one of the kinds."""
    return tuple(probe for probe in PROBES if kinds.intersection(probe.kinds))
