"""What is held beside /proc/meminfo: how much of the kernel's growth is seen here, and how much is not."""

from collections.abc import Mapping
from dataclasses import dataclass

from kmwatch.coverage import UNKNOWN, Coverage, labels
from kmwatch.ledger import Ledger
from kmwatch.schema import LARGE, Kind
from kmwatch.witness import MEMINFO

_FIELDS = {
    Kind.KMALLOC: "Slab",
    Kind.CACHE_ALLOC: "Slab",
    Kind.VMALLOC: "VmallocUsed",
    Kind.PERCPU_ALLOC: "Percpu",
}
"""Where the kernel counts what is held of a kind; a kmalloc above the size classes is whole pages, and in no field."""


@dataclass(frozen=True)
class Account:
    """One field of /proc/meminfo; bytes.

    now, grown: what it says, and how much more that is than when the watching began.
    held: of what was allocated since, as far as it is known.
    """

    field: str
    now: int
    grown: int
    held: int

    @property
    def not_seen(self) -> int:
        """What it grew by beside that; negative where memory of before was released."""
        return self.grown - self.held


def reconciled(ledger: Ledger, known: Mapping[tuple[str, Kind], Coverage]) -> list[Account]:
    """Each field that the kernel has, in the order of MEMINFO; none where the kernel was not asked.

    `known` is the coverage of the ledger: what is held of a cache whose grade is UNKNOWN counts as not seen.
    """
    held = ledger.held
    if held is None or held.before is None or held.now is None:
        return []
    sums = dict.fromkeys(MEMINFO, 0)
    rows = held.grouped("kind", "cache", "bytes_alloc")
    for label, row in zip(labels(rows, ledger.meta.caches), rows, strict=True):
        field = _FIELDS.get(label[1])
        large = label[1] == Kind.KMALLOC and row["bytes_alloc"] > LARGE
        if field and not large and known[label].grade != UNKNOWN:
            sums[field] += int(row["bytes_allocated"])
    before, now = held.before.meminfo, held.now.meminfo
    return [
        Account(field, now[field], now[field] - before[field], sums[field])
        for field in MEMINFO
        if field in before and field in now
    ]
