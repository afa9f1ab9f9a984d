"""The shapes of lines: which tool wrote a text, and what stands before an event's own words."""

import re
from typing import NamedTuple

from kmwatch.schema import Context
from kmwatch.units import printable
from kmwatch.watermarks import version_of

FTRACE, PERF, TRACE_CMD = "ftrace", "perf script", "trace-cmd report"

# Groups of a line that fits: who and which CPU, letters, time, event, its words, its stack; then a line that does
# not, as a whole. A fraction can be missing: some trace clocks count ticks. Older kernels have no letters.
_FTRACE = re.compile(
    r"^([^\[\n]{1,100}\[\d{1,5}\]) (?:([^ \n]{4,8}) +| *)(\d{1,18}(?:\.\d{1,9})?): (?:([\w:]+): )?([^\n]{0,65000})$"
    r"((?:\n ?=> [^\n]*)*)\n?|^([^\n]+)$\n?",
    re.MULTILINE | re.ASCII,
)
_PERF = re.compile(
    r"^([^\[\n]{1,100}\[\d{1,5}\]) +()(\d{1,18}\.\d{1,9}): +(?:\d+ +)?([\w:-]+): ([^\n]{0,65000})$"
    r"((?:\n\t[^\n]*)*)\n?|^([^\n]+)$\n?",
    re.MULTILINE | re.ASCII,
)
# The same for a line whose command name has a bracket.
_SLOW_FTRACE = re.compile(
    r"([^\n]{1,80}?-\d+ .{0,24}?\[\d{1,5}\]) (?:([^ \n]{4,8}) +| *)(\d{1,18}(?:\.\d{1,9})?): (?:([\w:]+): )?(.*)()",
    re.ASCII,
)
_SLOW_PERF = re.compile(r"([^\n]{1,80}?\d +\[\d{1,5}\]) +()(\d{1,18}\.\d{1,9}): +(?:\d+ +)?([\w:-]+): (.*)()", re.ASCII)

_FTRACE_WHO = re.compile(r"\s*(.*)-(\d{1,10})\s*(?:\(\s*(?:\d+|-+)\s*\))?\s*\[(\d+)\]", re.ASCII)
_PERF_WHO = re.compile(r"\s*(.*?)\s+(?:-?\d{1,10}/)?(-?\d{1,10})\s*\[(\d+)\]", re.ASCII)
_LEGEND = re.compile(r"#[ |/]*_?-+=> ?([^\n]*)", re.ASCII)
_LOST = re.compile(
    r"\s*CPU:\s*\d+ \[(?:LOST )?(\d*) ?EVENTS(?: DROPPED)?\]\s*|.*PERF_RECORD_LOST(?:_SAMPLES)? lost (\d+)\s*",
    re.ASCII,
)
LONGEST = 65_000
"""Longer lines, in characters, are skipped."""
FRAME_MARKS = ("\t", " =>", "=>")
"""What the lines of a stack begin with."""
_FRAME = re.compile(r"\s+[0-9a-f]+ [^\n]*\([^()]*\)\s*|\s*=> .*|\s*<(?:user )?stack (?:trace|dump)>\s*", re.ASCII)
_COUNTS = re.compile(
    r"^#\s+entries-in-buffer/entries-written:\s*(\d{1,15})/(\d{1,15})\s+#P:(\d{1,5})", re.MULTILINE | re.ASCII
)
_CPUS = re.compile(r"^(?:cpus=|# nrcpus (?:online|avail) : )(\d{1,5})\s*$", re.MULTILINE | re.ASCII)
_HOSTNAME = re.compile(r"^# hostname : (\S{1,64})\s*$", re.MULTILINE | re.ASCII)
_RELEASE = re.compile(r"^# os release : (\S{1,64})\s*$", re.MULTILINE | re.ASCII)
_TRACE_CMD = re.compile(r"^(?:version = \d+|cpus=\d+|CPU \d+ is empty)\s*$", re.MULTILINE | re.ASCII)
# trace-cmd pads the event's name.
_PADDED = re.compile(
    r"\[\d+\] [^\n]{0,40}\d: (?:kfree|kmalloc|kmem_cache_free|mm_page_alloc|mm_page_free): {3,}", re.ASCII
)

_SILENT_NOWAIT = (6, 7)
# Only a kernel before 6.7 prints GFP_NOWAIT|__GFP_NOWARN, only one before 6.3 __GFP_ATOMIC, and only one before 6.1
# an allocation without `node=`.
_OLD_PRINT = re.compile(
    r"GFP_NOWAIT\|__GFP_NOWARN|__GFP_ATOMIC|: kmalloc: call_site=[^\n]{1,300} gfp_flags=[^ \n]{1,300}"
    r"(?: accounted=\w{4,5})?$",
    re.MULTILINE | re.ASCII,
)

_COLUMNS = {"irqs-off": "irqs", "hardirq/softirq": "serving", "preempt-depth": "depth"}
_USUAL = {"irqs": 0, "serving": 2, "depth": 3}
_IRQS = {"d": Context.IRQS_OFF, "b": Context.BH_OFF, "D": Context.IRQS_OFF | Context.BH_OFF}
_SERVING = {
    "s": Context.SOFTIRQ,
    "h": Context.HARDIRQ,
    "H": Context.HARDIRQ | Context.SOFTIRQ,
    "z": Context.NMI,
    "Z": Context.NMI | Context.HARDIRQ,
}
_LEAST_LINES = 20  # before all of them say something about the tracer


