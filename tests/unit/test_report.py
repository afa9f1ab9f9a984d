"""The published report: its exact form, the schema that describes it, and nothing in it that must not leave."""

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from kmwatch import __version__
from kmwatch.batch import Cache, Cost, Trust
from kmwatch.ledger import ALLOCATIONS, FREES, MAPPINGS, PRESSURE, Ledger
from kmwatch.rules import judge
from kmwatch.schema import Context, Kind, Via
from kmwatch.views.report import SCHEMA, build
from tests.unit.rows import Row, area, kmalloc, ledger, meta, object_of, pages, percpu, row

PUBLISHED = json.loads((Path(__file__).parents[2] / "docs" / "report.schema.json").read_text())
DENTRY = Cache("dentry", 192, 200)


def everything() -> Ledger:
    """At least one row of every kind, failures of both sorts, and a finding of every rule."""
    return ledger(
        kmalloc("load_msg+0x41", 640, count=1000),
        kmalloc("drv_irq+0x9 [drv]", 100, context=Context.HARDIRQ | Context.RCU),
        kmalloc("drv_tx+0x9 [drv]", 20_000, gfp="GFP_ATOMIC", context=Context.SOFTIRQ, failed=1),
        kmalloc("big+0x1", 100_000),
        kmalloc("big+0x2", 10_000, failed=1),
        object_of(DENTRY, "d_alloc+0x1", count=3, gfp="GFP_KERNEL_ACCOUNT"),
        pages("fault+0x1", order=9, gfp="GFP_TRANSHUGE_LIGHT", failed=1, context=Context.UNKNOWN),
        pages("fault+0x1", order=1, gfp="GFP_HIGHUSER_MOVABLE", zone=1, node=0, migratetype=1, count=2),
        pages("d_alloc+0x1", order=3, via=Via.SLAB, zone=200, node=3, migratetype=5),
        area("bpf_map_area_alloc+0x3", 4096),
        area("drv_probe+0x3 [drv]", 4096, kind=Kind.IOREMAP),
        area("gpu+0x3 [gpu]", 8192, kind=Kind.VMAP),
        percpu("mm_init+0x3", 640),
        *(row(kind, "kfree_user+0x1", count=2) for kind in FREES),
        *(row(kind, order=2) for kind in PRESSURE),
        trust=Trust(1, 2, 3, 4, 5, 6),
        cost=Cost(0.25, 0.125),
        seconds=2.0,
    )


def test_a_small_report_is_exactly_this() -> None:
    made = ledger(
        kmalloc("load_msg+0x41", 100, count=3, zone=255),
        row(Kind.KFREE, "free_msg+0x1", count=2),
        row(Kind.EXTFRAG, order=3),
        trust=Trust(1, 2, 3, 4, 5, 6),
        cost=Cost(0.25, 0.1234567),
        start=1700000000.5,
        seconds=2.0,
    )

    assert build(made, []) == {
        "schema": "kmwatch.report/1",
        "kmwatch": __version__,
        "host": {"hostname": "box", "kernel": "6.18.0", "boot_id": "00000000-0000-4000-8000-000000000000", "cpus": 4},
        "span": {"start": 1700000000.5, "seconds": 2.0},
        "trust": {
            "events": 6,
            "lost": 1,
            "map_full": 2,
            "duplicates_removed": 3,
            "unknown_site": 4,
            "unknown_task": 5,
            "unknown_stack": 6,
            "doubts": [],
            "coverage": {
                "probes": {"kmem:kmalloc": "raw tracepoint", "vmalloc:alloc_vmap_area": "this kernel does not have it"},
                "events": {"kmalloc": 3, "kfree": 2},
                "context": "BTF",
            },
        },
        "totals": {
            "bytes_requested": 300,
            "bytes_allocated": 384,
            "bytes_wasted": 84,
            "allocations": 3,
            "frees": 2,
            "failures": {"real": 0, "opportunistic": 0},
        },
        "cost": {"kernel_cpu_seconds": 0.25, "own_cpu_seconds": 0.123457},
        "pressure": {"extfrag": 1, "direct_reclaim": 0, "compaction": 0, "oom_victim": 0},
        "sites": [
            {
                "kind": "kmalloc",
                "site": "load_msg+0x41",
                "symbol": "load_msg",
                "module": "",
                "cache": None,
                "gfp": "GFP_KERNEL",
                "gfp_mask": "0xcc0",
                "context": "process",
                "atomic": False,
                "may_sleep": True,
                "zone": None,
                "zone_asked": "Normal",
                "node": None,
                "migratetype": None,
                "order": None,
                "via": [],
                "counted_once": True,
                "count": 3,
                "bytes_requested": 300,
                "bytes_allocated": 384,
                "bytes_wasted": 84,
                "min_request": 100,
                "max_request": 100,
                "failures": 0,
                "opportunistic_failures": 0,
            }
        ],
        "findings": [],
        "by": None,
        "groups": [],
        "outstanding": None,
    }


