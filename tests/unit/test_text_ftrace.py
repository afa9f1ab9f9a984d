"""ftrace's text and trace-cmd's, of all ages: exact events, contexts and doubts."""

from pathlib import Path

import pytest

from kmwatch.batch import KEY, Cache
from kmwatch.errors import BadInputError
from kmwatch.events import KEY_TYPE
from kmwatch.kernel.gfp import built_in
from kmwatch.schema import NO_ZONE, Context, Kind, Via
from tests.unit.trace_texts import DATA, lines, read

KERNEL = "GFP_KERNEL"


def test_today_every_event_is_counted_as_the_text_has_it() -> None:
    text = read(DATA / "ftrace-6.18.txt")

    counts = {kind.name: len(text.of(kind)) for kind in Kind if text.of(kind)}
    assert counts == {
        "KMALLOC": 5,  # six lines, of which two are one allocation
        "KFREE": 1,  # and one of NULL, which frees nothing
        "CACHE_FREE": 4,
        "PAGE_ALLOC": 2,
        "PAGE_FREE": 1,
        "VMALLOC": 1,
        "VFREE": 1,
        "PERCPU_ALLOC": 1,
        "PERCPU_FREE": 2,
        "EXTFRAG": 1,
    }
    doubts = text.recorder.doubts
    assert (doubts.skipped, doubts.lines, doubts.lost, text.trust.lost) == (0, 36, 7, 7)
    assert (text.trust.duplicates_removed, text.trust.unknown_site) == (1, 4)
    assert text.recorder.meta.host.cpus == 2
    assert text.recorder.meta.context == "trace letters"
    assert text.recorder.meta.probes["kmem:kmalloc"] == "imported from ftrace"
    assert {note.partition(" left out")[0] for note in doubts.notes if "left out" in note} == {
        "1 mm_page_free_batched",
        "1 mm_page_alloc_zone_locked",
    }


def test_a_kmalloc_is_the_key_that_the_programs_would_make() -> None:
    first = read(DATA / "ftrace-6.18.txt").events[0]

    assert (first.site, first.requested, first.who, first.cpu, first.time) == (
        "eventfs_set_attr+0x10d",
        60,
        ("bash", 16258),
        0,
        0,
    )
    none = {"zone": NO_ZONE, "node": NO_ZONE, "migratetype": NO_ZONE}
    gfp = built_in().encode("GFP_NOFS|__GFP_ZERO")
    rest = {"cache": 0, "context": 0, "failed": 0, "via": 0, "order": 0, "site": 1}
    assert first.key == {"kind": Kind.KMALLOC, "gfp": gfp, "bytes_alloc": 64, **none, **rest}
    assert tuple(KEY_TYPE.names or ()) == KEY == tuple(first.key)


def test_a_large_kmalloc_that_is_reported_twice_counts_once_with_the_second_site() -> None:
    large = [event for event in read(DATA / "ftrace-6.18.txt").of(Kind.KMALLOC) if event.key["bytes_alloc"] == 32768]

    assert [(event.site, event.requested) for event in large] == [("vmemdup_user+0x2e", 20001)]
    assert large[0].key["via"] == Via.KVMALLOC


@pytest.mark.parametrize(
    "between",
    [
        ["kfree: call_site=kvfree+0x1/0x2 ptr=00000000353eab38"],
        ["kmalloc: call_site=other+0x1/0x2 ptr=00000000353eab38 bytes_req=1 bytes_alloc=8 gfp_flags=GFP_KERNEL"],
    ],
)
def test_a_second_is_none_when_the_memory_was_freed_in_between(tmp_path: Path, between: list[str]) -> None:
    """Kernels before 6.11 report once, some with a site inside the allocator."""
    words = "ptr=00000000353eab38 bytes_req=20001 bytes_alloc=32768 gfp_flags=GFP_KERNEL"
    sites = ["__kmalloc+0x2aa/0x300", "driver_read+0x1/0x2"]
    first, last = (f"kmalloc: call_site={site} {words}" for site in sites)
    prefix = "            cat-1   [000] ..... 1.000001: "

    together = read(lines(tmp_path, prefix + first, prefix + last))
    apart = read(lines(tmp_path, prefix + first, *(prefix + each for each in between), prefix + last))

    assert [event.site for event in together.events] == ["driver_read+0x1"]
    assert together.trust.duplicates_removed == 1
    assert [event.site for event in apart.of(Kind.KMALLOC) if event.requested > 1] == [
        "__kmalloc+0x2aa",
        "driver_read+0x1",
    ]
    assert apart.trust.duplicates_removed == 0


