"""GFP tables of many kernels as one: flags are the same where their names are, whatever bits they have."""

from kmwatch.kernel.gfp import GfpTable, built_in

_FIRST_FREE, _BITS = 24, 32  # the bits below are in the built-in table
SOURCE = "tables of a fleet's kernels, by name"


class FleetFlags:
    """A table that grows by the names that captures bring; it begins with kmwatch's own.

    full: flags that found no bit any more; they are left out of masks.
    """

    def __init__(self) -> None:
        self._values = dict(built_in().flags)
        self._table = self._made()
        self._masks: dict[tuple[GfpTable, int], int] = {}
        self.full: set[str] = set()

    @property
    def table(self) -> GfpTable:
        """The table so far: another one only where it has grown, for a table remembers what it decoded."""
        if len(self._table.flags) < len(self._values):
            self._table = self._made()
        return self._table

    def _made(self) -> GfpTable:
        return GfpTable(tuple(self._values.items()), SOURCE)

    def mask(self, table: GfpTable, mask: int) -> int:
        """A capture's mask in the fleet's table: the same words, as the capture's own table has them."""
        key = table, mask
        if key not in self._masks:
            self._masks[key] = self._translated(table, mask)
        return self._masks[key]

    def _translated(self, table: GfpTable, mask: int) -> int:
        found = 0
        for name, value in table.parts(mask):
            # A composite that the fleet's table lacks is what its flags are.
            known = name in self._values or value.bit_count() == 1
            names = [name] if known else [single for single, _ in table.singles(value)]
            for each in names:
                found |= self._value(each)
        rest = table.unknown(mask)
        for bit in range(_BITS):
            if rest >> bit & 1:
                found |= self._value(f"{1 << bit:#x}")
        return found

    def _value(self, name: str) -> int:
        """The value of a flag, which gets the next free bit where it is new."""
        if name not in self._values:
            taken = 0
            for value in self._values.values():
                taken |= value
            free = [1 << bit for bit in range(_FIRST_FREE, _BITS) if not taken >> bit & 1]
            if not free:
                self.full.add(name)
                return 0
            self._values[name] = free[0]
        return self._values[name]
