"""Pages of words and masks: right, complete, and readable on a narrow screen."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from kmwatch import terms
from kmwatch.errors import UsageError
from kmwatch.kernel.gfp import GfpTable, built_in
from kmwatch.kernel.slab import AllocatorLimits
from kmwatch.views import explain

DATA = Path(__file__).parent.parent / "data"
ALL_NAMES = [name for members in explain.names().values() for name in members]


@pytest.fixture(scope="module")
def table() -> GfpTable:
    return GfpTable.from_format((DATA / "linux-6.18" / "kmalloc.format").read_text())


@pytest.fixture(scope="module")
def limits() -> AllocatorLimits:
    return AllocatorLimits(source="a test")


def printed(data: dict[str, object], width: int) -> str:
    out = io.StringIO()
    explain.render(data, Console(file=out, width=width, color_system=None))
    return out.getvalue()


def test_what_must_be_explainable_is() -> None:
    modifiers = (
        "DMA HIGHMEM DMA32 MOVABLE RECLAIMABLE HIGH IO FS ZERO DIRECT_RECLAIM KSWAPD_RECLAIM RECLAIM WRITE NOWARN "
        "RETRY_MAYFAIL NOFAIL NORETRY MEMALLOC COMP NOMEMALLOC HARDWALL THISNODE ACCOUNT ZEROTAGS SKIP_ZERO SKIP_KASAN "
        "NOLOCKDEP NO_OBJ_EXT COLD REPEAT WAIT ATOMIC NOTRACK OTHER_NODE NO_KSWAPD"
    )
    composites = (
        "ATOMIC KERNEL KERNEL_ACCOUNT NOWAIT NOIO NOFS USER DMA DMA32 HIGHUSER HIGHUSER_MOVABLE TRANSHUGE "
        "TRANSHUGE_LIGHT TEMPORARY BUFFER IOFS"
    )
    allocators = ["kmalloc", "vmalloc", "kvmalloc", "get_free_pages", "alloc_pages", "kmem_cache", "ioremap", "vremap"]
    wanted = (
        [f"__GFP_{name}" for name in modifiers.split()] + [f"GFP_{name}" for name in composites.split()] + allocators
    )
    assert [name for name in wanted if name not in ALL_NAMES] == []


def test_gfp_atomic_has_its_value_here_and_does_not_sleep(table: GfpTable, limits: AllocatorLimits) -> None:
    page = explain.build_term("GFP_ATOMIC", table, limits)
    assert (page["kind"], page["may_sleep"], page["zone"], page["group"]) == ("flag", False, "Normal", "combinations")
    assert page["this_kernel"] == {
        "has": True,
        "value": "0x820",
        "bits": [{"name": "__GFP_HIGH", "value": "0x20"}, {"name": "__GFP_KSWAPD_RECLAIM", "value": "0x800"}],
        "table": table.source,
    }


@pytest.mark.parametrize(
    ("name", "until", "replaced_by"),
    [
        ("__GFP_COLD", "4.15", None),
        ("__GFP_REPEAT", "4.13", "__GFP_RETRY_MAYFAIL"),
        ("__GFP_WAIT", "4.4", "__GFP_DIRECT_RECLAIM, __GFP_RECLAIM"),
        ("__GFP_ATOMIC", "6.3", "__GFP_HIGH without __GFP_DIRECT_RECLAIM"),
        ("GFP_TEMPORARY", "4.14", "GFP_KERNEL"),
    ],
)
def test_historical_flags_say_when_they_went_and_what_came(
    table: GfpTable, limits: AllocatorLimits, name: str, until: str, replaced_by: str | None
) -> None:
    page = explain.build_term(name, table, limits)
    assert (page["until"], page["replaced_by"], page["group"]) == (until, replaced_by, "historical")
    assert page["this_kernel"] == {"has": False, "value": None, "bits": [], "table": table.source}


def test_kmalloc_has_the_limits_of_this_kernel(table: GfpTable, limits: AllocatorLimits) -> None:
    page = explain.build_term("kmalloc", table, limits)["limits"]
    assert (page["smallest"], page["largest_slab"], page["largest_kmalloc"], page["costly"]) == (
        8,
        8192,
        4 << 20,
        32768,
    )
    assert page["classes"][:6] == [8, 16, 32, 64, 96, 128]
    assert page["source"] == "a test"


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("gfp_atomic", "GFP_ATOMIC"),
        ("kmalloc()", "kmalloc"),
        ("kzalloc", "kmalloc"),
        ("__get_free_pages", "get_free_pages"),
        ("DMA32", "ZONE_DMA32"),
        ("zone_movable", "ZONE_MOVABLE"),
        ("rounding", "size-classes"),
    ],
)
def test_other_spellings_find_their_page(table: GfpTable, limits: AllocatorLimits, asked: str, found: str) -> None:
    assert explain.knows(asked)
    assert explain.build_term(asked, table, limits)["name"] == found


@pytest.mark.parametrize(
    ("asked", "says"), [("kmaloc", "did you mean kmalloc"), ("GFP_KERNL", "GFP_KERNEL"), ("\x1b[2J", "'\\x1b[2J'")]
)
def test_an_unknown_word_names_the_nearest_and_the_list(
    table: GfpTable, limits: AllocatorLimits, asked: str, says: str
) -> None:
    assert not explain.knows(asked)
    with pytest.raises(UsageError) as caught:
        explain.build_term(asked, table, limits)
    assert says in str(caught.value)
    assert "`kmwatch explain` lists all names" in str(caught.value)


@pytest.mark.parametrize("name", ALL_NAMES)
@pytest.mark.parametrize("width", [20, 80, 200])
def test_every_page_is_json_and_fits_the_screen(
    table: GfpTable, limits: AllocatorLimits, name: str, width: int
) -> None:
    page = explain.build_term(name, table, limits)
    assert json.loads(json.dumps(page)) == page
    lines = printed(page, width).splitlines()
    assert max(map(len, lines)) <= width
    assert "".join(lines).replace(" ", "").startswith(name)
    words = "".join(printed(page, 200).split())
    assert "".join(str(page["source"]).split()) in words


@pytest.mark.parametrize("name", sorted(terms.FLAGS))
def test_the_pages_agree_with_the_mask(table: GfpTable, name: str) -> None:
    flag = terms.FLAGS[name]
    value = table.bit(name)
    if value and flag.may_sleep is not None:
        assert flag.may_sleep == table.may_sleep(value)
    if value and flag.zone is not None:
        assert flag.zone == table.zone_asked(value)
    assert flag.replaced_by is None or flag.until is not None
    assert (flag.until is not None) == (name in terms.HISTORICAL)


def test_every_kernel_combination_that_decides_about_sleep_says_so(table: GfpTable) -> None:
    assert [
        name for name, flag in terms.COMBINATIONS.items() if flag.may_sleep != table.may_sleep(table.bit(name))
    ] == []


def test_a_mask_is_taken_apart(table: GfpTable) -> None:
    assert explain.build_gfp(["GFP_ATOMIC|__GFP_ZERO"], table) == {
        "schema": "kmwatch.gfp/1",
        "mask": "0x920",
        "text": "GFP_ATOMIC|__GFP_ZERO",
        "flags": [
            {"name": "__GFP_HIGH", "value": "0x20", "summary": terms.FLAGS["__GFP_HIGH"].summary},
            {"name": "__GFP_ZERO", "value": "0x100", "summary": terms.FLAGS["__GFP_ZERO"].summary},
            {"name": "__GFP_KSWAPD_RECLAIM", "value": "0x800", "summary": terms.FLAGS["__GFP_KSWAPD_RECLAIM"].summary},
        ],
        "unknown": None,
        "may_sleep": False,
        "zone": "Normal",
        "opportunistic": False,
        "remarks": [],
        "table": table.source,
    }


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["GFP_ATOMIC|__GFP_DIRECT_RECLAIM"], "GFP_ATOMIC with direct reclaim is a contradiction"),
        (["GFP_KERNEL", "GFP_NOWAIT"], "GFP_NOWAIT with direct reclaim is a contradiction"),
        (["GFP_KERNEL|__GFP_HIGHMEM"], "__GFP_HIGHMEM: for pages only"),
        (["GFP_NOIO|GFP_DMA32"], "__GFP_DMA32: for pages only"),
        (["GFP_KERNEL|GFP_DMA|GFP_DMA32"], "__GFP_DMA and __GFP_DMA32 contradict"),
        (["GFP_KERNEL|GFP_DMA"], "The DMA zone has 16 MiB"),
        (["GFP_ATOMIC|__GFP_NOFAIL"], "__GFP_NOFAIL must be able to sleep"),
        (["GFP_KERNEL|__GFP_NOFAIL"], "above order 1"),
        (["GFP_ATOMIC|__GFP_NORETRY"], "__GFP_NORETRY: without effect"),
        (["GFP_KERNEL|__GFP_NORETRY|__GFP_NOFAIL"], "__GFP_NOFAIL contradict"),
        (["GFP_ATOMIC|__GFP_FS"], "__GFP_FS: without effect"),
        (["__GFP_ZERO"], "No reclaim at all"),
        (["GFP_NOWAIT|__GFP_NOWARN"], "leave the second out"),
        (["GFP_NOFS"], "memalloc_nofs_save()"),
        (["GFP_NOIO"], "memalloc_noio_save()"),
        (["GFP_NOIO|__GFP_FS"], "__GFP_FS without __GFP_IO"),
        (["GFP_KERNEL|__GFP_MEMALLOC|__GFP_NOMEMALLOC"], "__GFP_NOMEMALLOC wins"),
        (["GFP_KERNEL|__GFP_MEMALLOC"], "can use up the last page"),
        (["mode:0xa20(GFP_ATOMIC), order=0"], "another flag table"),
        (["0x80000cc0"], "0x80000000 has no name"),
    ],
)
def test_an_odd_mask_is_remarked_on(table: GfpTable, args: list[str], says: str) -> None:
    assert [remark for remark in explain.build_gfp(args, table)["remarks"] if says in remark]


@pytest.mark.parametrize(
    "words",
    ["GFP_KERNEL", "GFP_ATOMIC", "GFP_NOWAIT", "GFP_KERNEL_ACCOUNT|__GFP_ZERO", "GFP_USER", "0xcc0(GFP_KERNEL)"],
)
def test_a_sound_mask_is_not(table: GfpTable, words: str) -> None:
    assert explain.build_gfp([words], table)["remarks"] == []


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["__GFP_WAIT"], "removed in Linux 4.4: use __GFP_DIRECT_RECLAIM, __GFP_RECLAIM"),
        (["GFP_KERNEL|__GFP_COLD"], "removed in Linux 4.15: leave it out"),
        (["__GFP_NOLOCKDEP"], "not configured in this kernel"),
        (["GFP_KERNLE"], "did you mean GFP_KERNEL?"),
        ([], "no flag given"),
    ],
)
def test_an_impossible_mask_says_what_to_do(table: GfpTable, args: list[str], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        explain.build_gfp(args, table)
    assert says in str(caught.value)


@pytest.mark.parametrize("width", [20, 80])
def test_a_mask_fits_the_screen(width: int) -> None:
    data = explain.build_gfp(["0xffffffff"], built_in())
    assert json.loads(json.dumps(data)) == data
    assert max(map(len, printed(data, width).splitlines())) <= width
    assert "[" not in printed(data, 200)


def test_the_list_of_names_is_complete_and_fits() -> None:
    out = io.StringIO()
    explain.render_names(Console(file=out, width=80, color_system=None))
    assert max(map(len, out.getvalue().splitlines())) <= 80
    assert [name for name in ALL_NAMES if name not in out.getvalue().split()] == []
    assert sorted(ALL_NAMES) == sorted(terms.TERMS)


def test_aliases_do_not_hide_a_name() -> None:
    assert not terms.ALIASES.keys() & terms.TERMS.keys()
    assert set(terms.ALIASES.values()) <= terms.TERMS.keys()


def test_nothing_heavy_is_imported() -> None:
    code = "import sys, kmwatch.views.explain; print(*sorted({'numpy', 'bcc', 'textual', 'rich'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
