"""The one table of metrics: name, type, unit, labels, help. Nothing else defines a metric; docs/metrics.md shows it."""

from dataclasses import dataclass

PREFIX = "kmwatch_"

LABELS = {
    "kind": "what was observed, as `--kinds` names it",
    "size_class": "bytes that kmalloc or the page allocator takes for one, empty for the other kinds",
    "outcome": "`real`, or `opportunistic` where the caller expects failure and has a fallback",
    "site": "the function that asked; `other` is the rest, those outside the top",
    "module": "the module of the site, empty in the kernel itself and for the rest",
    "order": "2^order contiguous pages",
    "context": "`process`, `softirq`, `hardirq`, `nmi` or `unknown`, with what else held: `softirq+rcu`",
    "slab": "the cache as /proc/slabinfo names it, and so node_exporter; `other` is the rest, empty is none",
    "gfp": "the flags in this kernel's words, its combinations first",
    "zone_asked": "the highest zone that the flags allow",
    "zone": "the zone that the pages are in, empty where it is not known",
    "node": "the NUMA node",
    "migratetype": "the mobility that was asked for, empty where it is not known",
    "rule": "the code of the rule: `kmwatch explain CODE` tells what to do",
    "name": "the name of the rule",
    "severity": "`error`, `warning` or `notice`",
    "reason": "what kept events from being counted, or makes the count doubtful: the words of `trust` in a report",
    "map": "a table that the programs keep in the kernel",
    "table": "a family of metrics that shows its top only",
    "version": "of kmwatch",
    "kernel": "its release, as `uname -r` tells it",
}
"""What each label says; none has values without bound."""

EXEMPLAR_LABELS = {
    "bytes": "what was asked for; whole pages where only these are known",
    "order": LABELS["order"] + ", where the series does not tell it",
    "comm": "the command that ran; not where an interrupt asked",
    "site": "the function that asked, where the series does not tell it",
}
"""What an exemplar says, the first first: 128 characters are all that OpenMetrics gives it, and the last is cut."""


@dataclass(frozen=True)
class Metric:
    """One metric.

    name: without the prefix; a counter's ends in `_total`.
    type: counter, gauge or histogram. unit: as the name tells it, "" for what is counted in pieces.
    labels: names of LABELS. help: a sentence, without a full stop.
    exemplars: whether its series show the latest failure that they count, as labels of EXEMPLAR_LABELS.
    """

    name: str
    type: str
    unit: str
    labels: tuple[str, ...]
    help: str
    exemplars: bool = False

    @property
    def full(self) -> str:
        """The name with its prefix, as queries use it."""
        return PREFIX + self.name

    @property
    def family(self) -> str:
        """The name of its family in OpenMetrics: a counter's goes without `_total`."""
        return self.full.removesuffix("_total")


def _counter(name: str, labels: str, words: str, unit: str = "", *, exemplars: bool = False) -> Metric:
    return Metric(f"{name}_total", "counter", unit, tuple(labels.split()), words, exemplars)


def _gauge(name: str, labels: str, words: str, unit: str = "") -> Metric:
    return Metric(name, "gauge", unit, tuple(labels.split()), words)


