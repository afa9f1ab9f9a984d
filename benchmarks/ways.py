"""kmwatch's own ways of watching in this process, and empty programs: loaded once, attached and detached in turn."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import ROOT
from kmwatch.schema import Kind, Stacks, Way
from kmwatch.sources.bpf import Programs
from kmwatch.sources.held import Hold
from kmwatch.sources.maps import LiveSource

Making = Callable[[], AbstractContextManager[Any]]

BITS = 4  # one object of 2^4 is followed, as `kmwatch top` and `serve` do
_NOBODY = 62  # bits of a sample that nothing is in
TWO = frozenset({Kind.KMALLOC, Kind.KFREE})
SLAB = TWO | {Kind.CACHE_ALLOC, Kind.CACHE_FREE}


@contextmanager
def loaded() -> Iterator[tuple[dict[str, Making], LiveSource]]:
    """Ways by name, and the source behind `ledger`, to count with.

    As an object at one address is in the sample of what is held or is not, both are ways; held() makes one of them.
    """
    with (
        LiveSource(frozenset(Kind)) as source,
        LiveSource(frozenset(Kind), stacks=Stacks.SAMPLED) as stacked,
        LiveSource(frozenset(Kind), hold=Hold(_NOBODY)) as outside,
        LiveSource(frozenset(Kind), hold=Hold(0)) as inside,
    ):
        watching, sampling, out, within = map(_detached, (source, stacked, outside, inside))
        raw = tuple(replace(each, way=Way.RAW) for each in watching.attachments if not each.again)
        empty = Programs(str(ROOT / "benchmarks" / "empty.c"), raw, {})
        programs = {"empty": empty, "ledger": watching, "stacks": sampling, "out": out, "in": within}
        try:
            ways: dict[str, Making] = {"nothing": nullcontext}
            ways |= {name: _way(each) for name, each in programs.items()}
            yield ways, source
        finally:
            empty.close()


def held(found: Mapping[str, list[float]]) -> list[float]:
    """What a sample of one object of 2^BITS costs, by what one outside and one inside of it does."""
    share = 1 / (1 << BITS)
    return [share * within + (1 - share) * out for out, within in zip(found["out"], found["in"], strict=True)]


def counts(source: LiveSource, run: Callable[[], int]) -> dict[Kind, float]:
    """Events of one operation by kind: the fewest of several runs, as neighbours only ever add.

    Args:
        source: detached; as loaded() gives it.
        run: does operations and gives how many.
    """
    least: dict[Kind, float] = {}
    for _ in range(5):
        with counting(source) as counted:
            operations = run()
        for kind in Kind:
            each = counted.events.get(kind, 0) / operations
            least[kind] = min(least.get(kind, each), each)
    # What a neighbour did once in hundreds of operations is not theirs.
    return {kind: each for kind, each in least.items() if each >= 0.01}


@dataclass
class Counted:
    """What a source has counted: events by kind, and how many were lost."""

    events: dict[Kind, int] = field(default_factory=dict)
    lost: int = 0


@contextmanager
def counting(source: LiveSource) -> Iterator[Counted]:
    """The source's programs attached; what they counted is there at the end."""
    source.read()
    counted = Counted()
    with attached(_programs(source)):
        yield counted
    batch = source.read()
    sums = np.bincount(batch.rows["kind"], batch.rows["count"], minlength=len(Kind) + 1)
    counted.events = {kind: int(sums[kind]) for kind in Kind}
    counted.lost = batch.trust.lost


@contextmanager
def attached(programs: Programs) -> Iterator[None]:
    """Programs attached for a while; they stay loaded."""
    programs.attach()
    try:
        yield
    finally:
        programs.detach()


def _way(programs: Programs) -> Making:
    return lambda: attached(programs)


def _programs(source: LiveSource) -> Programs:
    return source._kernel.programs  # noqa: SLF001


def _detached(source: LiveSource) -> Programs:
    """The programs of a source, to be attached and detached in turn without compiling each time."""
    # The first reading after an event ends the source's own measurement, which makes every program slower.
    while source._kernel.meter.is_measuring:  # noqa: SLF001
        Path("/proc/self/stat").read_text(encoding="utf-8")
        source.read()
    _programs(source).detach()
    return _programs(source)
