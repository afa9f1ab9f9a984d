"""Who asked for pages: the first frame of a stack outside the allocators, on old kernels and new."""

import bisect

import pytest

from kmwatch import schema
from kmwatch.kernel.allocators import FUNCTIONS, text_ranges, via_of
from kmwatch.kernel.symbols import Symbols
from kmwatch.schema import NESTING, Via


def owner_of(stack: str) -> tuple[str, int]:
    """The function that asked and the allocators before it, as bpf/stack.h finds them, innermost frame first."""
    passed = 0
    for symbol in stack.split():
        via = via_of(symbol)
        if not via or via & passed & NESTING:
            return symbol, passed & ~NESTING
        passed |= via
    return "", passed & ~NESTING


@pytest.mark.parametrize(
    ("stack", "owner", "through"),
    [
        # Linux 6.18
        (
            "__alloc_frozen_pages_noprof alloc_pages_mpol folio_alloc_noprof __filemap_get_folio ext4_da_write_begin",
            "__filemap_get_folio",
            Via.PAGE,
        ),
        (
            "__traceiter_mm_page_alloc __alloc_frozen_pages_noprof alloc_pages_mpol vma_alloc_folio_noprof do_fault",
            "do_fault",
            Via.TRACING | Via.PAGE,
        ),
        (
            "__alloc_frozen_pages_noprof new_slab ___slab_alloc __slab_alloc.isra.0 kmem_cache_alloc_noprof alloc_fs",
            "alloc_fs",
            Via.PAGE | Via.SLAB,
        ),
        (
            "__alloc_frozen_pages_noprof ___kmalloc_large_node __kmalloc_large_node_noprof __kmalloc_noprof load_msg",
            "load_msg",
            Via.PAGE | Via.SLAB,
        ),
        (
            "alloc_vmap_area __get_vm_area_node __vmalloc_node_range_noprof __vmalloc_node_noprof bpf_map_area_alloc",
            "bpf_map_area_alloc",
            Via.VMAP | Via.VMALLOC,
        ),
        (
            "__alloc_pages_noprof alloc_pages_bulk_noprof __vmalloc_area_node __vmalloc_node_range_noprof copy_process",
            "copy_process",
            Via.PAGE | Via.VMALLOC,
        ),
        ("pcpu_alloc_noprof __alloc_percpu_gfp_noprof mm_init", "mm_init", Via.PERCPU),
        # Linux 6.1 and before
        (
            "__alloc_pages alloc_pages_current new_slab ___slab_alloc __kmalloc load_msg do_msgsnd",
            "load_msg",
            Via.PAGE | Via.SLAB,
        ),
        ("__alloc_pages_nodemask alloc_pages_vma handle_mm_fault", "handle_mm_fault", Via.PAGE),
        (
            "alloc_vmap_area __get_vm_area_node.part.0 __ioremap_caller pci_iomap e1000_probe",
            "e1000_probe",
            Via.VMAP | Via.IOREMAP,
        ),
        ("kmalloc_order kmalloc_order_trace __kmalloc_track_caller __alloc_skb", "__alloc_skb", Via.SLAB),
        ("free_vmap_area_noflush remove_vm_area vfree.part.0 kvfree bpf_map_free", "bpf_map_free", Via.VMAP),
        # The array of page pointers of a large vmalloc belongs to vmalloc itself.
        (
            "alloc_vmap_area __vmalloc_node_range_noprof __vmalloc_node_noprof __vmalloc_node_range_noprof alloc_map",
            "__vmalloc_node_range_noprof",
            Via.VMAP | Via.VMALLOC,
        ),
        # Nothing but allocators, and nothing of them.
        ("__alloc_pages get_zeroed_page", "", Via.PAGE),
        ("load_msg __kmalloc", "load_msg", 0),
    ],
)
def test_the_first_frame_outside_asked(stack: str, owner: str, through: int) -> None:
    assert owner_of(stack) == (owner, through)


@pytest.mark.parametrize(
    "suffix", ["", "_noprof", ".isra.0", ".cold", ".part.0", "_noprof.isra.0.cold", ".constprop.0", ".llvm.123"]
)
def test_suffixes_do_not_hide_a_function(suffix: str) -> None:
    assert via_of(f"__kmalloc{suffix}") == Via.SLAB
    assert via_of(f"load_msg{suffix}") == 0


