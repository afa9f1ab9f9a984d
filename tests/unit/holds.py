"""What is held, for tests: observations as tests.unit.rows has them, with what became of others of their kind."""

from dataclasses import dataclass, replace

import numpy as np

from kmwatch.batch import KEY, Meta
from kmwatch.events import KEY_TYPE
from kmwatch.held import TALLY, Held, bucket_of, of_tallies
from kmwatch.witness import Witness
from tests.unit.rows import Row, rows_of


@dataclass(frozen=True)
class Object:
    """Sampled objects that are held (the row's count), and others like them: released, at which age, or reused."""

    row: Row
    released: int = 0
    unseen: int = 0
    lifetime: float = 1e-3  # seconds


def held(known: Meta, *objects: Object, bits: int = 0, grown: dict[str, int] | None = None) -> Held:
    """What is held; `grown` is by how many objects the kernel's own counts grew, by cache, with slabs of one object."""
    made = rows_of(known, *(each.row for each in objects))
    keys, tallies = np.zeros(len(made), KEY_TYPE), np.zeros(len(made), TALLY)
    for name in KEY:
        keys[name] = made[name]
    tallies["sampled"], tallies["requested"] = made["count"], made["bytes_requested"]
    waste = (made["bytes_allocated"] - made["bytes_requested"]) / np.maximum(made["count"], 1)
    tallies["waste_squares"] = waste**2 * made["count"]
    for at, each in enumerate(objects):
        tallies["released"][at], tallies["unseen"][at] = each.released, each.unseen
        tallies["lifetimes"][at, bucket_of(np.array([each.lifetime * 1e9], np.int64))] = each.released
    now = Witness({name: (count, 1) for name, count in (grown or {}).items()})
    before = Witness(dict.fromkeys(now.slabs, (0, 1)))
    return replace(of_tallies(keys, tallies, known, bits), before=before, now=now)
