"""What kmwatch must say of a row: all the rules, each once.

They start from what the module says that it did and saw (`did`, its JSON), and from facts of the kernel that no row
decides. Nothing here asks kmwatch, and nothing asks for a kernel's version.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any

from kmwatch.schema import Kind
from tests.guest.rows import PAGES, Row

PAGE = 4096
EOPNOTSUPP = 95

KINDS = {
    **dict.fromkeys(("kmalloc", "kzalloc", "krealloc", "kvmalloc"), Kind.KMALLOC),
    **dict.fromkeys(PAGES, Kind.PAGE_ALLOC),
    **dict.fromkeys(("vmalloc", "vzalloc"), Kind.VMALLOC),
    "cache": Kind.CACHE_ALLOC,
    "percpu": Kind.PERCPU_ALLOC,
    "ioremap": Kind.IOREMAP,
}
"""What each operation is to kmwatch."""

FREED = {
    **dict.fromkeys(("kmalloc", "kzalloc", "krealloc"), ("lab_kfree", Kind.KFREE)),
    **dict.fromkeys(("vmalloc", "vzalloc"), ("lab_vfree", Kind.VFREE)),
    "cache": ("lab_cache_free", Kind.CACHE_FREE),
}
"""Where each operation's objects are freed, as far as the kernel tells."""

ADDED = {"kzalloc": "__GFP_ZERO", "vzalloc": "__GFP_ZERO"}
"""Flags that an operation adds to those it is given."""

ORDINARY = {
    **dict.fromkeys(("process", "workqueue", "irqsoff"), "process"),
    **dict.fromkeys(("spin", "preempt"), "process+preempt-off"),
    **dict.fromkeys(("softirq", "tasklet"), "softirq"),
    **dict.fromkeys(("hardirq", "irqwork"), "hardirq"),
    "bh": "process+bh-off",
    "rcu": "process+rcu",
}
"""How each context begins on a kernel that counts preemption and is not PREEMPT_RT."""

ALWAYS_ATOMIC = frozenset({"preempt", "irqsoff", "hardirq", "irqwork"})
"""Contexts in which PREEMPT_RT cannot allocate at all: its allocators' locks sleep. The module refuses them there."""

LOCKS_ON_RT = frozenset({"spin", "bh", "softirq", "tasklet"})
"""Contexts that PREEMPT_RT makes preemptible processes."""

FLAGS_SEEN = frozenset({Kind.VMALLOC, Kind.IOREMAP})
"""What a kprobe tells, which sees interrupts that are merely off."""


@dataclass(frozen=True)
class Machine:
    """What no row decides: how many CPUs there can be, and whether the per-CPU event tells flags and bytes taken."""

    cpus: int
    percpu_event_is_full: bool


@dataclass(frozen=True)
class Sum:
    """What the allocations at one function must come to. gfps: the masks that are right, any of them."""

    symbol: str
    kind: Kind
    count: int
    failures: int
    requested: int
    allocated: int
    gfps: frozenset[int]


def refused(row: Row, did: dict[str, Any]) -> bool:
    """Whether the module must refuse the row on this kernel."""
    return bool(did["preempt_rt"]) and row.ctx in ALWAYS_ATOMIC


def mask(row: Row, did: dict[str, Any]) -> int:
    """The row's flags in this kernel's numbers, which the module tells."""
    return reduce(or_, (int(did[word.lower()], 0) for word in row.gfp.split("|")))


def context(row: Row, did: dict[str, Any]) -> str:
    """The context in kmwatch's words, from the preempt_count that the module itself read.

    Whether an interrupt came upon a task in an RCU section is chance: it is left out here, and by `plain_context`.
    """
    count = did["preempt_count_min"]
    place = "hardirq" if count & 0xF0000 else "softirq" if count & 0x100 else "process"
    words = [place]
    words += ["preempt-off"] * bool(count & 0xFF) + ["bh-off"] * bool(count & 0xFE00)
    words += ["irqs-off"] * (bool(did["irqs_disabled"]) and KINDS[row.op] in FLAGS_SEEN)
    words += ["rcu"] * (place == "process" and _in_rcu(row, did))
    return "+".join(words)


