"""One report of a failure in a kernel log, from its first line to its last, while it is read."""

import re
from dataclasses import dataclass, field

from kmwatch.sources.text.log_lines import Line
from kmwatch.sources.text.log_memory import Memory
from kmwatch.sources.text.log_trace import Trace

_MODE = r"mode:(0x[0-9a-f]{1,8})(?:\(([A-Z0-9a-z_|]{0,1024})\))?"
_HEAD = re.compile(r"(.{0,64}?)(?::\s)?page allocation failure[:.] order:(\d{1,3})(?:, " + _MODE + r"(.{0,1024}))?")
_VMALLOC = re.compile(r"(.{1,64}?): (vmalloc\b.{0,160}?), " + _MODE + r"(.{0,1024})")
_OLD_VMALLOC = re.compile(r"vmalloc: allocation failure\D{0,40}(\d{1,18})(?: of (\d{1,18}))? bytes")
_SIZE = re.compile(r"(?:size |of |failure: )(\d{1,18})\b")
_SLAB = re.compile(
    r"SL[AU]B: Unable to allocate memory on (?:CPU \d{1,5} \(of node -?\d{1,4}\) on )?node (-?\d{1,4})"
    r",? \(?gfp=(0x[0-9a-f]{1,8})(?:\(([A-Z0-9a-z_|]{0,1024})\))?"
)
_LATER_MODE = re.compile(r",? ?" + _MODE + r"(.{0,1024})")
_CACHE = re.compile(r"\s*cache: (.{1,200}?), object size: (\d{1,9})(?:, buffer size: (\d{1,9}))?,?(.{0,120})")
_LEAST = re.compile(r"(?:min |^ )order: (\d{1,2})")
_WHO = re.compile(
    r"(?:CPU: (\d{1,5}) )?(?:UID: \d{1,10} )?(?:PID|Pid): (\d{1,10}),? [Cc]omm: (.{1,64}?) (?:Not t|T)ainted"
)
_VERSION = re.compile(r"ainted.{0,120}?\s(\d{1,2}\.\d{1,3}\.[\w.+~-]{1,80}|\d\.\d{1,3}[-+][\w.+~-]{1,80})(?:\s|$)")
_NODES = re.compile(r"nodemask=(\d{1,4}(?:-\d{1,4})?(?:,\d{1,4}(?:-\d{1,4})?){0,64})(?![\d-])")
_OF_CGROUP = re.compile(r"\(\d{1,10}:\S{0,160}\)$")  # how caches of a memory cgroup were called up to Linux 5.8

SPAN = 10.0
"""Seconds, and lines, after which a report is over."""
_MOST_LINES = 4000


@dataclass
class Report:
    """What was read so far; `text` fields as logged. kind, order, size, node, nodes: as in kmwatch.failures.Failure."""

    kind: str
    line: Line
    order: int = 0
    number: int | None = None
    names: str = ""
    comm: str = ""
    pid: int = 0
    cpu: int = 0
    size: int = 0
    node: int = -1
    nodes: tuple[int, ...] = ()
    kernel: str = ""
    cache: str = ""
    object_size: int = 0
    buffer_size: int = 0
    cgroup: bool = False
    trace: Trace = field(default_factory=Trace)
    memory: Memory = field(default_factory=Memory)
    _lines: int = 0

    def feed(self, line: Line) -> bool:
        """Take a line; whether the report goes on after it."""
        self._lines += 1
        if self._lines > _MOST_LINES or line.seconds > self.line.seconds + SPAN:
            return False
        text = line.text
        if self.number is None and (match := _LATER_MODE.match(text.strip())):
            self._mode(match[1], match[2], match[3])
        elif match := _CACHE.match(text):
            self._cached(match)
        elif not self.pid and not self.kernel and (match := _WHO.search(text)):
            self._who(match, text)
        elif not self.memory.feed(text) and not self.memory.begun:
            self.trace.feed(text)
        return True

    def wants_cache(self, line: Line) -> bool:
        """Whether a report of a cache that comes now is the rest of this one: a slab got no page."""
        near = line.seconds <= self.line.seconds + 1
        return self.kind == "page" and self.memory.begun and not self.cache and near and self._of_slab()

    @property
    def mode(self) -> str:
        """The mask as logged: its number, and its names where the kernel gave them."""
        number = f"{self.number or 0:#x}"
        return f"{number}({self.names})" if self.names else number

    def _of_slab(self) -> bool:
        slab = ("slab", "kmem_", "cache_", "kmalloc")
        return any(word in frame.name for frame in self.trace.reliable()[:16] for word in slab)

    def _mode(self, number: str, names: str | None, rest: str | None) -> None:
        self.number, self.names = int(number, 16), names or ""
        if match := _NODES.search(rest or ""):
            self.nodes = _nodes(match[1])

    def _cached(self, match: re.Match[str]) -> None:
        if self.cache:
            return
        self.cgroup = self.cgroup or bool(_OF_CGROUP.search(match[1]))
        self.cache = _OF_CGROUP.sub("", match[1])
        self.object_size, self.buffer_size = int(match[2]), int(match[3] or match[2])
        if self.kind == "slab" and (least := _LEAST.search(match[4])):
            self.order = int(least[1])

    def _who(self, match: re.Match[str], text: str) -> None:
        self.cpu, self.pid = int(match[1] or 0), int(match[2])
        self.comm = self.comm or match[3]
        if version := _VERSION.search(text, match.end() - 6):
            self.kernel = version[1]


def head_of(line: Line) -> Report | None:
    """The report that a line begins; None where it begins none."""
    text = line.text.strip()
    if match := _SLAB.match(text):
        report = Report("slab", line, node=int(match[1]))
        report._mode(match[2], match[3], "")  # noqa: SLF001 - its own module
    elif match := _HEAD.fullmatch(text) or _HEAD.match(text):
        report = Report("page", line, order=int(match[2]), comm=match[1].strip())
        if match[3]:
            report._mode(match[3], match[4], match[5])  # noqa: SLF001
    elif match := _VMALLOC.match(text):
        size = _SIZE.findall(match[2])
        report = Report(
            "vmalloc", line, comm=match[1].strip(), size=int(size[-1 if " of " in match[2] else 0]) if size else 0
        )
        report._mode(match[3], match[4], match[5])  # noqa: SLF001
    elif match := _OLD_VMALLOC.match(text):
        return Report("vmalloc", line, size=int(match[2] or match[1]))
    else:
        return None
    return report


def kernel_of(text: str) -> str:
    """The kernel's version in a line like `CPU: 0 PID: 1 Comm: init Not tainted 6.1.0 #1`; "" where it has none."""
    match = _VERSION.search(text)
    return match[1] if match else ""


def _nodes(text: str) -> tuple[int, ...]:
    """`0-1,4` as numbers."""
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), min(int(last or first), int(first) + 1023) + 1)
    return tuple(sorted(set(found))[:1024])