def test_failed_firsts_are_matched_by_thread(tmp_path: Path) -> None:
    words = "ptr=0000000000000000 bytes_req=20001 bytes_alloc=32768 gfp_flags=GFP_KERNEL"
    text = read(
        lines(
            tmp_path,
            f"  a-1 [000] ..... 1.000001: kmalloc: call_site=__kmalloc_noprof+0x1/0x9 {words}",
            f"  b-2 [001] ..... 1.000002: kmalloc: call_site=other+0x1/0x9 {words}",
            f"  a-1 [000] ..... 1.000003: kmalloc: call_site=mine+0x1/0x9 {words}",
        )
    )

    assert [(event.site, event.who, event.key["failed"], event.ptr) for event in text.events] == [
        ("other+0x1", ("b", 2), 1, 0),
        ("mine+0x1", ("a", 1), 1, 0),
    ]


def test_memory_beside_the_slabs() -> None:
    text = read(DATA / "ftrace-6.18.txt")
    [area], [freed] = text.of(Kind.VMALLOC), text.of(Kind.VFREE)
    [percpu] = text.of(Kind.PERCPU_ALLOC)

    assert (area.requested, area.site, area.key["context"], freed.ptr != 0) == (16384, "unknown", 0, True)
    assert (percpu.site, percpu.requested, percpu.key["bytes_alloc"], percpu.gfp) == ("mm_init+0x2bf", 32, 64, KERNEL)
    assert {event.ptr for event in text.of(Kind.PERCPU_FREE)} == {percpu.ptr}
    assert [(event.key["order"], event.key["migratetype"]) for event in text.of(Kind.EXTFRAG)] == [(0, 0)]
    pages = [(event.key["order"], event.key["migratetype"], event.gfp) for event in text.of(Kind.PAGE_ALLOC)]
    assert pages[1] == (0, 0, "GFP_KERNEL_ACCOUNT|__GFP_ZERO|__GFP_COMP")
    assert pages[0][1] == 2


def test_frees_have_no_context_and_know_their_cache() -> None:
    frees = read(DATA / "ftrace-6.18.txt").of(Kind.CACHE_FREE)

    assert {event.context for event in frees} == {0}
    assert [event.cache for event in frees[:2]] == [Cache("pid", 0, 0), Cache("radix_tree_node", 0, 0)]
    assert frees[3].who == ("<idle>", 0)


def test_a_cache_has_its_sizes_from_an_allocation_on(tmp_path: Path) -> None:
    prefix = "  a-1 [000] ..... 1.000001: "
    free = "kmem_cache_free: call_site=f+0x1/0x2 ptr=000000000000abcd name=ext4 inode cache"
    sizes = "bytes_req=100 bytes_alloc=104"
    alloc = (
        f"kmem_cache_alloc: call_site=g+0x1/0x2 ptr=000000000000abcd name=ext4 inode cache {sizes} gfp_flags=GFP_NOFS"
    )
    text = read(lines(tmp_path, *(prefix + words for words in (free, alloc, free))))

    name = "ext4 inode cache"
    assert [event.cache for event in text.events] == [Cache(name, 0, 0), Cache(name, 100, 104), Cache(name, 100, 104)]
    assert [(event.requested, event.key["bytes_alloc"]) for event in text.events] == [(0, 0)] * 3
    assert len({event.ptr for event in text.events}) == 1


