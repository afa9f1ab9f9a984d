"""Fleets for tests: hosts that do the same at rates of their own, and what is planted among them."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from kmwatch.batch import Batch, Host, Meta, Rows
from kmwatch.fleet.survey import Survey, Surveyed
from kmwatch.ledger import Ledger
from kmwatch.rules import judge
from kmwatch.schema import FILL_BUCKETS
from kmwatch.thresholds import DEFAULTS
from tests.unit import rows

SECONDS, SIGMA = 60.0, 0.4
RATE = 200  # allocations a second of a function, in the middle
SIZES = (33, 64, 100, 200, 500, 700, 1024, 1500, 3000, 9000)

Plant = Callable[[int, Rows, Meta], None]
"""Changes the rows, and what is known, of the host of a number."""


def ordinary(_number: int, _made: Rows, _known: Meta) -> None:
    """Nothing is planted."""


def template(functions: int) -> tuple[Meta, Rows]:
    """What each host does: a kmalloc of another size at each function, every fifth of them a module's."""
    known = rows.meta()
    names = [f"f{at:03}+0x{at:x}" + " [drv]" * (at % 5 == 0) for at in range(functions)]
    return known, rows.rows_of(known, *(rows.kmalloc(name, SIZES[at % len(SIZES)]) for at, name in enumerate(names)))


def scale(made: Rows, factors: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> None:
    """So many times as much of each row, in whole allocations."""
    counts = np.maximum(np.rint(made["count"] * factors), 1).astype(np.int64)
    for name in ("bytes_requested", "bytes_allocated"):
        made[name] = made[name] // made["count"] * counts
    made["fill"] = np.eye(FILL_BUCKETS, dtype=made["fill"].dtype)[made["fill"].argmax(axis=1)] * counts[:, None]
    made["count"] = counts


def fleet(
    hosts: int,
    *,
    seed: int = 0,
    functions: int = 60,
    plant: Plant = ordinary,
    kernel: Callable[[int], str] = lambda _: "6.12.30",
) -> Iterator[tuple[str, Ledger]]:
    """Names and ledgers: rates that are lognormal by function and by host, and what is planted."""
    known, base = template(functions)
    random = np.random.default_rng(seed)
    usual = RATE * SECONDS * random.lognormal(0, 1.5, len(base))
    for number in range(hosts):
        made, name = base.copy(), f"host-{number:03}"
        scale(made, usual * random.lognormal(0, SIGMA, len(base)))
        own = replace(known, host=Host(name, kernel(number), "boot", 4), sites=list(known.sites), modules={})
        plant(number, made, own)
        ledger = Ledger(own)
        ledger.add(Batch(made, 1000.0, SECONDS))
        yield name, ledger


def survey(captures: Iterator[tuple[str, Ledger]], *, judged: bool = False) -> Surveyed:
    """What there is to say of these; with what the rules find, where it is judged."""
    made = Survey(DEFAULTS)
    for name, ledger in captures:
        made.add(f"host={name}/boot", name, ledger, judge(ledger) if judged else [])
    return made.result()
