#!/usr/bin/env python3
"""Write the pages of docs/ that show tables of the code: rules, observations, metrics, and so on.

`python scripts/generate_docs.py` writes them; tests/test_docs.py fails while they differ from the code.
"""

import math
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import click

import kmwatch.rules  # noqa: F401  # enters the rules
from benchmarks import arithmetic, harness
from kmwatch import contexts, schema, terms
from kmwatch.capture import counts
from kmwatch.capture.database import VIEWS, WHOSE
from kmwatch.capture.layout import EVENTS, TABLES, VERSION, Field
from kmwatch.cli import cli
from kmwatch.findings import CONFIDENCES, RULES, Rule
from kmwatch.ledger import ALLOCATIONS, FREES, MAPPINGS, PRESSURE
from kmwatch.metrics import EXEMPLAR_LABELS, GROUPS, LABELS, METRICS, Metric
from kmwatch.sources.probes import FUNCTIONS, PROBES, Function, Probe
from kmwatch.thresholds import Threshold
from kmwatch.thresholds import table as thresholds
from kmwatch.units import span
from kmwatch.views.export.formats import FORMATS
from kmwatch.views.export.measures import WORDS

DOCS = Path(__file__).resolve().parent.parent / "docs"
HELP_WIDTH = 88  # columns of the help texts: they fit a narrow page without scrolling

# A name or several joined by the kernel's own punctuation: `kmem:mm_page_alloc`, `__GFP_HIGH|__GFP_IO`, `vfree()`.
_TOKEN = re.compile(r"/?\w+(?:[:|/]\w+)*(?:\(\))?")

_SEVERITIES = {
    "error": "a bug that can hang or crash",
    "warning": "wasteful or fragile",
    "notice": "worth knowing",
}
_FAMILIES = {
    "KM1": "Rounding waste",
    "KM2": "Atomic context and failures",
    "KM3": "Large allocations and allocators that do not fit",
    "KM4": "GFP flags",
    "KM5": "Zones and fragmentation",
    "KM6": "Lifetime and leaks",
    "KM9": "Trust in the data",
}


def rules() -> str:
    """docs/rules.md: the rule book, from the docstrings of the rules."""
    book = sorted(RULES.values(), key=lambda rule: rule.code)
    parts = [
        "# Rules",
        _RULES,
        _bullets(f"**{name}**: {meaning}" for name, meaning in _SEVERITIES.items()),
        _CONFIDENCE,
        _bullets(f"**{name}**: {meaning}" for name, meaning in CONFIDENCES.items()),
        _table(
            ("code", "severity", "name"),
            [(f"[{rule.code}](#{anchor(_heading(rule))})", rule.severity, f"`{rule.name}`") for rule in book],
        ),
    ]
    for family, title in _FAMILIES.items():
        members = [rule for rule in book if rule.code.startswith(family)]
        if members:
            parts += [f"## {title}", *(_rule(rule) for rule in members)]
    heads = ("threshold", "default", "unit", "why")
    parts += ["## Thresholds", _THRESHOLDS, _table(heads, map(_threshold, thresholds()))]
    return _page(parts)


_RULES = """\
What kmwatch finds by itself. `kmwatch rules` lists the rules, `kmwatch explain KM201` shows one of these pages, and the
`findings` of a report name them by code and name."""


_CONFIDENCE = """\
Each finding says how sure it is; a text report names it where it is not certain:"""
_THRESHOLDS = """\
What rules, and the survey of a [fleet](fleet.md), speak from. A file `kmwatch.toml` in the working directory, or the
one that `--config` names, changes them: a table `[thresholds]`, and in it `NAME = NUMBER`. Limits that are the kernel's
own are none of these: they are read from the kernel that was watched."""


def _threshold(each: Threshold) -> tuple[str, str, str, str]:
    return f"`{each.name}`", f"{each.default:.10g}", each.unit, _text(each.reason)


def _heading(rule: Rule) -> str:
    return f"{rule.code} {rule.name}"


def _rule(rule: Rule) -> str:
    shown = [f"### {_heading(rule)}", f"*{rule.severity}, since {rule.since}.* {_text(rule.summary)}"]
    shown += [f"**{heading}:** {_text(text)}" for heading, text in rule.sections.items()]
    return "\n\n".join(shown)


