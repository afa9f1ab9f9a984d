"""Size classes and limits, from the texts of a real kernel and from texts that nobody should trust."""

import time
from pathlib import Path

import pytest

from kmwatch.errors import BadInputError
from kmwatch.kernel.slab import AllocatorLimits, SlabInfo, kmalloc_classes, limits_from, parse_slabinfo

DATA = Path(__file__).parent.parent / "data" / "linux-6.18"
HEAD = "slabinfo - version: 2.1\n# name <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab>\n"
CLASSES = (8, 16, 32, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096, 8192)


@pytest.fixture
def limits() -> AllocatorLimits:
    return limits_from((DATA / "slabinfo").read_text(), (DATA / "buddyinfo").read_text())


def test_linux_618_has_the_known_classes_and_limits(limits: AllocatorLimits) -> None:
    assert limits.classes == CLASSES
    assert (limits.smallest, limits.largest_slab, limits.largest_kmalloc) == (8, 8192, 4 << 20)
    assert (limits.max_order, limits.costly, limits.page_size) == (10, 32 << 10, 4096)
    assert limits.source == "this kernel (/proc/slabinfo, /proc/buddyinfo)"


def test_a_line_gives_its_numbers() -> None:
    text = HEAD + "kmalloc-8k 9 36 8192 4 8 : tunables 0 0 0 : slabdata 9 9 0\n"
    assert parse_slabinfo(text) == (SlabInfo("kmalloc-8k", 9, 36, 8192, 4, 8),)


def test_every_line_of_a_real_file_is_understood() -> None:
    text = (DATA / "slabinfo").read_text()
    caches = parse_slabinfo(text)
    assert len(caches) == len(text.splitlines()) - 2
    assert {"kmalloc-cg-96", "dma-kmalloc-8k", "maple_node", "dentry"} <= {cache.name for cache in caches}


def test_names_with_blanks_and_repeated_names_are_kept() -> None:
    text = HEAD + "my cache  1 2 3 4 5 : tunables\nTCP 1 1 2000 1 1 : tunables\nTCP 1 1 2100 1 1 : tunables\n"
    caches = parse_slabinfo(text)
    assert [cache.name for cache in caches] == ["my cache", "TCP", "TCP"]
    assert caches[0].objsize == 3


def test_only_the_plain_caches_count_as_classes() -> None:
    names = (
        "kmalloc-8",
        "kmalloc-1k",
        "kmalloc-2M",
        "kmalloc-96",
        "kmalloc-cg-3k",
        "kmalloc-rnd-01-48",
        "dma-kmalloc-7",
    )
    text = HEAD + "".join(f"{name} 0 0 1 1 1 : tunables\n" for name in names)
    assert kmalloc_classes(parse_slabinfo(text)) == (8, 96, 1024, 2 << 20)
    assert kmalloc_classes(parse_slabinfo(text)[:2]) == ()  # too few to be all of them


def test_without_root_the_usual_classes_stand_in_and_say_so() -> None:
    limits = limits_from(None, None)
    assert limits.classes == CLASSES
    assert limits.max_order == 10
    assert "needs root" in limits.source


def test_the_largest_kmalloc_follows_the_number_of_orders() -> None:
    line = "Node 0, zone   Normal " + " ".join(["1"] * 14)
    assert limits_from(None, line, 65536).largest_kmalloc == 65536 << 13


@pytest.mark.parametrize(
    ("size", "allocated"),
    [
        (0, 0),
        (1, 8),
        (8, 8),
        (9, 16),
        (33, 64),
        (65, 96),
        (97, 128),
        (129, 192),
        (193, 256),
        (257, 512),
        (640, 1024),
        (4100, 8192),
        (8192, 8192),
        (8193, 16384),
        (10176, 16384),
        (16385, 32768),
        (4 << 20, 4 << 20),
        ((4 << 20) + 1, 8 << 20),
    ],
)
def test_a_request_is_rounded_up_to(limits: AllocatorLimits, size: int, allocated: int) -> None:
    assert limits.class_for(size) == allocated


@pytest.mark.parametrize(
    ("allocated", "smaller"),
    [(8, 0), (16, 8), (96, 64), (128, 96), (1024, 512), (8192, 4096), (16384, 8192), (32768, 16384), (100, 96), (0, 0)],
)
def test_the_next_smaller_class_is(limits: AllocatorLimits, allocated: int, smaller: int) -> None:
    assert limits.next_smaller_class(allocated) == smaller


def test_rounding_never_loses_bytes_and_never_skips_a_class(limits: AllocatorLimits) -> None:
    for size in [*range(1, 20_000), *range(20_000, 300_000, 997)]:
        allocated = limits.class_for(size)
        assert limits.next_smaller_class(allocated) < size <= allocated
        assert limits.class_for(allocated) == allocated


@pytest.mark.parametrize("text", ["", "x", "slabinfo - version: 1.1\n", "slabinfo - version: 2.1" + "x" * (9 << 20)])
def test_what_is_not_slabinfo_is_refused(text: str) -> None:
    with pytest.raises(BadInputError):
        parse_slabinfo(text)


@pytest.mark.parametrize(
    "line",
    [
        "kmalloc-8",
        "kmalloc-8 1 2 3 4",
        "kmalloc-8 1 2 x 4 5 : tunables",
        "kmalloc-8 -1 2 3 4 5 : tunables",
        "kmalloc-8 1 2 3 4 " + "9" * 400 + " : tunables",
        "a" * 100_000,
        "# a comment 1 2 3 4 5 : tunables",
        " 1 2 3 4 5 :",
        "kmalloc-8 1 2 3 ٤ 5 : tunables",
    ],
)
def test_odd_lines_are_left_out(line: str) -> None:
    assert parse_slabinfo(HEAD + line + "\nTCP 1 1 2000 1 1 : tunables\n") == (SlabInfo("TCP", 1, 1, 2000, 1, 1),)


def test_a_hostile_text_takes_no_more_than_a_moment() -> None:
    started = time.monotonic()
    assert parse_slabinfo(HEAD + ("1 " * 250 + "\n") * 10_000) == ()
    assert time.monotonic() - started < 5


def test_limits_survive_json(limits: AllocatorLimits) -> None:
    assert AllocatorLimits.from_json(limits.to_json()) == limits


@pytest.mark.parametrize(
    "change",
    [{"classes": []}, {"classes": [16, 8]}, {"classes": [-1]}, {"classes": ["8"]}, {"page_size": 5}, {"max_order": 99}],
)
def test_damaged_limits_are_refused(limits: AllocatorLimits, change: dict[str, object]) -> None:
    with pytest.raises(BadInputError):
        AllocatorLimits.from_json(limits.to_json() | change)
    with pytest.raises(BadInputError):
        AllocatorLimits.from_json(None)
