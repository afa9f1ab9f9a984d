"""perf's text: stacks, pointers and times as perf writes them."""

from pathlib import Path

import pytest

from kmwatch.batch import Cache
from kmwatch.schema import Context, Kind, Via
from tests.unit.trace_texts import DATA, lines, read

STACK = """\
	ffffffff8162184b __alloc_frozen_pages_noprof+0x26b ([kernel.kallsyms])
	ffffffff8165add6 alloc_pages_mpol+0x86 ([kernel.kallsyms])
"""
SMALL = "bytes_req=9 bytes_alloc=16 gfp_flags=GFP_NOWAIT"
AREA = "vmalloc:alloc_vmap_area: va_start: 18446683600617439232 size=20480 align=1 vstart=0x1 vend=0x2 failed=0"


def test_stacks_name_the_owner_of_what_has_no_call_site() -> None:
    text = read(DATA / "perf-6.18-stacks.txt")
    pipe, slab = text.of(Kind.PAGE_ALLOC)
    [area] = text.of(Kind.VMALLOC)

    assert (pipe.site, pipe.key["via"], pipe.stack[0]) == (
        "anon_pipe_write+0x1a8",
        0,
        "__alloc_frozen_pages_noprof+0x26b",
    )
    assert (slab.site, slab.key["via"], slab.gfp[:8]) == ("alloc_buffer_head+0x1d", Via.SLAB, "GFP_NOFS")
    assert (area.site, area.requested) == ("copy_process+0xe41", 16384)
    assert pipe.stack[-1] == "entry_SYSCALL_64_after_hwframe+0x76"  # what follows is the program's own
    assert len(pipe.stack) == 8
    assert text.trust.unknown_site == 0


def test_every_event_is_counted_and_has_its_stack() -> None:
    text = read(DATA / "perf-6.18-stacks.txt")

    counts = {kind.name: len(text.of(kind)) for kind in Kind if text.of(kind)}
    assert counts == {
        "KMALLOC": 2,  # three lines, of which two are one allocation
        "KFREE": 1,
        "CACHE_ALLOC": 1,
        "CACHE_FREE": 1,
        "PAGE_ALLOC": 2,
        "PAGE_FREE": 1,
        "VMALLOC": 1,
        "PERCPU_ALLOC": 1,
        "PERCPU_FREE": 1,
    }
    assert all(event.stack for event in text.events)
    assert [event.site for event in text.of(Kind.KMALLOC)] == ["sched_setaffinity+0x10c", "vmemdup_user+0x2e"]
    assert text.of(Kind.KMALLOC)[1].key["via"] == Via.KVMALLOC
    assert text.trust.duplicates_removed == 1
    host = text.recorder.meta.host
    assert (host.hostname, host.kernel, host.cpus) == ("vm", "6.18.44-fc-v669", 2)


def test_without_stacks_the_owner_is_unknown_and_that_is_said() -> None:
    text = read(DATA / "perf-6.18-flat.txt")
    [page] = text.of(Kind.PAGE_ALLOC)

    assert len(text.events) == 8
    assert [event.cache for event in text.of(Kind.CACHE_FREE)] == [Cache("names_cache", 4096, 4096)]
    assert {event.ptr for event in text.of(Kind.CACHE_FREE)} <= {event.ptr for event in text.of(Kind.CACHE_ALLOC)}
    assert (page.site, page.stack, page.key["failed"], text.trust.unknown_site) == ("unknown", (), 0, 1)
    assert text.events[1].time == 225676
    assert {event.who for event in text.events} == {("perf", 11565)}
    assert text.recorder.doubts.notes[0].startswith("1 page, vmalloc or per-CPU event has no stack")
    assert {event.context for event in text.of(Kind.KMALLOC)} == {Context.UNKNOWN}
    assert text.recorder.meta.context == ""


def test_a_null_pointer_is_a_failure_and_freeing_it_nothing(tmp_path: Path) -> None:
    text = read(
        lines(
            tmp_path,
            "a  1/2 [000] 1.5: kmem:kfree: call_site=f+0x12 ptr=(nil)",
            "a  1/2 [000] 1.5: kmem:kfree: call_site=f+0x12 ptr=0x10",
            f"a  1/2 [000] 1.500000007: kmem:kmalloc: call_site=f+0x1 ptr=(nil) {SMALL}",
            "a  1/2 [000] 1.6: kmem:mm_page_alloc: page=(nil) pfn=0x0 order=2 migratetype=0 gfp_flags=GFP_NOWAIT",
            f"a  1/2 [000] 1.7: kmem:mm_page_alloc: page=(nil) pfn={2**64 - 1} order=2 migratetype=0 gfp_flags=none",
            "a  1/2 [000] 1.8: kmem:mm_page_alloc: page=(nil) pfn=-1 order=2 migratetype=0 gfp_flags=none",
            head="",
        )
    )

    assert [(event.kind, event.key["failed"], event.ptr) for event in text.events] == [
        (Kind.KMALLOC, 1, 0),
        *[(Kind.PAGE_ALLOC, 1, 0)] * 3,
    ]
    assert [event.time for event in text.events] == [0, 99_999_993, 199_999_993, 299_999_993]
    assert text.events[0].who == ("a", 2)
    assert text.recorder.doubts.skipped == 0