def observations() -> str:
    """docs/observations.md: what is counted, from bpf/events.h, records.h and the table of probes."""
    parts = ["# Observations", _OBSERVATIONS, "## Kinds", _KINDS]
    groups = (
        ("Allocations", ALLOCATIONS, "They take memory, and are what reports and most rules are about."),
        ("Mappings", MAPPINGS, "They give addresses to memory that exists already, so their bytes are in no total."),
        ("Releases", FREES, "They are counted, with the site where the event tells it; their size is not known."),
        ("Pressure", PRESSURE, "Signs that memory is short or fragmented: the surroundings of a failure."),
    )
    for title, kinds, words in groups:
        rows = [
            (f"`{kind.name.lower()}`", *_source_and_words(schema.values("kind")[kind.name.lower()][1]))
            for kind in kinds
        ]
        parts += [f"### {title}", words, _table(("kind", "event", "what it is"), rows)]
    parts += ["## Context", _CONTEXT, _table(("word", "meaning"), _contexts())]
    parts += ["## Rows", _ROWS]
    for struct, title, words in _STRUCTS:
        members = [
            (f"`{each.name}`", _linked(each.doc), each.unit) for each in schema.members(struct) if each.name != "unused"
        ]
        parts += [f"### {title}", words, _table(("field", "what it is", "unit"), members)]
    parts += ["### Passed through", _VIA, _table(("bit", "name", "meaning"), _bits("via"))]
    parts += ["## Probes", _PROBES, _table(("tracepoint", "kinds", "attached as", "kernels"), map(_probe, PROBES))]
    parts += [
        "### Functions",
        _FUNCTIONS,
        _table(("name", "kinds", "functions", "otherwise"), map(_function, FUNCTIONS)),
    ]
    parts += ["## Losses", _LOSSES, _table(("counter", "counts"), [row[1:] for row in _bits("counter")])]
    return _page(parts)


_OBSERVATIONS = """\
What kmwatch counts, and how. Programs in the kernel add every event to a row of a table, the ledger; nothing else
leaves the kernel, and no address leaves the machine. The structs and numbers below are those of `bpf/events.h` and
`bpf/records.h`; the published form of a report is [report.schema.json](report.schema.json)."""
_KINDS = """\
The names are those of `--kinds`, of the reports and of the metrics. Without `--kinds` everything is observed."""
_CONTEXT = """\
Where the CPU was when it allocated, read from the real `preempt_count`. A report writes the place first and then what
else held, in the order of this table: `softirq+preempt-off+rcu`. A bare `process` may sleep; everything else that is
known may not."""
_ROWS = """\
A row is a key, which tells apart, and a value, which counts. Call sites are symbol and offset (`load_msg+0x41`): the
source replaces addresses by names before anything else sees them."""
_STRUCTS = (
    ("ledger_key", "Key", "Events that agree in all of these are one row."),
    ("ledger_value", "Value", "The sums of a row, per CPU in the kernel and added up when it is read."),
    ("cache_info", "Caches", "Read once for each `kmem_cache`, when it is first seen."),
)
_ELSEWHERE = {
    "enum kind": "the [kind](#kinds)",
    "enum context": "the [context](#context)",
    "enum via": "the allocators [passed through](#passed-through)",
}
_VIA = """\
The bits of `via`. Pages that the slab allocator, vmalloc or the per-CPU allocator take for themselves are memory that
is counted there already: such rows have `counted_once` false in a report and are in no total."""
_PROBES = """\
Each is a tracepoint of the kernel. It is attached as a raw tracepoint, which is cheaper, where the kernel's type
information (BTF) shows exactly the arguments that `bpf/compat.h` was written for, and as an ordinary one otherwise.
`kmwatch doctor` tells what the running kernel offers."""
_FUNCTIONS = """\
Where the kernel has kprobes, or allows fentry, these functions are probed themselves: they tell the size as it was
asked for and the flags, and a kprobe sees whether interrupts were off. Arguments are checked against BTF. Where a
compiler has put copies of `__vmalloc_node_range()` into its callers, the two functions that all copies call stand in.
Without either, the tracepoint tells, as far as the kernel has it."""
_LOSSES = """\
What the programs could not count, they count as a loss. A report prints it under `trust`, and rule KM901 judges it."""


