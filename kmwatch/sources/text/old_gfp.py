"""GFP masks that a kernel wrote as numbers only, up to Linux 4.5, by the flags' names.

The bits of that time have other meanings today (0x20 was GFP_ATOMIC, 0xd0 GFP_KERNEL), so a number means something only
together with the kernel. What the flags meant together is said in the names of today.
"""

# Linux 2.6.31 to 4.3: include/linux/gfp.h of v3.10.
_OLD = (
    *("DMA", "HIGHMEM", "DMA32", "MOVABLE", "WAIT", "HIGH", "IO", "FS", "COLD", "NOWARN", "REPEAT", "NOFAIL"),
    *("NORETRY", "MEMALLOC", "COMP", "ZERO", "NOMEMALLOC", "HARDWALL", "THISNODE", "RECLAIMABLE", "KMEMCG"),
    *("NOTRACK", "NO_KSWAPD", "OTHER_NODE", "WRITE"),
)
# Linux 4.4 and 4.5, after commit d0164adc89f6 split __GFP_WAIT; since 4.6 (commit edf14cdbf9a0) the log has names.
_MIDDLE = (
    *("DMA", "HIGHMEM", "DMA32", "MOVABLE", "RECLAIMABLE", "HIGH", "IO", "FS", "COLD", "NOWARN", "REPEAT", "NOFAIL"),
    *("NORETRY", "MEMALLOC", "COMP", "ZERO", "NOMEMALLOC", "HARDWALL", "THISNODE", "ATOMIC", "ACCOUNT", "NOTRACK"),
    *("DIRECT_RECLAIM", "OTHER_NODE", "WRITE", "KSWAPD_RECLAIM"),
)
_KSWAPD = _MIDDLE.index("KSWAPD_RECLAIM")
_SPLIT = (4, 4)


def names(number: int, version: tuple[int, int] | None) -> str:
    """The flags of a number, joined by `|`; bits that no kernel of that time had are left out.

    version: of the kernel; None where unknown: the bit that nearly every mask of 4.4 and 4.5 has then decides.
    """
    middle = version >= _SPLIT if version else bool(number >> _KSWAPD & 1)
    found = {name for bit, name in enumerate(_MIDDLE if middle else _OLD) if number >> bit & 1}
    if middle:
        found.discard("ATOMIC")  # it came with __GFP_HIGH, which says it all since Linux 6.3
    else:
        # Every allocation woke kswapd; one that might wait also reclaimed by itself.
        found |= {"DIRECT_RECLAIM"} if "WAIT" in found else set()
        found |= set() if "NO_KSWAPD" in found else {"KSWAPD_RECLAIM"}
        found -= {"WAIT", "NO_KSWAPD"}
    return "|".join(f"__GFP_{name}" for name in sorted(found))
