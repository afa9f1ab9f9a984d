"""The memory zones of the running kernel: ranges and watermarks (/proc/zoneinfo), free blocks (/proc/buddyinfo)."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kmwatch.errors import BadInputError
from kmwatch.failures import ZoneState

ZONEINFO = Path("/proc/zoneinfo")
BUDDYINFO = Path("/proc/buddyinfo")

_LARGEST_TEXT = 64 << 20  # a machine with many nodes and CPUs prints megabytes
_MOST_ZONES = 8192
_HEAD = re.compile(r"Node (\d{1,5}), zone\s{1,16}(\w{1,16})", re.ASCII)
# The watermarks stand without a colon; `high:` with one belongs to a CPU's page list.
_FIELD = re.compile(
    r" {2,16}(?:pages )?(free|boost|min|low|high|spanned|present|managed|nr_free_cma|start_pfn:) {1,16}([0-9]{1,18})"
)
_RESERVE = re.compile(r" {2,16}protection: \(([0-9, ]{1,400})\)")
_MOST_RESERVES = 16
_ORDERS = range(4, 33)  # no kernel has fewer or more columns in buddyinfo


@dataclass(frozen=True)
class Zone:
    """One populated zone. Page frame numbers and all counts in pages; `index` is its place in the node.

    min, low, high: with what the kernel raised them by for a while, `boost`. cma: free pages in CMA areas.
    reserve: lowmem_reserve, by zone that a request may use at most.
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
    cma: int = 0
    reserve: tuple[int, ...] = ()


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
    reserve: tuple[int, ...] = ()
    for line in text.splitlines():
        if match := _HEAD.match(line):
            _keep(found, head, fields, reserve)
            node = int(match[1])
            # Unpopulated zones are listed as well (Linux 4.12, commit b2bd8598195f), so the place is the zone's index.
            index_in_node[node] = index_in_node.get(node, -1) + 1
            head, fields, reserve = (node, match[2], index_in_node[node]), {}, ()
        elif head and (field := _FIELD.fullmatch(line[:80].rstrip())):
            fields.setdefault(field[1].rstrip(":"), int(field[2]))
        elif head and (numbers := _RESERVE.fullmatch(line[:420].rstrip())):
            reserve = tuple(int(word) for word in numbers[1].split(",")[:_MOST_RESERVES] if len(word.strip()) < 19)
    _keep(found, head, fields, reserve)
    if not found:
        raise BadInputError("no populated zone in this text: give /proc/zoneinfo")
    return tuple(found)


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


def running_states() -> tuple[ZoneState, ...]:
    """What is free in each zone of the running kernel now; empty where /proc/zoneinfo cannot be read."""
    return states(running(), running_free_blocks())


def states(zones: Iterable[Zone], blocks: Iterable[FreeBlocks]) -> tuple[ZoneState, ...]:
    """Zones with their free blocks. Whose a block is (letters), and the reserve for atomic requests, is not known."""
    free = {(each.node, each.zone): each.counts for each in blocks}
    return tuple(
        ZoneState(
            **{name: getattr(zone, name) for name in ("node", "name", "free", "min", "low", "high", "managed")},
            blocks=free.get((zone.node, zone.name), ()),
            reserve=zone.reserve,
            cma=zone.cma,
            boost=zone.boost,
        )
        for zone in zones
    )


def _keep(
    found: list[Zone], head: tuple[int, str, int] | None, fields: dict[str, int], reserve: tuple[int, ...]
) -> None:
    """Add the zone that ends here, when it is populated: an unpopulated one has no start_pfn."""
    if head is None or not fields.get("spanned") or "start_pfn" not in fields:
        return
    if len(found) >= _MOST_ZONES:
        raise BadInputError(f"more than {_MOST_ZONES} zones: this is not /proc/zoneinfo; give that file")
    node, name, index = head
    start = fields["start_pfn"]
    levels = {key: fields.get(key, 0) for key in ("present", "managed", "free", "min", "low", "high", "boost")}
    end, cma = start + fields["spanned"], fields.get("nr_free_cma", 0)
    found.append(Zone(node, name, index, start, end, **levels, cma=cma, reserve=reserve))


def _bounded(text: str, what: str) -> None:
    if len(text) > _LARGEST_TEXT:
        raise BadInputError(f"this text is over {_LARGEST_TEXT >> 20} MiB: give /proc/{what}")


def _read(path: Path) -> str | None:
    try:
        with path.open("rb") as stream:
            return stream.read(_LARGEST_TEXT + 1).decode("utf-8", "replace")
    except OSError:
        return None