def _contexts() -> list[tuple[str, str]]:
    """The words of a context in the order in which a report writes them."""
    places = [("process", "none of the others: system calls and kernel threads")]
    found = {contexts.name(bit).removeprefix("process+"): doc for bit, doc in schema.values("context").values()}
    first = [name for name in found if name in ("softirq", "hardirq", "nmi")]
    last = [name for name in found if name not in (*first, "unknown")]
    return [
        (f"`{name}`", _text(doc))
        for name, doc in [*places, *((name, found[name]) for name in (*first, *last, "unknown"))]
    ]


def _linked(doc: str) -> str:
    """What a field is, with links to the tables of its numbers."""
    enum, comma, rest = doc.partition(",")
    return _ELSEWHERE[enum] + comma + _text(rest) if enum in _ELSEWHERE else _text(doc)


def _source_and_words(doc: str) -> tuple[str, str]:
    """`kmem:kmalloc: an allocation …` as the event, and what it is."""
    event, _, meaning = doc.partition(": ")
    return re.sub(r"\w+:\w+|\w+_\w+", r"`\g<0>`", event), _text(meaning)


def _bits(name: str) -> list[tuple[str, str, str]]:
    return [(str(number), f"`{word}`", _text(doc)) for word, (number, doc) in schema.values(name).items()]


def _probe(probe: Probe) -> tuple[str, str, str, str]:
    ways = "raw tracepoint, tracepoint" if probe.raw else "tracepoint"
    kernels = probe.note or ("before Linux 6.1" if probe.old else "all")
    return (
        f"`{probe.category}:{probe.event}`",
        ", ".join(f"`{kind.name.lower()}`" for kind in probe.kinds),
        ways,
        kernels,
    )


def _function(function: Function) -> tuple[str, str, str, str]:
    return (
        f"`{function.category}:{function.event}`",
        ", ".join(f"`{kind.name.lower()}`" for kind in function.kinds),
        ", ".join(f"`{name}`" for name in function.names),
        f"`{function.tracepoint}`" + ("" if function.better else ", which is preferred"),
    )


def metrics() -> str:
    """docs/metrics.md: the table of metrics."""
    parts = ["# Metrics", _METRICS]
    for title, group in GROUPS.items():
        parts += [f"## {title}", _table(("metric", "type", "labels", "what it is"), map(_metric, group))]
    parts += [
        "## Labels",
        _LABELS,
        _table(("label", "what it says"), [(f"`{k}`", _text(v)) for k, v in LABELS.items()]),
    ]
    having = [f"* `{metric.full}`" for metric in METRICS.values() if metric.exemplars]
    told = _table(("label", "what it says"), [(f"`{k}`", _text(v)) for k, v in EXEMPLAR_LABELS.items()])
    return _page([*parts, "## Tops", _TOPS, "## Exemplars", _EXEMPLARS, "\n".join(having), told])


_METRICS = """\
What `kmwatch serve` shows to Prometheus, as OpenMetrics or in Prometheus's own text format. Counters count since
`kmwatch_start_time_seconds` and never go back; rates and shares are for queries to compute. Pages that are taken for
slabs, vmalloc areas and per-CPU chunks are memory that is counted there, once; they are pages in
`kmwatch_page_allocations_total` and `kmwatch_zone_pages_total` only."""
_LABELS = """\
None has values without bound: what comes from a table of the kernel's is as long as that, and the longer ones have a
top and the rest, `other`. What is really called `other` is counted there as well."""
_TOPS = """\
Metrics by `site` and `slab` have series for a top only: `top` entries (see the configuration of `serve`) by each of
allocations, bytes taken, bytes wasted and failures for sites, by the count itself for the others. Lately gained counts
more than what was gained long ago. An entry keeps its series until it has gained nothing at the top for `idle` seconds;
at most eight times `top` have one, and others wait.

* The series of all entries and of `other` add up to the total at any time. For rates of everything use the totals:
  `other` jumps when an entry's sums join it.
* A series begins at 0; what the entry did before is in `other`. Failures and sleeping allocations are counted in a
  series of their own at once, as one tells all: ask whether the series is there, not for its rate alone.
* An entry that comes back begins at 0 again. OpenMetrics tells when (`_created`).
* What is held has the `top` largest sites by bytes at each reading, and eight times as many caches. Series come and go;
  sums over all stay. Of a cache of grade D there is the grade alone, and sites are without it. Nothing of it is shown
  while the overhead budget samples allocations: those that are left out are not followed, then and later."""

