"""The report as text: as wide as the terminal and no wider, and names that are only names."""

import io
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from kmwatch.batch import Cache, Host
from kmwatch.rules import judge
from kmwatch.schema import Context, Kind
from kmwatch.views.report import build
from kmwatch.views.text import render
from tests.unit.rows import Row, kmalloc, ledger, meta, object_of, pages, row
from tests.unit.test_report import everything


def printed(data: dict[str, Any], width: int = 120, top: int = 20, **console: Any) -> str:
    out = io.StringIO()
    render(
        data, Console(file=out, width=width, highlight=False, soft_wrap=False, **{"color_system": None, **console}), top
    )
    return out.getvalue()


def report_of(*rows: Row, **extra: Any) -> dict[str, Any]:
    made = ledger(*rows, **extra)
    return build(made, judge(made))


def words(text: str) -> str:
    """The text without its wrapping."""
    return " ".join(text.split())


@pytest.mark.parametrize("width", [20, 40, 79, 80, 109, 110, 120, 200])
def test_no_line_is_wider_than_the_console(width: int) -> None:
    made = everything()

    lines = printed(build(made, judge(made)), width).splitlines()

    assert len(lines) > 30
    assert [line for line in lines if cell_len(line.rstrip()) > width] == []


@pytest.mark.parametrize("width", [80, 120, 200])
def test_numbers_are_never_cut(width: int) -> None:
    text = printed(
        report_of(kmalloc("a_function_with_a_very_long_name_indeed_for_a_column+0x41", 1000, count=123_456)), width
    )
    (line,) = [line for line in text.splitlines() if line.lstrip().startswith("kmalloc ")]

    assert words(line).endswith("123.5k 120.6 MiB 2%")
    assert "…" in line or width == 200


def test_a_report_says_all_that_it_knows() -> None:
    text = words(printed(build(everything(), judge(everything())), 200))

    for part in (
        "box, Linux 6.18.0, 4 CPUs, 2.0 s",
        "2 real, 1 opportunistic",
        "1 lost, 2 for want of room, 4 of unknown site, 3 double reports removed",
        "4.69% of this machine's CPU time (0.25 s in the kernel, 0.12 s in kmwatch)",
        "extfrag 1, direct reclaim 1, compaction 1, oom victim 1",
        "load_msg+0x41",
        "drv_irq+0x9 [drv]",
        "d_alloc+0x1 (dentry)",
        "fault+0x1 (order 1)",
        "hardirq+rcu",
        "error KM201 sleeping-allocation-in-atomic-context drv_irq+0x9",
        "at ≤ 512 bytes it falls into the next smaller class",
    ):
        assert part in text


def test_a_finding_that_is_not_certain_says_so_and_one_that_is_does_not() -> None:
    sure, unsure = kmalloc("sure+0x1", 640, count=1000), kmalloc("unsure+0x1", 64, gfp="GFP_KERNEL|__GFP_DMA")
    text = words(printed(build(made := ledger(sure, unsure), judge(made)), 200))

    assert "notice KM403 dma-zone-asked-for unsure+0x1 (candidate) kmalloc with" in text
    assert "warning KM101 kmalloc-rounding-waste sure+0x1 asks for" in text
    assert [(one["rule"], one["confidence"]) for one in build(made, judge(made))["findings"]] == [
        ("KM101", "certain"),
        ("KM403", "candidate"),
    ]


def test_doubt_is_printed_at_every_width() -> None:
    for width in (20, 40, 80):
        text = words(printed(build(everything(), []), width))
        for part in ("1 lost", "2 for want of room"):
            assert part in text


def test_nothing_seen_and_nothing_found_is_said() -> None:
    text = printed(report_of())

    assert "no allocation was seen" in text
    assert "no findings" in text
    assert "pressure" not in text


def test_only_the_top_rows_are_shown_and_the_rest_is_counted() -> None:
    data = report_of(*(kmalloc(f"site{at}+0x1", 64, count=100 - at) for at in range(30)))

    text = printed(data, top=3)

    assert [at for at in range(30) if f"site{at}+" in text] == [0, 1, 2]
    assert "27 more rows: --top N shows more, --json shows all" in text
    assert "more rows" not in printed(data, top=30)


def test_rates_are_by_the_second() -> None:
    text = words(printed(report_of(kmalloc("f+0x1", 640, count=5000), seconds=10.0)))

    assert "500 500.0 KiB" in text
    assert "5 000 (500/s): 5 000 allocations, 0 frees" in text
    assert "4.9 MiB allocated (500.0 KiB/s), 1.8 MiB of it never asked for (37.5%)" in text


def test_without_a_terminal_there_is_no_colour_and_no_escape() -> None:
    made = everything()
    data = build(made, judge(made))
    out = io.StringIO()
    render(data, Console(file=out, width=120))

    assert "\x1b" not in out.getvalue()
    assert "\x1b[" in printed(data, color_system="standard", force_terminal=True)


def test_markup_in_a_name_is_not_read_as_markup() -> None:
    data = report_of(
        kmalloc("[red]evil[/red]+0x1", 100, count=10),
        kmalloc("[/nothing]+0x1", 100, context=Context.SOFTIRQ),
        object_of(Cache("[bold]cache[/]", 10, 10), "f+0x1"),
        known=meta(host=Host("[link=http://x]box[/link]", ":skull:", "", 1)),
    )

    for width in (80, 200):
        text = printed(data, width)
        for name in (
            "[red]evil[/red]+0x1",
            "[/nothing]+0x1",
            "[bold]cache[/]",
            "[link=http://x]box[/link], Linux :skull:",
        ):
            assert name in text


@pytest.mark.parametrize(
    "evil", ["\x1b[31mred", "\x1b]0;title\x07", "two\nlines", "back\rover", "\x9b31m", "a\x00b\x08c\x7f", "tab\tbed"]
)
def test_control_characters_in_a_name_do_not_reach_the_terminal(evil: str) -> None:
    """Whoever names a module's function or a cache must not move the cursor of who reads the report."""
    data = report_of(
        kmalloc(f"{evil}f+0x1", 640, count=1000),
        object_of(Cache(evil, 10, 10), "g+0x1"),
        known=meta(host=Host(evil, evil, "", 1)),
    )

    text = printed(data, 200)

    assert [character for character in text if character != "\n" and not character.isprintable()] == []
    assert [line for line in text.splitlines() if line.startswith(("lines", "over"))] == []


def test_a_page_alloc_of_one_page_needs_no_order_and_pressure_alone_is_no_site() -> None:
    text = printed(report_of(pages("fault+0x1"), row(Kind.OOM_VICTIM, count=3)))

    assert "(order" not in text
    assert "oom victim 3" in text
    assert text.count("fault+0x1") == 1


def test_what_a_text_of_another_tool_does_not_tell_is_not_shown() -> None:
    """No host, no cost, and no rate where two failures in two minutes are all there is."""
    known = meta(host=Host("unknown", "unknown", "", 1))
    text = printed(build(ledger(kmalloc("f+0x1", 64, count=2), seconds=130.0, known=known), []))
    lines = [line.rstrip() for line in text.splitlines()]

    assert lines[0].split(maxsplit=1) == ["kmwatch", "host unknown, 2 min 10 s"]
    assert lines[1].split(maxsplit=1) == ["events", "2: 2 allocations, 0 frees"]
    assert not any(line.startswith("cost") for line in lines)
