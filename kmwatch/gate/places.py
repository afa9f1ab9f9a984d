"""Where a finding is, in words that hold from build to build: function and module, never an address or an offset."""

import re
from dataclasses import dataclass

from kmwatch.findings import Finding

KERNEL = "kernel"
"""What a budget and `--module` call the kernel itself."""

_LABEL = re.compile(r"(?P<text>.*?)(?: \[(?P<module>[^\[\]]+)\])?", re.DOTALL)
_OFFSET = re.compile(r"\+(0x[0-9a-f]+)(?:/0x[0-9a-f]+)?$")
# What a compiler adds to a copy or a part of a function: it comes and goes with its version.
_COPY = re.compile(r"(?<=.)\.(?:isra|part|constprop|cold|lto_priv|llvm)(?:\.\w+)?(?=\.|$)")
_UNNAMED = re.compile(r"site-\d+|unknown")


@dataclass(frozen=True, order=True)
class Place:
    """A function and its module, "" in the kernel itself."""

    symbol: str
    module: str = ""

    @property
    def label(self) -> str:
        """As the kernel prints it: `drv_irq [drv]`."""
        return f"{self.symbol} [{self.module}]" if self.module else self.symbol

    @property
    def named(self) -> bool:
        """Whether another run would call the same function so: not where only its address was known."""
        return not _UNNAMED.fullmatch(self.symbol)


@dataclass(frozen=True)
class Spot:
    """A place with the function's name as the symbol table has it, and the offset in it; bytes, None if unknown."""

    place: Place
    symbol: str
    offset: int | None = None


def function(symbol: str) -> str:
    """A function's name without what the compiler added: `rx_fill` for `rx_fill.part.0.isra.0`."""
    return _COPY.sub("", symbol)


def spot(label: str) -> Spot:
    """What a label says: `drv_irq+0x9 [drv]`."""
    match = _LABEL.fullmatch(label)
    text, module = (match["text"], match["module"] or "") if match else (label, "")
    found = _OFFSET.search(text)
    symbol = text[: found.start()] if found else text
    return Spot(Place(function(symbol), module), symbol, int(found[1], 16) if found else None)


def spot_of(finding: Finding) -> Spot:
    """Where a finding is: at the caller whose request it was, where a helper like __alloc_skb() asked for it."""
    caller = finding.evidence.get("caller")
    return spot(caller if isinstance(caller, str) and caller and Place(caller).named else finding.site)


def same_module(name: str) -> str:
    """A module's name as the kernel spells it: files may have a hyphen where it has an underscore."""
    return "" if name == KERNEL else name.replace("-", "_")
