"""Flags that change what is done with the memory, or what is said about it."""

from kmwatch.terms.model import Flag

ACTIONS = (
    Flag(
        "__GFP_ZERO",
        "the memory is filled with zeros",
        "What kzalloc, kcalloc and get_zeroed_page add.",
        today="Use it for everything that reaches user space or hardware; left-over contents are leaked secrets.",
    ),
    Flag(
        "__GFP_NOWARN",
        "no log entry when the allocation fails",
        "Suppresses the 'page allocation failure' report with its stack.",
        article="No warning in the log on failure.",
        today="Right where a fallback exists, and part of GFP_NOWAIT since Linux 6.7. Elsewhere it hides the cause. "
        "kmwatch sees the failure all the same.",
    ),
    Flag(
        "__GFP_COMP",
        "one compound page",
        "The pages of a higher-order allocation know their head page, so that they can be mapped and counted as one.",
        today="Needed for multi-page buffers that are mapped to user space or referenced by page. kmalloc sets it for "
        "its own pages.",
    ),
    Flag(
        "__GFP_ZEROTAGS",
        "clear the memory tags together with the memory",
        "On arm64 with memory tagging, clears the tags while zeroing, which is almost free then.",
        since="5.14",
        today="Without effect on x86-64.",
        source="commit 013bb59dbb7c",
    ),
    Flag(
        "__GFP_SKIP_ZERO",
        "skip the zeroing on allocation",
        "With hardware tag-based KASAN, leaves the zeroing to the code that sets the tags.",
        since="5.18",
        today="Zero (no effect) without CONFIG_KASAN_HW_TAGS.",
        source="commit 9353ffa6e9e9",
    ),
    Flag(
        "__GFP_SKIP_KASAN",
        "KASAN leaves the page alone on allocation",
        "With hardware tag-based KASAN, for user pages and vmalloc pages, whose tags are set elsewhere.",
        since="6.4",
        today="Zero (no effect) without CONFIG_KASAN_HW_TAGS. Before: __GFP_SKIP_KASAN_POISON and "
        "__GFP_SKIP_KASAN_UNPOISON.",
        source="commit 0a54864f8dfb",
    ),
    Flag(
        "__GFP_NOLOCKDEP",
        "lockdep ignores this allocation",
        "Turns off lockdep's check of reclaim against held locks for this call, for a false alarm.",
        since="4.12",
        today="Zero (no effect) without CONFIG_LOCKDEP. Used by XFS.",
        source="commit 7e7844226f10",
    ),
)
