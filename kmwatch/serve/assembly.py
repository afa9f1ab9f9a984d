"""A snapshot for scrapes, out of all that the service knows."""

from collections.abc import Mapping
from dataclasses import dataclass

from kmwatch import __version__
from kmwatch.kernel.zones import FreeBlocks
from kmwatch.serve.counters import Counters
from kmwatch.serve.snapshot import Family, Own, Snapshot
from kmwatch.serve.window import Window


@dataclass(frozen=True)
class Memory:
    """What is free now: blocks by zone, and kmwatch.headroom's numbers by order; empty where it is not known."""

    blocks: tuple[FreeBlocks, ...] = ()
    headroom: tuple[int, ...] = ()


def assemble(at: float, counters: Counters, window: Window, memory: Memory, own: Own, kernel: str) -> Snapshot:
    """Everything as of `at`, in seconds since the epoch; `kernel` is its release."""
    families = {
        **counters.families(),
        "findings": window.family(),
        "free_blocks": _free_blocks(memory.blocks),
        "atomic_headroom_blocks": Family(
            tuple((str(order),) for order in range(len(memory.headroom))), memory.headroom
        ),
        **_own(own, counters.start),
        "map_entries": _by_name(own.map_entries),
        "map_max_entries": _by_name(own.map_max_entries),
        "read_timestamp_seconds": _one(at),
        "start_time_seconds": _one(counters.start),
        "build_info": Family(((__version__, kernel),), (1,)),
    }
    return Snapshot(at, families, own.scrapes)


def _own(own: Own, start: float) -> dict[str, Family]:
    grown = {
        "bpf_run_seconds_total": own.bpf_run_seconds,
        "bpf_runs_total": own.bpf_runs,
        "own_cpu_seconds_total": own.cpu_seconds,
    }
    now = {
        "programs_attached": own.programs_attached,
        "overhead_ratio": own.overhead,
        "overhead_limit_ratio": own.overhead_limit,
        "overhead_step": own.overhead_step,
        "sample_ratio": own.sample,
        "own_memory_bytes": own.memory_bytes,
    }
    counters = {name: Family(((),), (value,), (start,)) for name, value in grown.items()}
    return counters | {name: _one(value) for name, value in now.items()}


def _one(value: float) -> Family:
    return Family(((),), (value,))


def _by_name(values: Mapping[str, int]) -> Family:
    return Family(tuple((name,) for name in values), tuple(values.values()))


def _free_blocks(blocks: tuple[FreeBlocks, ...]) -> Family:
    series = {
        (str(each.node), each.zone, str(order)): count for each in blocks for order, count in enumerate(each.counts)
    }
    return Family(tuple(series), tuple(series.values()))
