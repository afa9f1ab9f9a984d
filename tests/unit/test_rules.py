"""The rule book: for each rule ledgers that fire it, with exact numbers, and ledgers that leave it quiet."""

import inspect
import re

import pytest

from kmwatch import findings
from kmwatch.batch import Cache, Trust
from kmwatch.errors import UsageError
from kmwatch.findings import HEADINGS, RULES, SEVERITIES
from kmwatch.ledger import Ledger
from kmwatch.rules import judge
from kmwatch.schema import Context, Kind, Via
from kmwatch.views import rulebook
from tests.unit.rows import Row, area, found, kmalloc, ledger, meta, object_of, only, pages, percpu

IN_TCP = {"gfp": "GFP_ATOMIC", "context": Context.SOFTIRQ}


# The book itself


def test_what_was_published_keeps_its_code_and_its_name() -> None:
    published = {
        "KM101": ("kmalloc-rounding-waste", "warning"),
        "KM102": ("kmalloc-just-above-a-size-class", "warning"),
        "KM103": ("kmalloc-rounded-to-an-order", "warning"),
        "KM104": ("large-objects-without-a-cache", "warning"),
        "KM105": ("cache-wastes-its-slabs", "notice"),
        "KM201": ("sleeping-allocation-in-atomic-context", "error"),
        "KM202": ("atomic-allocation-failure", "error"),
        "KM203": ("opportunistic-allocation-failure", "notice"),
        "KM204": ("sleeping-allocation-failure", "error"),
        "KM205": ("logged-allocation-failure", "error"),
        "KM206": ("atomic-high-order-pages", "notice"),
        "KM207": ("atomic-allocation-where-it-may-sleep", "notice"),
        "KM208": ("reserves-under-pressure", "warning"),
        "KM209": ("silent-allocation-failure", "notice"),
        "KM210": ("retry-storm", "warning"),
        "KM301": ("kmalloc-beyond-the-slab", "notice"),
        "KM302": ("kmalloc-above-costly-order", "warning"),
        "KM303": ("vmalloc-below-a-page", "warning"),
        "KM304": ("kmalloc-above-the-portable-limit", "notice"),
        "KM305": ("kmalloc-above-the-largest", "error"),
        "KM306": ("vmalloc-churn", "notice"),
        "KM307": ("kvmalloc-that-falls-back", "notice"),
        "KM401": ("nofail-that-cannot-be-kept", "warning"),
        "KM402": ("zone-flag-for-the-slab", "warning"),
        "KM403": ("dma-zone-asked-for", "notice"),
        "KM404": ("nofs-or-noio-by-flag", "notice"),
        "KM405": ("first-try-that-fights", "notice"),
        "KM406": ("historical-gfp-flag", "notice"),
        "KM407": ("noretry-without-a-fallback", "notice"),
        "KM501": ("zone-fallback", "notice"),
        "KM502": ("dma-zone-for-others", "warning"),
        "KM503": ("page-blocks-stolen", "notice"),
        "KM504": ("no-room-for-the-order", "warning"),
        "KM601": ("growing-site", "warning"),
        "KM602": ("permanent-waste", "notice"),
        "KM603": ("short-lived-vmalloc", "notice"),
        "KM604": ("churn-that-wants-a-pool", "notice"),
        "KM605": ("remote-frees", "notice"),
        "KM901": ("events-not-counted", "notice"),
        "KM902": ("capture-incomplete", "warning"),
        "KM903": ("context-not-known", "notice"),
    }

    assert {code: (rule.name, rule.severity) for code, rule in RULES.items() if code in published} == published


@pytest.mark.parametrize("code", RULES)
def test_a_rule_has_its_place_and_a_name_that_can_be_allowed(code: str) -> None:
    rule = RULES[code]

    assert rule.code == code
    assert re.fullmatch(r"KM[1-69]\d\d", code)
    assert {other[:3] for other in RULES if RULES[other].check.__module__ == rule.check.__module__} == {code[:3]}
    assert re.fullmatch(r"[a-z]+(-[a-z]+)+", rule.name)
    assert rule.severity in SEVERITIES
    assert re.fullmatch(r"\d+\.\d+", rule.since)


@pytest.mark.parametrize("code", RULES)
def test_a_page_has_every_heading_in_order(code: str) -> None:
    """A sentence, and then what it sees, why, what to do, when not, what the kernel says, and what it needs."""
    rule = RULES[code]
    text = inspect.cleandoc(rule.check.__doc__ or "")

    assert tuple(rule.sections) == HEADINGS
    assert [each.partition(": ")[0] for each in rule.paragraphs[1:]] == list(HEADINGS)
    assert "\n" not in text.partition("\n\n")[0]
    assert all(each.endswith(".") for each in (rule.summary, *rule.sections.values()))