_EXEMPLARS = """\
In OpenMetrics, a series of these counters shows the latest failure that kmwatch saw of what it counts, with its time.
The kernel's programs look at one failure a second of each kind and caller, and at a few hundred of these: where
failures are many, it is one of the last. The rest, `other`, has none, and nothing has where BTF does not show what is
free (`kmwatch doctor`). Double quotes are shown as single ones."""


def _metric(metric: Metric) -> tuple[str, str, str, str]:
    return f"`{metric.full}`", metric.type, ", ".join(f"`{label}`" for label in metric.labels), _text(metric.help)


def commands() -> str:
    """docs/commands.md: the help of every command."""
    parts = ["# Commands", "What `kmwatch COMMAND --help` prints.", "## kmwatch", _help(cli, None)]
    for name in sorted(cli.commands):
        parts += [f"## {name}", _help(cli.commands[name], name)]
    return _page(parts)


def _help(command: click.Command, name: str | None) -> str:
    parent = click.Context(cli, info_name="kmwatch", terminal_width=HELP_WIDTH, **cli.context_settings)
    parent.terminal_width = HELP_WIDTH
    context = click.Context(command, parent=parent, info_name=name) if name else parent
    return f"```text\n{command.get_help(context)}\n```"


def words() -> str:
    """docs/terms.md: every flag, allocator and word that `kmwatch explain` knows; what was said, and what holds."""
    parts = ["# Terms", _TERMS]
    flags = (
        ("GFP combinations", terms.COMBINATIONS, "What callers pass."),
        ("GFP flags", terms.MODIFIERS, "Single bits, to be combined with the above."),
        ("Historical flags", terms.HISTORICAL, "Names in old code and old texts that today's kernel does not have."),
    )
    for title, members, sentence in flags:
        rows = [
            (f"`{flag.name}`", _text(flag.summary), _sleeps(flag.may_sleep), _text(flag.article), _text(flag.today))
            for flag in members.values()
        ]
        parts += [f"## {title}", sentence, _table(("flag", "in short", "may sleep", "then", "today"), rows)]
    for title, shape in (("Allocators", terms.Allocator), ("Words", terms.Concept)):
        entries = [
            (f"`{term.name}`", _text(term.summary), _text(term.article), _text(term.today))
            for term in terms.TERMS.values()
            if isinstance(term, shape)
        ]
        parts += [f"## {title}", _table(("name", "in short", "then", "today"), entries)]
    return _page(parts)


_TERMS = """\
What `kmwatch explain NAME` knows, in short; the command tells more, and what holds on the running kernel. *Then* is
what the classic texts on kernel memory say (Linux 2.4 to 4.x), *today* what is true now; an empty field means that
there is nothing to add."""


def _sleeps(value: bool | None) -> str:
    return {True: "yes", False: "no", None: ""}[value]


def capture_format() -> str:
    """docs/capture-format.md: the files of a capture and their columns, and the views that SQL sees."""
    parts = ["# Capture format", _CAPTURE, _table(("file", "what it holds"), _FILES), "## journal.jsonl", _JOURNAL]
    parts += ["## events-NNNNN.parquet", _EVENTS, _fields(EVENTS), _COUNTS]
    for name, fields in TABLES.items():
        parts += [f"## {name}", _fields(fields)]
    parts += ["## Views for SQL", _VIEWS]
    for name, fields in VIEWS.items():
        parts += [f"### {name}", _fields(fields)]
    parts += ["### Of a fleet", _FLEET_VIEWS, _fields(WHOSE)]
    return _page(parts)


