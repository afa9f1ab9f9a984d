"""The limits of rules and surveys: one table, each with its unit and its reason; kmwatch.toml changes them.

Limits of the kernel itself (size classes, the costly order, the largest kmalloc) are no thresholds: they come from the
kernel that was watched.
"""

import math
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from kmwatch import settings
from kmwatch.errors import BadInputError

_TABLE = "thresholds"


def _limit(default: float, unit: str, reason: str) -> Any:
    return field(default=default, metadata={"unit": unit, "reason": reason})


@dataclass(frozen=True)
class Thresholds:
    """Every threshold. `path` is the file that they come from, "" where none changed them."""

    waste_share: float = _limit(
        0.10, "of what was allocated", "below it rounding is the price of having few size classes"
    )
    waste_rate: float = _limit(2048.0, "bytes/s", "many sites of an idle machine waste less: it is noise")
    waste_bytes: float = _limit(4096.0, "bytes", "less than a page in all: the span was too short to tell")
    near_share: float = _limit(
        1 / 16, "of the smaller class", "what a reordered or dropped member of a struct can save"
    )
    cache_objects: float = _limit(
        100.0, "objects", "a cache of its own costs a slab for each CPU and node: it needs many objects to pay"
    )
    slab_share: float = _limit(
        0.25, "of a slab", "SLUB's calculate_order() goes from a sixteenth to a quarter before it takes a larger slab"
    )
    slab_rate: float = _limit(65536.0, "bytes/s", "a cache with little traffic has few objects to win on")
    atomic_pages_count: float = _limit(
        10.0, "allocations", "a few while a device starts succeed; steady ones meet a fragmented hour some day"
    )
    atomic_idle_rate: float = _limit(
        10.0, "allocations/s", "below it reserves are not strained; many kernel paths do it now and then"
    )
    atomic_idle_count: float = _limit(100.0, "allocations", "one path with interrupts off is easily seen some times")
    reserve_rate: float = _limit(
        4 << 20, "bytes/s", "the usual reserve (min_free_kbytes) of a machine of 1 GiB lasts for about a second of it"
    )
    storm_rate: float = _limit(
        10.0, "failures/s", "a caller that gives up, or waits as it should, fails less often than that"
    )
    storm_count: float = _limit(50.0, "failures", "fewer are a burst, and not a loop")
    storm_share: float = _limit(0.5, "of the attempts", "where most succeed it is a shortage, and no loop that spins")
    vmalloc_rate: float = _limit(
        1000.0, "areas/s", "thread stacks make some hundred a second when a build forks; above that it is a hot path"
    )
    fallback_count: float = _limit(20.0, "first tries", "a few failures are fragmentation of the moment")
    fallback_share: float = _limit(0.5, "of the first tries", "as long as most succeed the first try is worth its cost")
    scope_rate: float = _limit(
        1000.0, "allocations/s", "at rest a file system does it by the hundred; more is a hot path"
    )
    lower_zone_pages: float = _limit(4096.0, "pages", "16 MiB: less is what balancing the zones does at any time")
    lower_zone_share: float = _limit(
        0.5, "of the pages", "the zones are used in turn under load: from half on the upper zone is short"
    )
    dma_zone_pages: float = _limit(
        16.0, "pages", "lowmem_reserve keeps nearly all of the 16 MiB for those who can use nothing else"
    )
    steal_rate: float = _limit(
        50.0, "page blocks/s", "some happen whenever the mix of a load changes; a steady stream fragments for good"
    )
    steal_count: float = _limit(500.0, "page blocks", "a burst when a load begins is no trend")
    headroom_blocks: float = _limit(
        32.0, "blocks", "a receive ring takes as many at once: the next burst may be the one that fails"
    )
    context_events: float = _limit(
        10_000.0, "allocations", "of so many some are under a spinlock on any kernel that counts them"
    )
    growth_looks: float = _limit(8.0, "looks", "fewer points lie on a line by chance")
    growth_rate: float = _limit(
        1024.0, "bytes/s", "84 MiB a day: what grows slower is not told from chance in the minutes that one watches"
    )
    growth_rising: float = _limit(
        0.8, "of the looks", "what leaks never gives back; what is cached falls and rises with the load"
    )
    growth_late: float = _limit(
        0.5, "of the whole slope", "all begins at nothing: what only fills up rises first, and levels off later"
    )
    permanent_bytes: float = _limit(65536.0, "bytes", "16 pages: less is not worth a change, held for ever or not")
    permanent_share: float = _limit(
        0.25, "of what is held", "sizes of all kinds lose a quarter to powers of two: from there on it is this object's"
    )
    short_life: float = _limit(
        0.00105, "s", "a millisecond: shorter than a time slice; times are known by powers of two, and one ends there"
    )
    short_objects: float = _limit(
        100.0, "objects looked at", "as many tell a median, and a share by a tenth; fewer are chance"
    )
    short_area_rate: float = _limit(
        100.0, "areas/s", "an area costs microseconds and its share of a flush on all CPUs: below it nobody notices"
    )
    short_large_rate: float = _limit(
        1000.0, "allocations/s", "from a page on memory is taken and cleared anew each time, mostly behind a lock"
    )
    short_small_rate: float = _limit(
        50_000.0, "allocations/s", "kmalloc and kfree of a small one take 50 ns: it is a quarter of a percent of a CPU"
    )
    remote_rate: float = _limit(
        10_000.0, "releases/s", "a release to another CPU's slab takes 100 ns more: it is a thousandth of a CPU"
    )
    remote_share: float = _limit(0.5, "of the releases", "tasks move now and then: some releases are always elsewhere")
    outlier_hosts: float = _limit(8.0, "hosts", "of fewer that have a function no median tells what is usual")
    outlier_spreads: float = _limit(
        6.0, "spreads above the median", "of a bell curve one in a thousand million is as far: a fleet has millions"
    )
    outlier_times: float = _limit(
        4.0, "times the median", "hosts differ in their load by less, without being different"
    )
    outlier_count: float = _limit(10.0, "allocations, or failures", "fewer in a capture are chance")
    outlier_bytes_rate: float = _limit(65536.0, "bytes/s", "16 pages a second: below it nobody needs to look")
    outlier_count_rate: float = _limit(100.0, "allocations/s", "below it they cost nothing that anybody sees")
    outlier_failures_rate: float = _limit(0.01, "failures/s", "36 an hour: a steady trickle, and no bad moment")
    rare_share: float = _limit(0.1, "of the hosts", "what more of them have is how the fleet is, and no host's own")
    release_hosts: float = _limit(5.0, "hosts of each release", "with fewer the roles of hosts are what differs")
    release_count: float = _limit(20.0, "allocations of a host", "a ratio of fewer is chance")
    release_change: float = _limit(0.2, "of the older median", "less may as well be another load")
    release_spreads: float = _limit(2.0, "spreads between the medians", "else most hosts are as they were")
    release_errors: float = _limit(
        6.0, "standard errors of the difference", "the medians of few hosts move by themselves, some by much"
    )
    path: str = ""


@dataclass(frozen=True)
class Threshold:
    """One line of the table."""

    name: str
    default: float
    unit: str
    reason: str


DEFAULTS = Thresholds()


def table() -> list[Threshold]:
    """Every threshold with its default, unit and reason."""
    return [
        Threshold(each.name, float(getattr(DEFAULTS, each.name)), each.metadata["unit"], each.metadata["reason"])
        for each in fields(Thresholds)
        if each.metadata
    ]


def load(path: Path | None = None) -> Thresholds:
    """The thresholds of a file, or of kmwatch.toml in the working directory; the defaults where there is none.

    Raises BadInputError for a file that cannot be read, that is not TOML, or that has a key which is none of these.
    """
    chosen = settings.find(path)
    return parse(settings.read(chosen), str(chosen)) if chosen else DEFAULTS


def parse(data: dict[str, Any], where: str) -> Thresholds:
    """The thresholds that a file says, `where` it was read from; BadInputError for what is none."""
    given = settings.table(data, _TABLE, [each.name for each in table()], where)
    return Thresholds(**{name: _number(name, value, where) for name, value in given.items()}, path=where)


def _number(name: str, value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise BadInputError(f"{where}: {name} must be a number from 0 up, not {value!r:.60}")
    return float(value)
