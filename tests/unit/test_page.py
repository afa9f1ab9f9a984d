"""The data of the HTML page: it is the report's, to the unit, however it is cut, split and put together."""

from collections import defaultdict
from typing import Any

import pytest

from kmwatch.batch import Cache
from kmwatch.failures import ZoneState
from kmwatch.findings import PAGE_ALLOCATOR, RULES, RUN, Finding, Found
from kmwatch.ledger import MEASURES, Ledger
from kmwatch.profile import NO_STACK, profile
from kmwatch.rules import judge
from kmwatch.schema import Context, Kind
from kmwatch.timeline import Timeline
from kmwatch.views import page, report
from kmwatch.views.page import flame
from kmwatch.watermarks import atomic_headroom
from tests.unit import pages, rows

ENTRY = ("do_syscall_64+0x5d", "entry_SYSCALL_64+0x71")
SOFT = int(Context.SOFTIRQ)
F = rows.kmalloc("f+0x1 [drv]", 60, count=100)
SLICES = (
    (
        F,
        rows.kmalloc("g+0x2", 33, count=7, context=SOFT),
        rows.kmalloc("g+0x2", 33, count=3, gfp="GFP_ATOMIC", failed=1),
        rows.pages("p+0x3", 2, count=5, zone=2, node=0, migratetype=1),
        rows.object_of(Cache("dentry", 190, 192), "d+0x4", count=9),
        rows.row(Kind.KFREE, "f+0x9", count=41),
    ),
    (rows.row(Kind.DIRECT_RECLAIM, count=6),),
    (rows.kmalloc("f+0x1 [drv]", 50, count=11), rows.area("v+0x5", 5000), rows.area("io+0x6", 4096, kind=Kind.IOREMAP)),
)
STACKS: pages.Stacks = {0: [(("f+0x1 [drv]", "open+0x2", *ENTRY), 2), (("f+0x1 [drv]", "read+0x3", *ENTRY), 1)]}


@pytest.fixture(scope="module")
def ledger() -> Ledger:
    return pages.ledger_of(SLICES, STACKS)


@pytest.fixture(scope="module")
def data(ledger: Ledger) -> dict[str, Any]:
    return pages.built(ledger)


def below(told: dict[str, Any], measure: str) -> list[int]:
    """What came by each node, with all below it."""
    sums = list(told["values"][measure])
    for node in range(len(sums) - 1, 0, -1):
        sums[told["nodes"]["parent"][node]] += sums[node]
    return sums


def paths(told: dict[str, Any], measure: str) -> dict[tuple[str, ...], int]:
    """What ends at each path, by the names of its frames."""
    names: list[tuple[str, ...]] = [()]
    for parent, frame in zip(told["nodes"]["parent"][1:], told["nodes"]["frame"][1:], strict=True):
        names.append((*names[parent], told["frames"][frame]["name"]))
    return {name: value for name, value in zip(names, told["values"][measure], strict=True) if value}


def test_the_report_is_the_report(ledger: Ledger, data: dict[str, Any]) -> None:
    assert data["report"] == report.build(ledger, judge(ledger))
    assert data["how"] == pages.HOW


def test_the_slices_of_a_site_add_up_to_the_report(data: dict[str, Any]) -> None:
    sums: defaultdict[tuple[int, str], int] = defaultdict(int)
    told = data["timeline"]["sites"]
    for measure in ("count", "failures", "opportunistic_failures", "bytes_requested", "bytes_allocated"):
        for site, value in zip(told["site"], told[measure], strict=True):
            sums[site, measure] += value
        assert [sums[at, measure] for at in range(len(data["ids"]))] == [s[measure] for s in data["report"]["sites"]]
    assert sorted(zip(told["site"], told["slice"], strict=True)) == list(zip(told["site"], told["slice"], strict=True))


