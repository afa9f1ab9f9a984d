"""What is odd about a GFP mask: one sentence each, with what to do instead."""

from collections.abc import Sequence

from kmwatch.kernel.gfp import GfpTable

_ZONE_FLAGS = ("__GFP_DMA", "__GFP_HIGHMEM", "__GFP_DMA32")
_TRY_FLAGS = ("__GFP_NORETRY", "__GFP_RETRY_MAYFAIL", "__GFP_NOFAIL")
_NEVER_SLEEP = ("GFP_ATOMIC", "GFP_NOWAIT")


def remarks(mask: int, words: Sequence[str], table: GfpTable) -> list[str]:
    """Sentences about a mask; `words` are the names it was written with, for what the bits alone do not show."""
    return [
        *_sleep(mask, words, table),
        *_effort(mask, table),
        *_reserves(mask, table),
        *_zones(mask, table),
        *_style(mask, words, table),
    ]


def _has(mask: int, table: GfpTable, *flags: str) -> list[str]:
    """Those of the flags that the mask has."""
    return [name for name in flags if mask & table.bit(name)]


def _sleep(mask: int, words: Sequence[str], table: GfpTable) -> list[str]:
    found = []
    if table.may_sleep(mask):
        found += [
            f"{name} with direct reclaim is a contradiction: this mask may sleep. Choose one of the two."
            for name in _NEVER_SLEEP
            if name in words
        ]
        if _has(mask, table, "__GFP_FS") and not _has(mask, table, "__GFP_IO"):
            found.append("__GFP_FS without __GFP_IO is no usual mask: use GFP_KERNEL, GFP_NOFS or GFP_NOIO.")
        return found
    if idle := _has(mask, table, "__GFP_IO", "__GFP_FS"):
        found.append(f"{' and '.join(idle)}: without effect, since nothing is reclaimed without __GFP_DIRECT_RECLAIM.")
    if not _has(mask, table, "__GFP_KSWAPD_RECLAIM"):
        found.append("No reclaim at all: takes only what is free now and does not wake kswapd.")
    return found


def _effort(mask: int, table: GfpTable) -> list[str]:
    found = []
    tries = _has(mask, table, *_TRY_FLAGS)
    if len(tries) > 1:
        found.append(f"{' and '.join(tries)} contradict each other: keep one.")
    if not table.may_sleep(mask):
        # mm/page_alloc.c warns for it; Documentation/core-api/memory-allocation.rst asks for a blockable request.
        if "__GFP_NOFAIL" in tries:
            found.append(
                "__GFP_NOFAIL must be able to sleep: the kernel warns, and the allocation can fail all the same."
            )
        if idle := [name for name in tries if name != "__GFP_NOFAIL"]:
            found.append(f"{' and '.join(idle)}: without effect on a mask that does not reclaim.")
    elif "__GFP_NOFAIL" in tries:
        found.append("__GFP_NOFAIL can block for ever, and above order 1 (8 KiB) the kernel warns: use kvmalloc there.")
    return found


def _reserves(mask: int, table: GfpTable) -> list[str]:
    if len(_has(mask, table, "__GFP_MEMALLOC", "__GFP_NOMEMALLOC")) == 2:
        return ["__GFP_NOMEMALLOC wins over __GFP_MEMALLOC: the reserves stay closed."]
    if _has(mask, table, "__GFP_MEMALLOC"):
        return ["__GFP_MEMALLOC can use up the last page: only for code that frees more memory at once."]
    return []


def _zones(mask: int, table: GfpTable) -> list[str]:
    found = []
    zones = _has(mask, table, *_ZONE_FLAGS)
    if len(zones) > 1:
        found.append(f"{' and '.join(zones)} contradict each other: keep one.")
    # GFP_SLAB_BUG_MASK in mm/internal.h: removed by the slab allocator, with 'Unexpected gfp' in the log.
    if slab_bugs := [name for name in zones if name != "__GFP_DMA"]:
        found.append(
            f"{' and '.join(slab_bugs)}: for pages only. In kmalloc or a kmem_cache it is a bug that is logged."
        )
    if "__GFP_DMA" in zones:
        found.append("The DMA zone has 16 MiB on x86-64: for ISA-era devices. Else use the DMA API.")
    return found


def _style(mask: int, words: Sequence[str], table: GfpTable) -> list[str]:
    found = []
    if unknown := table.unknown(mask):
        found.append(f"{unknown:#x} has no name in this flag table: the mask may come from another kernel.")
    silent = table.bit("__GFP_NOWARN")
    if "GFP_NOWAIT" in words and "__GFP_NOWARN" in words and table.bit("GFP_NOWAIT") & silent:
        found.append("GFP_NOWAIT includes __GFP_NOWARN on this kernel: leave the second out.")
    if mask and mask in (table.bit("GFP_NOIO"), table.bit("GFP_NOFS")):
        scope = "memalloc_noio_save" if mask == table.bit("GFP_NOIO") else "memalloc_nofs_save"
        found.append(f"Better mark the scope with {scope}(), which covers every allocation inside (Linux 4.12).")
    return found
