"""An event's own words as a key of the ledger, the same as the programs in bpf/observe.h make of the event itself."""

import re
from collections.abc import Callable
from typing import NamedTuple

from kmwatch.batch import Cache
from kmwatch.schema import NO_ZONE, Kind, Via
from kmwatch.sources.text.masks import Masks
from kmwatch.sources.text.places import MOST, Places
from kmwatch.units import printable

PLAIN, BY_STACK, LARGE = 0, 1, 2
"""How an event's key is completed: not at all; by the owner of its stack; as one of a pair (bpf/large.h)."""
LARGEST_SLAB = 8192
"""Bytes above which a kmalloc may be reported twice: LARGE of bpf/large.h."""

Trim = Callable[[str, str], tuple[str, str]]
Key = tuple[int, ...]
"""In the order of batch.KEY."""

_PAGE = 4096
_LONGEST = 2048  # characters: no kernel says as much; what is seen is kept, and must not fill the memory
_MOST_BYTES = 1 << 48  # more than any machine has; sums of such numbers must not overflow
_FIELD = re.compile(r"(?:^|(?<= ))([a-z][a-z_]{1,30})(?:=|: )")
_NAMED_SITE = re.compile(
    r"\(([^() ]+\+0x[0-9a-f]+)\) "
)  # trace-cmd's plugin puts a name before an older kernel's address
_PERCPU = re.compile(r"base_addr=\S{0,40} off=\S{0,20} ")
_EXTFRAG = re.compile(r"page=\S{0,40} pfn=\S{0,40} ")


class Spec(NamedTuple):
    """How an event is read.

    mark: what stands before the pointer, "" where there is none; base: of its number, 0 where it says so itself.
    trim: leaves of the words before and after the pointer what tells events apart; None where all does.
    """

    kind: int
    category: str
    mark: str = ""
    base: int = 16
    trim: Trim | None = None


class Entry(NamedTuple):
    """What the words of an event say, but for the pointer.

    key: with failed 0 unless the words say so; requested: bytes; mode: how the key is completed.
    """

    key: Key
    requested: int
    mode: int


def _kmem(kind: int, mark: str = "ptr=", base: int = 16, trim: Trim | None = None) -> Spec:
    return Spec(int(kind), "kmem", mark, base, trim)


def _last(_: str, rest: str) -> tuple[str, str]:
    return "", rest


def _none(_: str, __: str) -> tuple[str, str]:
    return "", ""


SPECS = {
    "kmalloc": _kmem(Kind.KMALLOC),
    "kmalloc_node": _kmem(Kind.KMALLOC),
    "kfree": _kmem(Kind.KFREE),
    "kmem_cache_alloc": _kmem(Kind.CACHE_ALLOC),
    "kmem_cache_alloc_node": _kmem(Kind.CACHE_ALLOC),
    "kmem_cache_free": _kmem(Kind.CACHE_FREE),
    "mm_page_alloc": _kmem(Kind.PAGE_ALLOC, "pfn=", 0, _last),
    "mm_page_free": _kmem(Kind.PAGE_FREE, "pfn=", 0, _last),
    "mm_page_free_direct": _kmem(Kind.PAGE_FREE, "pfn=", 0, _last),  # its name before v3.3
    "mm_page_alloc_extfrag": _kmem(Kind.EXTFRAG, "", 0, lambda pre, _: (_EXTFRAG.sub("", pre), "")),
    "alloc_vmap_area": Spec(int(Kind.VMALLOC), "vmalloc", "va_start: ", 0),
    "free_vmap_area_noflush": Spec(int(Kind.VFREE), "vmalloc", "va_start=", 0, _none),
    "percpu_alloc_percpu": Spec(
        int(Kind.PERCPU_ALLOC), "percpu", " ptr=", 16, lambda pre, rest: (_PERCPU.sub("", pre + " "), rest)
    ),
    "percpu_alloc_percpu_fail": Spec(int(Kind.PERCPU_ALLOC), "percpu"),
    "percpu_free_percpu": Spec(int(Kind.PERCPU_FREE), "percpu", " ptr=", 16, _none),
    "mm_vmscan_direct_reclaim_begin": Spec(int(Kind.DIRECT_RECLAIM), "vmscan"),
    "mm_compaction_try_to_compact_pages": Spec(int(Kind.COMPACTION), "compaction"),
    "mark_victim": Spec(int(Kind.OOM_VICTIM), "oom", "", 0, _none),
}
LEFT_OUT = {
    "mm_page_free_batched": "each is reported as mm_page_free as well",
    "mm_pagevec_free": "each is reported as mm_page_free_direct as well, since v2.6.34",
    "mm_page_alloc_zone_locked": "each is reported as mm_page_alloc as well, or refills a list of free pages",
    "mm_page_pcpu_drain": "pages that were free before",
}
"""Events of the allocators that would count twice what others tell."""

