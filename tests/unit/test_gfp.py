"""GFP masks to words and back, with the tables of three kernels, and texts that nobody should trust."""

import contextlib
import itertools
import time
from pathlib import Path

import pytest

from kmwatch import terms
from kmwatch.errors import BadInputError, NotPossibleError, UsageError
from kmwatch.kernel import gfp, tracefs
from kmwatch.kernel.gfp import GfpTable, built_in, evaluate

DATA = Path(__file__).parent.parent / "data"


def table_of(kernel: str) -> GfpTable:
    return GfpTable.from_format((DATA / kernel / "kmalloc.format").read_text())


@pytest.fixture(params=["linux-6.18", "linux-6.12", "linux-6.1", "built-in"])
def table(request: pytest.FixtureRequest) -> GfpTable:
    return built_in() if request.param == "built-in" else table_of(request.param)


@pytest.fixture
def today() -> GfpTable:
    return table_of("linux-6.18")


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (0x0, "none"),
        (0xCC0, "GFP_KERNEL"),
        (0xDC0, "GFP_KERNEL|__GFP_ZERO"),
        (0x820, "GFP_ATOMIC"),
        (0x2800, "GFP_NOWAIT"),
        (0x800, "__GFP_KSWAPD_RECLAIM"),
        (0xC00, "GFP_NOIO"),
        (0xC40, "GFP_NOFS"),
        (0xC20, "GFP_NOIO|__GFP_HIGH"),  # the kernel's own print says GFP_ATOMIC|__GFP_DIRECT_RECLAIM
        (0xCE0, "GFP_KERNEL|__GFP_HIGH"),
        (0x400CC0, "GFP_KERNEL_ACCOUNT"),
        (0x100CC0, "GFP_USER"),
        (0x100CC2, "GFP_HIGHUSER"),
        (0x100CCA, "GFP_HIGHUSER_MOVABLE"),
        (0x3C24CA, "GFP_TRANSHUGE|__GFP_THISNODE"),
        (0x1C20CA, "GFP_TRANSHUGE_LIGHT"),
        (0x1C24CA, "GFP_TRANSHUGE"),
        (0xCC1, "GFP_KERNEL|GFP_DMA"),
        (0x80000820, "GFP_ATOMIC|0x80000000"),
        (0x200, "0x200"),
    ],
)
def test_linux_618_reads_a_mask(today: GfpTable, mask: int, words: str) -> None:
    assert today.decode(mask) == words


def test_linux_61_has_other_values_for_the_same_names() -> None:
    old = table_of("linux-6.1")
    assert old.decode(0xA20) == "GFP_ATOMIC"
    assert old.decode(0x820) == "GFP_NOWAIT|__GFP_HIGH"
    assert old.decode(0x800) == "GFP_NOWAIT"
    assert old.encode("GFP_ATOMIC") == 0xA20
    assert old.bit("__GFP_ATOMIC") == 0x200
    assert old.bit("__GFP_NO_OBJ_EXT") == 0
    assert old.decode(0x1C24CA) == "GFP_TRANSHUGE"


def test_a_table_with_enumerators_for_numbers_reads_like_the_repaired_one(today: GfpTable) -> None:
    assert table_of("linux-6.12") == today


def test_configured_enumerators_take_the_next_free_bits() -> None:
    names = ("___GFP_NOLOCKDEP_BIT", "___GFP_NO_OBJ_EXT_BIT")
    text = ", ".join(f'{{( unsigned long)(( gfp_t)((1UL) << ({name}))), "_{name[2:-4]}"}}' for name in names)
    table = GfpTable.from_format(text)
    assert (table.bit("__GFP_NOLOCKDEP"), table.bit("__GFP_NO_OBJ_EXT")) == (1 << 24, 1 << 25)


def test_words_and_masks_are_each_others_inverse(table: GfpTable) -> None:
    bits = [1 << bit for bit in range(32)]
    for first, second in itertools.combinations_with_replacement(bits, 2):
        mask = first | second
        assert table.encode(table.decode(mask)) == mask
        assert table.encode(table.decode(mask | 0xCC0)) == mask | 0xCC0
        assert table.encode(table.decode(mask | 0x1C24CA)) == mask | 0x1C24CA


def test_every_name_means_its_own_value(table: GfpTable) -> None:
    for name, value in table.flags:
        assert table.encode(name) == value == table.encode(table.decode(value))


