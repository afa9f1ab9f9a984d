"""A stand-in for `kmwatch serve`: the metrics that dashboards and alerts rely on, with counters that grow.

It says what is expected of the exporter until there is one; nothing but the fixture `exporter` (conftest.py) uses it.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_KIND = 'kind="kmalloc"'
_SITE = 'site="lab_kmalloc",module="lab"'
# Name without kmwatch_, type, the labels of one sample, its value; a counter's is what it grows by in a second.
HEALTHY = (
    ("allocations_total", "counter", f'{_KIND},size_class="64"', 5e6),
    ("requested_bytes_total", "counter", f'{_KIND},size_class="64"', 2e8),
    ("allocated_bytes_total", "counter", f'{_KIND},size_class="64"', 3.2e8),
    ("wasted_bytes_total", "counter", f'{_KIND},size_class="64"', 1.2e8),
    ("frees_total", "counter", 'kind="kfree"', 5e6),
    ("failures_total", "counter", f'{_KIND},outcome="real"', 0),
    ("site_allocations_total", "counter", f"{_SITE},{_KIND}", 1e6),
    ("site_requested_bytes_total", "counter", f"{_SITE},{_KIND}", 4e7),
    ("site_allocated_bytes_total", "counter", f"{_SITE},{_KIND}", 6.4e7),
    ("site_wasted_bytes_total", "counter", f"{_SITE},{_KIND}", 2.4e7),
    ("slab_allocations_total", "counter", 'slab="kmalloc-64"', 5e6),
    ("slab_allocated_bytes_total", "counter", 'slab="kmalloc-64"', 3.2e8),
    ("gfp_allocations_total", "counter", 'gfp="GFP_KERNEL"', 5e6),
    ("context_allocations_total", "counter", 'context="process"', 5e6),
    ("zone_pages_total", "counter", 'zone_asked="Normal",zone="DMA32"', 4e5),
    ("page_allocations_total", "counter", 'order="0",migratetype="Movable"', 4e5),
    ("direct_reclaims_total", "counter", "", 0),
    ("compactions_total", "counter", "", 0),
    ("extfrag_total", "counter", 'migratetype="Unmovable"', 3),
    ("oom_victims_total", "counter", "", 0),
    ("free_blocks", "gauge", 'node="0",zone="Normal",order="3"', 412),
    ("atomic_headroom_blocks", "gauge", 'order="3"', 380),
    ("programs_attached", "gauge", "", 21),
    ("bpf_run_seconds_total", "counter", "", 3.5),
    ("bpf_runs_total", "counter", "", 3e7),
    ("events_total", "counter", _KIND, 5e6),
    ("events_lost_total", "counter", 'reason="recursion"', 0),
    ("map_entries", "gauge", 'map="ledger"', 4066),
    ("map_max_entries", "gauge", 'map="ledger"', 65536),
    ("overhead_ratio", "gauge", "", 0.004),
    ("overhead_limit_ratio", "gauge", "", 0.01),
    ("overhead_step", "gauge", "", 0),
    ("sample_ratio", "gauge", "", 1),
    ("scrape_duration_seconds", "summary", "", 0.01),
    ("own_memory_bytes", "gauge", "", 9e7),
    ("own_cpu_seconds_total", "counter", "", 12.5),
    ("build_info", "gauge", 'version="0.1.0",kernel="6.12"', 1),
    ("start_time_seconds", "gauge", "", 1.7e9),
)
# Fault -> what there is only with it. The names are those of EMPTY_WHEN_HEALTHY.
FAULTS = {
    "sleeping in atomic context": (
        ("site_sleeping_in_atomic_total", "counter", f'{_SITE},context="process+preempt-off"', 53),
        ("findings", "gauge", 'rule="KM201",name="sleeping-allocation-in-atomic-context",severity="error"', 1),
    ),
    "failures": (
        (
            "site_failures_total",
            "counter",
            f'{_SITE},kind="page_alloc",order="3",context="softirq",outcome="real"',
            7,
        ),
        ("gfp_allocations_total", "counter", 'gfp="GFP_ATOMIC"', 31),
    ),
    "large allocations": (("site_large_allocations_total", "counter", f'{_SITE},order="4"', 11),),
}


def text(faults: tuple[str, ...] = (), seconds: float = 1) -> str:
    """The page of metrics after so many seconds, of a healthy host or with these faults."""
    families: dict[tuple[str, str], list[str]] = {}
    for name, kind, labels, value in (*HEALTHY, *(line for fault in faults for line in FAULTS[fault])):
        now = value if kind == "gauge" else value * seconds
        suffixes = ("_sum", "_count") if kind == "summary" else ("",)
        families.setdefault((name, kind), []).extend(
            f"kmwatch_{name}{suffix}{{{labels}}} {now}".replace("{}", "") for suffix in suffixes
        )
    return "".join(
        "\n".join([f"# HELP kmwatch_{name} As docs/metrics.md says.", f"# TYPE kmwatch_{name} {kind}", *lines, ""])
        for (name, kind), lines in families.items()
    )


@contextmanager
def serving(faults: tuple[str, ...] = ()) -> Iterator[str]:
    """Serve the page on loopback; gives host:port."""
    begin = time.monotonic()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(text(faults, time.monotonic() - begin).encode())

        def log_message(self, *_: object) -> None:
            """Nothing: pytest's output is for tests."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
