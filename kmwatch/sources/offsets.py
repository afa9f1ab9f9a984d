"""Numbers of the running kernel that the C sources are compiled with: offsets from BTF, and sizes."""

from kmwatch.kernel.btf import Btf
from kmwatch.kernel.gfp import GfpTable
from kmwatch.kernel.symbols import Symbols
from kmwatch.kernel.tracefs import Tracefs
from kmwatch.sources.bpf import CAST_CALL, possible_cpus

CACHE_ROWS = 4096  # a busy host has 300 caches
_LEDGER_BYTES = 64 << 20  # of a per-CPU map: its values exist once for every possible CPU
_LEDGER_ROWS = (4096, 16384)


def context(btf: Btf | None, symbols: Symbols) -> tuple[str, int, dict[str, int]]:
    """How to find preempt_count: by kallsyms' data symbols where the kernel has them, else by BTF."""
    task = _task(btf, symbols)
    table, count = symbols.data("__per_cpu_offset"), symbols.data("__preempt_count")
    if table and count:
        return "kallsyms", table, task | {"PREEMPT_COUNT": count} | _inline(btf, symbols.data("current_task"))
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
    current = btf.percpu_offset("current_task")
    if current is None:
        current = btf.percpu_offset("pcpu_hot.current_task")
    return ("BTF", 0, known | task | _inline(btf, current)) if len(known) == len(found) else ("", 0, {})


def _inline(btf: Btf | None, current: int | None) -> dict[str, int]:
    """How to read the kernel's memory without a helper call (bpf/memory.h); {} before Linux 6.2.

    `current` is where a CPU keeps its running task, from the same base as preempt_count.
    """
    if btf is None:
        return {}
    # Any type of two plain numbers does.
    found = {
        "CAST_CALL": CAST_CALL,
        "CAST_FUNCTION": btf.function("bpf_rdonly_cast"),
        "CAST_TYPE": btf.structure("timespec64"),
        "CURRENT_TASK": current or 0,
    }
    return found if all(found.values()) else {}


def _task(btf: Btf | None, symbols: Symbols) -> dict[str, int]:
    """Where the running task keeps its RCU nesting (a preemptible kernel does), its ids and its name."""
    if btf is None:
        return {}
    nesting = btf.member_offset("task_struct", "rcu_read_lock_nesting")
    tgid = btf.member_offset("task_struct", "tgid") if btf.function("bpf_get_current_task_btf") else None
    comm = btf.member_offset("task_struct", "comm") if tgid else None
    pid = btf.member_offset("task_struct", "pid") if tgid else None
    preempt_rt = symbols.length("rt_spin_lock") > 0
    migration = btf.member_offset("task_struct", "migration_disabled") if preempt_rt and nesting is not None else None
    found = {
        "TASK_RCU_NESTING": nesting,
        "TASK_TGID": tgid,
        "TASK_COMM": comm,
        "TASK_PID": pid,
        "TASK_MIGRATION_DISABLED": migration,
    }
    return {name: offset for name, offset in found.items() if offset is not None}


def caches(btf: Btf | None) -> dict[str, int]:
    """Where a kmem_cache keeps its name and sizes."""
    members = {"CACHE_NAME": "name", "CACHE_OBJECT_SIZE": "object_size", "CACHE_SIZE": "size"}
    found = {define: btf.member_offset("kmem_cache", name) for define, name in members.items()} if btf else {}
    known = {define: offset for define, offset in found.items() if offset is not None}
    return known if len(known) == len(members) else {}


def objects(btf: Btf | None, symbols: Symbols) -> dict[str, int]:
    """How to find the cache of an object by its page (bpf/caches.h); {} where this kernel does not show it."""
    if not btf:
        return {}
    slab = btf.member_offset("slab", "slab_cache")
    found = {
        "SLAB_CACHE": btf.member_offset("page", "slab_cache") if slab is None else slab,
        "PAGE_HEAD": btf.member_offset("page", "compound_head"),
        "PAGE_STRUCT": btf.size("page"),
        "PAGE_OFFSET_BASE": symbols.data("page_offset_base"),
        "VMEMMAP_BASE": symbols.data("vmemmap_base"),
    }
    known = {name: value for name, value in found.items() if value is not None}
    return known if len(known) == len(found) else {}


def sizes(gfp: GfpTable) -> dict[str, int]:
    """Rows of the maps for this machine's CPUs, and the GFP bits that the programs look at."""
    cpus = possible_cpus()
    row = 64  # bytes of struct ledger_value, on every possible CPU
    low, high = _LEDGER_ROWS
    return {
        "CPUS": cpus,
        "LEDGER_ROWS": max(low, min(high, _LEDGER_BYTES // (row * cpus))),
        "CACHE_ROWS": CACHE_ROWS,
        "GFP_DIRECT_RECLAIM": gfp.bit("__GFP_DIRECT_RECLAIM"),
        "GFP_NOWARN": gfp.bit("__GFP_NOWARN"),
        "GFP_ACCOUNT": gfp.bit("__GFP_ACCOUNT"),
    }


def drift(tracefs: Tracefs) -> dict[str, int]:
    """Which fields the events of this kernel have."""
    text = tracefs.format_text("percpu", "percpu_alloc_percpu") or ""
    return {"PERCPU_HAS_CALL_SITE": 1} if "call_site" in text else {}
