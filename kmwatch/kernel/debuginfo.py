"""Source lines of functions and offsets, from files with debug information: binutils read them, kmwatch only asks."""

import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from kmwatch.errors import BadInputError, NotPossibleError, UsageError

_TOOLS = ("nm", "addr2line")
_LINE = re.compile(r"(.+):(\d+)(?: \(discriminator \d+\))?")
_PATIENCE = 600  # seconds; a vmlinux with debug information has hundreds of megabytes


@dataclass(frozen=True)
class Code:
    """A place in the kernel's code: function as the symbol table has it, offset in bytes, module or ""."""

    symbol: str
    offset: int
    module: str


class DebugInfo:
    """Lines of a kernel and its modules.

    Args:
        vmlinux: the kernel with debug information.
        modules: a directory with modules (.ko, .ko.debug), at any depth.

    Raises NotPossibleError where binutils are not installed, UsageError where a path does not exist.
    """

    def __init__(self, vmlinux: Path | None, modules: Path | None) -> None:
        if missing := [tool for tool in _TOOLS if not shutil.which(tool)]:
            raise NotPossibleError(f"lines need {missing[0]}, which is not here: install binutils")
        if vmlinux and not vmlinux.is_file():
            raise UsageError(f"--vmlinux {vmlinux} is no file: give the kernel with its debug information")
        if modules and not modules.is_dir():
            raise UsageError(f"--module-dir {modules} is no directory: give the one where the modules were built")
        self._vmlinux, self._modules = vmlinux, modules

    def lines(self, codes: Iterable[Code]) -> dict[Code, tuple[str, int]]:
        """File and line of those places that the files know."""
        found: dict[Code, tuple[str, int]] = {}
        asked = {*codes}
        for module in sorted({each.module for each in asked}):
            if path := self._files.get(module):
                found |= _lines(path, sorted(_of(asked, module), key=lambda each: (each.symbol, each.offset)))
        return found

    @cached_property
    def _files(self) -> dict[str, Path]:
        """Files by module; of two of a name the one with debug information apart (.ko.debug), else the first."""
        found = {"": self._vmlinux} if self._vmlinux else {}
        for suffix in (".ko.debug", ".ko") if self._modules else ():
            for path in sorted(self._modules.rglob(f"*{suffix}") if self._modules else ()):
                found.setdefault(path.name.removesuffix(suffix).replace("-", "_"), path)
        return found


def _of(codes: Iterable[Code], module: str) -> list[Code]:
    return [each for each in codes if each.module == module]


@dataclass(frozen=True)
class _Function:
    """Where a function is in a file: section, address there, and length in bytes; 0 where that is unknown."""

    section: str
    address: int
    length: int

    def has(self, code: Code) -> bool:
        """Whether the offset lies in it: it does not where the file is of another build."""
        return not self.length or code.offset <= self.length


def _lines(path: Path, codes: list[Code]) -> dict[Code, tuple[str, int]]:
    """Lines in one file. Addresses of a module are relative to its section, so each section is asked apart."""
    table, found = _functions(path, {each.symbol for each in codes}), dict[Code, tuple[str, int]]()
    inside = [each for each in codes if each.symbol in table and table[each.symbol].has(each)]
    for section in sorted({table[each.symbol].section for each in inside}):
        here = [each for each in inside if table[each.symbol].section == section]
        # A call's return address belongs to what follows it: the byte before belongs to the call.
        addresses = [f"{table[each.symbol].address + max(each.offset - 1, 0):#x}" for each in here]
        apart = ["-j", section] if ".ko" in path.name else []
        # -i would not tell where the inlined calls of one address end, so each is preceded by its address.
        text = _run(["addr2line", "-i", "-a", "-e", str(path), *apart, *addresses], path)
        for code, block in zip(here, re.split(r"^0x[0-9a-f]+\n", text, flags=re.MULTILINE)[1:], strict=False):
            # The outermost line is in the function itself, the inner ones in what the compiler put into it.
            if block.splitlines() and (match := _LINE.fullmatch(block.splitlines()[-1])) and match[1] != "??":
                found[code] = match[1], int(match[2])
    return found


def _functions(path: Path, wanted: set[str]) -> dict[str, _Function]:
    """These functions; a name that two functions have says nothing and is left out."""
    found: dict[str, _Function] = {}
    twice: set[str] = set()
    for line in _run(["nm", "--format=sysv", "--defined-only", str(path)], path).splitlines():
        fields = [field.strip() for field in line.split("|")]
        if len(fields) != 7 or fields[0] not in wanted or fields[2] not in tuple("tTwW"):
            continue
        function = _Function(fields[6], int(fields[1], 16), int(fields[4] or "0", 16))
        if found.setdefault(fields[0], function) != function:
            twice.add(fields[0])
    return {name: function for name, function in found.items() if name not in twice}


def _run(command: list[str], path: Path) -> str:
    try:
        return subprocess.run(
            command, capture_output=True, timeout=_PATIENCE, check=True, text=True, errors="replace"
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise BadInputError(f"{command[0]} cannot read {path}: is it the kernel's or module's own ELF file?") from error
