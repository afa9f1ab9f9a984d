"""kmwatch's own health: whether its numbers can be trusted, and what they cost."""

from dashboards.model import Board, Panel, Query, Row
from dashboards.promql import HOST, rate, ratio, total

_TRUST = Row(
    "Can the numbers be trusted",
    (
        Panel(
            "Events lost",
            "Events that are in no number, by reason. A few in a million are normal on old kernels.",
            "Where it is for want of room, watch fewer kinds. The page of KM901 tells the rest.",
            (Query(rate("kmwatch_events_lost_total", "instance, reason"), "{{instance}} {{reason}}"),),
            unit="cps",
            rules=("KM901",),
        ),
        Panel(
            "How full the maps are",
            "A map near 1 loses new call sites, and rows that are missing are in no sum.",
            "Restart clears it; if it comes back watch fewer kinds (`kinds` in kmwatch.toml).",
            (
                Query(
                    f"kmwatch_map_entries{{{HOST}}} / on (instance, map) kmwatch_map_max_entries",
                    "{{instance}} {{map}}",
                ),
            ),
            unit="percentunit",
            rules=("KM901",),
            steps=(0.8, 0.95),
        ),
        Panel(
            "Step of the overhead budget",
            "0 is everything. Above it kmwatch watches less to stay in its budget, and its log says what.",
            "Raise `max_overhead`, or choose fewer kinds yourself, so that it is you who decides what is missing.",
            (Query(f"kmwatch_overhead_step{{{HOST}}}", "{{instance}}"),),
            rules=("KM901",),
        ),
        Panel(
            "Sampled share",
            "1 is every event. Below, counts are estimates: scaled up, and rough where they are small.",
            "Do not judge rare things by a sampled host.",
            (Query(f"kmwatch_sample_ratio{{{HOST}}}", "{{instance}}"),),
            unit="percentunit",
        ),
    ),
)

_COST = Row(
    "What it costs",
    (
        Panel(
            "Overhead",
            "The share of the host's CPU time that kmwatch's programs take, and its limit.",
            "Where it stays at the limit: drop the kind with most events (below).",
            (
                Query(f"kmwatch_overhead_ratio{{{HOST}}}", "{{instance}}"),
                Query(f"max(kmwatch_overhead_limit_ratio{{{HOST}}})", "limit"),
            ),
            unit="percentunit",
        ),
        Panel(
            "Time of one run",
            "Nanoseconds that a program takes for an event: about a hundred; it depends on the processor.",
            "A step after a kernel update is worth a look with `make bench`.",
            (
                Query(
                    ratio(rate("kmwatch_bpf_run_seconds_total"), rate("kmwatch_bpf_runs_total")),
                    "{{instance}}",
                ),
            ),
            unit="s",
        ),
        Panel(
            "Events",
            "What kmwatch counts, by kind: this is what costs.",
            "The largest kind is the one to drop where kmwatch must cost less.",
            (Query(rate("kmwatch_events_total", "kind"), "{{kind}}"),),
            unit="cps",
        ),
        Panel(
            "CPU time and memory of kmwatch itself",
            "The Python side: some per cent of one core, and memory that does not grow.",
            "Growing memory is a bug in kmwatch: report it with its version (below).",
            (
                Query(rate("kmwatch_own_cpu_seconds_total"), "{{instance}} cores"),
                Query(f"kmwatch_own_memory_bytes{{{HOST}}} / 1024 / 1024 / 1024", "{{instance}} GiB"),
            ),
        ),
        Panel(
            "Duration of a scrape",
            "The mean; a scrape does not wait for the kernel, so 100 ms are far too much.",
            "Lower `top` in kmwatch.toml: fewer call sites, fewer series.",
            (
                Query(
                    ratio(rate("kmwatch_scrape_duration_seconds_sum"), rate("kmwatch_scrape_duration_seconds_count")),
                    "{{instance}}",
                ),
            ),
            unit="s",
        ),
        Panel(
            "Series of a scrape",
            "What Prometheus keeps for each host; bounded by `top`, and flat.",
            "Steady growth is a bug in kmwatch.",
            (Query(f"scrape_samples_scraped and on (instance, job) kmwatch_build_info{{{HOST}}}", "{{instance}}"),),
        ),
    ),
)

_WHAT = Row(
    "What runs where",
    (
        Panel(
            "Versions",
            "kmwatch and kernel of each host: the first thing to ask when one host differs.",
            "Compare hosts of one kernel before you suspect a driver.",
            (Query(total("kmwatch_build_info", "instance, version, kernel")),),
            shape="table",
        ),
        Panel(
            "Programs attached",
            "Fewer than on a host with the same kernel: a probe was refused there, and its kind is missing.",
            "`kmwatch doctor --attach` on the host says which and why.",
            (Query(f"kmwatch_programs_attached{{{HOST}}}", "{{instance}}"),),
            rules=("KM903",),
            width=6,
        ),
        Panel(
            "Running for",
            "Counters begin anew when kmwatch does.",
            "Restarts that nobody asked for: `journalctl -u kmwatch`.",
            (Query(f"time() - kmwatch_start_time_seconds{{{HOST}}}", "{{instance}}"),),
            unit="s",
            width=6,
        ),
    ),
)

BOARD = Board(
    "itself",
    "kmwatch: kmwatch itself",
    "Whether kmwatch's numbers can be trusted on each host, and what they cost.",
    (_TRUST, _COST, _WHAT),
)