def test_a_code_and_a_name_are_given_once() -> None:
    for code, name in (("KM101", "another-name"), ("KM199", "retry-storm")):
        with pytest.raises(ValueError, match="is in the rule book already"):
            findings.rule(code, name, "notice", since="0.2")(lambda _: iter(()))


def test_names_are_unique_and_lists_go_by_code() -> None:
    assert len({rule.name for rule in RULES.values()}) == len(RULES)
    assert rulebook.codes() == [page["rule"] for page in rulebook.build_all()] == sorted(RULES)


@pytest.mark.parametrize("code", RULES)
def test_a_page_is_found_by_code_and_name(code: str) -> None:
    page = rulebook.build(code)
    assert page == rulebook.build(code.lower()) == rulebook.build(RULES[code].name)
    assert page["rule"] == code
    assert page["text"] == [page["summary"], *(f"{name}: {text}" for name, text in page["sections"].items())]
    assert not any("\n" in paragraph or "  " in paragraph for paragraph in page["text"])


def test_what_is_no_rule_has_no_page() -> None:
    assert not rulebook.knows("KM999")
    with pytest.raises(UsageError, match="no rule 'KM999'; `kmwatch rules` lists them"):
        rulebook.build("KM999")


def test_the_worst_comes_first() -> None:
    """By severity, then by what it would save, then by the rule."""
    made = ledger(
        kmalloc("small+0x1", 640, count=100),
        kmalloc("big+0x1", 640, count=1000),
        kmalloc("bug+0x1", 64, context=Context.SOFTIRQ),
        kmalloc("huge+0x1", 1 << 17),
        trust=Trust(lost=1),
    )

    assert [(one.rule.code, one.finding.site) for one in judge(made)] == [
        ("KM201", "bug+0x1"),
        ("KM101", "big+0x1"),
        ("KM101", "small+0x1"),
        ("KM302", "huge+0x1"),
        ("KM901", "kmwatch"),
    ]


@pytest.mark.parametrize("code", RULES)
def test_every_rule_is_quiet_about_nothing_and_about_good_habits(code: str) -> None:
    good = ledger(
        kmalloc("f+0x1", 512, count=1000),
        kmalloc("irq+0x1", 256, count=1000, **IN_TCP),
        object_of(Cache("even", 1000, 1024), "g+0x1", count=1000),
        pages("fault+0x1", count=1000),
        area("v+0x1", 1 << 20),
        percpu("p+0x1", 64),
    )

    assert found(code, good) == found(code, Ledger(meta())) == []


# KM101: rounding waste


def test_640_bytes_in_1024_name_the_next_smaller_class_and_what_it_saves() -> None:
    finding = only("KM101", ledger(kmalloc("load_msg+0x41", 640, count=1000), seconds=10.0))

    assert finding.site == "load_msg+0x41"
    assert finding.message == (
        "asks for 640 bytes and takes 1 024: 37.5 KiB/s wasted, 375.0 KiB in all, 38% of what it allocates"
    )
    assert finding.advice == (
        "at ≤ 512 bytes it falls into the next smaller class, saving 50.0 KiB/s; "
        "a kmem_cache of its own, 25 in 16.0 KiB, saves 36.0 KiB/s"
    )
    assert finding.saving == 51200.0
    assert finding.evidence == {
        "count": 1000,
        "min_request": 640,
        "max_request": 640,
        "size_class": 1024,
        "next_smaller_class": 512,
        "bytes_wasted": 384_000,
        "site_bytes_wasted": 384_000,
        "site_bytes_wasted_per_second": 38400.0,
        "requests_by_eighth": [0, 0, 0, 0, 1000, 0, 0, 0],
    }


def test_of_several_sizes_only_those_just_above_the_smaller_class_are_saved() -> None:
    """513 to 640 bytes are in the first eighth above 512; 900 are not, and a cache of its own fits one size only."""
    finding = only("KM101", ledger(kmalloc("f+0x1", 600, count=300), kmalloc("f+0x1", 900, count=200)))

    assert finding.message.startswith("asks for 600 to 900 bytes and takes 1 024")
    assert finding.advice.endswith("saving 150.0 KiB/s for the requests just above it")
    assert finding.saving == 300 * 512.0


