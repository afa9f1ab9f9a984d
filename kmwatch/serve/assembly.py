"""A snapshot for scrapes, out of all that the service knows."""

from collections.abc import Mapping

from kmwatch import __version__
from kmwatch.batch import Meta
from kmwatch.failures import ZoneState
from kmwatch.serve.counters import Counters
from kmwatch.serve.exemplars import with_exemplars
from kmwatch.serve.holding import Holding
from kmwatch.serve.snapshot import Family, Own, Snapshot
from kmwatch.serve.window import Window
from kmwatch.watermarks import atomic_headroom


def assemble(at: float, meta: Meta, counters: Counters, holding: Holding, window: Window, own: Own) -> Snapshot:
    """Everything as of `at`, in seconds since the epoch.

    Where allocations are left out, so are the objects that they made: what is held is not shown then.
    """
    families = {
        **with_exemplars(counters.families(), meta),
        **(holding.families() if own.sample == 1 else {}),
        "findings": window.family(),
        **memory(meta),
        **_own(own, counters.start),
        "map_entries": _by_name(own.map_entries),
        "map_max_entries": _by_name(own.map_max_entries),
        "read_timestamp_seconds": _one(at),
        "start_time_seconds": _one(counters.start),
        "build_info": Family(((__version__, meta.host.kernel),), (1,)),
    }
    return Snapshot(at, families, own.scrapes)


def memory(meta: Meta) -> dict[str, Family]:
    """What was free when the zones were last looked at."""
    zones = tuple(meta.memory)
    headroom = atomic_headroom(zones, meta.gfp, meta.host.kernel)
    return {
        "free_blocks": _free_blocks(zones),
        "atomic_headroom_blocks": Family(tuple((str(order),) for order in range(len(headroom))), headroom),
    }


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


def _free_blocks(zones: tuple[ZoneState, ...]) -> Family:
    series = {
        (str(zone.node), zone.name, str(order)): count for zone in zones for order, count in enumerate(zone.blocks)
    }
    return Family(tuple(series), tuple(series.values()))