_SITE = "site module kind"
GROUPS: dict[str, tuple[Metric, ...]] = {
    "Totals": (
        _counter("allocations", "size_class kind", "Allocations that succeeded, each piece of memory counted once"),
        _counter("requested_bytes", "size_class kind", "Bytes that allocations asked for", "bytes"),
        _counter("allocated_bytes", "size_class kind", "Bytes that allocations took", "bytes"),
        _counter("wasted_bytes", "size_class kind", "Bytes that allocations took and did not ask for", "bytes"),
        _counter("frees", "kind", "Releases; their size is not known"),
        _counter("failures", "kind outcome", "Allocations that failed", exemplars=True),
        _counter(
            "sleeping_in_atomic", "kind", "Allocations that may sleep where sleeping is a bug, as rule KM201 says"
        ),
        _counter("gfp_allocations", "gfp", "Allocations that succeeded, by their flags"),
        _counter("context_allocations", "context", "Allocations that succeeded, by where the CPU was"),
        _counter("page_allocations", "order migratetype", "Page allocations, those for slabs and areas included"),
        _counter("zone_pages", "zone_asked zone", "Pages allocated, those for slabs and areas included"),
    ),
    "Sites": (
        _counter("site_allocations", _SITE, "Allocations that succeeded, by site; the rest is site other"),
        _counter("site_requested_bytes", _SITE, "Bytes asked for, by site", "bytes"),
        _counter("site_allocated_bytes", _SITE, "Bytes taken, by site", "bytes"),
        _counter("site_wasted_bytes", _SITE, "Bytes taken and not asked for, by site", "bytes"),
        _counter("site_failures", f"{_SITE} order context outcome", "Allocations that failed, by site", exemplars=True),
        _counter(
            "site_sleeping_in_atomic", f"{_SITE} context", "Allocations that may sleep where that is a bug, by site"
        ),
        _counter("site_large_allocations", "site module order", "kmallocs above the largest size class, by site"),
        _counter("slab_allocations", "slab", "Objects taken from named caches; kmalloc has size classes instead"),
        _counter("slab_allocated_bytes", "slab", "Bytes of objects taken from named caches", "bytes"),
        _gauge("top_entries", "table", "Sites and slabs that have series of their own"),
        _gauge("top_entries_limit", "table", "How many can have series of their own; above it all goes to other"),
    ),
    "Held": (
        _gauge("held_objects", "kind slab", "Objects that are held, of those allocated since the start; an estimate"),
        _gauge("held_bytes", "kind slab", "Bytes that these take", "bytes"),
        _gauge("held_wasted_bytes", "kind slab", "Bytes that these take and were not asked for", "bytes"),
        _gauge(
            "held_grade",
            "kind slab",
            "How far to believe what is held: 0 A, right but for the sample; 1 B; 2 C, about right; 3 D, unknown",
        ),
        _gauge("site_held_objects", _SITE, "Objects that are held, by site; without those of grade D"),
        _gauge("site_held_bytes", _SITE, "Bytes that these take, by site", "bytes"),
        _gauge("site_held_wasted_bytes", _SITE, "Bytes that these take and were not asked for, by site", "bytes"),
        _gauge("held_sample_ratio", "", "The share of objects that is followed; all are estimated from them", "ratio"),
    ),
    "Findings": (_gauge("findings", "rule name severity", "Findings of the rules that hold in the last window"),),
    "Memory pressure": (
        _counter("direct_reclaims", "", "Allocations that had to free memory themselves first"),
        _counter("compactions", "", "Allocations that had to move pages first"),
        _counter(
            "extfrag",
            "migratetype",
            "Page blocks of another mobility that pages were taken from: fragmentation that stays",
        ),
        _counter("oom_victims", "", "Processes that the kernel killed for their memory"),
        _gauge("free_blocks", "node zone order", "Free blocks of exactly this order", "blocks"),
        _gauge(
            "atomic_headroom_blocks",
            "order",
            "Further GFP_ATOMIC allocations of the order that would succeed now, by the kernel's own test",
            "blocks",
        ),
    ),
    "kmwatch itself": (
        _gauge("programs_attached", "", "BPF programs that are attached"),
        _counter("bpf_run_seconds", "", "CPU time in the BPF programs", "seconds"),
        _counter("bpf_runs", "", "Runs of the BPF programs"),
        _counter("events", "kind", "Events counted"),
        _counter("events_lost", "reason", "Events not counted: all other numbers are that much too low"),
        _counter("events_doubtful", "reason", "Events counted, with something about them unknown or put right"),
        _gauge("map_entries", "map", "Entries in use"),
        _gauge("map_max_entries", "map", "Entries that there is room for"),
        _gauge("overhead_ratio", "", "CPU time of the BPF programs, as a share of all CPUs' time", "ratio"),
        _gauge("overhead_limit_ratio", "", "The share above which kmwatch lowers its own cost", "ratio"),
        _gauge("overhead_step", "", "Steps taken to lower its own cost; 0 is full detail"),
        _gauge(
            "sample_ratio",
            "",
            "The share of allocations that is looked at; the others are estimated from them",
            "ratio",
        ),
        Metric("scrape_duration_seconds", "histogram", "seconds", (), "Time to answer a scrape"),
        _gauge("own_memory_bytes", "", "Resident memory of kmwatch", "bytes"),
        _counter("own_cpu_seconds", "", "CPU time of kmwatch outside of the BPF programs", "seconds"),
        _gauge("read_timestamp_seconds", "", "When the counters were last read, since the epoch", "seconds"),
        _gauge("start_time_seconds", "", "When counting began, since the epoch", "seconds"),
        _gauge("build_info", "version kernel", "Always 1: what runs here"),
    ),
}
"""All metrics by the chapter that they stand in."""

METRICS: dict[str, Metric] = {metric.name: metric for group in GROUPS.values() for metric in group}
"""Every metric by its name without the prefix."""
