"""What to load on this kernel: which probes, how each is attached, and the constants that the C sources need."""

import os
from dataclasses import dataclass
from pathlib import Path

from kmwatch.errors import NotPossibleError
from kmwatch.kernel.btf import Btf
from kmwatch.kernel.gfp import GfpTable
from kmwatch.kernel.symbols import Symbols
from kmwatch.kernel.tracefs import Tracefs
from kmwatch.schema import Kind, Way
from kmwatch.sources.bpf import Attachment, possible_cpus
from kmwatch.sources.probes import PROBES, Probe, wanted

CACHE_ROWS = 4096  # a busy host has 300 caches
_LEDGER_BYTES = 64 << 20  # of a per-CPU map: its values exist once for every possible CPU
_LEDGER_ROWS = (4096, 16384)


@dataclass(frozen=True)
class Plan:
    """Everything that compiling takes.

    copies: second programs for events that the first miss (bpf/again.h), which not every C file has.
    calibrators: probes that are needed at the start only.
    status: every probe wanted, with "raw tracepoint", "tracepoint", or the reason why it is not attached.
    context: how the context is seen, "" where it is not.
    per_cpu_offset: address of the kernel's __per_cpu_offset table, 0 where it is not needed.
    doubts: one line for each thing that this kernel keeps from being seen, with what would help.
    """

    attachments: tuple[Attachment, ...]
    copies: tuple[Attachment, ...]
    calibrators: tuple[Attachment, ...]
    status: dict[str, str]
    defines: dict[str, int]
    context: str
    per_cpu_offset: int
    doubts: tuple[str, ...]


def make_plan(
    kinds: frozenset[Kind], tracefs: Tracefs, gfp: GfpTable, symbols: Symbols, *, pointers: bool = False
) -> Plan:
    """Look at the running kernel and decide; with `pointers`, for probes that tell which object an event is about."""
    doubts: list[str] = []
    try:
        btf = Btf()
    except NotPossibleError as error:
        btf, without_btf = None, str(error)
    try:
        found = {probe: _how(probe, tracefs, btf, pointers=pointers) for probe in wanted(kinds)}
        found = {probe: how for probe, how in found.items() if how in _WAYS or not probe.old}
        calibrators = _calibrators(tracefs, btf)
        copied = [probe for probe in found if probe.busy and _how(probe, tracefs, btf) == "raw tracepoint"]
        context, per_cpu_offset, seen = _context(btf, symbols)
        defines = seen | _caches(btf) | _sizes(gfp) | _own_namespace() | _drift(tracefs)
    finally:
        if btf:
            btf.close()
    if btf is None:
        doubts.append(f"{'cache names are' if context else 'cache names and the context are'} unknown: {without_btf}")
    elif not context:
        doubts.append("the context is unknown: neither BTF nor kallsyms shows preempt_count; see `kmwatch doctor`")
    elif "TASK_RCU_NESTING" not in defines:
        # Without CONFIG_PREEMPT_RCU the task has no such member, and without CONFIG_PREEMPT_COUNT locks leave no trace.
        context += _INTERRUPTS_ONLY
        doubts.append("this kernel, not preemptible, counts neither spinlocks nor RCU sections: only interrupts show")
    attachments = tuple(Attachment(probe, _WAYS[how]) for probe, how in found.items() if how in _WAYS)
    if not attachments:
        raise NotPossibleError("this kernel has none of the tracepoints wanted; `kmwatch doctor` tells why")
    status = {f"{probe.category}:{probe.event}": how for probe, how in found.items()}
    extra = tuple(each for each in calibrators if each not in attachments)
    # Without preempt_count a copy cannot tell what its first has seen.
    copies = tuple(Attachment(probe, Way.RAW, again=True) for probe in copied) if "PREEMPT_COUNT" in defines else ()
    return Plan(attachments, copies, extra, status, defines, context, per_cpu_offset, tuple(doubts))


_INTERRUPTS_ONLY = ", interrupts only"
_WAYS = {"raw tracepoint": Way.RAW, "tracepoint": Way.TRACEPOINT}


def _calibrators(tracefs: Tracefs, btf: Btf | None) -> tuple[Attachment, ...]:
    """Probes by which each way of attaching can be calibrated: system calls of ours make their events at will."""
    hows = {probe: _how(probe, tracefs, btf) for probe in PROBES if probe.event in ("kmalloc", "mm_page_alloc")}
    return tuple(Attachment(probe, _WAYS[how]) for probe, how in hows.items() if how in _WAYS)