@pytest.mark.parametrize(
    ("text", "mask"),
    [
        ("GFP_KERNEL|__GFP_ZERO", 0xDC0),
        ("GFP_KERNEL __GFP_ZERO", 0xDC0),
        ("gfp_kernel + __gfp_zero", 0xDC0),
        ("0xcc0", 0xCC0),
        ("3264", 0xCC0),
        ("GFP_KERNEL|0x80000000", 0x80000CC0),
        ("none", 0),
        ("mode:0xcc0(GFP_KERNEL), nodemask=(null)", 0xCC0),
        ("order=0, gfp_mask=0x820(GFP_ATOMIC), comm=x", 0x820),
    ],
)
def test_names_and_numbers_are_read(today: GfpTable, text: str, mask: int) -> None:
    assert today.encode(text) == mask


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("GFP_KERNLE", "did you mean GFP_KERNEL?"),
        ("GFP_KERNEL|__GFP_COLD", "no GFP flag '__GFP_COLD'"),
        ("0x1ffffffff", "does not fit"),
        ("-1", "no GFP flag '-1'"),
        ("", "no flag given"),
        ("x" * 5000, "too long"),
        ("GFP_KERNEL&~__GFP_IO", "no GFP flag"),
    ],
)
def test_what_is_no_mask_is_a_usage_error(today: GfpTable, text: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        today.encode(text)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("words", "sleeps", "opportunistic", "zone"),
    [
        ("GFP_KERNEL", True, False, "Normal"),
        ("GFP_ATOMIC", False, False, "Normal"),
        ("GFP_NOWAIT", False, True, "Normal"),
        ("GFP_NOWAIT|__GFP_NORETRY", False, True, "Normal"),
        ("GFP_KERNEL|__GFP_NOWARN|__GFP_NORETRY", True, True, "Normal"),
        ("GFP_KERNEL|__GFP_NORETRY", True, False, "Normal"),
        ("GFP_KERNEL|__GFP_NOWARN", True, False, "Normal"),
        ("GFP_TRANSHUGE_LIGHT", False, True, "Movable"),
        ("GFP_HIGHUSER", True, False, "Normal"),
        ("GFP_HIGHUSER_MOVABLE", True, False, "Movable"),
        ("GFP_KERNEL|__GFP_MOVABLE", True, False, "Normal"),
        ("GFP_KERNEL|GFP_DMA", True, False, "DMA"),
        ("GFP_KERNEL|GFP_DMA32", True, False, "DMA32"),
        ("GFP_KERNEL|GFP_DMA32|__GFP_MOVABLE", True, False, "DMA32"),
        ("GFP_KERNEL|GFP_DMA32|__GFP_HIGHMEM", True, False, "DMA"),
        ("__GFP_ZERO", False, True, "Normal"),
    ],
)
def test_what_a_mask_asks_for(today: GfpTable, words: str, sleeps: bool, opportunistic: bool, zone: str) -> None:
    mask = today.encode(words)
    assert (today.may_sleep(mask), today.opportunistic(mask), today.zone_asked(mask)) == (sleeps, opportunistic, zone)


def test_zones_are_known_on_kernels_that_name_the_flags_as_composites(table: GfpTable) -> None:
    """Linux 6.1 has GFP_DMA in its table, and no __GFP_DMA."""
    assert table.zone_asked(table.encode("GFP_ATOMIC|GFP_DMA")) == "DMA"
    assert table.zone_asked(table.encode("GFP_KERNEL|GFP_DMA32")) == "DMA32"
    assert table.encode("__GFP_DMA") == table.encode("GFP_DMA") != 0


def test_highmem_is_a_zone_only_where_the_kernel_has_one(today: GfpTable) -> None:
    assert today.zone_asked(today.encode("GFP_HIGHUSER"), highmem=True) == "HighMem"
    assert today.zone_asked(today.encode("GFP_HIGHUSER_MOVABLE"), highmem=True) == "Movable"


def test_missing_combinations_are_derived_and_present_ones_are_kept() -> None:
    text = "".join(
        f'{{{value}, "{name}"}}'
        for name, value in {
            "GFP_KERNEL": 0xF0,
            "__GFP_ACCOUNT": 0x100,
            "__GFP_DIRECT_RECLAIM": 0x10,
            "__GFP_KSWAPD_RECLAIM": 0x20,
        }.items()
    )
    table = GfpTable.from_format(text)
    assert table.bit("GFP_KERNEL_ACCOUNT") == 0x1F0
    assert table.bit("GFP_NOIO") == 0x30
    assert table.bit("GFP_KERNEL") == 0xF0
    assert table.bit("GFP_HIGHUSER") == 0  # a part is missing
    assert table.bit("GFP_ATOMIC") == 0  # what it is made of differs by version


def test_every_flag_of_every_table_has_a_page(table: GfpTable) -> None:
    assert [name for name, _ in table.flags if name not in terms.FLAGS] == []


