"""Synthetic fleets: captures by the real writer, of hosts that differ as hosts do, with faults planted in some.

The same seed makes the same fleet. What is common to all stands in kmwatch.fleet.calls and kmwatch.fleet.invented.
"""

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from kmwatch.batch import Host, Meta, Task
from kmwatch.capture.writer import Writer
from kmwatch.errors import KmwatchError, UsageError
from kmwatch.fleet.calls import CALLS, FAILS, FREES, GREW, GREW_BY, SLEEPS, TOO_LARGE, VERSIONED, WASTES, Call
from kmwatch.fleet.events import Events, Maker
from kmwatch.fleet.invented import KERNELS, NEWEST, ROLES, TASKS, VERSIONS, Kernel
from kmwatch.fleet.layout import into
from kmwatch.kernel.slab import AllocatorLimits
from kmwatch.schema import Context
from kmwatch.units import printable

PLANTED = "planted.json"
FORMAT = "kmwatch.planted/1"
LEAST_HOSTS = 8
"""Fewer cannot have all that is planted, each in a host of its own."""

SECONDS = 2
"""The span of each capture."""

_START = 1_790_000_000.0  # seconds since the epoch: a fleet is the same whenever it is made
_NAME = "noon"
_ACTIVE, _VARIES = 0.2, 0.12  # spread of the rates of hosts, and of their sites: standard deviations of the logarithm
_WASTES_MORE = 20.0
_FAILURES = 0.5  # of the tries, where that is planted
_VERSION_FAILURES = 0.08
_USUAL_FAILURES = 0.004


@dataclass(frozen=True)
class Invented:
    """One host: what it is, and which fault is planted in it, "" where none."""

    number: int
    name: str
    role: str
    kernel: Kernel
    versions: dict[str, str]
    fault: str = ""


@dataclass
class Fleet:
    """All hosts, and what is planted in them as plain data."""

    hosts: list[Invented]
    planted: list[dict[str, Any]] = field(default_factory=list)


def design(hosts: int, seed: int) -> Fleet:
    """So many hosts, with roles, kernels and versions by their shares, and the faults."""
    random = np.random.default_rng(seed)
    roles = _shared(random, ROLES, hosts)
    kernels = _shared(random, {each.release: each.share for each in KERNELS}, hosts)
    released = {each.release: each for each in KERNELS}
    width = max(3, len(str(hosts)))
    names = [f"{role}-{number:0{width}}" for number, role in enumerate(roles, 1)]
    versions = _versions(random, roles)
    chosen = random.choice(hosts, len(_FAULTS), replace=False).tolist()
    faults = dict(zip(chosen, _FAULTS, strict=True))
    fleet = Fleet(
        [
            Invented(at, names[at], roles[at], released[kernels[at]], versions[at], faults.get(at, ""))
            for at in range(hosts)
        ]
    )
    fleet.planted += [{"fault": fault, "host": names[at], **_told(*_FAULTS[fault])} for at, fault in faults.items()]
    fleet.planted.append({"fault": "kernel", "kernel": NEWEST, **_told(GREW, _KERNEL_SAYS)})
    new = VERSIONS[VERSIONED.module][1]
    fleet.planted.append({"fault": "version", "version": new, **_told(VERSIONED, _VERSION_SAYS.format(new))})
    return fleet


def _versions(random: np.random.Generator, roles: list[str]) -> list[dict[str, str]]:
    """The versions of each host's modules: the new one on every fourth of the hosts that have it, in no order."""
    versions: list[dict[str, str]] = [{} for _ in roles]
    for module, (usual, new) in VERSIONS.items():
        on = {role for call in CALLS if call.module == module for role in call.roles or ROLES}
        places = random.permutation([at for at, role in enumerate(roles) if role in on]).tolist()
        for order, at in enumerate(places):
            versions[at][module] = usual if order % 4 else new
    return versions


_FAULTS = {
    "waste": (WASTES, f"wastes {_WASTES_MORE:.0f} times as much as on other hosts"),
    "failures": (FAILS, f"fails in atomic context, {_FAILURES:.0%} of the tries"),
    "sleeps": (SLEEPS, "may sleep in a soft interrupt"),
}


_KERNEL_SAYS = f"wastes {GREW_BY:.0%} more since Linux {NEWEST}"
_VERSION_SAYS = f"version {{}} fails {_VERSION_FAILURES / _USUAL_FAILURES:.0f} times as often"


def _told(call: Call, says: str) -> dict[str, str]:
    return {"function": call.function, "module": call.module, "says": says}


def _shared(random: np.random.Generator, shares: dict[str, float], count: int) -> list[str]:
    """So many of the names, as near to their shares as can be, in no order."""
    ends = np.round(np.cumsum([*shares.values()]) * count).astype(int)
    names = np.repeat([*shares], np.diff(ends, prepend=0))
    return [str(each) for each in random.permutation(names)]