_CAPTURE = f"""\
A capture is a directory, version {VERSION} of the format. It holds every event by itself, and all that is needed to
read it on another machine: the kernel's GFP flags, size classes, zones and symbols. There is no kernel address in it:
call sites are symbols, pointers are scrambled under keys that are kept nowhere, so that equal ones stay equal and
nothing else is left.

A file is written under a temporary name, made durable (fsync), told to the journal, and only then gets its name. The
tables are written before the events that refer to them, again as they grow, and only grow. So a recording that is
killed, or loses power, has everything up to its last complete segment.

Parquet files are version 2 with zstd: DuckDB, Spark, Polars and others read them."""
_FILES = (
    (
        "`meta.json`",
        (
            "format and version; host, kernel, boot id; start (seconds since the epoch, and as `monotonic` on "
            "CLOCK_MONOTONIC); GFP table, allocator limits, zones; how the context was seen; probes, and the fields of "
            "their tracepoints; kinds, stacks, command; `imported`, what a text left in doubt; `end`, once it ended: "
            "why, seconds, events, lost events in all and by kind"
        ),
    ),
    ("`journal.jsonl`", "one line for each file that was completed, with its SHA-256"),
    ("`events-NNNNN.parquet`", "the events, of a second or a million in each"),
    ("`keys`, `symbols`, `stacks`, `tasks` `.parquet`", "what events refer to"),
)
_JOURNAL = """\
A line of the journal is the CRC-32 of the rest in eight hexadecimal digits, a space, and a JSON object:

* `file`, `bytes`, `sha256`: a file was completed. Of several lines for a table, the last one whose file got its name
  holds.
* for events also `events` (count), `start` and `seconds` (the span, in seconds since the start), `first` and `last`
  (time of the first and last event, in nanoseconds), `trust` (events lost, and other doubts, as in a report), and
  `cost` (CPU seconds in the kernel's programs and in kmwatch). Without `file` it is a span that had no event.
* `dropped`: a segment was removed (`--rotate`); `dropped_events` counts the events that went so, in all.
* `end`: the recording ended in order. A journal without it is of one that was cut.

A reader checks each file against its digest. Damaged or missing segments are left out, count as lost and are named
with every result; without `meta.json`, the journal or the tables nothing is told."""
_EVENTS = """\
Events come in the order in which they were read, CPU by CPU: order by `time` where order matters. A `key` is a row of
the ledger: with `requested` beside it, everything follows that a report shows."""
_ALIKE = ", ".join(f"`{name}` ({counts.ALIKE[name].name})" for name in counts.ALIKE.names or ())
_COUNTS = f"""\
The file's own metadata (`parquet_kv_metadata` in DuckDB) has, as `{counts.NAME}`, how often each `key` comes with each
`requested`, where that saves something: {_ALIKE}, little endian, for each pair. A report on a
whole capture is made of these; one that asks when, or who, reads the events. Other readers need not know of them."""
_VIEWS = """\
What `kmwatch sql` offers, with names in place of numbers. `describe events` lists the columns."""
_FLEET_VIEWS = """\
Over a [fleet](fleet.md) each view has these columns before its own. Numbers (`symbol`, `stack`, `task`) and scrambled
pointers mean something within their capture only: join on `capture` and the number."""


def _fields(fields: Iterable[Field]) -> str:
    rows = [
        (f"`{field.name}`", field.type, _text(field.doc), "" if field.unit == "text" else field.unit)
        for field in fields
    ]
    return _table(("column", "type", "what it is", "unit"), rows)


def exports() -> str:
    """docs/exports.md: the forms of `kmwatch export`."""
    rows = [(f"`{each.name}`", _text(each.holds)) for each in FORMATS.values()]
    parts = ["# Exports", _EXPORTS, _table(("form", "what it holds"), rows)]
    for each in FORMATS.values():
        parts += [f"## {each.name}", f"Opened by: {_text(each.opens)}.", _EXPORTED[each.name]]
    return _page(parts)