def test_the_slices_have_all_events_and_the_pressure(data: dict[str, Any]) -> None:
    told = data["timeline"]
    assert told["events"] == [165, 6, 13]
    assert told["pressure"]["direct_reclaim"] == [0, 6, 0]
    assert (told["start"], told["seconds"]) == (1000.0, [1.0, 1.0, 1.0])


def test_without_a_time_line_all_is_one_slice() -> None:
    told = page.build(rows.ledger(F, seconds=4.0), [], pages.HOW)["timeline"]
    assert (told["events"], told["seconds"], told["sites"]["count"]) == ([100], [4.0], [100])


def test_the_last_slice_is_as_long_as_was_watched() -> None:
    known = rows.meta()
    ledger = Ledger(known, timeline=Timeline(2.0))
    for start in (1000.0, 1001.0, 1002.0):
        ledger.add(rows.batch(known, F, start=start))
    assert page.build(ledger, [], pages.HOW)["timeline"]["seconds"] == [2.0, 1.0]


def test_sizes_are_told_by_class_slice_and_eighth(data: dict[str, Any]) -> None:
    told, sizes = data["timeline"], data["timeline"]["sizes"]
    assert told["classes"] == [{"size": 64, "eighth": 8}]
    assert (sizes["slice"], sizes["count"], sizes["bytes_requested"]) == ([0, 2], [107, 11], [6231, 550])
    # 60 lies in the last eighth, 50 in the one before, 33 in the fifth, also where it failed.
    assert sizes["fill"] == [[0, 0, 0, 0, 10, 0, 0, 100], [0, 0, 0, 0, 0, 0, 11, 0]]


@pytest.mark.parametrize("measure", MEASURES)
def test_the_stacks_have_what_the_totals_have(measure: str, data: dict[str, Any]) -> None:
    counted = [site[measure] for site in data["report"]["sites"] if site["counted_once"]]
    assert below(data["flame"], measure)[0] == sum(counted)


def test_the_tree_is_the_profile(ledger: Ledger, data: dict[str, Any]) -> None:
    known = profile(ledger)
    values = known.values()[:, MEASURES.index("bytes_wasted")]
    names = [tuple(known.frames[at].name for at in path) for path in known.paths]
    assert paths(data["flame"], "bytes_wasted") == {n: int(v) for n, v in zip(names, values, strict=True) if v}
    assert data["flame"]["merged"] == 0
    sorts = {frame["name"]: frame["sort"] for frame in data["flame"]["frames"]}
    assert (sorts["open"], sorts[NO_STACK.name], sorts["[kmalloc]"]) == ("function", "missing", "kind")


def test_the_weights_of_a_site_make_one(data: dict[str, Any]) -> None:
    shares: defaultdict[tuple[int, bool], float] = defaultdict(float)
    weights = data["flame"]["weights"]
    for site, failed, share in zip(weights["site"], weights["failed"], weights["share"], strict=True):
        shares[site, failed] += share
    assert list(shares.values()) == [pytest.approx(1.0)] * 6  # f, p, d, v, g, and where g failed
    assert sorted(zip(weights["site"], weights["failed"], strict=True)) == list(
        zip(weights["site"], weights["failed"], strict=True)
    )


def test_small_neighbours_are_put_together_and_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    callers: list[tuple[tuple[str, ...], int]] = [
        (("f+0x1", f"caller{at}+0x1", "root+0x1"), 10 if at == 3 else 1) for at in range(9)
    ]
    ledger = pages.ledger_of(((rows.kmalloc("f+0x1", 60, count=180),),), {0: callers})
    whole = flame.build(ledger)
    monkeypatch.setattr(flame, "NODES", 3)

    told = flame.build(ledger)

    assert paths(told, "count") == {("root", "caller3", "[1 smaller]"): 100, ("root", "[8 smaller]"): 80}
    assert (told["merged"], whole["merged"]) == (len(whole["nodes"]["parent"]) - 3, 0)
    assert below(told, "bytes_wasted")[0] == below(whole, "bytes_wasted")[0] == 180 * 4
    assert sum(told["weights"]["share"]) == pytest.approx(1.0)
    assert len(told["weights"]["node"]) == 2