@pytest.mark.parametrize(
    "symbol",
    [
        "",
        "vmalloc_to_page",
        "my_vmalloc",
        "__kmalloc_",
        "KMALLOC",
        "_noprof",
        ".cold",
        "alloc_pages_noprof_x",
        "mm_page_alloc",
        "kmalloc trace",
    ],
)
def test_what_only_looks_alike_is_outside(symbol: str) -> None:
    assert via_of(symbol) == 0


@pytest.mark.parametrize("event", ["mm_page_alloc", "alloc_vmap_area", "free_vmap_area_noflush"])
def test_the_machinery_of_events_whose_stack_is_read_is_not_the_caller(event: str) -> None:
    for tracer in ("__traceiter_", "perf_trace_", "trace_event_raw_event_", "__bpf_trace_"):
        assert via_of(tracer + event) == Via.TRACING


def test_every_function_belongs_to_one_allocator_and_is_spelled_without_suffix() -> None:
    names = [name for functions in FUNCTIONS.values() for name in functions.split()]

    assert sorted(names) == sorted(set(names))
    assert [name for name in names if name.endswith("_noprof") or not name.isidentifier()] == []
    for via, functions in FUNCTIONS.items():
        assert {via_of(name) for name in functions.split()} == {via}


def test_stretches_of_text_join_neighbours_of_one_meaning() -> None:
    functions = [
        ("_stext", 0x1000),
        ("load_msg", 0x1100),
        ("__kmalloc_noprof", 0x1200),
        ("kmem_cache_alloc", 0x1300),
        ("vfree", 0x1400),
        ("schedule", 0x1500),
        ("do_exit", 0x1600),
    ]

    assert text_ranges(functions) == [(0, 0), (0x1200, Via.SLAB), (0x1400, Via.VMAP), (0x1500, 0)]
    assert text_ranges([]) == [(0, 0)]


def test_an_address_finds_the_meaning_of_its_function() -> None:
    """By the search that bpf/stack.h does: the last boundary at or below the address."""
    text = b"".join(
        b"%016x t %s\n" % (address, name)
        for address, name in [
            (0xFFFFFFFF81000000, b"_stext"),
            (0xFFFFFFFF81000500, b"vmalloc_noprof"),
            (0xFFFFFFFF81000100, b"__kmalloc_noprof"),
            (0xFFFFFFFF81000200, b"load_msg"),
        ]
    )
    table = Symbols(text).allocator_text

    def meaning(address: int) -> int:
        return table[bisect.bisect_right([boundary for boundary, _ in table], address) - 1][1]

    offsets = {0: 0, 0xFF: 0, 0x100: Via.SLAB, 0x1FF: Via.SLAB, 0x200: 0, 0x4FF: 0, 0x500: Via.VMALLOC}
    assert {offset: meaning(0xFFFFFFFF81000000 + offset) for offset in offsets} == offsets


@pytest.mark.parametrize("ending", ["\n", ""])
@pytest.mark.parametrize("module", ["", "\t[some]"])
def test_text_finds_every_listed_function_wherever_it_stands(module: str, ending: str) -> None:
    """By the beginnings of names, the shortest at the very end of the text included."""
    names = [name for functions in FUNCTIONS.values() for name in functions.split()]
    for suffix in ("", "_noprof", ".cold"):
        for last in ("vmap", "vfree", "iounmap", "__vunmap"):
            every = [part for name in [*names, last] for part in ("other", name + suffix)]
            lines = [f"{0xFFFFFFFF81000000 + 16 * at:016x} t {name}{module}" for at, name in enumerate(every)]
            raw = ("\n".join(lines) + ending).encode()
            expected = text_ranges((name, 0xFFFFFFFF81000000 + 16 * at) for at, name in enumerate(every))

            assert Symbols(raw).allocator_text == expected


def test_the_table_has_room_for_a_kernel_where_no_two_listed_functions_are_neighbours() -> None:
    names = [name for functions in FUNCTIONS.values() for name in functions.split()]
    spread = [(symbol, 16 * at) for at, symbol in enumerate(" other ".join(names).split(), start=1)]

    assert len(text_ranges(spread)) < schema.TABLE_SIZE * 3 // 4  # the rest is for `.part.0` and `.cold` copies