def test_a_site_is_one_finding_with_advice_for_its_worst_size_class() -> None:
    made = ledger(
        kmalloc("f+0x1", 640, count=1000), kmalloc("f+0x1", 1100, count=600), kmalloc("f+0x1", 4096, count=100)
    )
    wasted, allocated = 384 * 1000 + 948 * 600, 1024 * 1000 + 2048 * 600 + 4096 * 100

    finding = only("KM101", made)

    assert finding.message == (
        f"asks for 1 100 bytes and takes 2 048: {wasted / 1024:.1f} KiB/s wasted, {wasted / 1024:.1f} KiB in all, "
        f"{wasted / allocated:.0%} of what it allocates"
    )
    assert (finding.evidence["size_class"], finding.evidence["count"]) == (2048, 600)
    assert finding.evidence["bytes_wasted"] == 948 * 600
    assert finding.evidence["site_bytes_wasted"] == wasted


@pytest.mark.parametrize(
    ("asked", "near", "taken", "smaller"),
    [(65, 80, 96, 64), (129, 160, 192, 128), (193, 224, 256, 192), (257, 320, 512, 256)],
)
def test_the_first_eighth_is_right_in_every_size_class(asked: int, near: int, taken: int, smaller: int) -> None:
    """The eighths are of the power of two at or above the class: 96 and 192 are no powers of two."""
    sizes = (asked, near, near + 1)
    made = ledger(*(kmalloc("f+0x1", size, count=1000) for size in sizes))

    finding = only("KM101", made)

    assert (finding.evidence["size_class"], finding.evidence["next_smaller_class"]) == (taken, smaller)
    assert finding.saving == 2000 * (taken - smaller)


def test_there_is_no_class_below_the_smallest() -> None:
    """Waste it is, but no object becomes smaller than nothing."""
    for finding in found("KM101", ledger(kmalloc("f+0x1", 4, count=10_000))):
        assert "≤ 0 bytes" not in finding.advice


def test_rows_that_tell_no_request_are_judged_by_what_they_take() -> None:
    """An imported text can say anything; a cache for objects of no size is no advice."""
    nothing = kmalloc("f+0x1", 640, count=1000, bytes_requested=0, min_request=0, max_request=0)

    assert "kmem_cache" not in only("KM101", ledger(nothing)).advice
    assert found("KM104", ledger(kmalloc("f+0x1", 10_176, count=1000, min_request=0, max_request=0))) == []


@pytest.mark.parametrize(
    "quiet",
    [
        kmalloc("f+0x1", 922, count=1000),  # 9.96 % of 1024
        kmalloc("f+0x1", 640, count=10),  # 3840 bytes in all
        kmalloc("f+0x1", 640, count=1000, failed=1),
        object_of(Cache("odd", 640, 1024), "f+0x1", count=1000),
        pages("f+0x1", order=3, count=1000),
    ],
)
def test_little_waste_and_what_is_no_kmalloc_are_left_alone(quiet: Row) -> None:
    assert found("KM101", ledger(quiet)) == []


def test_waste_is_judged_by_the_second() -> None:
    """384 bytes each: 4224 in a second, in two, and in a little more."""
    eleven = kmalloc("f+0x1", 640, count=11)

    assert [len(found("KM101", ledger(eleven, seconds=span))) for span in (1.0, 2.06, 2.07)] == [1, 1, 0]


def test_a_site_is_judged_by_all_that_it_allocates() -> None:
    """A tenth of the whole: what is rounded up little hides what is rounded up much."""
    wasteful, other = kmalloc("f+0x1", 640, count=1000), kmalloc("g+0x1", 1024, count=10**6)

    assert len(found("KM101", ledger(wasteful, other, kmalloc("f+0x1", 1024, count=2750)))) == 1
    assert found("KM101", ledger(wasteful, other, kmalloc("f+0x1", 1024, count=2751))) == []


# KM3xx: large allocations


@pytest.mark.parametrize(
    ("asked", "code", "order"),
    [(8192, None, 0), (8193, "KM301", 2), (32768, "KM301", 3), (32769, "KM302", 4), (4 << 20, "KM302", 10)],
)
def test_large_kmallocs_are_told_apart_at_their_limits(asked: int, code: str | None, order: int) -> None:
    made = ledger(kmalloc("f+0x1", asked, count=2))

    assert [one for one in ("KM301", "KM302") if found(one, made)] == ([code] if code else [])
    if code:
        assert only(code, made).evidence["order"] == order


def test_what_a_large_kmalloc_takes_is_said_in_full() -> None:
    made = ledger(
        kmalloc("f+0x1", 36000, count=7),
        kmalloc("f+0x1", 40000, count=2),
        kmalloc("f+0x1", 40000, count=3, failed=1),
    )

    finding = only("KM302", made)

    assert finding.message == (
        "kmalloc of up to 40 000 bytes takes 16 contiguous pages (order 4, 64.0 KiB) with GFP_KERNEL: 9 times, 3 failed"
    )
    assert finding.evidence == {
        "count": 9,
        "failures": 3,
        "order": 4,
        "bytes_alloc": 65536,
        "min_request": 36000,
        "max_request": 40000,
        "gfp": "GFP_KERNEL",
        "context": "process",
        "zone_asked": "Normal",
    }


