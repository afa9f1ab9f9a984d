"""Exact counts: a workload does a prime number of allocations of a known size, and the report has exactly those.

Other programs run meanwhile. So each test looks at functions that hardly anybody else calls, and where somebody might,
at a size class of its own: 128 and 2048, where benchmarks/operations.c works, are left to it.
"""

from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from kmwatch.ledger import Ledger
from kmwatch.schema import Kind
from tests.live.watching import (
    ADD_KEY,
    MAP,
    MESSAGE,
    PAYLOAD,
    PIPE,
    RING,
    TIMER,
    Watch,
    Workload,
    kmwatch,
    message_parts,
    next_map_id,
    only,
    rounded,
    sites,
    split_report,
)
from tests.support import wait_until

MESSAGES = [
    (101, 16),  # with the header 64 bytes: exactly a class
    (1009, 17),  # 65: one more
    (10007, 48),  # 96
    (1009, 81),  # 129, of 192
    (101, 145),  # 193
    (10007, 700),  # 748, of 1024
    (1009, 4048),  # 4096: the last that is one piece
    (1009, 4049),  # and 9 bytes in a second one
    (10007, 5000),
    (101, 8192),  # three pieces
]


def sums(ledger: Ledger) -> tuple[int, int, int]:
    """Count, bytes requested and bytes allocated of all sites of a ledger."""
    found = sites(ledger)
    return (
        sum(site["count"] for site in found),
        sum(site["bytes_requested"] for site in found),
        sum(site["bytes_allocated"] for site in found),
    )


def check_sums(ledger: Ledger, kind: Kind, symbols: tuple[str, ...], count: int, requests: list[int]) -> None:
    """Hold a kmalloc site to `count` times each of the requests; what makes two requests of one class is added up."""
    by_class: dict[int, Counter[int]] = {}
    for request in requests:
        by_class.setdefault(rounded(request), Counter())[request] += 1
    for size_class, parts in by_class.items():
        times = count * parts.total()
        wanted = times, count * sum(size * n for size, n in parts.items()), times * size_class
        part = only(ledger, symbols, kind, size_class)
        assert sums(part) == wanted, f"(count, requested, allocated) at {symbols[0]}, class {size_class}: {sites(part)}"


def check_row(site: dict[str, Any], flags: set[str]) -> None:
    """Hold a site to what a system call's allocation is: a process may sleep, and GFP_KERNEL lets it."""
    assert set(site["gfp"].split("|")) in (flags, flags ^ {"GFP_KERNEL", "GFP_KERNEL_ACCOUNT"}), site
    expected = {"context": "process", "atomic": False, "may_sleep": True, "module": "", "failures": 0}
    assert {name: site[name] for name in expected} == expected, site


def check_complete(ledger: Ledger) -> None:
    """No event of the span may have found the ledger full: nothing could be exact then."""
    assert ledger.trust.map_full == 0, ledger.trust


@pytest.mark.parametrize(("count", "size"), MESSAGES)
def test_messages(watch: Watch, workload: Workload, count: int, size: int) -> None:
    """A message is one struct msg_msg, and a struct msg_msgseg for each further page; all are freed when it is read."""
    ledger = watch.during(lambda: workload.run("msgsnd", count, size))

    check_complete(ledger)
    parts = message_parts(size)
    check_sums(ledger, Kind.KMALLOC, MESSAGE, count, parts)
    for request in parts:
        for site in sites(only(ledger, MESSAGE, Kind.KMALLOC, rounded(request))):
            check_row(site, {"GFP_KERNEL_ACCOUNT"})
            assert site["counted_once"], site
    if ledger_count(ledger, MESSAGE, Kind.KMALLOC) == count * len(parts):  # nobody else sent messages
        assert ledger_count(ledger, ("free_msg",), Kind.KFREE) == count * len(parts)


def ledger_count(ledger: Ledger, symbols: Collection[str], kind: Kind, size_class: int | None = None) -> int:
    """Events of a kind, frees as well, from some functions."""
    return only(ledger, symbols, kind, size_class).events(kind)


@pytest.mark.parametrize(
    ("count", "size", "doubles"),
    [(1009, 8168, 0), (101, 8169, 1), (101, 8193, 2), (1009, 20000, 2), (10007, 32767, 2)],
    ids=["8 KiB", "8 KiB + 1", "both over", "order 3", "10007 of the longest"],
)
def test_keys(watch: Watch, workload: Workload, count: int, size: int, doubles: int) -> None:
    """Above 8 KiB the kernel reports each kmalloc twice: kmwatch once, where the caller is. A key is copied twice."""
    ledger = watch.during(lambda: workload.run("add_key", count, size))

    check_complete(ledger)
    payload = 24 + size  # struct user_key_payload
    check_sums(ledger, Kind.KMALLOC, ADD_KEY, count, [size])
    check_sums(ledger, Kind.KMALLOC, PAYLOAD, count, [payload])
    (site,) = sites(only(ledger, PAYLOAD, Kind.KMALLOC, rounded(payload)))
    check_row(site, {"GFP_KERNEL"})
    assert ledger.trust.duplicates_removed >= doubles * count, ledger.trust
    inside = {site.symbol for site in ledger.meta.sites if is_allocator(site.symbol)}
    left = sum(ledger_count(ledger, inside, Kind.KMALLOC, each) for each in {rounded(size), rounded(payload)})
    assert abs(left) <= 1, "the first of two events stayed where the kernel reports it"  # 1: a stranger's, just now