def make(root: Path, hosts: int, seed: int, events: int, done: Callable[[int], object]) -> dict[str, Any]:
    """Write the captures of a fleet and what is planted in it, which is returned as well.

    Args:
        root: made here; nothing may be in it.
        hosts: how many, at least LEAST_HOSTS.
        seed: the same makes the same fleet.
        events: of a host, more or less.
        done: told how many captures are written.

    Raises UsageError where the root cannot be had, KmwatchError where the disk is full.
    """
    _prepare(root)
    fleet = design(hosts, seed)
    written = 0
    # Most of the time is the disk's: more hosts than processors are on their way.
    with ThreadPoolExecutor(2 * (os.cpu_count() or 1)) as pool:
        waiting = [pool.submit(_write, root, host, seed, events) for host in fleet.hosts]
        try:
            for at, each in enumerate(as_completed(waiting), 1):
                written += each.result()
                done(at)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    told = {"format": FORMAT, "seed": seed, "hosts": hosts, "events": written, "planted": fleet.planted}
    try:
        (root / PLANTED).write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise KmwatchError(f"cannot write {printable(str(root / PLANTED)):.200}: {error.strerror}") from error
    return told


def _prepare(root: Path) -> None:
    try:
        root.mkdir(parents=True, exist_ok=True)
        inside = next(root.iterdir(), None)
    except OSError as error:
        raise UsageError(f"cannot write to {printable(str(root)):.200}: {error.strerror}") from error
    if inside:
        raise UsageError(f"{printable(str(root)):.200} is not empty: choose another directory")


def _write(root: Path, host: Invented, seed: int, events: int) -> int:
    """Write the capture of a host and tell how many events it has."""
    random = np.random.default_rng([seed, host.number])
    meta = _meta(host, random)
    made = _events(Maker(meta, host.kernel.offset, random, SECONDS), host, random, events)
    extra = {"kinds": sorted(kind.name.lower() for both in FREES.items() for kind in both), "stacks": "none"}
    with Writer(Path(into(str(root), meta, _NAME)), made, extra) as writer:
        for segment in made.segments():
            writer.write(segment)
        writer.finish("as many as were asked for", {})
    if writer.error:
        raise writer.error
    return writer.events


def _meta(host: Invented, random: np.random.Generator) -> Meta:
    kernel = host.kernel
    boot = f"{random.integers(1 << 32):08x}-0000-4000-8000-{host.number:012x}"
    meta = Meta(
        host=Host(host.name, kernel.release, boot, int(random.choice([2, 4, 8, 16]))),
        gfp=kernel.gfp,
        limits=AllocatorLimits(source="invented: the usual values of x86-64"),
        zones=kernel.zones,
        probes=dict.fromkeys(("kmem:kmalloc", "kmem:kmem_cache_alloc", "kmem:mm_page_alloc"), "raw tracepoint"),
        context="BTF",
        start=_START,
        modules=host.versions,
    )
    who = [Task(*each) for each in (*TASKS[""], *TASKS[host.role])]
    meta.tasks.update(dict(enumerate(who, 1)))
    return meta


def _events(maker: Maker, host: Invented, random: np.random.Generator, events: int) -> Events:
    """What happens on a host: each of its sites as often as the host's and its own rate say, or as its fault does."""
    # Of all sites, so that one that all hosts have is as busy on each of them.
    scale = events / sum(call.share * (2 if call.freed else 1) for call in CALLS)
    active = scale * _lognormal(random, _ACTIVE)
    for call in CALLS:
        expected = active * call.share * _lognormal(random, _VARIES)
        if not call.roles or host.role in call.roles:
            changed, more, failing = _with_fault(call, host)
            maker.add(changed, int(random.poisson(expected * more)), failing)
    return maker.made()


def _lognormal(random: np.random.Generator, spread: float) -> float:
    """A factor whose median is 1; no host is ever further from it than twice its spread."""
    return float(np.exp(spread * np.clip(random.standard_normal(), -2, 2)))


def _with_fault(call: Call, host: Invented) -> tuple[Call, float, float]:
    """How a call is on a host: the call, how much more often it comes, and which share of it fails."""
    if call is WASTES and host.fault == "waste":
        return replace(call, sizes=TOO_LARGE), _WASTES_MORE * _waste(call.sizes) / _waste(TOO_LARGE), 0.0
    if call is FAILS and host.fault == "failures":
        return call, 1.0, _FAILURES
    if call is SLEEPS and host.fault == "sleeps":
        return replace(call, context=int(Context.SOFTIRQ)), 1.0, 0.0
    if call is GREW and host.kernel.release == NEWEST:
        less = round(_waste(call.sizes) * GREW_BY)
        return replace(call, sizes=(call.sizes[0] - less, call.sizes[1] - less)), 1.0, 0.0
    if call is VERSIONED:
        new = host.versions[call.module] == VERSIONS[call.module][1]
        return call, 1.0, _VERSION_FAILURES if new else _USUAL_FAILURES
    return call, 1.0, 0.0


def _waste(sizes: tuple[int, int]) -> float:
    """Bytes of a kmalloc that nobody asked for, on average."""
    return AllocatorLimits().class_for(sizes[1]) - sum(sizes) / 2
