"""The first look: is anything wrong, where, and since when."""

from dashboards.model import Board, Panel, Query, Row
from dashboards.promql import HOST, SITE, grown, rate, ratio, top, total

_HEALTH = Row(
    "At a glance",
    (
        Panel(
            "Hosts that report",
            "A number below that of your hosts.",
            "Look at *kmwatch itself* and the alert KmwatchDown: without kmwatch a host looks healthy everywhere else.",
            (Query(f"count(kmwatch_build_info{{{HOST}}})"),),
            shape="number",
            width=4,
        ),
        Panel(
            "Real failures",
            "Anything but none: a request failed that had no fallback, in the time shown.",
            "Open *Atomic context and failures* for the call site, and ask its owner what happens on NULL.",
            (Query(f'sum(increase(kmwatch_failures_total{{outcome="real",{HOST}}}[$__range]))'),),
            shape="number",
            rules=("KM202", "KM204"),
            steps=(1,),
            width=4,
        ),
        Panel(
            "Sleeping in atomic context",
            "Anything but none: each is a deadlock waiting for memory to be short.",
            "Open *Atomic context and failures* for the call site; it is a bug whenever it happens.",
            (Query(grown("kmwatch_site_sleeping_in_atomic_total")),),
            shape="number",
            rules=("KM201",),
            quiet="none",
            steps=(1,),
            width=4,
        ),
        Panel(
            "Waste",
            "The share of what kmalloc allocates that nobody asked for; a tenth to a sixth is usual.",
            "Above a quarter open *Rounding waste*: a few call sites make most of it.",
            (
                Query(
                    ratio(
                        f'sum(rate(kmwatch_wasted_bytes_total{{kind="kmalloc",{HOST}}}[$__rate_interval]))',
                        f'sum(rate(kmwatch_allocated_bytes_total{{kind="kmalloc",{HOST}}}[$__rate_interval]))',
                    )
                ),
            ),
            unit="percentunit",
            shape="number",
            rules=("KM101", "KM102"),
            steps=(0.25, 0.4),
            width=4,
        ),
        Panel(
            "Least order-3 headroom",
            "How many blocks of 32 KiB GFP_ATOMIC could still have on the host that has fewest.",
            "At zero the next network card or radio that wants one fails: open *Zones and reserves*.",
            (Query(f'min(kmwatch_atomic_headroom_blocks{{order="3",{HOST}}})'),),
            shape="number",
            rules=("KM202", "KM206"),
            width=4,
        ),
        Panel(
            "Largest overhead",
            "The share of one host's CPU time that kmwatch's programs take, on the host where it is largest.",
            "Near its limit kmwatch watches less (*kmwatch itself* says what); raise `--max-overhead` or drop kinds.",
            (Query(f"max(kmwatch_overhead_ratio{{{HOST}}})"),),
            unit="percentunit",
            shape="number",
            steps=(0.01, 0.02),
            width=4,
        ),
    ),
)

_FINDINGS = Row(
    "What the rules say",
    (
        Panel(
            "Findings",
            "Rules that found something in the last minutes, and on how many call sites; errors first.",
            "`kmwatch explain CODE` is the page of a rule; `kmwatch report live` on the host names the sites.",
            (Query(total("kmwatch_findings", "severity, rule, name, instance")),),
            shape="table",
            quiet="no findings",
        ),
        Panel(
            "Failures",
            "Real failures at all, and opportunistic ones that grow: contiguous memory is getting short.",
            "Real: *Atomic context and failures*. Opportunistic: *Large allocations and fragmentation*.",
            (Query(rate("kmwatch_failures_total", "outcome"), "{{outcome}}"),),
            unit="cps",
            rules=("KM202", "KM203", "KM204"),
        ),
    ),
)

_LOAD = Row(
    "What the kernel allocates",
    (
        Panel(
            "Allocations",
            "A step that no deployment explains, or one kind that leaves the others behind.",
            "See which call sites below; `kmwatch top` on the host shows them live.",
            (Query(rate("kmwatch_allocations_total", "kind"), "{{kind}}"),),
            unit="cps",
        ),
        Panel(
            "Allocated bytes",
            "The same in bytes: many small allocations cost CPU time, large ones cost memory.",
            "For pages look at the orders in *Large allocations and fragmentation*.",
            (Query(rate("kmwatch_allocated_bytes_total", "kind"), "{{kind}}"),),
            unit="Bps",
        ),
        Panel(
            "Busiest call sites",
            "Who allocates most often; a driver at the top on an idle host is worth a question.",
            "`kmwatch whatif live` on the host says what a cache of its own would save.",
            (
                Query(
                    top(10, rate("kmwatch_site_allocations_total", "site, module, kind", SITE)), "{{site}} {{module}}"
                ),
            ),
            unit="cps",
            rules=("KM101", "KM306"),
        ),
        Panel(
            "Pressure",
            "Direct reclaim and compaction: allocations that had to make room first, and were slow.",
            "If they come with failures, memory is short or in pieces: *Zones and reserves* tells which.",
            (
                Query(rate("kmwatch_direct_reclaims_total", "instance"), "{{instance}} direct reclaim"),
                Query(rate("kmwatch_compactions_total", "instance"), "{{instance}} compaction"),
                Query(rate("kmwatch_oom_victims_total", "instance"), "{{instance}} OOM victims"),
            ),
            unit="cps",
            rules=("KM208", "KM503"),
        ),
    ),
)

BOARD = Board(
    "overview",
    "kmwatch: Overview",
    "Is anything wrong with how these kernels allocate memory? Begin here.",
    (_HEALTH, _FINDINGS, _LOAD),
)