def site_of(data: dict[str, Any], kind: str, symbol: str) -> dict[str, Any]:
    (found,) = [each for each in data["sites"] if (each["kind"], each["symbol"]) == (kind, symbol)]
    return dict(found)


@pytest.mark.parametrize(
    ("kind", "symbol", "expected"),
    [
        ("kmalloc", "drv_irq", {"site": "drv_irq+0x9", "module": "drv", "context": "hardirq+rcu", "atomic": True}),
        (
            "kmalloc",
            "drv_tx",
            {"count": 0, "failures": 1, "bytes_allocated": 0, "may_sleep": False, "max_request": 20_000},
        ),
        (
            "cache_alloc",
            "d_alloc",
            {"cache": "dentry", "gfp": "GFP_KERNEL_ACCOUNT", "gfp_mask": "0x400cc0", "bytes_wasted": 24},
        ),
        (
            "page_alloc",
            "d_alloc",
            {"order": 3, "counted_once": False, "zone": None, "node": 3, "migratetype": "type-5"},
        ),
        ("vmalloc", "bpf_map_area_alloc", {"gfp": "none", "gfp_mask": "0x0", "may_sleep": True, "order": None}),
        (
            "ioremap",
            "drv_probe",
            {"bytes_requested": 4096, "bytes_allocated": 0, "bytes_wasted": 0, "counted_once": False},
        ),
        ("percpu_alloc", "mm_init", {"bytes_allocated": 640, "counted_once": True}),
    ],
)
def test_a_site_says_what_its_kind_knows(kind: str, symbol: str, expected: dict[str, object]) -> None:
    site = site_of(build(everything(), []), kind, symbol)
    assert {name: site[name] for name in expected} == expected


def test_pages_tell_the_zone_asked_for_and_the_zone_got() -> None:
    succeeded, failed = [each for each in build(everything(), [])["sites"] if each["symbol"] == "fault"]

    assert {name: succeeded[name] for name in ("zone_asked", "zone", "node", "migratetype", "order", "count")} == {
        "zone_asked": "Movable", "zone": "DMA32", "node": 0, "migratetype": "movable", "order": 1, "count": 2,
    }  # fmt: skip
    assert (failed["context"], failed["atomic"], failed["opportunistic_failures"]) == ("unknown", False, 1)


def test_the_largest_sites_come_first_and_all_are_there() -> None:
    data = build(everything(), [])
    sizes = [each["bytes_allocated"] for each in data["sites"]]

    assert sizes == sorted(sizes, reverse=True)
    assert {each["kind"] for each in data["sites"]} == {kind.name.lower() for kind in (*ALLOCATIONS, *MAPPINGS)}
    once = [each for each in data["sites"] if each["counted_once"]]
    for name in ("bytes_requested", "bytes_allocated", "bytes_wasted"):
        assert sum(each[name] for each in once) == data["totals"][name]
    assert sum(each["count"] for each in once) == data["totals"]["allocations"]
    assert sum(each["failures"] for each in once) == data["totals"]["failures"]["real"]


def test_a_finding_is_its_rule_and_what_it_found() -> None:
    made = ledger(kmalloc("load_msg+0x41", 640, count=1000), seconds=3.0)
    (found,) = judge(made)

    (finding,) = build(made, [found])["findings"]

    assert finding == {
        "rule": "KM101",
        "name": "kmalloc-rounding-waste",
        "severity": "warning",
        "confidence": "certain",
        "site": "load_msg+0x41",
        "message": found.finding.message,
        "advice": found.finding.advice,
        "evidence": found.finding.evidence,
        "saving_bytes_per_second": 170666.7,
    }


def validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(PUBLISHED)