class Shape(NamedTuple):
    """How the lines of a text are read.

    kind: the tool that wrote it.
    line, slow: patterns for a whole chunk, and for one line that the first does not fit.
    columns: where in the letters something stands; depth: what the tracer itself adds to the preemption depth.
    """

    kind: str
    line: "re.Pattern[str]"
    slow: "re.Pattern[str]"
    columns: dict[str, int]
    depth: int

    def who(self, text: str) -> tuple[str, int, int]:
        """Command name, "" where the text does not know it, thread id, and CPU."""
        match = (_PERF_WHO if self.kind == PERF else _FTRACE_WHO).fullmatch(text)
        if not match:
            return "", 0, int(text[-7:-1].rpartition("[")[2])
        comm = printable(match[1].strip()[:64])
        return "" if comm == "<...>" else comm, max(int(match[2]), 0), int(match[3])

    def context(self, letters: str) -> int:
        """Bits of enum context; UNKNOWN without letters, or with letters that no kernel writes."""
        try:
            irqs, serving, depth = (letters[self.columns[name]] for name in ("irqs", "serving", "depth"))
            count = 0 if depth == "." else int(depth, 16)
        except (IndexError, ValueError):
            return int(Context.UNKNOWN)
        if irqs not in "dDbX." or serving not in "shHzZ.":
            return int(Context.UNKNOWN)
        off = Context.PREEMPT_OFF if count > self.depth else 0
        return int(_IRQS.get(irqs, 0) | _SERVING.get(serving, 0) | off)


class Header(NamedTuple):
    """What a text says of itself; "" and 0 where it does not.

    entries: event lines that it should have; overwritten: events lost before they were read.
    """

    hostname: str
    kernel: str
    cpus: int
    entries: int
    overwritten: int


def shape_of(head: str) -> Shape | None:
    """The shape of the text that begins like this; None where it is no trace."""
    if _TRACE_CMD.search(head) or _PADDED.search(head):
        kind = TRACE_CMD
    elif head.startswith("# tracer:"):
        kind = FTRACE
    else:
        perf, ftrace = (sum(not row[-1] for row in pattern.findall(head)) for pattern in (_PERF, _FTRACE))
        dashed = sum(bool(_FTRACE_WHO.fullmatch(row[0])) for row in _FTRACE.findall(head) if not row[-1])
        if dashed and dashed >= perf // 2 and 2 * dashed >= ftrace:
            kind = FTRACE
        elif perf and any(_PERF_WHO.fullmatch(row[0]) for row in _PERF.findall(head) if not row[-1]):
            kind = PERF
        else:
            return None
    if kind == PERF:
        return Shape(kind, _PERF, _SLOW_PERF, {}, 0)
    columns = _columns(head)
    return Shape(kind, _FTRACE, _SLOW_FTRACE, columns, _depth(head, columns))


def header_of(head: str) -> Header:
    """What the first lines say of the machine, and how many events were overwritten before they were read."""
    counts, cpus = _COUNTS.search(head), _CPUS.search(head)
    hostname, release = _HOSTNAME.search(head), _RELEASE.search(head)
    return Header(
        hostname[1] if hostname and hostname[1].isprintable() else "",
        release[1] if release and release[1].isprintable() else "",
        int(counts[3]) if counts else int(cpus[1]) if cpus else 0,
        int(counts[1]) if counts else 0,
        max(0, int(counts[2]) - int(counts[1])) if counts else 0,
    )


def before_silent_nowait(head: str, kernel: str) -> bool:
    """Whether the kernel is from before Linux 6.7, which made GFP_NOWAIT silent: by its version, else by its words."""
    version = version_of(kernel)
    return version < _SILENT_NOWAIT if version else bool(_OLD_PRINT.search(head))


def lost_events(line: str) -> int | None:
    """How many events a line says are lost; 0 where it gives no number, None where it is another line."""
    match = _LOST.fullmatch(line)
    return int((match[1] or match[2] or "0")[:15]) if match else None


def is_remark(line: str) -> bool:
    """Whether a line is no puzzle: a comment, a head line, a frame of a stack that is not wanted."""
    return not line.strip() or line.lstrip()[0] == "#" or bool(_TRACE_CMD.match(line) or _FRAME.fullmatch(line))


def _columns(head: str) -> dict[str, int]:
    """Where the letters stand: from the legend over them, which kernels with real-time patches have more lines in."""
    found = {}
    for at, text in enumerate(_LEGEND.findall(head[:4096])):
        for begin, name in _COLUMNS.items():
            if text.startswith(begin):
                found[name] = at
    return found if len(found) == len(_USUAL) else _USUAL


def _depth(head: str, columns: dict[str, int]) -> int:
    """What the tracer itself adds: 1 on older preemptible kernels, where every event shows a depth of 1 or more."""
    letters = [row[1] for row in _FTRACE.findall(head) if row[1]]
    depths = {each[columns["depth"]] for each in letters if len(each) > columns["depth"]}
    return 1 if len(letters) >= _LEAST_LINES and depths and "." not in depths else 0