def test_an_older_perf_gives_files_and_no_offsets() -> None:
    kmalloc, page = read(DATA / "perf-4.0-ppc64.txt").events

    assert (kmalloc.who, kmalloc.site, kmalloc.gfp) == (("jbd2/dm-3-8", 7666), "site-1", "GFP_NOFS|__GFP_ZERO")
    assert kmalloc.stack == ("__kmalloc", "ext4_find_extent", "ext4_ext_map_blocks")
    assert (page.site, page.key["via"]) == ("jbd2_alloc+0x20 [jbd2]", Via.SLAB)


def test_the_first_perf_wrote_as_ftrace_does() -> None:
    kmalloc, freed = read(DATA / "perf-2.6.33.txt").events

    assert (kmalloc.who, kmalloc.requested, freed.time, freed.ptr) == (("perf", 2204), 100, 28_639_000, kmalloc.ptr)


@pytest.mark.parametrize(
    ("frames", "kind", "site"),
    [
        (
            ("alloc_vmap_area", "__get_vm_area_node", "__vmalloc_node_range_noprof", "vzalloc_noprof", "mine"),
            "VMALLOC",
            "mine",
        ),
        (("alloc_vmap_area", "__get_vm_area_caller", "__ioremap_caller", "pci_iomap", "probe"), "IOREMAP", "probe"),
        (("alloc_vmap_area", "get_vm_area", "vmap", "map_it"), "VMAP", "map_it"),
        # Above 512 pages it needs a vmalloc of its own: the second time, the function is itself the owner.
        (
            (
                "alloc_vmap_area",
                "__vmalloc_node_range_noprof",
                "__vmalloc_area_node",
                "__vmalloc_node_range_noprof",
                "far",
            ),
            "VMALLOC",
            "__vmalloc_node_range_noprof",
        ),
    ],
)
def test_the_stack_tells_what_an_area_is_for(tmp_path: Path, frames: tuple[str, ...], kind: str, site: str) -> None:
    stack = "".join(f"\tffffffff8160{at:04x} {name}+0x{at}1 ([kernel.kallsyms])\n" for at, name in enumerate(frames))
    [event] = read(lines(tmp_path, f"cat 7 [001] 1.000001: {AREA}\n{stack}", head="")).events

    assert (event.kind.name, event.site.partition("+")[0], event.requested) == (kind, site, 16384)
    assert len(event.stack) == len(frames)


def test_a_stack_that_does_not_leave_the_allocators_is_doubted(tmp_path: Path) -> None:
    stack = "\tffffffff8162184b __alloc_pages+0x1 ([kernel.kallsyms])\n" * 16
    event = "cat 7 [001] 1.000001: kmem:mm_page_alloc: page=0x1 pfn=0x99 order=0 migratetype=0 gfp_flags=GFP_KERNEL\n"
    text = read(lines(tmp_path, event + stack, head=""))

    assert (text.trust.unknown_site, text.events[0].site) == (1, "__alloc_pages+0x1")


def test_frames_of_programs_and_inlined_functions_are_left_out(tmp_path: Path) -> None:
    event = "cat 7 [001] 1.000001: kmem:mm_page_alloc: page=0x1 pfn=0x99 order=0 migratetype=0 gfp_flags=GFP_KERNEL\n"
    other = (
        "\tffffffff8165add6 folio_inlined (inlined)\n"
        "\tffffffffc0001000 nf_hook+0x10 ([nf_tables])\n"
        "\tffffffffc0009999 [unknown] ([kernel.kallsyms])\n"
        "\t           ee137 main+0x7 (/usr/bin/cat)\n"
        "\tffffffffff600000 gettimeofday+0x0 ([vsyscall])\n"
    )
    [page] = read(lines(tmp_path, event + STACK + other, head="")).events

    assert page.stack[2:] == ("nf_hook+0x10 [nf_tables]", "site-1")
    assert page.site == "nf_hook+0x10 [nf_tables]"


def test_lost_samples_are_counted(tmp_path: Path) -> None:
    text = read(
        lines(
            tmp_path,
            "perf  1 [000] 1.5: kmem:kfree: call_site=f+0x12 ptr=0xffff888100000000",
            "perf  1 [000] 1.6: PERF_RECORD_LOST lost 96",
            head="",
        )
    )

    assert (len(text.events), text.trust.lost, text.recorder.doubts.skipped) == (1, 96, 0)