def _in_rcu(row: Row, did: dict[str, Any]) -> bool:
    """A kernel that is not preemptible counts no RCU sections either."""
    return bool(did["preempt_counted"]) and row.ctx == "rcu"


def plain_context(text: str) -> str:
    """A context without what `context` cannot know."""
    return text if text.startswith("process") else text.removesuffix("+rcu")


def ordinary(row: Row, did: dict[str, Any]) -> str:
    """How the context must begin on this kernel, whatever the module has read."""
    if did["preempt_rt"] and row.ctx in LOCKS_ON_RT:
        return "process"
    if not did["preempt_counted"] and row.ctx in ("spin", "preempt", "rcu"):
        return "process"
    return ORDINARY[row.ctx]


def sleeps_in_atomic(row: Row, did: dict[str, Any]) -> bool:
    """Whether KM201 must be found: a mask that may sleep, where sleeping is a bug that leaves a trace."""
    return context(row, did) != "process" and bool(mask(row, did) & int(did["__gfp_direct_reclaim"], 0))


def sums(row: Row, did: dict[str, Any], machine: Machine) -> Iterator[Sum]:
    """What must be seen at the row's own function, and at that of the first half of a krealloc."""
    done, size = did["done"], did["size"]
    yield Sum(
        f"lab_{row.op}",
        KINDS[row.op],
        done,
        did["failed"],
        done * _requested(row, size, machine),
        done * _allocated(row, size, machine),
        _masks(row, did, machine),
    )
    if row.op == "krealloc":
        half = size // 2
        gfps = frozenset({mask(row, did)})
        yield Sum("lab_krealloc_first", Kind.KMALLOC, done, 0, done * half, done * kmalloc_bytes(half), gfps)


def kmalloc_bytes(size: int) -> int:
    """What kmalloc takes: a size class of SLUB up to two pages, a power of two of pages above."""
    classes = (8, 16, 32, 64, 96, 128, 192)
    return next((each for each in classes if size <= each), 1 << (size - 1).bit_length())


def cache_name(row: Row) -> str:
    """What the module calls its cache."""
    return f"kmwatch_lab_{row.size}_{row.align}{'_ctor' * row.ctor}"


def cache_bytes(row: Row) -> int:
    """What an object of the module's cache takes: a constructor wants the free pointer behind the object."""
    words = _up(row.size, 8) + 8 * row.ctor
    return _up(words, max(row.align, 8))


def _up(size: int, to: int) -> int:
    return -(-size // to) * to


def _requested(row: Row, size: int, machine: Machine) -> int:
    return size * machine.cpus if row.op == "percpu" else size


def _allocated(row: Row, size: int, machine: Machine) -> int:
    kind = KINDS[row.op]
    if kind == Kind.KMALLOC:
        return kmalloc_bytes(size)
    if kind == Kind.CACHE_ALLOC:
        return cache_bytes(row)
    if kind == Kind.VMALLOC:
        return _up(size, PAGE)
    if kind == Kind.PERCPU_ALLOC:
        # A pointer for memory cgroups for each four bytes of the first copy.
        return size * machine.cpus + 2 * size * machine.percpu_event_is_full
    return 0 if kind == Kind.IOREMAP else size


def _masks(row: Row, did: dict[str, Any], machine: Machine) -> frozenset[int]:
    asked = mask(row, did)
    if row.op in ADDED:
        asked |= int(did[ADDED[row.op].lower()], 0)
    if row.op == "ioremap" or (row.op == "percpu" and not machine.percpu_event_is_full):
        return frozenset({0})
    if row.op == "kvmalloc" and row.size > PAGE:
        bit = {name: int(did[f"__gfp_{name}"], 0) for name in ("nowarn", "noretry", "direct_reclaim")}
        # It does not try hard: by __GFP_NORETRY, since 46459154f997 ("mm: kvmalloc: make kmalloc fast path real fast
        # path"; in v6.15) by not waiting at all.
        quiet = asked | bit["nowarn"]
        return frozenset({quiet | bit["noretry"], quiet & ~bit["direct_reclaim"]})
    return frozenset({asked})
