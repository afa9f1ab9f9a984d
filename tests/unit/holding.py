"""Ledgers that know what is held, for tests: objects by the kind, site and cache that they are of."""

from dataclasses import replace
from typing import Any

import numpy as np

from kmwatch.batch import Batch, Meta
from kmwatch.events import KEY_TYPE
from kmwatch.held import TALLY, Held, bucket_of, of_tallies
from kmwatch.ledger import Ledger
from kmwatch.witness import Witness
from tests.unit.rows import Row, batch, rows_of

Lives = dict[str, Any]
"""Of one key: the row that was allocated, and numbers of objects by column of TALLY; `lived` in seconds."""


def of(row: Row, *, held: int = 0, released: int = 0, lived: float = 1.0, **columns: int) -> Lives:
    """What became of a row's objects: `held` is how many of the sample are, the others count all."""
    return {"row": row, "sampled": held, "released": released, "lived": lived, **columns}


def held(known: Meta, *lives: Lives, bits: int = 0, grown: dict[str, int] | None = None, **extra: Any) -> Held:
    """What is held; `grown` is by how many objects the kernel's own counts grew, by cache, with slabs of one object."""
    rows = rows_of(known, *(each["row"] for each in lives))
    keys, tallies = np.zeros(len(rows), KEY_TYPE), np.zeros(len(rows), TALLY)
    for name in KEY_TYPE.names or ():
        keys[name] = rows[name]
    for at, each in enumerate(lives):
        asked, sampled = int(rows["max_request"][at]), each["sampled"]
        for name in ("sampled", "released", "elsewhere", "unseen"):
            tallies[name][at] = each.get(name, 0)
        tallies["requested"][at] = sampled * asked
        if taken := int(rows["bytes_alloc"][at]):
            tallies["waste_squares"][at] = sampled * float(taken - asked) ** 2
        bucket = int(bucket_of(np.array([each["lived"] * 1e9], np.int64))[0])
        tallies["lifetimes"][at][bucket] = each["released"]
    now = Witness({name: (count, 1) for name, count in (grown or {}).items()})
    before = Witness(dict.fromkeys(now.slabs, (0, 1)))
    return replace(of_tallies(keys, tallies, known, bits), **{"before": before, "now": now, **extra})


def looks(known: Meta, *each: Held, rows: tuple[Row, ...] = (), seconds: float = 10.0, every: float = 1.0) -> Ledger:
    """A ledger of one batch for each look, all that was allocated in the last one; `seconds` in all."""
    made = Ledger(known)
    for at, look in enumerate(each):
        told = batch(known, *(rows if look is each[-1] else ()), start=1000.0 + at * every, seconds=every)
        made.add(Batch(told.rows, told.start, told.seconds, held=look))
    made.seconds = seconds
    return made


def lived(known: Meta, *lives: Lives, seconds: float = 1.0, **extra: Any) -> Ledger:
    """A ledger of one look, in which these rows were allocated."""
    return looks(known, held(known, *lives, **extra), rows=tuple(each["row"] for each in lives), seconds=seconds)
