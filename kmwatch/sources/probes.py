"""The probes: which tracepoint or function each is at, which kinds it observes, and the arguments that it relies on.

A probe is compiled from its entry point in bpf/compat.h. Where BTF shows exactly the prototype that compat.h was
written for, the raw tracepoint is used (35 ns an event against 56 ns, empty); otherwise the ordinary one, whose fields
come from the running kernel's format files. Where a function tells more than its tracepoint, or has none, it is probed
itself: its entry point is in bpf/functions.h.
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


@dataclass(frozen=True)
class Function:
    """A function with a probe at it, where the kernel has kprobes or allows fentry.

    `event` is the name of its program. `names` are the function's, the newest first. `takes` are the types of its first
    arguments that bpf/functions.h knows by position. `returns`: its result is wanted, so that it takes a kretprobe too.
    `tracepoint` is the event that tells the same in other kernels; it is preferred unless the function is `better`.
    `inlined`: whether it is for kernels with copies of __vmalloc_node_range() in its callers; None for all.
    `fentry`: it can be probed by fentry or fexit as well. `entry`: its entry is wanted.
    """

    event: str
    kinds: tuple[Kind, ...]
    names: tuple[str, ...]
    takes: tuple[str, ...]
    tracepoint: str
    returns: bool = False
    better: bool = False
    inlined: bool | None = None
    fentry: bool = True
    entry: bool = True

    category = "function"
    busy = False

    @property
    def define(self) -> str:
        """The name that switches it on in bpf/functions.h."""
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
    Probe("vmalloc", "free_vmap_area_noflush", (Kind.VFREE, Kind.IOUNMAP), note=_VMALLOC),
    Probe("percpu", "percpu_alloc_percpu", (Kind.PERCPU_ALLOC,)),
    Probe("percpu", "percpu_alloc_percpu_fail", (Kind.PERCPU_ALLOC,)),
    Probe("percpu", "percpu_free_percpu", (Kind.PERCPU_FREE,)),
    Probe("kmem", "mm_page_alloc_extfrag", (Kind.EXTFRAG,)),
    Probe("vmscan", "mm_vmscan_direct_reclaim_begin", (Kind.DIRECT_RECLAIM,)),
    Probe("compaction", "mm_compaction_try_to_compact_pages", (Kind.COMPACTION,), note=_COMPACTION),
    Probe("oom", "mark_victim", (Kind.OOM_VICTIM,)),
)


_AREA, _AREA_FREE = "vmalloc:alloc_vmap_area", "vmalloc:free_vmap_area_noflush"
_RANGE = ("__vmalloc_node_range_noprof", "__vmalloc_node_range")
_VM_AREA = ("struct vm_struct *", "gfp_t")

_AREA_NODE = (*[_SITE] * 5, "int", "gfp_t")


def _telling_more(event: str, kind: Kind, name: tuple[str, ...], takes: tuple[str, ...], **more: bool) -> Function:
    """A function that allocates, better than its tracepoint: that tells whole pages, and no flags."""
    return Function(event, (kind,), name, takes, _AREA, returns=True, better=True, **more)


FUNCTIONS = (
    _telling_more("vmalloc", Kind.VMALLOC, _RANGE, (*[_SITE] * 4, "gfp_t"), inlined=False),
    _telling_more("vmalloc_area", Kind.VMALLOC, ("__get_vm_area_node",), _AREA_NODE, inlined=True, fentry=False),
    _telling_more(
        "vmalloc_pages", Kind.VMALLOC, ("__vmalloc_area_node",), _VM_AREA, inlined=True, fentry=False, entry=False
    ),
    Function("vfree", (Kind.VFREE,), ("vfree",), (_POINTER,), _AREA_FREE),
    _telling_more("ioremap", Kind.IOREMAP, ("__ioremap_caller",), ("resource_size_t", _SITE)),
    Function("iounmap", (Kind.IOUNMAP,), ("iounmap",), ("volatile void *",), _AREA_FREE, better=True),
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
    """The tracepoints that observe at least one of the kinds."""
    return tuple(probe for probe in PROBES if kinds.intersection(probe.kinds))


def wanted_functions(kinds: frozenset[Kind]) -> tuple[Function, ...]:
    """The functions that observe one of the kinds."""
    return tuple(function for function in FUNCTIONS if kinds.intersection(function.kinds))