def is_allocator(symbol: str) -> bool:
    """Whether a function is kmalloc itself under one of its names."""
    return symbol.lstrip("_").startswith(("kmalloc", "kvmalloc"))


def test_pages_of_a_large_kmalloc_are_counted_there(watch: Watch, workload: Workload) -> None:
    """The page event of a kmalloc over 8 KiB is shown at the same caller, and not counted as memory again."""
    ledger = watch.during(lambda: workload.run("add_key", 503, 20000))

    pages = only(ledger, PAYLOAD, Kind.PAGE_ALLOC)
    assert {(site["order"], site["counted_once"]) for site in sites(pages)} == {(3, False)}
    assert sums(pages) == (503, 503 * 32768, 503 * 32768)
    assert pages.totals().allocations == 0, "memory of a kmalloc was counted as pages again"


@pytest.mark.parametrize(("count", "slots"), [(101, 2), (1009, 128), (10007, 256)])
def test_pipes(watch: Watch, workload: Workload, count: int, slots: int) -> None:
    """40 bytes a slot of the ring: 256 of them are a kmalloc over 8 KiB. Each ring replaces one, which is freed."""
    ledger = watch.during(lambda: workload.run("pipe", count, slots))

    check_complete(ledger)
    check_sums(ledger, Kind.KMALLOC, PIPE, count, [40 * slots, 40])
    for site in sites(only(ledger, PIPE, Kind.KMALLOC)):
        check_row(site, {"GFP_KERNEL_ACCOUNT", "__GFP_ZERO", "__GFP_NOWARN"})
    assert ledger_count(ledger, PIPE, Kind.KFREE) == 2 * count
    if 40 * slots > 8192:
        assert ledger.trust.duplicates_removed >= count, ledger.trust


@pytest.mark.parametrize(("count", "pages_each"), [(101, 10), (11, 1021)])
def test_vmalloc_of_bpf_maps(watch: Watch, workload: Workload, count: int, pages_each: int) -> None:
    """Too much for bpf_map_area_alloc()'s kmalloc; above 512 pages vmalloc needs a vmalloc of its own as well.

    Other programs make maps too: their ids tell.
    """
    page = 4096
    spans: list[Ledger] = []

    def undisturbed() -> bool:
        first = next_map_id()
        spans.append(watch.during(lambda: workload.run("bpf_map", count, (pages_each - 1) * page + 8)))
        return next_map_id() - first - 1 == count

    wait_until(undisturbed, 30, "a moment in which nobody else makes BPF maps")
    ledger = spans[-1]
    check_complete(ledger)
    (area,) = sites(only(ledger, MAP, Kind.VMALLOC))
    assert (area["count"], area["bytes_requested"]) == (count, count * pages_each * page), area
    assert (area["bytes_allocated"], area["context"], area["may_sleep"]) == (
        count * pages_each * page,
        "process",
        True,
    ), area
    pages = sites(only(ledger, MAP, Kind.PAGE_ALLOC))
    assert {site["counted_once"] for site in pages} <= {False}, "a vmalloc's pages were counted again"
    # One by one, as the memory is accounted to a cgroup; without __GFP_HIGHMEM they are for the lists of areas.
    own = [site for site in pages if "__GFP_HIGHMEM" in site["gfp"]]
    assert sum(site["count"] for site in own) in (0, count * pages_each), pages

    def released() -> bool:  # a worker thread does it, later
        return ledger_count(watch.so_far(ledger), ("bpf_map_free_deferred",), Kind.VFREE) >= count

    wait_until(released, 10, f"{count} vfree of bpf_map_free_deferred()")