def test_the_built_in_table_agrees_with_linux_618_where_both_have_a_flag(today: GfpTable) -> None:
    fallback = built_in()
    assert fallback.source == "built-in (Linux 6.3 and later)"
    assert {name: today.bit(name) for name, _ in fallback.flags} == dict(fallback.flags)
    assert {name for name, _ in today.flags} - {name for name, _ in fallback.flags} == {"__GFP_NO_OBJ_EXT"}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("( unsigned long)(( gfp_t)((((1UL))) << (10)))", 0x400),
        ("(0x400u|0x800u)", 0xC00),
        ("((( gfp_t)0xc00u) | 0x40u) & ~(( gfp_t)0x400u)", 0x840),
        ("~0", 0xFFFFFFFF),
        ("1 << 2 | 1", 5),
        ("(unsigned int)(__force gfp_t)7ul", 7),
    ],
)
def test_c_expressions_have_the_value_that_c_gives_them(expression: str, value: int) -> None:
    assert evaluate(expression) == value


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').system('true')",
        "(lambda: 1)()",
        "1 << 9999999999",
        "1 << 64",
        "9" * 40,
        "2 ** 2",
        "1 + 1",
        "-1",
        "1.5",
        "True",
        "'a'",
        "x",
        "___GFP_DMA_BIT",
        "",
        "(",
        "1 if 1 else 2",
        "(" * 3000 + "1" + ")" * 3000,
        "(" * 150 + "1" + ")" * 150 + "|" + "~" * 60 + "x",
        "~" * 4000 + "1",
        "1|" * 3000 + "1",
        "1\n|2",
        "0x1for x in y",
        "'\\d'",
        "1e5",
        "\u0661",
        "\0",
        "1 << 1 << 1 << y",
    ],
)
def test_hostile_expressions_are_refused(expression: str) -> None:
    with pytest.raises(BadInputError):
        evaluate(expression)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name: kmalloc\n",
        'print fmt: {1, "notgfp"}',
        '{os.system("x"), "GFP_KERNEL"}',
        '{1 << 99, "GFP_KERNEL"}',
        "".join(f'{{1, "GFP_A{number}"}}' for number in range(1000)),
        "x" * (2 << 20),
    ],
)
def test_a_text_without_a_sound_table_is_refused(text: str) -> None:
    with pytest.raises(BadInputError):
        GfpTable.from_format(text)


@pytest.mark.parametrize(
    "text", ["{" * 500_000, "{1," * 200_000, '{1,"' * 100_000, "(unsigned " * 50_000 + '{1, "GFP_A"}']
)
def test_a_hostile_text_takes_no_more_than_a_moment(text: str) -> None:
    started = time.monotonic()
    with contextlib.suppress(BadInputError):
        GfpTable.from_format(text)
    assert time.monotonic() - started < 5


def test_a_table_survives_json(table: GfpTable) -> None:
    assert GfpTable.from_json(table.to_json()) == table


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {"source": "x", "flags": []},
        {"source": 1, "flags": [["GFP_A", 1]]},
        {"source": "x", "flags": [["GFP_A", -1]]},
        {"source": "x", "flags": [["GFP_A", True]]},
        {"source": "x", "flags": [["GFP_A", 1 << 40]]},
        {"source": "x", "flags": [["\x1b[31m", 1]]},
        {"source": "x", "flags": [["GFP_A"]]},
        {"source": "x", "flags": [["GFP_A", 1]] * 1000},
    ],
)
def test_damaged_json_is_refused(data: object) -> None:
    with pytest.raises(BadInputError):
        GfpTable.from_json(data)


def fake_tracefs(path: Path) -> Path:
    event = path / "events" / "kmem" / "kmalloc"
    event.mkdir(parents=True)
    (event / "format").write_text((DATA / "linux-6.18" / "kmalloc.format").read_text())
    return path


def test_tracefs_is_found_and_read(tmp_path: Path) -> None:
    found = tracefs.find(places=(tmp_path / "absent", fake_tracefs(tmp_path / "tracing")))
    assert (found.path, found.mounted) == (tmp_path / "tracing", False)
    assert found.has_event("kmem", "kmalloc")
    assert not found.has_event("kmem", "kmalloc_node")
    assert found.format_text("kmem", "kmalloc_node") is None
    assert (found.format_text("kmem", "kmalloc") or "").startswith("name: kmalloc\n")


@pytest.mark.parametrize(
    ("category", "event"), [("..", "x"), ("kmem", "../../x"), ("", "x"), ("kmem", "a/b"), ("k\0", "x")]
)
def test_an_event_name_cannot_leave_tracefs(tmp_path: Path, category: str, event: str) -> None:
    found = tracefs.Tracefs(fake_tracefs(tmp_path))
    with pytest.raises(BadInputError):
        found.format_text(category, event)


def test_a_missing_tracefs_is_mounted_by_root_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "tracing"
    monkeypatch.setattr(tracefs, "_mount", lambda: bool(fake_tracefs(place)))
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(NotPossibleError, match="sudo mount -t tracefs tracefs /sys/kernel/tracing"):
        tracefs.find(places=(place,))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with pytest.raises(NotPossibleError):
        tracefs.find(mount=False, places=(place,))
    assert tracefs.find(places=(place,)) == tracefs.Tracefs(place, mounted=True)


def test_without_tracefs_the_built_in_table_stands_in(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(*, mount: bool) -> tracefs.Tracefs:
        assert not mount  # looking a word up must not change the machine
        raise NotPossibleError("not mounted")

    monkeypatch.setattr(tracefs, "find", nowhere)
    assert gfp.running_table().source == gfp.BUILT_IN
