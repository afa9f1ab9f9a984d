"""Rows by slices of time, a bounded number of them however long it takes."""

import numpy as np

from kmwatch.batch import ROW, Batch, Rows
from kmwatch.rows import merged

SLICES = 60
"""How many slices there are at most; as many fit on a phone."""


class Timeline:
    """Batches by the time at which they start.

    length: of a slice, in seconds; where more than SLICES are needed, it doubles and neighbours are added up.
    start: of the first slice, in seconds since the epoch.
    slices: rows (dtype ROW) of each slice, each key once; empty ones between are there.
    """

    def __init__(self, length: float) -> None:
        self.start, self.length = 0.0, length
        self.slices: list[Rows] = []

    def add(self, batch: Batch) -> None:
        """Add a batch to the slice that its start is in; a fresh one replaces all before it."""
        if batch.fresh or not self.slices:
            self.start, self.slices = batch.start, [np.zeros(0, ROW)]
        # A clock may be set back, and halves of a slice are never equal to the bit.
        place = max(0.0, (batch.start - self.start) / self.length + 1e-6)
        while place >= SLICES:
            place /= 2
            self._halve()
        while len(self.slices) <= place:
            self.slices.append(np.zeros(0, ROW))
        at = int(place)
        self.slices[at] = merged(np.concatenate([self.slices[at], batch.rows]))

    def _halve(self) -> None:
        self.length *= 2
        pairs = (self.slices[at : at + 2] for at in range(0, len(self.slices), 2))
        self.slices = [merged(np.concatenate(pair)) for pair in pairs]