@pytest.mark.parametrize(("count", "order"), [(10007, 0), (1009, 2), (11, 4)])
def test_pages(watch: Watch, workload: Workload, count: int, order: int) -> None:
    """A packet socket's ring is taken from the page allocator, block by block."""
    ledger = watch.during(lambda: workload.run("packet", count, order))

    check_complete(ledger)
    found = sites(only(ledger, RING, Kind.PAGE_ALLOC))
    blocks = [site for site in found if site["counted_once"]]  # the others hold the array of pointers to the blocks
    sizes = [[site[name] for site in blocks] for name in ("count", "bytes_requested", "bytes_allocated")]
    assert [sum(each) for each in sizes] == [count, count * 4096 << order, count * 4096 << order], found
    zones = {line.split()[-1] for line in Path("/proc/zoneinfo").read_text().splitlines() if line.startswith("Node")}
    for site in blocks:
        flags = {"GFP_KERNEL", "__GFP_ZERO", "__GFP_NOWARN", "__GFP_NORETRY", "__GFP_COMP"}
        check_row(site, flags)
        assert site["order"] == order, site
        assert site["zone"] in zones, site
        assert isinstance(site["node"], int), site
        assert (site["zone_asked"], site["migratetype"], site["counted_once"]) == ("Normal", "unmovable", True), site


def test_cache_objects(watch: Watch, workload: Workload) -> None:
    """A POSIX timer is an object of a cache, whose size slabinfo tells; kfree_rcu() releases it, without any event."""
    ledger = watch.during(lambda: workload.run("timer", 10007))

    check_complete(ledger)
    (site,) = sites(only(ledger, TIMER, Kind.CACHE_ALLOC))
    table = [line.split() for line in Path("/proc/slabinfo").read_text().splitlines()]
    (size,) = (int(words[3]) for words in table if words[0] == site["cache"])
    assert (site["count"], site["bytes_allocated"]) == (10007, 10007 * size), site
    assert 0 < site["bytes_requested"] <= site["bytes_allocated"], site
    check_row(site, {"GFP_KERNEL", "__GFP_ZERO"})


def test_twenty_repetitions(watch: Watch, workload: Workload) -> None:
    """The same again and again, and never one off."""
    for _ in range(20):
        ledger = watch.during(lambda: (workload.run("msgsnd", 1009, 5000), workload.run("pipe", 101, 256)))
        check_sums(ledger, Kind.KMALLOC, MESSAGE, 1009, message_parts(5000))
        check_sums(ledger, Kind.KMALLOC, PIPE, 101, [10240, 40])


@pytest.mark.parametrize(
    ("what", "count", "size", "symbols", "requests"),
    [
        ("pipe", 10007, 256, PIPE, [10240, 40]),
        ("add_key", 1009, 20011, PAYLOAD, [20035]),
        ("msgsnd", 10007, 6007, MESSAGE, [4096, 1967]),
    ],
)
def test_from_the_command_line(
    workload: Workload, what: str, count: int, size: int, symbols: tuple[str, ...], requests: list[int]
) -> None:
    """End to end: the command's own output first, then the report."""
    ended = kmwatch("report", "live", "--json", "--", *workload.command(what, count, size))
    assert ended.returncode == 0, ended.stderr
    ended.stdout, report = split_report(ended.stdout)
    workload.check(ended, count)

    assert report["schema"] == "kmwatch.report/1"
    assert report["trust"]["map_full"] == 0, report["trust"]
    rows = [row for row in report["sites"] if row["symbol"] in symbols and row["kind"] == "kmalloc"]
    one_size = {row["min_request"]: row for row in rows if row["min_request"] == row["max_request"]}
    if len(rows) == 1:  # all requests come from one place
        (row,) = rows
        assert (row["min_request"], row["max_request"]) == (min(requests), max(requests)), row
        check_measures(row, count, requests)
    elif one_size.keys() >= set(requests):
        for request in requests:
            check_measures(one_size[request], count, [request])
    else:  # somebody else sends small messages; nobody such that are cut in pieces
        check_measures(one_size[requests[-1]], count, requests[-1:])


def check_measures(row: dict[str, Any], count: int, requests: list[int]) -> None:
    """Hold a row of the report to `count` times each of the requests."""
    requested, allocated = count * sum(requests), count * sum(map(rounded, requests))
    measures = ("count", "bytes_requested", "bytes_allocated", "bytes_wasted", "failures", "opportunistic_failures")
    assert [row[name] for name in measures] == [
        count * len(requests),
        requested,
        allocated,
        allocated - requested,
        0,
        0,
    ], row
    assert (row["context"], row["atomic"], row["may_sleep"], row["counted_once"]) == ("process", False, True, True), row


def test_the_exact_test_can_fail(watch: Watch, workload: Workload) -> None:
    """One message less than expected is noticed."""
    ledger = watch.during(lambda: workload.run("msgsnd", 100, 17))

    with pytest.raises(AssertionError, match="class 96"):
        check_sums(ledger, Kind.KMALLOC, MESSAGE, 101, message_parts(17))


def test_failed_calls_are_not_hidden(workload: Workload) -> None:
    """A workload that could not do what it was told fails the test that relies on it."""
    with pytest.raises(AssertionError, match="the workload itself failed"):
        workload.run("add_key", 1, 32768)  # a key may have 32 767 bytes
