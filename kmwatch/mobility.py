"""The mobility of pages in words, as reports and metrics print it."""

from kmwatch.schema import NO_ZONE

# The kernel's enum migratetype (include/linux/mmzone.h); what follows depends on the configuration.
_NAMES = ("unmovable", "movable", "reclaimable", "highatomic")

REQUESTED = range(3)
"""The mobilities that a request can ask for, by number: those below highatomic."""


def migratetype(number: int) -> str | None:
    """The mobility of a page block in the kernel's words; None where it is not known."""
    if number == NO_ZONE:
        return None
    return _NAMES[number] if number < len(_NAMES) else f"type-{number}"
