"""Large kmallocs that the kernel reports twice: of two events of one allocation, the first is left out.

The programs mark both (enum pair of bpf/records.h). The second may come in the next segment, so a first that is still
alone waits for one segment. Where it stays alone it counts: kernels before 6.11 report once, from inside the allocator.
"""

import numpy as np

from kmwatch.events import Array, Columns, concatenated, empty_columns, selected
from kmwatch.schema import Pair

_BY_TASK = np.uint64(1 << 63)  # no scrambled pointer is told from it, but nothing failed has a pointer


class Pairs:
    """Takes the first of each pair out of the segments that pass through."""

    def __init__(self) -> None:
        self._waiting = empty_columns(0)

    def settle(self, columns: Columns, pair: Array, *, last: bool = False) -> Columns:
        """The columns without the firsts whose second is there, and without those that shall wait for it.

        Args:
            columns: the events of a segment.
            pair: enum pair of each.
            last: no segment follows: nothing waits any more.
        """
        marked = np.flatnonzero(pair)
        waited = len(self._waiting["time"])
        if not len(marked) and not waited:
            return columns
        both = concatenated([self._waiting, selected(columns, marked)])
        kinds = np.concatenate([np.full(waited, Pair.FIRST, np.uint8), pair[marked]])
        done = _has_second(both, kinds)
        alone = (kinds == Pair.FIRST) & ~done
        waits = alone & (np.arange(len(kinds)) >= waited) & (not last)
        rest = np.ones(len(pair), bool)
        rest[marked[(done | waits)[waited:]]] = False
        late = selected(both, np.flatnonzero(alone[:waited]))
        self._waiting = selected(both, np.flatnonzero(waits))
        kept = columns if rest.all() else selected(columns, np.flatnonzero(rest))
        return concatenated([late, kept]) if len(late["time"]) else kept


def _has_second(events: Columns, kinds: Array) -> Array:
    """Which firsts are followed by a second of the same pointer; of the same thread, where the allocation failed."""
    handles = np.where(events["ptr"] != 0, events["ptr"], events["pid"].astype(np.uint64) | _BY_TASK)
    order = np.lexsort((events["time"], handles))
    followed = (
        (handles[order][:-1] == handles[order][1:])
        & (kinds[order][:-1] == Pair.FIRST)
        & (kinds[order][1:] == Pair.SECOND)
    )
    done = np.zeros(len(kinds), bool)
    done[order[:-1][followed]] = True
    return done