@pytest.mark.parametrize(
    ("gfp", "context", "says", "says_not"),
    [
        ("GFP_KERNEL", 0, "use kvmalloc()", "dma_alloc_coherent"),
        ("GFP_KERNEL|GFP_DMA", 0, "dma_alloc_coherent()", "use kvmalloc()"),
        ("GFP_KERNEL|GFP_DMA32", 0, "dma_alloc_coherent()", "use kvmalloc()"),
        ("GFP_ATOMIC", Context.SOFTIRQ, "vmalloc may sleep, so not here", "use kvmalloc()"),
        ("GFP_ATOMIC", 0, "vmalloc may sleep, so not here", "use kvmalloc()"),
        ("GFP_KERNEL", Context.RCU, "vmalloc may sleep, so not here", "use kvmalloc()"),
    ],
)
def test_the_advice_for_large_kmallocs_fits_the_caller(gfp: str, context: int, says: str, says_not: str) -> None:
    for code, asked in (("KM301", 10_000), ("KM302", 100_000)):
        advice = only(code, ledger(kmalloc("f+0x1", asked, gfp=gfp, context=context))).advice
        assert says in advice
        assert says_not not in advice


@pytest.mark.parametrize(
    "fallback",
    [
        {"via": Via.KVMALLOC},
        {"gfp": "GFP_KERNEL|__GFP_NORETRY|__GFP_NOWARN"},
        {"gfp": "GFP_KERNEL", "via": Via.KVMALLOC},
    ],
)
def test_a_first_try_with_a_fallback_is_no_misuse(fallback: Row) -> None:
    """It is what the advice asks for."""
    made = ledger(*(kmalloc("f+0x1", asked, count=9, **fallback) for asked in (10_000, 100_000)))

    assert found("KM301", made) == found("KM302", made) == []


def test_pages_and_areas_are_no_large_kmalloc() -> None:
    made = ledger(pages("f+0x1", order=9), area("f+0x1", 1 << 20), pages("f+0x1", order=5, via=Via.SLAB))

    assert found("KM301", made) == found("KM302", made) == []


@pytest.mark.parametrize(("asked", "fires"), [(4096, True), (8192, False)])
def test_vmalloc_of_one_page_is_too_small(asked: int, fires: bool) -> None:
    assert bool(found("KM303", ledger(area("f+0x1", asked)))) is fires


def test_vmalloc_below_a_page_counts_the_areas_of_its_site() -> None:
    finding = only("KM303", ledger(area("f+0x1", 4096, count=3), area("f+0x1", 40960, count=4), area("g+0x1", 8192)))

    assert finding.message == "vmalloc of one page or less, among 7 areas"
    assert "kmalloc() up to a page" in finding.advice
    assert finding.evidence == {"count": 7, "min_request": 4096, "max_request": 40960}


@pytest.mark.parametrize("kind", [Kind.IOREMAP, Kind.VMAP])
def test_one_page_that_is_only_mapped_is_no_small_vmalloc(kind: Kind) -> None:
    assert found("KM303", ledger(area("f+0x1", 4096, kind=kind))) == []


# KM901, how far the numbers can be trusted


@pytest.mark.parametrize(
    ("trust", "severity", "says"),
    [
        (Trust(lost=1), "notice", "1 of 100 001 events are not counted: 1 lost on the way, 0 for want of room"),
        (
            Trust(lost=101),
            "warning",
            "101 of 100 101 events are not counted: 101 lost on the way, 0 for want of room",
        ),
        (
            Trust(map_full=1),
            "warning",
            "1 of 100 001 events are not counted: 0 lost on the way, 1 for want of room",
        ),
    ],
)
def test_missing_events_are_said_and_weighed(trust: Trust, severity: str, says: str) -> None:
    made = ledger(kmalloc("f+0x1", 64, count=100_000), trust=trust)

    finding = only("KM901", made)

    assert (finding.message, judge(made)[0].severity) == (says, severity)
    assert ("--kinds" in finding.advice) is (trust.map_full > 0)
    assert finding.evidence == {"events": 100_000, "lost": trust.lost, "map_full": trust.map_full}


def test_double_reports_and_unknown_sites_are_no_loss() -> None:
    assert found("KM901", ledger(kmalloc("f+0x1", 64), trust=Trust(duplicates_removed=5, unknown_site=5))) == []
