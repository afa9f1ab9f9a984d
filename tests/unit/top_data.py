"""A small ledger whose sums can be done in the head, and a source that gives it in three batches."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from types import TracebackType
from typing import Self

import numpy as np

from kmwatch.batch import KEY, STACKED, Batch, Cache, Cost, Meta, Trust
from kmwatch.schema import Context, Kind
from tests.unit import rows
from tests.unit.holding import held, of

DENTRY = Cache("dentry", 190, 192)


def make_batch(known: Meta, start: float = 0.0) -> Batch:
    """Two seconds: 10 kmallocs of 60 bytes, 4 dentries in a soft interrupt that may sleep, a failed order-3 request.

    The site of the dentries has a hostile name. Of the kmallocs 6 are held at first and 2 more with each batch, of 16
    objects one was looked at; of the dentries too many were released without an event to know.
    """
    what = held(
        known,
        of(rows.kmalloc("load_msg+0x41", 60), held=6 + round(start), released=160),
        of(rows.object_of(DENTRY, "[red]\x1b[2J+0x0"), held=4, released=16, unseen=1600),
        bits=4,
        grown={"kmalloc-64": 1000},
    )
    made = rows.batch(
        known,
        rows.kmalloc("load_msg+0x41", 60, count=10),
        rows.object_of(DENTRY, "[red]\x1b[2J+0x0", count=4, context=Context.SOFTIRQ),
        rows.pages("probe+0x9 [wifi]", 3, count=2, gfp="GFP_ATOMIC", failed=1),
        rows.pages("probe+0x9 [wifi]", zone=2, node=0, migratetype=0),
        rows.row(Kind.KFREE, "load_msg+0x99", count=3),
        start=start,
        seconds=2.0,
        trust=Trust(lost=1, duplicates_removed=5),
        cost=Cost(0.02, 0.1),
    )
    return replace(made, held=what)


def with_stacks(known: Meta, batch: Batch, stacks: dict[tuple[str, ...], int]) -> Batch:
    """The batch with stacks (functions, innermost first, which is a site of its rows) and how often each was taken."""
    stacked = []
    for frames, count in stacks.items():
        sites = tuple(int(rows.rows_of(known, rows.row(Kind.KMALLOC, frame))["site"][0]) for frame in frames)
        number = len(known.stacks) + 1
        known.stacks[number] = sites
        key = batch.rows[batch.rows["site"] == sites[0]][0]
        stacked.append((*(key[name] for name in KEY), number, count))
    return replace(batch, stacked=np.array(stacked, STACKED))


class FakeSource:
    """Gives a batch each time `more` is called, and remembers what was done to it."""

    def __init__(self, error: BaseException | None = None, *, opens: bool = True) -> None:
        self.meta = rows.meta()
        self.error, self.opens = error, opens
        self.entered, self.left = threading.Event(), threading.Event()
        self._wanted = threading.Semaphore(0)
        self._stopped = threading.Event()

    def more(self) -> None:
        """Let one batch go, or the error."""
        self._wanted.release()

    def __enter__(self) -> Self:
        if not self.opens and self.error:
            raise self.error
        self.entered.set()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.left.set()

    def __iter__(self) -> Iterator[Batch]:
        for at in range(3):
            self._wanted.acquire()
            if self._stopped.is_set():
                return
            if self.error:
                raise self.error
            yield make_batch(self.meta, at * 2.0)
        while not self._stopped.is_set():
            self._wanted.acquire()

    def stop(self) -> None:
        """As a live source does."""
        self._stopped.set()
        self._wanted.release()
