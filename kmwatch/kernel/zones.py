"""The memory zones of the running kernel: ranges and watermarks (/proc/zoneinfo), free blocks (/proc/buddyinfo)."""

import re
from collections.abc import Iterable
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any

from kmwatch.errors import BadInputError

ZONEINFO = Path("/proc/zoneinfo")
BUDDYINFO = Path("/proc/buddyinfo")

_LARGEST_TEXT = 64 << 20  # a machine with many nodes and CPUs prints megabytes
_MOST_ZONES = 8192
_HEAD = re.compile(r"Node (\d{1,5}), zone\s{1,16}(\w{1,16})", re.ASCII)
# The watermarks stand without a colon; `high:` with one belongs to a CPU's page list.
_FIELD = re.compile(
    r" {2,16}(?:pages )?(free|boost|min|low|high|spanned|present|managed|start_pfn:|nr_free_cma) {1,16}([0-9]{1,18})"
)
_PROTECTION = re.compile(r" {2,16}protection: \(([0-9]{1,18}(?:, [0-9]{1,18}){0,7})\)")
_ORDERS = range(4, 33)  # no kernel has fewer or more columns in buddyinfo


@dataclass(frozen=True)
class Zone:
    """One populated zone. Page frame numbers and all counts in pages; `index` is its place in the node.

    boost: what the kernel has raised the watermarks by for a while, contained in them; free_cma: free pages of CMA.
    protection: lowmem_reserve, by the index of the zone that a request may use at most. These three are not captured.
    """

    node: int
    name: str
    index: int
    start_pfn: int
    end_pfn: int  # exclusive
    present: int
    managed: int
    free: int
    min: int
    low: int
    high: int
    boost: int = 0
    free_cma: int = 0
    protection: tuple[int, ...] = ()

    def __contains__(self, pfn: object) -> bool:
        return isinstance(pfn, int) and self.start_pfn <= pfn < self.end_pfn

    def to_json(self) -> dict[str, Any]:
        """The zone as plain data, for a capture."""
        return {name: getattr(self, name) for name in _CAPTURED}


_CAPTURED = [each.name for each in Zone.__dataclass_fields__.values() if each.default is MISSING]


@dataclass(frozen=True)
class FreeBlocks:
    """The free blocks of one zone: `counts[order]` blocks of 2^order pages."""

    node: int
    zone: str
    counts: tuple[int, ...]

    def pages_at_least(self, order: int) -> int:
        """The free pages that lie in blocks of 2^order pages or larger."""
        return sum(count << at for at, count in enumerate(self.counts) if at >= order)


def parse_zoneinfo(text: str) -> tuple[Zone, ...]:
    """The populated zones in the text of /proc/zoneinfo, in its order.

    Raises BadInputError when the text has no populated zone at all: every running kernel has one.
    """
    _bounded(text, "zoneinfo")
    found: list[Zone] = []
    index_in_node: dict[int, int] = {}
    head: tuple[int, str, int] | None = None
    fields: dict[str, int] = {}
    protection: tuple[int, ...] = ()
    for line in text.splitlines():
        if match := _HEAD.match(line):
            _keep(found, head, fields, protection)
            node = int(match[1])
            # Unpopulated zones are listed as well (Linux 4.12, commit b2bd8598195f), so the place is the zone's index.
            index_in_node[node] = index_in_node.get(node, -1) + 1
            head, fields, protection = (node, match[2], index_in_node[node]), {}, ()
        elif head and (field := _FIELD.fullmatch(line[:80].rstrip())):
            fields.setdefault(field[1].rstrip(":"), int(field[2]))
        elif head and (reserves := _PROTECTION.fullmatch(line[:256].rstrip())):
            protection = tuple(map(int, reserves[1].split(", ")))
    _keep(found, head, fields, protection)
    if not found:
        raise BadInputError("no populated zone in this text: give /proc/zoneinfo")
    return tuple(found)


def zone_of(zones: Iterable[Zone], pfn: int) -> Zone | None:
    """The first zone whose range holds the page frame; None for a frame in none.

    Ranges of two nodes can overlap on rare machines with interleaved nodes; the zone's name is right there too.
    """
    return next((zone for zone in zones if pfn in zone), None)


def zones_from_json(rows: object) -> tuple[Zone, ...]:
    """The zones that `Zone.to_json` wrote, as a list; raises BadInputError on anything else."""
    names = set(_CAPTURED)
    if not isinstance(rows, list) or len(rows) > _MOST_ZONES:
        raise BadInputError("the zones are damaged or not kmwatch's: record the capture again")
    for row in rows:
        if not isinstance(row, dict) or set(row) != names or not all(_is_sane(key, row[key]) for key in names):
            raise BadInputError(f"{row!r:.60} is not a zone: record the capture again")
    return tuple(Zone(**row) for row in rows)


def parse_buddyinfo(text: str) -> tuple[FreeBlocks, ...]:
    """The free blocks per zone in the text of /proc/buddyinfo; lines that are not understood are left out.

    Raises BadInputError when nothing is left or the zones differ in their number of orders.
    """
    _bounded(text, "buddyinfo")
    found = []
    for line in text.splitlines():
        if not (match := _HEAD.match(line)):
            continue
        words = line[match.end() : match.end() + 1024].split()
        if len(words) in _ORDERS and all(word.isascii() and word.isdigit() and len(word) < 19 for word in words):
            found.append(FreeBlocks(int(match[1]), match[2], tuple(int(word) for word in words)))
    if not 0 < len(found) <= _MOST_ZONES or len({len(blocks.counts) for blocks in found}) != 1:
        raise BadInputError("no free blocks per order in this text: give /proc/buddyinfo")
    return tuple(found)


def running() -> tuple[Zone, ...]:
    """The populated zones of the running kernel; empty where /proc/zoneinfo cannot be read."""
    text = _read(ZONEINFO)
    return parse_zoneinfo(text) if text else ()


def running_free_blocks() -> tuple[FreeBlocks, ...]:
    """The free blocks of the running kernel now; empty where /proc/buddyinfo cannot be read."""
    text = _read(BUDDYINFO)
    return parse_buddyinfo(text) if text else ()


def _keep(
    found: list[Zone], head: tuple[int, str, int] | None, fields: dict[str, int], protection: tuple[int, ...]
) -> None:
    """Add the zone that ends here, when it is populated: an unpopulated one has no start_pfn."""
    if head is None or not fields.get("spanned") or "start_pfn" not in fields:
        return
    if len(found) >= _MOST_ZONES:
        raise BadInputError(f"more than {_MOST_ZONES} zones: this is not /proc/zoneinfo; give that file")
    node, name, index = head
    start = fields["start_pfn"]
    levels = {key: fields.get(key, 0) for key in ("present", "managed", "free", "min", "low", "high", "boost")}
    free_cma, end = fields.get("nr_free_cma", 0), start + fields["spanned"]
    found.append(Zone(node, name, index, start, end, protection=protection, free_cma=free_cma, **levels))


def _is_sane(key: str, value: object) -> bool:
    if key == "name":
        return isinstance(value, str) and 0 < len(value) <= 16
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63


def _bounded(text: str, what: str) -> None:
    if len(text) > _LARGEST_TEXT:
        raise BadInputError(f"this text is over {_LARGEST_TEXT >> 20} MiB: give /proc/{what}")


def _read(path: Path) -> str | None:
    try:
        with path.open("rb") as stream:
            return stream.read(_LARGEST_TEXT + 1).decode("utf-8", "replace")
    except OSError:
        return None
