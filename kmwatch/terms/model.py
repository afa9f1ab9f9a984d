"""The shapes of what kmwatch can explain."""

from dataclasses import dataclass

HEADER = "include/linux/gfp_types.h"
GUIDE = "Documentation/core-api/memory-allocation.rst"
SCOPES = "Documentation/core-api/gfp_mask-from-fs-io.rst"


@dataclass(frozen=True)
class Flag:
    """One GFP flag or combination, today's or a historical one. Versions are Linux releases."""

    name: str
    summary: str
    meaning: str
    may_sleep: bool | None = None  # None: this flag does not decide it
    zone: str | None = None  # the zone it asks for on x86-64; None: it does not name one
    since: str | None = None  # None: before Linux 2.6.12, where the kernel's git history starts
    until: str | None = None  # the first release without it
    replaced_by: str | None = None
    article: str | None = None  # what the classic texts on kmalloc (Linux 2.4 to 4.x) say
    today: str | None = None  # what holds now
    source: str = HEADER  # kernel commit or document


@dataclass(frozen=True)
class Allocator:
    """One way to get memory in the kernel."""

    name: str
    summary: str
    sizes: str
    contiguity: str
    sleep: str
    use: str
    avoid: str
    free: str
    observed: str
    aliases: tuple[str, ...] = ()
    article: str | None = None
    today: str | None = None
    source: str = GUIDE


@dataclass(frozen=True)
class Concept:
    """A word that the other pages use."""

    name: str
    summary: str
    meaning: str
    aliases: tuple[str, ...] = ()
    article: str | None = None
    today: str | None = None
    source: str = GUIDE