def test_a_parent_has_a_smaller_number(data: dict[str, Any]) -> None:
    parents = data["flame"]["nodes"]["parent"]
    assert len(parents) > 10
    assert all(parent < node for node, parent in enumerate(parents[1:], 1))


def test_what_sleeps_where_it_must_not_is_marked(data: dict[str, Any]) -> None:
    assert [data["report"]["sites"][at]["site"] for at in data["sleeping"]] == ["g+0x2"]


def test_sites_have_names_that_stay() -> None:
    """The order of sites follows what they did; their names do not."""
    few = pages.built(pages.ledger_of((SLICES[0],)))
    many = pages.built(pages.ledger_of((SLICES[0][1:], (rows.kmalloc("f+0x1 [drv]", 60, count=1),))))

    assert few["ids"] != many["ids"]
    assert sorted(few["ids"]) == sorted(many["ids"])
    assert "kmalloc/f+0x1[drv]/0xcc0/process" in few["ids"]
    assert "page_alloc/p+0x3/0xcc0/process/order-2/Normal/node-0/movable" in few["ids"]


def test_each_name_is_there_once() -> None:
    """Two caches can share a name, and a name can look like another with its number."""
    twins = [rows.object_of(Cache("twin", size, 128), "c+0x1", count=2) for size in (90, 100)]
    odd = rows.object_of(Cache("twin/2", 80, 128), "c+0x1")
    ids = pages.built(pages.ledger_of(((*twins, odd),)))["ids"]

    assert len(set(ids)) == 3
    assert {"cache_alloc/c+0x1/0xcc0/process/twin", "cache_alloc/c+0x1/0xcc0/process/twin/2"} < set(ids)


def test_a_finding_leads_to_the_site_that_its_evidence_fits() -> None:
    rule = next(iter(RULES.values()))
    ledger = pages.ledger_of(
        ((rows.kmalloc("f+0x1 [drv]", 60, count=9), rows.kmalloc("f+0x1 [drv]", 60, gfp="GFP_ATOMIC", context=SOFT)),)
    )

    def link(site: str, **evidence: Any) -> str | None:
        links: list[str | None] = page.build(ledger, [Found(rule, Finding(site, "", "", evidence))], pages.HOW)["links"]
        return links[0]

    assert link("f+0x1 [drv]", kind="kmalloc") == "site=kmalloc/f+0x1[drv]/0xcc0/process"
    assert link("f+0x1 [drv]", kind="kmalloc", context="softirq") == "site=kmalloc/f+0x1[drv]/0x820/softirq"
    assert link("f+0x1 [drv]", kind="vmalloc") == "site=kmalloc/f+0x1[drv]/0xcc0/process"
    assert (link("f+0x1"), link(RUN), link(PAGE_ALLOCATOR)) == (None, "trust", "zones")


def test_zones_come_with_their_headroom() -> None:
    zone = ZoneState(0, "Normal", 1000, 10, 20, 30, 2000, (100, 50, 200))
    ledger = pages.ledger_of((SLICES[0],), memory=[zone])
    told = page.build(ledger, [], pages.HOW)["memory"]

    assert told["zones"][0]["blocks"] == (100, 50, 200)
    assert told["headroom"] == list(atomic_headroom((zone,), ledger.meta.gfp, ledger.meta.host.kernel))
    assert told["headroom"][0] > told["headroom"][2] > 0


def test_nothing_comes_to_nothing() -> None:
    told = page.build(Ledger(rows.meta()), [], pages.HOW)

    assert (told["ids"], told["sleeping"], told["timeline"]["sites"]["site"]) == ([], [], [])
    assert told["flame"]["values"]["count"] == [0]
    assert told["memory"]["zones"] == told["memory"]["headroom"] == []