def _how(probe: Probe, tracefs: Tracefs, btf: Btf | None, *, pointers: bool = False) -> str:
    if not tracefs.has_event(probe.category, probe.event):
        return probe.note or "this kernel does not have it"
    raw_does = probe.raw_pointer or not pointers
    if probe.raw and raw_does and btf and _guarded(btf) and btf.prototype(probe.event) == probe.raw:
        return "raw tracepoint"
    return "tracepoint"


def _guarded(btf: Btf) -> bool:
    """Whether the kernel keeps a raw tracepoint program from running inside itself; the ledger's plain sums need that.

    It does since "bpf: Prevent bpf program recursion for raw tracepoint probes" (in v6.1), the release that gave
    kmalloc its prototype of today. Ordinary tracepoint programs never nest on one CPU.
    """
    return any(btf.prototype(probe.event) == probe.raw for probe in PROBES if probe.event == "kmalloc")


def _context(btf: Btf | None, symbols: Symbols) -> tuple[str, int, dict[str, int]]:
    """How to find preempt_count: by kallsyms' data symbols where the kernel has them, else by BTF."""
    task = _task(btf)
    table, count = symbols.data("__per_cpu_offset"), symbols.data("__preempt_count")
    if table and count:
        return "kallsyms", table, task | {"PREEMPT_COUNT": count}
    if btf is None:
        return "", 0, {}
    count = btf.percpu_offset("__preempt_count")
    if count is None:
        # Linux commit 64701838bf05 ("x86/percpu: Move pcpu_hot to percpu hot section", in v6.15) and before: a struct.
        count = btf.percpu_offset("pcpu_hot.preempt_count")
    found = {
        "PREEMPT_COUNT": count,
        "RUNQUEUES": btf.percpu_offset("runqueues"),
        "TASK_CFS_RQ": btf.member_offset("task_struct", "se.cfs_rq"),
        "CFS_RQ_RQ": btf.member_offset("cfs_rq", "rq"),
        "RQ_CPU": btf.member_offset("rq", "cpu"),
    }
    known = {name: value for name, value in found.items() if value is not None}
    return ("BTF", 0, known | task) if len(known) == len(found) else ("", 0, {})


def _task(btf: Btf | None) -> dict[str, int]:
    """Where the running task keeps its RCU nesting (a preemptible kernel does), its process's id and its name."""
    if btf is None:
        return {}
    nesting = btf.member_offset("task_struct", "rcu_read_lock_nesting")
    tgid = btf.member_offset("task_struct", "tgid") if btf.function("bpf_get_current_task_btf") else None
    comm = btf.member_offset("task_struct", "comm") if tgid else None
    found = {"TASK_RCU_NESTING": nesting, "TASK_TGID": tgid, "TASK_COMM": comm}
    return {name: offset for name, offset in found.items() if offset is not None}


def _caches(btf: Btf | None) -> dict[str, int]:
    members = {"CACHE_NAME": "name", "CACHE_OBJECT_SIZE": "object_size", "CACHE_SIZE": "size"}
    found = {define: btf.member_offset("kmem_cache", name) for define, name in members.items()} if btf else {}
    known = {define: offset for define, offset in found.items() if offset is not None}
    return known if len(known) == len(members) else {}


def _sizes(gfp: GfpTable) -> dict[str, int]:
    cpus = possible_cpus()
    row = 64  # bytes of struct ledger_value, on every possible CPU
    low, high = _LEDGER_ROWS
    return {
        "CPUS": cpus,
        "LEDGER_ROWS": max(low, min(high, _LEDGER_BYTES // (row * cpus))),
        "CACHE_ROWS": CACHE_ROWS,
        "GFP_DIRECT_RECLAIM": gfp.bit("__GFP_DIRECT_RECLAIM"),
        "GFP_NOWARN": gfp.bit("__GFP_NOWARN"),
    }


def _own_namespace() -> dict[str, int]:
    """How the programs recognise kmwatch: its pid in its own namespace, which may be a container's."""
    namespace = Path("/proc/self/ns/pid").stat()
    return {"SELF_TGID": os.getpid(), "SELF_NS_DEV": namespace.st_dev, "SELF_NS_INO": namespace.st_ino}


def _drift(tracefs: Tracefs) -> dict[str, int]:
    text = tracefs.format_text("percpu", "percpu_alloc_percpu") or ""
    return {"PERCPU_HAS_CALL_SITE": 1} if "call_site" in text else {}
