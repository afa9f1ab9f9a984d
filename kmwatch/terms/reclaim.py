"""Flags that say how hard the allocator tries, and how deep into the reserves it may go."""

from kmwatch.terms.model import GUIDE, HEADER, SCOPES, Flag

RECLAIM = (
    Flag(
        "__GFP_HIGH",
        "may use part of the emergency reserves",
        "The request is needed for the system to make progress: it may go below the min watermark, deeper when the "
        "caller cannot sleep.",
        article="Marks a request as urgent: the emergency pools are open to it.",
        today="Still so. The reserves are small and shared: an allocation with a fallback should leave them alone.",
    ),
    Flag(
        "__GFP_MEMALLOC",
        "may use all reserves",
        "Ignores the watermarks. Only for callers that free more memory very soon, such as swap over the network.",
        since="3.6",
        today="Dangerous outside memory management: it can use up the last page. Prefer a mempool.",
    ),
    Flag(
        "__GFP_NOMEMALLOC",
        "never touch the reserves",
        "Forbids the emergency reserves even to a task that may use them. It wins over __GFP_MEMALLOC.",
        today="For optional allocations inside reclaim, with a mempool behind them.",
    ),
    Flag(
        "__GFP_IO",
        "reclaim may start disk I/O",
        "Direct reclaim may write to block devices to free memory.",
        article="Lets the allocator do disk I/O to free memory.",
        today="Without __GFP_DIRECT_RECLAIM it has no effect. To forbid I/O use memalloc_noio_save() around the scope.",
        source=SCOPES,
    ),
    Flag(
        "__GFP_FS",
        "reclaim may call into file systems",
        "Direct reclaim may enter file-system code, for instance to free inodes. A file system that holds its own "
        "locks must not allow it.",
        article="Lets the allocator call file-system operations to free memory.",
        today="Without __GFP_DIRECT_RECLAIM it has no effect. File systems use memalloc_nofs_save() around the scope.",
        source=SCOPES,
    ),
    Flag(
        "__GFP_DIRECT_RECLAIM",
        "the caller may sleep and free memory itself",
        "When memory is short the caller reclaims it on the spot, which can take long and can sleep. This single bit "
        "decides whether an allocation may sleep.",
        may_sleep=True,
        since="4.4",
        today="Forbidden where sleeping is: interrupts, spinlocks, RCU read sections, preemption off. An ordinary "
        "kernel says nothing then; kmwatch does.",
        source="commit d0164adc89f6 (split out of __GFP_WAIT)",
    ),
    Flag(
        "__GFP_KSWAPD_RECLAIM",
        "wake kswapd when memory is low",
        "At the low watermark the background reclaimer is woken, so that later allocations succeed. Never sleeps "
        "itself.",
        since="4.4",
        today="In every ordinary combination. Cleared where a failure is cheap, as for transparent huge pages.",
        source="commit d0164adc89f6",
    ),
    Flag(
        "__GFP_RECLAIM",
        "both direct reclaim and kswapd",
        "Shorthand for __GFP_DIRECT_RECLAIM|__GFP_KSWAPD_RECLAIM: the same value as GFP_NOIO.",
        may_sleep=True,
        since="4.4",
        today="Clear it as a whole to allocate only what is free at once.",
        source="commit 71baba4b92dc (renamed from __GFP_WAIT)",
    ),
    Flag(
        "__GFP_RETRY_MAYFAIL",
        "try hard, but fail rather than kill",
        "Retries reclaim and compaction as long as they make progress, without the OOM killer. It may fail, when "
        "memory is really short.",
        since="4.13",
        today="The way to say 'this large allocation matters'. Needs __GFP_DIRECT_RECLAIM. With kvmalloc it makes the "
        "first try serious.",
        source="commit dcda9b04713c (renamed from __GFP_REPEAT)",
    ),
    Flag(
        "__GFP_NOFAIL",
        "retry for ever",
        "The allocation never fails; it can block without end.",
        article="The allocation must not fail; to be used with great care.",
        today="Must be able to sleep: the page allocator warns without __GFP_DIRECT_RECLAIM, and for orders above 1 "
        "(8 KiB). For larger buffers use kvmalloc.",
        source=HEADER,
    ),
    Flag(
        "__GFP_NORETRY",
        "one light try",
        "Only light reclaim, no OOM killer. Can still sleep; failure is likely when memory is short.",
        article="Gives up at once when no memory is free.",
        today="Not 'at once': a little direct reclaim and compaction happen, so it sleeps if __GFP_DIRECT_RECLAIM is "
        "set. With __GFP_NOWARN kmwatch counts a failure as opportunistic: the caller expected it.",
        source=HEADER + "; " + GUIDE,
    ),
)
