"""Bytes that were allocated and never asked for."""

from dashboards.model import Board, Panel, Query, Row
from dashboards.promql import HOST, SITE, rate, ratio, top, total

_KMALLOC = f'kind="kmalloc",{HOST}'

_WHOLE = Row(
    "How much",
    (
        Panel(
            "Wasted bytes",
            "Bytes a second that rounding adds to what was asked for, by kind; kmalloc's are the usual ones.",
            "Compare with the next panel: a large number can still be a small share.",
            (Query(rate("kmwatch_wasted_bytes_total", "kind"), "{{kind}}"),),
            unit="Bps",
            rules=("KM101",),
        ),
        Panel(
            "Share wasted by kmalloc",
            "Hosts above a quarter, or one that leaves the others: it runs a driver that they do not.",
            "Choose that instance above, then look at the call sites below.",
            (
                Query(
                    ratio(
                        rate("kmwatch_wasted_bytes_total", "instance", _KMALLOC),
                        rate("kmwatch_allocated_bytes_total", "instance", _KMALLOC),
                    ),
                    "{{instance}}",
                ),
            ),
            unit="percentunit",
            rules=("KM101", "KM102"),
            steps=(0.25, 0.4),
        ),
    ),
)

_CLASSES = Row(
    "In which size classes",
    (
        Panel(
            "Wasted bytes by size class",
            "The class in which most is lost: its neighbours are far apart, or one site asks just above the one below.",
            "`kmwatch whatif live` on the host prices other classes and caches, by call site.",
            (
                Query(
                    top(10, rate("kmwatch_wasted_bytes_total", "size_class", f'size_class!="",{_KMALLOC}')),
                    "{{size_class}} bytes",
                ),
            ),
            unit="Bps",
            rules=("KM101", "KM102"),
        ),
        Panel(
            "Share wasted by size class",
            "Classes that are half empty: requests lie just above the next smaller class.",
            "A member less in the struct that is allocated there saves half; KM102 names it.",
            (
                Query(
                    ratio(
                        rate("kmwatch_wasted_bytes_total", "size_class", f'size_class!="",{_KMALLOC}'),
                        rate("kmwatch_allocated_bytes_total", "size_class", f'size_class!="",{_KMALLOC}'),
                    ),
                    "{{size_class}} bytes",
                ),
            ),
            unit="percentunit",
            rules=("KM102", "KM103"),
        ),
    ),
)

_SITES = Row(
    "Who",
    (
        Panel(
            "Call sites that waste most",
            "A handful of functions usually makes most of it; what is not listed is small or in `other`.",
            "Shorten the object to the class below, or give it a kmem_cache: the finding says which saves more.",
            (
                Query(
                    top(15, rate("kmwatch_site_wasted_bytes_total", "site, module, kind", SITE)), "{{site}} {{module}}"
                ),
            ),
            unit="Bps",
            rules=("KM101", "KM102", "KM104"),
        ),
        Panel(
            "Share wasted by call site",
            "Of the sites that allocate most, those that throw the largest part away.",
            "Above a third there is nearly always a smaller class or a cache that fits.",
            (
                Query(
                    top(
                        15,
                        ratio(
                            rate("kmwatch_site_wasted_bytes_total", "site, module", SITE),
                            rate("kmwatch_site_allocated_bytes_total", "site, module", SITE),
                        ),
                    ),
                    "{{site}} {{module}}",
                ),
            ),
            unit="percentunit",
            rules=("KM101", "KM104"),
        ),
        Panel(
            "Modules that waste most",
            "A module of your own, or an out-of-tree one; without a name it is the kernel itself.",
            "Hand its maintainer `kmwatch report live --by module`, or put `kmwatch check` in its CI.",
            (Query(top(10, rate("kmwatch_site_wasted_bytes_total", "module", SITE)), "{{module}}"),),
            unit="Bps",
            rules=("KM101",),
        ),
        Panel(
            "Caches that allocate most",
            "Slab caches by bytes a second: the objects that churn.",
            "`slab` is the label of node_exporter's slabinfo: docs/monitoring.md joins both.",
            (Query(top(15, rate("kmwatch_slab_allocated_bytes_total", "slab", f'slab!="other",{HOST}')), "{{slab}}"),),
            unit="Bps",
            rules=("KM105",),
        ),
    ),
)

_HELD = Row(
    "What stays",
    (
        Panel(
            "Waste that is held, by cache",
            "Bytes that nobody asked for and that are taken all the time, of what was allocated since kmwatch started.",
            "Waste that stays costs memory, waste that churns costs none: begin with the objects that are many here.",
            (Query(top(15, total("kmwatch_held_wasted_bytes", "kind, slab")), "{{slab}} {{kind}}"),),
            unit="bytes",
            rules=("KM101", "KM104"),
        ),
        Panel(
            "Waste that is held, by call site",
            "The functions whose objects stay and are rounded up most; sites of caches that are unknown are left out.",
            "A smaller struct or a kmem_cache of its own gives this back for good: `kmwatch whatif live` prices both.",
            (
                Query(
                    top(15, total("kmwatch_site_held_wasted_bytes", "site, module, kind", SITE)), "{{site}} {{module}}"
                ),
            ),
            unit="bytes",
            rules=("KM101", "KM104"),
        ),
        Panel(
            "Held by call site",
            "A line that rises for hours and never falls, of a site that is no cache of files.",
            "`kmwatch top --outstanding` on the host tells its age, its growth and how far to believe the number.",
            (Query(top(15, total("kmwatch_site_held_bytes", "site, module, kind", SITE)), "{{site}} {{module}}"),),
            unit="bytes",
        ),
        Panel(
            "Caches of which it is unknown",
            "How many caches have grade D: their objects are released without an event, so nothing is told of them.",
            "Some are usual. Where there are many, read the growth of slabs from node_exporter instead.",
            (Query(f"sum by (instance) (kmwatch_held_grade{{{HOST}}} == bool 3)", "{{instance}}"),),
        ),
    ),
)

BOARD = Board(
    "waste",
    "kmwatch: Rounding waste",
    "What size classes and whole pages cost beyond what was asked for, and at which call sites.",
    (_WHOLE, _CLASSES, _SITES, _HELD),
)