def test_the_schema_is_a_schema_that_describes_and_closes_everything() -> None:
    """Every field has words, every count and size a unit; only coverage and its maps, and evidence, may have more."""
    jsonschema.Draft202012Validator.check_schema(PUBLISHED)
    opened = []

    def walk(name: str, node: dict[str, Any]) -> None:
        if "$ref" not in node:
            assert node.get("description"), name
        if node.get("type") in ("integer", "number"):
            assert node["description"].rpartition("; ")[2] in (
                "bytes",
                "count",
                "seconds",
                "CPU seconds",
                "bytes per second",
            )
        if node.get("type") == "object" and node.get("additionalProperties") is not False:
            opened.append(name)
        if node.get("additionalProperties") is False:
            assert node["required"] == list(node["properties"]), name
        for child, below in node.get("properties", {}).items():
            walk(child, below)

    for name, node in {"report": PUBLISHED, **PUBLISHED["$defs"]}.items():
        walk(name, node)
    assert sorted(opened) == ["coverage", "events", "evidence", "probes"]
    assert PUBLISHED["properties"]["schema"]["const"] == SCHEMA


@pytest.mark.parametrize(
    "made", [Ledger(meta()), Ledger(meta(context="", probes={}, zones=())), ledger(), everything()]
)
def test_every_report_has_the_published_form(made: Ledger) -> None:
    data = json.loads(json.dumps(build(made, judge(made)), allow_nan=False))

    assert [error.message for error in validator().iter_errors(data)] == []


def test_the_schema_and_a_full_report_name_the_same_fields() -> None:
    """In both directions, so that a field that is renamed in one of them is noticed."""
    data = build(everything(), judge(everything()))

    assert list(data) == list(PUBLISHED["properties"])
    assert list(data["sites"][0]) == list(PUBLISHED["$defs"]["site"]["properties"])
    assert list(data["findings"][0]) == list(PUBLISHED["$defs"]["finding"]["properties"])
    for part in ("host", "span", "trust", "totals", "cost", "pressure"):
        assert list(data[part]) == list(PUBLISHED["properties"][part]["properties"])
    assert PUBLISHED["$defs"]["site"]["properties"]["kind"]["enum"] == [
        kind.name.lower() for kind in (*ALLOCATIONS, *MAPPINGS)
    ]


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        (("schema",), "kmwatch.report/2"),
        (("more",), 1),
        (("host", "cpus"), 0),
        (("host", "ip"), "::1"),
        (("trust", "lost"), "3"),
        (("trust", "lost"), -1),
        (("totals", "failures", "real"), 0.5),
        (("sites", 0, "context"), "softirq+rcu+preempt-off"),
        (("sites", 0, "kind"), "kfree"),
        (("sites", 0, "gfp_mask"), "3264"),
        (("sites", 0, "site"), None),
        (("findings", 0, "severity"), "fatal"),
        (("findings", 0, "rule"), "W101"),
        (("span", "seconds"), -1),
    ],
)
def test_the_schema_refuses_what_is_not_published(path: tuple[Any, ...], wrong: object) -> None:
    data = copy.deepcopy(build(everything(), judge(everything())))
    *way, last = path
    place: Any = data
    for step in way:
        place = place[step]
    place[last] = wrong

    assert not validator().is_valid(data)


def test_all_of_it_fires_rules_of_every_sort() -> None:
    """So that the tests above have seen the evidence of each; that of the others is in their own tests."""
    fired = {one["rule"] for one in build(everything(), judge(everything()))["findings"]}
    first = {"KM101", "KM201", "KM202", "KM203", "KM204", "KM301", "KM302", "KM303", "KM901"}
    assert fired == first | {"KM103", "KM903"}


def test_no_kernel_address_and_no_process_leaves() -> None:
    text = json.dumps(build(everything(), judge(everything())))

    assert "0xffff" not in text
    assert "ffffffff" not in text
    assert not {"ptr", "address", "pid", "comm"} & set(PUBLISHED["$defs"]["site"]["properties"])


@pytest.mark.parametrize("only", [area("f+0x1", 1 << 40, failed=1), percpu("f+0x1", 64, failed=1, gfp=0)])
def test_a_site_that_only_failed_is_shown(only: Row) -> None:
    (site,) = build(ledger(only), [])["sites"]
    assert (site["count"], site["bytes_allocated"], site["failures"] + site["opportunistic_failures"]) == (0, 0, 1)
