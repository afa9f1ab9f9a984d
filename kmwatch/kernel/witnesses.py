"""Asking the running kernel what it holds, also after the privileges that it takes to open its files are gone."""

from pathlib import Path

from kmwatch.errors import NotPossibleError
from kmwatch.kernel import slab
from kmwatch.kernel.kept import Kept
from kmwatch.witness import Witness, parse_allocinfo, parse_meminfo, slabs_of


class Witnesses:
    """The files that tell, open from the first look on."""

    def __init__(self) -> None:
        names = ("slabinfo", "meminfo", "allocinfo")
        self._files = {name: Kept(Path("/proc") / name) for name in names}

    def look(self) -> Witness:
        """What the kernel says now; empty as far as it does not."""
        slabinfo = self._read("slabinfo")
        return Witness(
            slabs_of(slab.parse_slabinfo(slabinfo)) if slabinfo else {},
            parse_meminfo(self._read("meminfo")),
            parse_allocinfo(self._read("allocinfo")),
        )

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()

    def _read(self, name: str) -> str:
        try:
            return self._files[name].read().decode("utf-8", "replace")
        except NotPossibleError:
            return ""