def _list(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


_EXPORTS = f"""\
`kmwatch export SOURCE --to FORM -o FILE` writes what was watched or recorded in the form of another program. SOURCE
is `live`, the directory of a capture, or a text that `kmwatch import` understands; `--kinds`, `--from`, `--until`,
`--site`, `--comm` and `--cgroup` take a part of it. A file is written whole or not at all; without `-o` it goes to
standard output.

The measures are
{_list(WORDS)}:
bytes for the first three. Each piece of memory is counted once, as in the totals of a
report: pages that are taken for slabs, vmalloc areas and per-CPU chunks are counted there. Sums are those of the
report, to the unit.

Names of symbols, caches, commands and hosts are whatever somebody gave them. A character that cannot be shown is � in
every form."""
_WAYS = """\
A site's sums are split in proportion to the stacks that were seen of it, and rounded so that nothing is lost. What
has no stack begins at `[no stack taken]`, and above a stack that is as deep as stacks are read stands `[callers not
seen]`."""
_EXPORTED = {
    "folded": f"""\
{_WAYS} Frames are separated by `;`, with the module behind the function (`nvme_queue_rq_[nvme]`); the last one is the
kind of allocation, with its cache. In names `_` stands for blanks and `:` for `;`. Lines whose value is 0 are left
out.""",
    "speedscope": """\
The same ways. *Left Heavy* shows what is most, *Sandwich* who calls whom; the title chooses the measure.""",
    "pprof": """\
The same ways, without the last frame: what is flat is the function's own, and the kind is a label. Modules are
mappings, the kernel itself is `[kernel]`. The comments are the host, how many events there were, and all that is in
doubt.""",
    "perfetto": """\
At most 60 slices, whose counters are rates: a slice's length times its rate is what happened in it. Failures stand
where they happened, as far as the kernel's log or kmwatch saw them in detail, with whose they were and why; findings
have no time of their own and stand at the end. Times are those of the day (UTC). It is Perfetto's own form, not the
JSON of Chrome's tracing, which knows no units, no groups of tracks and no clock.""",
    "csv": """\
The columns are described in [report.schema.json](report.schema.json). What is `null` there is empty, the words of
`via` are joined by `+`, and text that a spreadsheet would take for a formula begins with `'`.""",
    "parquet": """\
The same columns: counts and bytes as 64-bit integers, `via` as a list, truth as BOOLEAN.
`parquet_kv_metadata('FILE')` tells host, kernel, start and seconds.""",
    "openmetrics": """\
The metrics of [metrics.md](metrics.md), those of `kmwatch serve` itself and of what is held left out: a sample at the
start, where all counters are 0, and one after each of at most 60 slices. `job` is `kmwatch` and `instance` the host's
name. Sites and slabs have a top, as there; what makes a series begin is counted in it. Losses are not known by slice
and come with the last, findings and free blocks are known at the end only. Prometheus takes it as blocks, before it
starts or while it runs, as long as it is not older than what it keeps. It is no text to be scraped: that has no
times.""",
}


def performance() -> str:
    """docs/performance.md: what is kept in benchmarks/results/."""
    parts = ["# Performance", _PERFORMANCE]
    for result in harness.results():
        parts += [f"## {result.title}", result.about, _measured(result)]
        parts += [_table(result.columns, [[harness.shown(cell) for cell in row] for row in result.rows])]
        if result.targets:
            heads = ("target", "wanted", "measured", "", "why")
            parts.append(_table(heads, map(_target, result.targets)))
        if result.notes:
            parts.append(_bullets(result.notes))
    return _page(parts)


_PERFORMANCE = """\
What kmwatch costs, and how it compares. `make bench` repeats each of these in a few minutes with few rounds, `make
bench-full` measures as it was measured here, keeps the results and writes this page anew. All ways of doing one thing
are measured in turn, A B C A B C, after a round that does not count; a ratio is taken within each round, and what
stands here is the median of the rounds with its quartiles in brackets. *PASS* and *over* are against targets set in
advance; where one is missed, the reason stands beside it."""


def _measured(result: harness.Result) -> str:
    """Where it was measured, in one line."""
    bare = ("date", "kernel", "processor")
    told = (value if key in bare else f"{key} {value}" for key, value in result.machine.items())
    return f"*Measured: {', '.join(told)}.*"


def _target(each: harness.Target) -> tuple[str, ...]:
    why = "" if each.is_met else each.reason
    return each.claim, each.wanted, harness.shown(each.measured), each.verdict, why


def scale() -> str:
    """docs/scale.md: what larger fleets take, by the arithmetic of benchmarks/arithmetic.py."""
    fleet = arithmetic.Fleet.read()
    heads = ("", *(f"{hosts:,} hosts" for hosts in arithmetic.HOSTS))
    rows = [(what, *map(take, arithmetic.HOSTS)) for what, take in _takes(fleet).items()]
    bends = arithmetic.bends(fleet)
    first, second = bends[:2]
    ends = (
        f"{first.part[0].upper()}{first.part[1:]} bends first, at about {_hosts(first.hosts)}: {first.then}. "
        f"Next is {second.part}, at {_hosts(second.hosts)}."
    )
    limits = [(bend.part, _hosts(bend.hosts), bend.then) for bend in bends]
    assumed = [(each.what, _assumed(each), each.source) for each in arithmetic.ASSUMPTIONS]
    found = arithmetic.result("fleet")
    return _page(
        [
            "# Scale",
            _SCALE,
            "## What a fleet takes",
            _table(heads, rows),
            "## What bends first",
            ends,
            _table(("part", "bends at", "what is done then"), limits),
            "## Why",
            _WHY,
            "## Measured",
            f"![Time and memory of a report by the number of captures](fleet.svg)\n\n{_measured(found)}",
            _bullets(_costs(fleet)),
            "## Assumed",
            _table(("what", "value", "from"), assumed),
        ]
    )


_SCALE = """\
What kmwatch takes with ten hosts, a thousand and a hundred thousand. It is arithmetic: what was measured
([performance.md](performance.md#fleets), on one machine with two CPUs) times what is [assumed](#assumed), each
assumption with its source. How to set it up is in [monitoring.md](monitoring.md#a-fleet)."""
_WHY = """\
* **Series.** A host has as many as it has call sites at the top. So they stay in the Prometheus that scrapes it, and a
  few sums of each host leave it ([deploy/prometheus-shard.yml](../deploy/prometheus-shard.yml)): their number does not
  depend on what the host does.
* **DuckDB** adds up one capture after another in one process. What adding up may use is limited (400 MB), however many
  captures there are. What stays of each is a few rows in the survey, and tables of all call sites, which grow with
  kernels and modules that differ rather than with hosts. Time grows with each capture.
* **Spark** checks and adds up the events of all captures on as many cores as there are. But one process, the driver,
  opens the captures (their tables, not their events), and judges what comes of each by the rules and puts it into the
  survey, one after another: more cores do not make that shorter. And it holds the tables and sums of all captures at
  once, where DuckDB has those of one."""


def _takes(fleet: arithmetic.Fleet) -> dict[str, Callable[[int], str]]:
    """What a fleet takes of each thing, by the number of hosts."""
    scrape, fetch = arithmetic.SCRAPE_SECONDS, arithmetic.FLEET_SECONDS
    series, recorded = fleet.series, arithmetic.recorded_series()
    captured = arithmetic.events_of_capture() * fleet.event_bytes
    return {
        f"series in Prometheus, all ({series:,.0f} a host)": lambda hosts: f"{hosts * series:,.0f}",
        f"series in Prometheus, recorded ({recorded} a host)": lambda hosts: f"{hosts * recorded:,}",
        f"samples a second, all (every {scrape} s)": lambda hosts: _few(hosts * arithmetic.samples(series, scrape)),
        f"samples a second, recorded (every {fetch} s)": lambda hosts: _few(
            hosts * arithmetic.samples(recorded, fetch)
        ),
        "bytes of samples a day, all": lambda hosts: _bytes(hosts * arithmetic.day_bytes(series, scrape)),
        "bytes of samples a day, recorded": lambda hosts: _bytes(hosts * arithmetic.day_bytes(recorded, fetch)),
        "Prometheus that scrape": lambda hosts: f"{math.ceil(hosts * series / arithmetic.prometheus_series()):,}",
        "bytes of captures a day": lambda hosts: _bytes(hosts * captured),
        "a report of a day's captures with DuckDB, one machine": lambda hosts: span(fleet.duckdb_seconds(hosts)),
        "cores of Spark for it in a quarter of an hour, beside the driver": lambda hosts: _cores(fleet.cores(hosts)),
        "memory of Spark's driver, beside its Java virtual machine": lambda hosts: _bytes(fleet.driver_bytes(hosts)),
    }


def _costs(fleet: arithmetic.Fleet) -> list[str]:
    """What the table is made of, beside what is assumed."""
    capture, duckdb, shared = arithmetic.events_of_capture(), fleet.duckdb, fleet.shared
    each, event, driver = 1e3 * shared.capture, 1e9 * shared.event, 1e3 * fleet.driver_seconds
    return [
        f"A host has {fleet.series:,.0f} series under load with the defaults of `kmwatch serve`.",
        f"An event takes {fleet.event_bytes:.2f} bytes of a capture under a mixed load.",
        f"DuckDB takes {1e3 * duckdb.capture:.1f} ms for a capture and {1e9 * duckdb.event:,.0f} ns for each event.",
        f"With Spark, the workers take {each:.1f} ms of CPU time for a capture, {event:,.0f} ns for each event.",
        f"Spark's driver takes {driver:.1f} ms for a capture; it starts in {fleet.spark.start:.1f} s.",
        f"Each capture adds {1e3 * fleet.memory.capture:,.0f} kB to the driver, its Java virtual machine aside.",
        f"A capture of the table above has {capture:,.0f} events; those that were measured are in performance.md.",
    ]


def _assumed(each: arithmetic.Assumption) -> str:
    return _bytes(each.value) if each.unit == "bytes" else f"{each.value:,g} {each.unit}"


def _hosts(count: float) -> str:
    """About so many hosts: two digits."""
    if not math.isfinite(count):
        return "no number of hosts that could be measured"
    return f"{round(count, 1 - math.floor(math.log10(count))):,.0f} hosts" if count >= 1 else "less than one host"


def _few(number: float) -> str:
    return f"{number:,.0f}" if number >= 10 else f"{number:.1f}"


def _bytes(number: float) -> str:
    """In steps of a thousand, as disks are sold."""
    power = min(max(math.floor(math.log10(max(number, 1)) / 3), 0), 5)
    return f"{number / 1000**power:.3g} {('B', 'kB', 'MB', 'GB', 'TB', 'PB')[power]}"


def _cores(count: int | None) -> str:
    return "the driver alone takes longer" if count is None else f"{count:,}"


PAGES: dict[str, Callable[[], str]] = {
    "rules.md": rules,
    "observations.md": observations,
    "metrics.md": metrics,
    "commands.md": commands,
    "terms.md": words,
    "capture-format.md": capture_format,
    "exports.md": exports,
    "performance.md": performance,
    "scale.md": scale,
}
"""Every generated page by its name in docs/."""

NOTICE = "<!-- Written by scripts/generate_docs.py from the code: change it there. -->"


def _page(parts: Iterable[str]) -> str:
    title, *rest = parts
    return "\n\n".join([title, NOTICE, *rest]) + "\n"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"* {line}" for line in lines)


def _text(text: str | None) -> str:
    """Plain words as Markdown, with the kernel's names as code so that their underscores stay what they are."""
    parts = (text or "").split("`")
    parts[::2] = [_prose(part) for part in parts[::2]]
    return "`".join(parts)


def _prose(text: str) -> str:
    marked = _TOKEN.sub(lambda match: f"`{match[0]}`" if "_" in match[0] or match[0].endswith("()") else match[0], text)
    parts = marked.split("`")
    parts[::2] = [part.replace("<", "&lt;").replace("*", "\\*") for part in parts[::2]]
    return "`".join(parts)


def anchor(heading: str) -> str:
    """The link to a heading, as GitHub and most others make it."""
    return "".join(each for each in heading.lower().replace(" ", "-") if each.isalnum() or each in "-_")


def main() -> None:
    """Write the pages that differ, and say which."""
    DOCS.mkdir(exist_ok=True)
    for name, make in PAGES.items():
        path, text = DOCS / name, make()
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            sys.stdout.write(f"docs/{name} written\n")


if __name__ == "__main__":
    main()
