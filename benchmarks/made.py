"""Rows of the ledger that are made up: of as many call sites as wanted, in the sizes that a busy machine has."""

import numpy as np

from kmwatch.batch import ROW, Batch, Host, Meta, sized
from kmwatch.kernel.gfp import built_in
from kmwatch.kernel.slab import limits_from
from kmwatch.kernel.symbols import Site
from kmwatch.ledger import Ledger
from kmwatch.schema import NO_ZONE, Kind
from kmwatch.timeline import Timeline

_SIZES = (32, 64, 192, 1024, 4096)
_MODULES = ("", "", "ext4", "nvme")


def meta(sites: int) -> Meta:
    """A machine with so many call sites."""
    found = Meta(Host("benchmark", "6.18.0", "", 2), built_in(), limits_from(None, None), ("Normal",), {}, "BTF")
    found.sites += [
        Site(f"function_{at}+{16 * at % 4096:#x}", f"function_{at}", _MODULES[at % 4]) for at in range(1, sites + 1)
    ]
    return found


def batch(known: Meta, sites: int, start: float = 1000.0) -> Batch:
    """A second in which each site allocates; the same seed makes the same rows."""
    random = np.random.default_rng(3)
    rows = np.zeros(sites, ROW)
    rows["kind"], rows["site"] = Kind.KMALLOC, np.arange(sites) + 1
    rows["zone"] = rows["node"] = rows["migratetype"] = NO_ZONE
    rows["gfp"] = random.choice((0xCC0, 0x820, 0x400CC0, 0xC40), sites)
    rows["bytes_alloc"] = random.choice(_SIZES, sites)
    asked = rows["bytes_alloc"] - random.integers(0, 8, sites)
    rows["min_request"] = rows["max_request"] = asked
    rows["count"] = 1 + random.pareto(1.0, sites).astype(np.int64) % 1000
    rows["bytes_requested"] = rows["count"] * asked
    rows["fill"][:, 6] = rows["count"]
    return Batch(sized(rows, known), start, 1.0)


def ledger(sites: int, seconds: int = 1) -> Ledger:
    """A ledger of some such seconds, with its timeline."""
    known = meta(sites)
    made = Ledger(known, timeline=Timeline(1.0))
    for at in range(seconds):
        made.add(batch(known, sites, 1000.0 + at))
    return made