ALL_SPECS = SPECS | {f"{spec.category}:{event}": spec for event, spec in SPECS.items()}
"""By the name alone, and by category and name."""


NULLS = frozenset({"(null)", "(nil)"})
"""How NULL is written; one free in four can be of it."""


def pointer(text: str, base: int) -> int | None:
    """A pointer that is not a plain number: 0 for the ways of writing NULL, None for anything else."""
    # Older kernels pad: `ptr=          (null)`. A kernel that has no entropy yet hides all: (____ptrval____).
    word = text.lstrip().partition(" ")[0]
    if word in NULLS:
        return 0
    if word == "(____ptrval____)":
        return 1
    try:
        return int(word, base)
    except ValueError:
        return None


def fields(text: str) -> dict[str, str]:
    """`name=value name: value`; a value goes on to the next name, for some have blanks."""
    found = list(_FIELD.finditer(text))
    ends = [*(match.start() for match in found[1:]), len(text)] if found else []
    return {match[1]: text[match.end() : end].strip() for match, end in zip(found, ends, strict=True)}


class Words:
    """Makes entries; fills the table of caches, and asks `places` and `masks` for numbers.

    cpus: how many copies a per-CPU allocation has, as far as known.
    """

    def __init__(self, places: Places, masks: Masks, caches: list[Cache]) -> None:
        self._places, self._masks, self._caches = places, masks, caches
        self._numbers: dict[Cache, int] = {}
        self._by_name: dict[str, int] = {}
        self.cpus = 1
        self.learned = False
        """A cache's sizes have become known: entries made before may be without them."""
        self.full = 0

    def entry(self, event: str, spec: Spec, context: int, before: str, after: str) -> Entry | None:
        """The entry for the words before and after the pointer; None where they are not what such an event says."""
        if len(before) + len(after) > _LONGEST:
            return None
        words = fields(before) | fields(after)
        if "call_site" in words and (named := _NAMED_SITE.match(before.lstrip())):
            words["call_site"] = named[1]
        try:
            return self._entry(event.rpartition(":")[2], spec.kind, context, words)
        except (KeyError, ValueError):
            return None

    def _entry(self, event: str, kind: int, context: int, words: dict[str, str]) -> Entry:
        match kind:
            case Kind.KMALLOC:
                return self._kmalloc(context, words)
            case Kind.CACHE_ALLOC:
                return self._cache_alloc(context, words)
            case Kind.KFREE | Kind.CACHE_FREE:
                cache = self._cache(words["name"]) if kind == Kind.CACHE_FREE and "name" in words else 0
                return Entry(_key(kind, site=self._places.of(words["call_site"]), cache=cache), 0, PLAIN)
            case Kind.PERCPU_ALLOC:
                return self._percpu(event, context, words)
            case Kind.PAGE_ALLOC | Kind.VMALLOC | Kind.VFREE:
                return self._unowned(kind, context, words)
        return self._pressure(kind, words)

    def _unowned(self, kind: int, context: int, words: dict[str, str]) -> Entry:
        """Events without a call site."""
        if kind == Kind.VFREE:
            return Entry(_key(kind), 0, BY_STACK)
        if kind == Kind.VMALLOC:
            key = _key(kind, context=context, failed=int(words["failed"] != "0"))
            return Entry(key, max(0, _bytes(words["size"]) - _PAGE), BY_STACK)
        gfp, order = self._masks(words["gfp_flags"]), _order(words["order"])
        key = _key(kind, gfp=gfp, context=context, order=order, migratetype=_small(words["migratetype"]))
        return Entry(key, 0, BY_STACK)

    def _kmalloc(self, context: int, words: dict[str, str]) -> Entry:
        allocated, site = _bytes(words["bytes_alloc"]), self._places.of(words["call_site"])
        large = allocated > LARGEST_SLAB
        key = _key(
            Kind.KMALLOC,
            site=site,
            gfp=self._masks(words["gfp_flags"]),
            bytes_alloc=min(allocated, 0xFFFFFFFF),
            context=context,
            via=self._places.via(site) & Via.KVMALLOC if large else 0,
        )
        return Entry(key, _bytes(words["bytes_req"]), LARGE if large else PLAIN)

    def _cache_alloc(self, context: int, words: dict[str, str]) -> Entry:
        requested, allocated = _bytes(words["bytes_req"]), _bytes(words["bytes_alloc"])
        cache = self._cache(words["name"], requested, allocated) if "name" in words else 0
        key = _key(
            Kind.CACHE_ALLOC,
            site=self._places.of(words["call_site"]),
            cache=cache,
            gfp=self._masks(words["gfp_flags"]),
            bytes_alloc=0 if cache else min(allocated, 0xFFFFFFFF),
            context=context,
        )
        return Entry(key, 0 if cache else requested, PLAIN)

    def _percpu(self, event: str, context: int, words: dict[str, str]) -> Entry:
        """`size` is of one CPU's copy. Before v5.19 the event had neither call_site, bytes_alloc nor gfp_flags."""
        requested = min(_bytes(words["size"]) * self.cpus, _MOST_BYTES)
        if event.endswith("_fail"):
            # The kernel warns of such a failure unless is_atomic: then its caller expects it.
            gfp = self._masks("__GFP_DIRECT_RECLAIM" if words["is_atomic"] == "0" else "__GFP_NOWARN")
            return Entry(_key(Kind.PERCPU_ALLOC, gfp=gfp, context=context, failed=1), requested, BY_STACK)
        allocated = _bytes(words["bytes_alloc"]) if "bytes_alloc" in words else requested
        gfp = self._masks(words.get("gfp_flags", "none"))
        allocated = min(allocated, 0xFFFFFFFF)
        if "call_site" not in words:
            key = _key(Kind.PERCPU_ALLOC, gfp=gfp, bytes_alloc=allocated, context=context)
            return Entry(key, requested, BY_STACK)
        site = self._places.of(words["call_site"])
        return Entry(
            _key(Kind.PERCPU_ALLOC, site=site, gfp=gfp, bytes_alloc=allocated, context=context), requested, PLAIN
        )

    def _pressure(self, kind: int, words: dict[str, str]) -> Entry:
        """Releases without a call site, and what surrounds a failure."""
        match kind:
            case Kind.PAGE_FREE:
                key = _key(kind, order=_order(words["order"]))
            case Kind.EXTFRAG:
                migratetype = _small(words["alloc_migratetype"])
                key = _key(kind, order=_order(words["alloc_order"]), migratetype=migratetype)
            case Kind.DIRECT_RECLAIM | Kind.COMPACTION:
                gfp = words["gfp_flags"] if "gfp_flags" in words else words["gfp_mask"]
                key = _key(kind, order=_order(words["order"]), gfp=self._masks(gfp))
            case _:
                key = _key(kind)
        return Entry(key, 0, PLAIN)

    def _cache(self, name: str, object_size: int = 0, size: int = 0) -> int:
        """The number of a cache; without sizes the last one of that name."""
        name = printable(name[:64])
        if not size and name in self._by_name:
            return self._by_name[name]
        cache = Cache(name, min(object_size, 0xFFFFFFFF), min(size, 0xFFFFFFFF))
        number = self._numbers.get(cache)
        if number is None:
            if len(self._caches) >= MOST:
                self.full += 1
                return 0
            self.learned |= bool(size) and name in self._by_name
            number = self._numbers[cache] = self._by_name[name] = len(self._caches)
            self._caches.append(cache)
        return number


def _key(  # noqa: PLR0913 - the members of a key
    kind: int,
    *,
    site: int = 0,
    cache: int = 0,
    gfp: int = 0,
    bytes_alloc: int = 0,
    context: int = 0,
    failed: int = 0,
    via: int = 0,
    order: int = 0,
    migratetype: int = NO_ZONE,
) -> Key:
    """In the order of batch.KEY; which zone and node a page came from no text tells."""
    return (site, cache, gfp, bytes_alloc, int(kind), context, failed, int(via), order, NO_ZONE, NO_ZONE, migratetype)


def _bytes(text: str) -> int:
    value = int(text[:20])
    if value < 0:
        raise ValueError(text)
    return min(value, _MOST_BYTES)


def _order(text: str) -> int:
    value = int(text[:20])
    if not 0 <= value < 32:  # no kernel has had more than 18
        raise ValueError(text)
    return value


def _small(text: str) -> int:
    value = int(text[:20])
    return value if 0 <= value < NO_ZONE else NO_ZONE