def test_a_stack_below_an_event_tells_who_asked() -> None:
    kmalloc, slab, fault, area = read(DATA / "ftrace-6.18-stacktrace.txt").events

    assert (kmalloc.site, kmalloc.stack[2]) == ("lsm_blob_alloc+0x3b", "lsm_blob_alloc")
    assert (slab.site, slab.key["via"]) == ("mas_preallocate", Via.SLAB)
    assert (fault.site, fault.key["via"]) == ("do_wp_page", 0)
    assert (area.kind, area.site, area.requested) == (Kind.VMALLOC, "n_tty_open", 12288)


def test_the_first_kernels_had_neither_letters_nor_names() -> None:
    text = read(DATA / "ftrace-2.6.32.txt")
    freed, page, nowhere, kmalloc, node, gone, failed, no_page = text.events

    assert freed.ptr == page.ptr
    assert (nowhere.site, nowhere.requested, nowhere.gfp) == ("unknown", 20, "GFP_KERNEL|__GFP_ZERO")
    assert (kmalloc.site, kmalloc.context) == ("site-1", Context.UNKNOWN)
    assert kmalloc.gfp == "GFP_TEMPORARY|__GFP_REPEAT"
    assert (node.kind, node.gfp, node.requested, node.key["bytes_alloc"]) == (
        Kind.CACHE_ALLOC,
        "GFP_ATOMIC|GFP_COLD",
        60,
        64,
    )
    assert (gone.site, gone.cache.name, gone.ptr) == ("site-1", "", node.ptr)
    assert (failed.key["failed"], failed.gfp, text.recorder.meta.gfp.may_sleep(failed.key["gfp"])) == (
        1,
        "__GFP_WAIT",
        True,
    )
    assert (no_page.key["failed"], no_page.key["order"], no_page.ptr) == (1, 4, 0)
    assert text.recorder.doubts.skipped == 0
    assert any(note.startswith("2 call sites are addresses") for note in text.recorder.doubts.notes)


def test_the_tracers_own_depth_is_taken_off() -> None:
    text = read(DATA / "ftrace-3.10.txt", kallsyms=DATA / "kallsyms.txt")
    kmallocs = text.of(Kind.KMALLOC)

    assert [event.context for event in kmallocs] == [
        0,
        Context.SOFTIRQ | Context.PREEMPT_OFF,
        0,
        Context.IRQS_OFF | Context.PREEMPT_OFF,
    ]
    assert [event.site for event in kmallocs] == [
        "sk_alloc+0xd4 [net]",
        "__alloc_skb+0x36",
        "snd_read+0x44",
        "seq_release+0xd8",
    ]
    assert [event.key["failed"] for event in kmallocs] == [0, 0, 0, 1]
    assert len(text.of(Kind.KFREE)) == 17
    assert text.trust.lost == 1875  # the head and the line say the same
    assert text.recorder.doubts.lost == 1875
    assert any("tracer's own" in note for note in text.recorder.doubts.notes)


def test_thread_groups_strange_names_and_old_flags() -> None:
    text = read(DATA / "ftrace-4.9-tgid.txt")
    page, kmalloc, strange, freed, no_page, percpu = text.events

    assert [event.who for event in text.events[:4]] == [
        ("unknown", 22275),
        ("Chrome_ChildIO", 4711),
        ("(sd pam): a-b [x]", 12),
        ("bash", 900),
    ]
    assert (page.cpu, page.gfp, page.context) == (3, "GFP_HIGHUSER|__GFP_ZERO", 0)
    assert kmalloc.site == "binder_transaction+0x1b4 [binder_linux]"
    assert kmalloc.gfp == "GFP_KERNEL|__GFP_ATOMIC|__GFP_NOTRACK|0x4000000"
    assert (strange.gfp, strange.requested) == ("none", 10)
    assert strange.context == Context.IRQS_OFF | Context.HARDIRQ | Context.PREEMPT_OFF
    assert freed.context == 0
    assert (no_page.key["failed"], no_page.key["order"], no_page.ptr) == (1, 9, 0)
    assert (percpu.requested, percpu.key["bytes_alloc"], percpu.gfp, percpu.site) == (96, 96, "none", "unknown")
    assert text.recorder.doubts.first == [(19, "this line was cut by a pager")]
    assert any("not how many" in note for note in text.recorder.doubts.notes)


