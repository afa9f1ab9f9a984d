"""What may not sleep: bugs where it does, and failures where it does not."""

from dashboards.model import Board, Panel, Query, Row
from dashboards.promql import HOST, PLACE, rate, top, total

_BUGS = Row(
    "Sleeping where it is forbidden",
    (
        Panel(
            "Sleeping in atomic context, by call site",
            "Any row. Counts since kmwatch attached on that host; `other` is a site that has no series of its own yet.",
            "Report it with the site and the context: allocate before the lock is taken, or use GFP_NOWAIT.",
            (Query(total("kmwatch_site_sleeping_in_atomic_total", "instance, module, site, context", PLACE)),),
            shape="table",
            rules=("KM201",),
            quiet="none: good",
        ),
        Panel(
            "Sleeping in atomic context, over time",
            "When it began: with a kernel, a module or a load.",
            "Compare with your deployments; `kmwatch record` on the host keeps the stacks.",
            (
                Query(
                    "sum by (instance) (increase(sum by (instance, job) "
                    f"(kmwatch_site_sleeping_in_atomic_total{{{HOST}}})[$__rate_interval:]))",
                    "{{instance}}",
                ),
            ),
            rules=("KM201",),
            quiet="none: good",
        ),
    ),
)

_FAILURES = Row(
    "Failures",
    (
        Panel(
            "Real failures by call site",
            "Which function got NULL, of which order, and where the CPU was. Counts since kmwatch attached.",
            "Order 1 and more without waiting is fragmentation: ask for single pages. Order 0 is a shortage: reserves.",
            (
                Query(
                    total(
                        "kmwatch_site_failures_total",
                        "instance, module, site, kind, order, context",
                        f'outcome="real",{PLACE}',
                    )
                ),
            ),
            shape="table",
            rules=("KM202", "KM204", "KM210"),
            quiet="none: good",
            width=24,
        ),
        Panel(
            "Failures by outcome",
            "Real ones: nobody had a fallback. Opportunistic ones are how a fallback begins, and normal.",
            "A real one: the table above. Many opportunistic ones: *Large allocations and fragmentation*.",
            (Query(rate("kmwatch_failures_total", "kind, outcome"), "{{kind}} {{outcome}}"),),
            unit="cps",
            rules=("KM202", "KM203", "KM204"),
        ),
        Panel(
            "Failures by order and context",
            "Where and how large: softirq with order 3 is a network driver, process with order 9 a huge page.",
            "For atomic contexts compare with the headroom in *Zones and reserves*.",
            (
                Query(
                    total("kmwatch_site_failures_total", "order, context, outcome", PLACE),
                    "order {{order}}, {{context}}, {{outcome}}",
                ),
            ),
            rules=("KM202", "KM206"),
            quiet="no failure since kmwatch attached",
        ),
    ),
)

_CONTEXT = Row(
    "Where the kernel allocates, and with which flags",
    (
        Panel(
            "Allocations by context",
            "`process` may sleep, everything else may not; a kernel without preemption shows interrupts only.",
            "Growth in soft interrupts is usually network traffic; look at who in the busiest call sites.",
            (Query(top(12, rate("kmwatch_context_allocations_total", "context")), "{{context}}"),),
            unit="cps",
            rules=("KM201", "KM903"),
        ),
        Panel(
            "Allocations by GFP flags",
            "GFP_ATOMIC draws on reserves: much of it means that little is left when it matters.",
            "`kmwatch gfp NAME` takes a mask apart; GFP_NOWAIT with a fallback spares the reserves.",
            (Query(top(12, rate("kmwatch_gfp_allocations_total", "gfp")), "{{gfp}}"),),
            unit="cps",
            rules=("KM207", "KM208"),
        ),
    ),
)

BOARD = Board(
    "atomic",
    "kmwatch: Atomic context and failures",
    "Allocations that sleep where they must not, and those that failed and who made them.",
    (_BUGS, _FAILURES, _CONTEXT),
)
