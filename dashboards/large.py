"""Contiguous memory: who asks for it, and what is left of it."""

from dashboards.model import Board, Panel, Query, Row
from dashboards.promql import HOST, PLACE, SITE, rate, top, total

_WHO = Row(
    "Who asks for large blocks",
    (
        Panel(
            "Large kmallocs by call site",
            "kmalloc above the largest size class: each takes contiguous pages, and above order 3 it may well fail.",
            "Order 3 and less in process context: kvmalloc() where contiguity is not needed. Above: never kmalloc.",
            (
                Query(
                    top(15, rate("kmwatch_site_large_allocations_total", "site, module, order", SITE)),
                    "{{site}} {{module}}, order {{order}}",
                ),
            ),
            unit="cps",
            rules=("KM301", "KM302", "KM103"),
            quiet="none seen",
        ),
        Panel(
            "Large kmallocs so far",
            "Those that are rare but high: a device that starts, a table that is resized.",
            "Of order 4 and more ask the owner for kvmalloc(), or for a buffer that is allocated once and kept.",
            (Query(top(20, total("kmwatch_site_large_allocations_total", "instance, module, site, order", PLACE))),),
            shape="table",
            rules=("KM302", "KM304"),
            quiet="none seen",
        ),
        Panel(
            "Page allocations by order",
            "Order 0 is normal; a steady stream of order 1 to 3 is slabs and network buffers, order 9 huge pages.",
            "Atomic ones of order 1 and more are at risk: KM206 names who makes them.",
            (Query(rate("kmwatch_page_allocations_total", "order"), "order {{order}}"),),
            unit="cps",
            rules=("KM206", "KM302"),
        ),
        Panel(
            "Page allocations by mobility",
            "Unmovable pages that grow faster than movable ones: they pin their 2 MiB blocks for good.",
            "Find their call sites with `kmwatch report live --kinds page_alloc` on the host.",
            (Query(rate("kmwatch_page_allocations_total", "migratetype"), "{{migratetype}}"),),
            unit="cps",
            rules=("KM503",),
        ),
    ),
)

_LEFT = Row(
    "What is left in one piece",
    (
        Panel(
            "Free blocks by order",
            "The large orders near zero while order 0 has plenty: memory is in pieces, not short.",
            "`sysctl vm.compact_memory=1` helps for a while; `vm.min_free_kbytes` keeps more blocks free.",
            (Query(f"sum by (order) (kmwatch_free_blocks{{{HOST}}})", "order {{order}}"),),
            rules=("KM202", "KM503"),
        ),
        Panel(
            "Page blocks stolen",
            "Allocations served from another mobility's blocks: the cause of failures that come weeks later.",
            "If it is steady rather than a burst, raise `vm.min_free_kbytes`, and look who allocates that mobility.",
            (Query(rate("kmwatch_extfrag_total", "migratetype"), "{{migratetype}}"),),
            unit="cps",
            rules=("KM503",),
        ),
        Panel(
            "Compaction and direct reclaim",
            "Tasks that had to make room themselves before they got memory: latency that shows nowhere else.",
            "With free memory at hand it is fragmentation: fewer large blocks. Without: more memory.",
            (
                Query(rate("kmwatch_compactions_total", "instance"), "{{instance}} compaction"),
                Query(rate("kmwatch_direct_reclaims_total", "instance"), "{{instance}} direct reclaim"),
            ),
            unit="cps",
            rules=("KM208", "KM503"),
        ),
        Panel(
            "Failed tries of large blocks",
            "First tries with a fallback that fail: the earliest sign that blocks of that order run out.",
            "Nothing at the site. If they grow, look at the free blocks beside it.",
            (
                Query(
                    total("kmwatch_site_failures_total", "order, kind, outcome", f'order!~"|0",{PLACE}'),
                    "order {{order}} {{kind}} {{outcome}}",
                ),
            ),
            rules=("KM203", "KM307"),
            quiet="no failure since kmwatch attached",
        ),
    ),
)

BOARD = Board(
    "large",
    "kmwatch: Large allocations and fragmentation",
    "Who asks for contiguous memory, and how much of it is left.",
    (_WHO, _LEFT),
)
