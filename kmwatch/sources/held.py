"""The table of held objects in the kernel (bpf/held.h): choosing the sample, reading it, making room in it."""

import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from kmwatch import schema
from kmwatch.batch import Meta
from kmwatch.events import Numbers
from kmwatch.held import BUCKETS, TALLY, Held, bucket_of, of_tallies
from kmwatch.kernel.witnesses import Witnesses
from kmwatch.sources.bpf import Array, Programs

_KEY, _HELD, _RELEASED, _SAMPLE = (schema.dtype(name) for name in ("ledger_key", "held", "released", "sample"))
_WORDS = _KEY.itemsize // 8
_WORD = 64
_FULL = 0.75  # of the table: above it the sample is halved
_SHARE, _LEAST, _MOST = 1 << 14, 1 << 16, 1 << 19  # bytes of the machine's memory for a row; rows


@dataclass(frozen=True)
class Hold:
    """What to look at: one object of 2^bits at first, and whether each one's stack is taken.

    sure: whether programs that release have second copies, for what is released while they run.
    """

    bits: int = 4
    stacks: bool = False
    sure: bool = False

    def defines(self) -> dict[str, int]:
        """What the C file is compiled with."""
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return {"HELD_ROWS": rows(memory)} | ({"HELD_STACKS": 1} if self.stacks else {})


def rows(memory: int) -> int:
    """How many objects the table has room for on a machine of so many bytes of memory; a power of two."""
    return min(max(1 << (memory // _SHARE).bit_length() - 1, _LEAST), _MOST)


class HeldTable:
    """The table of one source's programs, which were compiled with HELD_ROWS.

    Args:
        programs: attached. What they have counted before is not in the table.
        hold: what to look at.
    """

    def __init__(self, programs: Programs, hold: Hold) -> None:
        self._programs, self.bits, self._witnesses = programs, hold.bits, Witnesses()
        self._before = self._witnesses.look()
        self._sample = np.zeros(1, _SAMPLE)
        self._sample["key"] = secrets.randbits(_WORD) | 1
        self._choose(hold.bits)
        self.used = 0
        """Entries of the table, as of the last reading."""

    def read(self, meta: Meta, named: Callable[[Array], Array]) -> Held:
        """All that is held now, as far as it was allocated since the table was made.

        `named` turns keys of the kernel into KEY_TYPE, with numbers of meta's tables for sites and caches.
        """
        ids, objects = self._objects()
        self.used = len(ids)
        if len(ids) > _FULL * self._programs.room("held"):
            ids, objects = self._halve(ids, objects)
        at = time.monotonic_ns()
        of, released = self._programs.read_hash("released", _KEY, _RELEASED)
        numbers = Numbers(_KEY)
        number, released_number = numbers.of(_words(objects["key"])), numbers.of(_words(of))
        tallies = np.zeros(len(numbers), TALLY)
        keys = named(numbers.records)
        _tally(tallies, keys, number, objects, at)
        for name, column in (("released", "count"), ("elsewhere",) * 2, ("unseen",) * 2, ("lifetimes", "lifetime")):
            tallies[name][released_number] = released[column][:, 0]
        refused = int(self._programs.read_array("sample", _SAMPLE)["refused"][0])
        stacks = np.stack([keys["kind"][number], keys["site"][number], objects["stack"]], axis=1).astype(np.int64)
        found = of_tallies(keys, tallies, meta, self.bits)
        now = self._witnesses.look()
        return replace(found, refused=refused, stacks=stacks[objects["stack"] != 0], before=self._before, now=now)

    def close(self) -> None:
        """Close the files that were read beside it; the table is the programs'."""
        self._witnesses.close()

    def _objects(self) -> tuple[Array, Array]:
        """The objects of the sample, each with what tells it apart."""
        ids, objects = self._programs.read_hash("held", np.dtype("<u8"), _HELD)
        chosen = self._in_sample(ids)
        return ids[chosen], objects[chosen, 0]

    def _halve(self, ids: Array, objects: Array) -> tuple[Array, Array]:
        """Take every other object out of the sample, until there is room for as many again."""
        while len(ids) > _FULL / 2 * self._programs.room("held"):
            self._choose(self.bits + 1)
            kept = self._in_sample(ids)
            ids, objects = ids[kept], objects[kept]
        # Those that came in between are in the table, too.
        everything = self._programs.read_hash("held", np.dtype("<u8"), _HELD)[0]
        self._programs.delete("held", everything[~self._in_sample(everything)])
        return ids, objects

    def _choose(self, bits: int) -> None:
        self.bits = bits
        self._sample["bits"] = bits
        self._sample["mask"] = mask_of(bits)
        self._sample["refused"] = self._programs.read_array("sample", _SAMPLE)["refused"]
        self._programs.write_array("sample", self._sample)

    def _in_sample(self, ids: Array) -> Array:
        return in_sample(ids, self._sample["key"][0], self._sample["mask"][0])


def in_sample(ids: Array, key: np.uint64, mask: np.uint64) -> Array:
    """Which objects are in the sample: the same as bpf/held.h finds."""
    with np.errstate(over="ignore"):
        mixed = ids * key
        mixed ^= mixed >> np.uint64(29)
        mixed *= key
    chosen: Array = mixed & mask == 0
    return chosen


def mask_of(bits: int) -> int:
    """The bits of the hash that are 0 for one object of 2^bits: its uppermost."""
    return (1 << _WORD) - (1 << (_WORD - bits)) if bits else 0


def _words(keys: Array) -> Array:
    return np.ascontiguousarray(keys).view(np.uint64).reshape(-1, _WORDS)


def _tally(tallies: Array, keys: Array, number: Array, objects: Array, now: int) -> None:
    """Add up the objects, each of the key with its number."""
    length, requested = len(tallies), objects["requested"].astype(np.int64)
    tallies["sampled"] = np.bincount(number, minlength=length)
    tallies["requested"] = np.bincount(number, requested, minlength=length)
    waste = np.where(requested > 0, keys["bytes_alloc"][number] - requested, 0)
    tallies["waste_squares"] = np.bincount(number, waste.astype(float) ** 2, minlength=length)
    ages = bucket_of(np.maximum(now - objects["time"].astype(np.int64), 0))
    at = number.astype(np.int64) * BUCKETS + ages
    tallies["ages"] = np.bincount(at, minlength=length * BUCKETS).reshape(length, BUCKETS)
