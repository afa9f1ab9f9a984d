"""What became of the objects of a capture: the rows of held.sql, which pairs events by pointer, as tallies."""

import enum

import numpy as np

from kmwatch.batch import Meta, Rows
from kmwatch.events import Array
from kmwatch.held import TALLY, Held, of_tallies
from kmwatch.ledger import ALLOCATIONS, ELSEWHERE, FREES
from kmwatch.schema import Kind


class Fate(enum.IntEnum):
    """What follows an allocation: nothing, a release, or another allocation of the same object."""

    HELD, RELEASED, UNSEEN = range(3)


def moves(keys: Rows, wanted: Array) -> dict[str, Array]:
    """The table `moves` of held.sql: what hold() and release() of bpf/held.h take, of which these are wanted."""
    kinds = keys["kind"]
    allocates = np.isin(kinds, ALLOCATIONS) & (keys["failed"] == 0)
    allocates &= (kinds != Kind.PAGE_ALLOC) | (keys["via"] & ELSEWHERE == 0)
    release = np.isin(kinds, FREES)
    chosen = np.flatnonzero(allocates | release)
    page = np.isin(kinds, [Kind.PAGE_ALLOC, Kind.PAGE_FREE])
    columns = {"page": page, "release": release, "wanted": wanted}
    return {"key": chosen.astype(np.uint32)} | {name: column[chosen] for name, column in columns.items()}


def held_of(found: list[dict[str, Array]], keys: Rows, meta: Meta) -> Held:
    """What is held, of the rows of held.sql: every object was looked at."""
    rows = {name: np.concatenate([part[name] for part in found]) for name in found[0]}
    numbers, back = np.unique(rows["key"], return_inverse=True)
    tallies = np.zeros(len(numbers), TALLY)
    for fate, total, times in ((Fate.HELD, "sampled", "ages"), (Fate.RELEASED, "released", "lifetimes")):
        of = np.flatnonzero(rows["fate"] == fate)
        np.add.at(tallies[total], back[of], rows["count"][of])
        np.add.at(tallies[times], (back[of], rows["bucket"][of]), rows["count"][of])
    for name, chosen in (("unseen", rows["fate"] == Fate.UNSEEN), ("elsewhere", rows["elsewhere"])):
        np.add.at(tallies[name], back[chosen], rows["count"][chosen])
    held = rows["fate"] == Fate.HELD
    np.add.at(tallies["requested"], back[held], rows["requested"][held])
    return of_tallies(keys[numbers], tallies, meta, 0)