def test_strict_names_the_line() -> None:
    with pytest.raises(BadInputError, match="line 19 is not understood: 'this line was cut"):
        read(DATA / "ftrace-4.9-tgid.txt", strict=True)


def test_the_legend_tells_where_the_letters_are() -> None:
    first, second = read(DATA / "ftrace-rt.txt").events

    assert first.context == Context.BH_OFF | Context.SOFTIRQ | Context.PREEMPT_OFF
    assert second.context == 0


@pytest.mark.parametrize(
    ("letters", "context"),
    [
        (".....", 0),
        ("d....", Context.IRQS_OFF),
        ("b....", Context.BH_OFF),
        ("D..1.", Context.IRQS_OFF | Context.BH_OFF | Context.PREEMPT_OFF),
        (".Ns..", Context.SOFTIRQ),
        ("..h.", Context.HARDIRQ),
        ("..H..", Context.HARDIRQ | Context.SOFTIRQ),
        ("..z..", Context.NMI),
        ("..Z..", Context.NMI | Context.HARDIRQ),
        ("...f2", Context.PREEMPT_OFF),
        ("....2", 0),
        ("X.s..", Context.SOFTIRQ),
        ("?????", Context.UNKNOWN),
    ],
)
def test_letters(tmp_path: Path, letters: str, context: int) -> None:
    words = "kmalloc: call_site=f+0x1/0x2 ptr=00000000353eab38 bytes_req=1 bytes_alloc=8 gfp_flags=GFP_KERNEL"

    assert read(lines(tmp_path, f"  a-1 [000] {letters} 1.000001: {words}")).events[0].context == context


def test_a_clock_that_counts_ticks_is_said_to() -> None:
    text = read(DATA / "clock-x86-tsc.txt")

    assert [event.time for event in text.events] == [0, 1234]
    assert any("something other than seconds" in note for note in text.recorder.doubts.notes)


def test_trace_cmd_pads_names_and_knows_functions() -> None:
    text = read(DATA / "trace-cmd-3.1.txt")
    kmalloc, cached, page = text.events

    assert text.recorder.kind == "trace-cmd report"
    assert [event.site for event in text.events] == ["lsm_blob_alloc+0x3b", "getname_flags+0x4f", "shmem_alloc_folio"]
    assert (kmalloc.context, cached.requested) == (Context.UNKNOWN, 4096)
    assert (page.gfp, text.trust.lost, text.recorder.meta.host.cpus) == ("GFP_HIGHUSER_MOVABLE|__GFP_COMP", 41, 2)


def test_trace_cmd_with_letters_and_nanoseconds() -> None:
    kmalloc, freed = read(DATA / "trace-cmd-letters.txt").events

    assert kmalloc.context == Context.IRQS_OFF | Context.HARDIRQ | Context.PREEMPT_OFF
    assert (freed.time, freed.who, freed.ptr == kmalloc.ptr) == (8000, ("(sd-pam)", 77), True)


OLD = "kmalloc: call_site=f+0x1/0x2 ptr=(null) bytes_req=8 bytes_alloc=8 gfp_flags=GFP_NOWAIT"


@pytest.mark.parametrize(
    ("words", "silent"),
    [
        (OLD, False),  # without node=: before 6.1
        (f"{OLD} accounted=false", False),
        (f"{OLD}|__GFP_NOWARN node=-1 accounted=false", False),
        (f"{OLD} node=-1 accounted=false", True),
    ],
)
def test_what_a_kernel_prints_tells_whether_its_nowait_is_silent(tmp_path: Path, words: str, silent: bool) -> None:
    text = read(lines(tmp_path, f"  a-1 [000] ..... 1.0: {words}", f"  a-1 [000] ..... 1.1: {OLD} node=-1"))
    last = text.events[-1]

    assert last.gfp == "GFP_NOWAIT"
    assert text.recorder.meta.gfp.opportunistic(last.key["gfp"]) is silent
