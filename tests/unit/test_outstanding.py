"""What is held as a report tells it: graded, with its error, beside the kernel's own account, and as text."""

import io
import json
from typing import Any

import jsonschema
import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console

from kmwatch.batch import KEY, Batch, Cache
from kmwatch.coverage import coverage
from kmwatch.events import KEY_TYPE
from kmwatch.held import BUCKETS, TALLY, bounds, of_tallies, with_releases
from kmwatch.ledger import ALLOCATIONS, FREES, Ledger
from kmwatch.reconciliation import Account, reconciled
from kmwatch.schema import Kind
from kmwatch.units import span
from kmwatch.views import outstanding
from kmwatch.views.report import build
from kmwatch.views.text import render
from kmwatch.witness import MEMINFO, Witness
from tests.unit import rows
from tests.unit.rows import Row
from tests.unit.test_report import PUBLISHED, validator

FILP = Cache("filp", 232, 256)
NODE = Cache("maple_node", 256, 256)
BIG = 1 << 20

Part = tuple[Row, dict[str, int]]


def part(row: Row, sampled: int, **tally: int) -> Part:
    """One key of the table: the row is of one allocation, of which so many are held."""
    return row, {"sampled": sampled, "requested": sampled * row.get("min_request", 0), **tally}


def ledger(
    *parts: Part, bits: int = 0, before: Witness | None = None, now: Witness | None = None, refused: int = 0
) -> Ledger:
    """A ledger that holds these after a second."""
    made = Ledger(rows.meta())
    given = rows.rows_of(made.meta, *(row for row, _ in parts))
    keys, tallies = np.zeros(len(parts), KEY_TYPE), np.zeros(len(parts), TALLY)
    for name in KEY:
        keys[name] = given[name]
    for at, (row, tally) in enumerate(parts):
        for name, value in tally.items():
            tallies[name][at] = value
        waste = row.get("bytes_alloc", 0) - row.get("min_request", 0)
        tallies["waste_squares"][at] = tally["sampled"] * max(waste, 0) ** 2
        tallies["ages"][at, 23] = tally["sampled"]
        tallies["lifetimes"][at, 10] = tally.get("released", 0)
    found = of_tallies(keys, tallies, made.meta, bits)
    held = type(found)(found.rows, bits, refused, before=before, now=now)
    made.add(Batch(given[:0], 1000.0, 1.0, held=held))
    return made


def witnesses(**grown: int) -> dict[str, Witness]:
    """Two looks: every field of /proc/meminfo at 10 MiB, then as much more; two caches, which grew as given."""
    slabs = {name: grown.pop(name, 0) for name in ("filp", "maple_node")}
    memory = dict.fromkeys(MEMINFO, 10 << 20)
    return {
        "before": Witness(dict.fromkeys(slabs, (100, 16)), memory),
        "now": Witness(
            {name: (100 + more, 16) for name, more in slabs.items()},
            {name: size + grown.get(name, 0) for name, size in memory.items()},
            {"load_msg": 4096},
        ),
    }


def everything(**changes: Any) -> Ledger:
    """Every kind, a cache that is unknown, one in which nothing stays."""
    return ledger(
        part(rows.kmalloc("load_msg+0x41", 60), 1000, released=500, elsewhere=125),
        part(rows.kmalloc("load_msg+0x41", 60, gfp="GFP_ATOMIC"), 1),
        part(rows.kmalloc("big+0x1", 100_000), 3),
        part(rows.object_of(FILP, "alloc_empty_file+0x3c"), 50, released=10_000),
        part(rows.object_of(NODE, "mas_preallocate+0x3ef"), 700, unseen=300, released=3),
        part(rows.object_of(FILP, "dup+0x1 [drv]"), 0, released=8),
        part(rows.pages("fault+0x1", 2), 20),
        part(rows.pages("fault+0x1", 1), 20),
        part(rows.area("bpf_map_area_alloc+0x3", 8192), 2),
        part(rows.percpu("mm_init+0x3", 640, bytes_alloc=704), 2),
        **{**witnesses(filp=50, maple_node=10, Slab=BIG, VmallocUsed=-4096, KernelStack=16384), **changes},
    )


def held(made: Ledger) -> dict[str, Any]:
    """The part of the report."""
    found = outstanding.build(made)
    assert found is not None
    return found


def exactly(value: int) -> dict[str, int]:
    return {"estimate": value, "low": value, "high": value}


def test_a_site_is_told_whole() -> None:
    site = next(each for each in held(everything())["sites"] if each["symbol"] == "load_msg")

    assert site == {
        "kind": "kmalloc",
        "site": "load_msg+0x41",
        "symbol": "load_msg",
        "module": "",
        "cache": "kmalloc-64",
        "grade": "B",
        "objects": exactly(1001),
        "bytes_allocated": exactly(1001 * 64),
        "bytes_wasted": exactly(1001 * 4),
        "age_seconds": pytest.approx(2**24 * 128e-9),
        "lifetime": "permanent",
        "ages": [{"seconds": pytest.approx(2**24 * 128e-9), "objects": 1001}],
        "lifetimes": [{"seconds": pytest.approx(2**11 * 128e-9), "objects": 500}],
        "bytes_per_second": None,
        "kernel_bytes_grown": 4096,
        "released": 500,
        "released_elsewhere": 125,
        "unseen": 0,
    }


def test_what_was_looked_at_twice_has_a_slope() -> None:
    made = everything()
    assert made.held is not None
    made.add(Batch(made.rows[:0], 1002.0, 2.0, held=ledger(part(rows.kmalloc("load_msg+0x41", 60), 2001)).held))
    slopes = {each["symbol"]: each["bytes_per_second"] for each in held(made)["sites"]}

    assert slopes == {"load_msg": round((2001 - 1001) * 64 / 3, 1)}


def test_most_bytes_come_first_then_what_is_unknown_then_what_holds_nothing() -> None:
    data = held(everything())

    assert [(each["symbol"], each["cache"]) for each in data["sites"]] == [
        ("fault", "page_alloc"),
        ("big", "kmalloc, large"),
        ("load_msg", "kmalloc-64"),
        ("bpf_map_area_alloc", "vmalloc"),
        ("alloc_empty_file", "filp"),
        ("mm_init", "percpu_alloc"),
        ("mas_preallocate", "maple_node"),
        ("dup", "filp"),
    ]
    assert [each["cache"] for each in data["caches"]][-1] == "maple_node"
    assert [each["module"] for each in data["sites"]][-1] == "drv"
    assert held(everything())["sites"][0]["bytes_allocated"] == exactly(20 * (16384 + 8192))


def test_of_what_is_unknown_no_number_is_told() -> None:
    data = held(everything())
    (site,) = [each for each in data["sites"] if each["grade"] == "D"]
    (cache,) = [each for each in data["caches"] if each["grade"] == "D"]

    wanted = ("objects", "bytes_allocated", "bytes_wasted", "age_seconds", "lifetime")
    assert {name: site[name] for name in wanted} == dict.fromkeys(wanted)
    assert (cache["cache"], cache["held"], cache["grown"], cache["unseen"]) == ("maple_node", None, 10, 300)
    assert data["unknown"] == 1
    known = [each for each in data["sites"] if each["objects"]]
    for name in ("objects", "bytes_allocated", "bytes_wasted"):
        assert data[name] == exactly(sum(each[name]["estimate"] for each in known))
    text = printed(everything(), 200)
    (line,) = [line for line in text.splitlines() if line.startswith("mas_preallocate")]
    assert (line.count("unknown"), line.split()[-1]) == (3, "D")
    assert "700" not in text


def test_a_sample_has_an_error() -> None:
    data = held(ledger(part(rows.kmalloc("f+0x1", 60), 100), bits=4, refused=7))
    site = data["sites"][0]

    assert (data["sample"], data["refused"]) == (16, 7)
    for name, total, squares in (
        ("objects", 1600, 100),
        ("bytes_allocated", 102_400, 100 * 64**2),
        ("bytes_wasted", 6400, 1600),
    ):
        low, high = bounds(total, squares, 4)
        assert site[name] == data[name] == {"estimate": total, "low": low, "high": high}
        assert low < total < high
    text = printed(ledger(part(rows.kmalloc("f+0x1", 60), 100), bits=4, refused=7), 200)
    error = site["objects"]["high"] - 1600
    assert f"1 600 ± {error} objects, 100.0 KiB ± " in text
    assert "one object of 16 was looked at; no room was found for 7 of them" in text


def test_the_kernels_own_account_is_held_beside_it() -> None:
    """What is unknown is not seen; whole pages are in no field."""
    made = everything()
    slab, areas, percpu = 1001 * 64 + 50 * 256, 2 * 8192, 2 * 704

    accounts = reconciled(made, coverage(made))

    assert accounts == [
        Account("Slab", (10 << 20) + BIG, BIG, slab),
        Account("VmallocUsed", (10 << 20) - 4096, -4096, areas),
        Account("Percpu", 10 << 20, 0, percpu),
        Account("KernelStack", (10 << 20) + 16384, 16384, 0),
        Account("PageTables", 10 << 20, 0, 0),
    ]
    assert [each.not_seen for each in accounts] == [BIG - slab, -4096 - areas, -percpu, 16384, 0]
    assert held(made)["memory"][0] == {
        "field": "Slab",
        "bytes": (10 << 20) + BIG,
        "bytes_grown": BIG,
        "bytes_held": slab,
        "bytes_not_seen": BIG - slab,
    }
    words = " ".join(printed(made, 120).partition("/proc/meminfo")[2].split())
    assert " KernelStack 10.0 MiB 16.0 KiB 0 B 16.0 KiB " in words


def test_without_a_witness_there_is_no_account() -> None:
    made = everything(before=None, now=None)
    lacking = everything(before=Witness(meminfo={"Slab": 5}), now=Witness(meminfo={"Slab": 7, "Percpu": 9}))

    assert held(made)["memory"] == []
    assert "is known of `live` only" in printed(made, 120)
    assert [each.field for each in reconciled(lacking, coverage(lacking))] == ["Slab"]


def printed(made: Ledger, width: int) -> str:
    """The whole report as text."""
    out = io.StringIO()
    render(build(made, []), Console(file=out, width=width, highlight=False, color_system=None))
    return out.getvalue()


@pytest.mark.parametrize("width", [20, 40, 79, 109, 110, 200])
def test_no_line_is_wider_than_the_console(width: int) -> None:
    lines = printed(everything(), width).splitlines()

    assert len(lines) > 30
    assert [line for line in lines if cell_len(line.rstrip()) > width] == []


@pytest.mark.parametrize("width", [80, 200])
def test_thirty_rows_are_shown_and_the_rest_is_summed(width: int) -> None:
    made = ledger(*(part(rows.kmalloc(f"f{at:03}+0x1", 60), 1000 - at) for at in range(33)))
    lines = [line.split() for line in printed(made, width).splitlines()]

    assert sum(line[0].startswith("f0") for line in lines if line) == 30
    (rest,) = [line for line in lines if line[1:2] == ["more"]]
    assert rest[:5] == ["3", "more", "2", "907", "181.7"]


def test_names_are_only_names() -> None:
    hostile = Cache("\x1b[31mred", 64, 64)
    text = printed(ledger(part(rows.object_of(hostile, "f\x1b]0;+0x1 [m\x1bd]"), 5)), 120)

    assert "\x1b" not in text
    assert "�[31mred" in text


@pytest.mark.parametrize("made", [everything(), ledger(), everything(before=None, now=None)])
def test_it_has_the_published_form(made: Ledger) -> None:
    data = json.loads(json.dumps(build(made, []), allow_nan=False))

    assert [error.message for error in validator().iter_errors(data)] == []
    assert data["outstanding"] is not None


def test_the_schema_names_the_same_fields() -> None:
    data, forms = held(everything()), PUBLISHED["$defs"]
    of = {
        "outstanding": data,
        "estimate": data["objects"],
        "held_site": data["sites"][0],
        "held_cache": data["caches"][0],
        "memory": data["memory"][0],
    }

    assert {name: list(part) for name, part in of.items()} == {name: list(forms[name]["properties"]) for name in of}
    assert forms["held_site"]["properties"]["kind"]["enum"] == [kind.name.lower() for kind in ALLOCATIONS]
    assert forms["memory"]["properties"]["field"]["enum"] == list(MEMINFO)
    wrong = build(everything(), [])
    wrong["outstanding"]["sites"][0]["ptr"] = 1
    with pytest.raises(jsonschema.ValidationError):
        validator().validate(wrong)


def test_nobody_looked() -> None:
    made = rows.ledger(rows.kmalloc("f+0x1", 60))

    assert outstanding.build(made) is None
    assert "held" not in printed(made, 120)


def test_what_is_asked_for_comes_with_what_releases_it() -> None:
    everything_held = with_releases(frozenset(ALLOCATIONS))

    assert everything_held == {*ALLOCATIONS, *FREES} - {Kind.IOUNMAP}
    assert with_releases(frozenset({Kind.VMALLOC, Kind.OOM_VICTIM})) == {Kind.VMALLOC, Kind.OOM_VICTIM, Kind.VFREE}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (256e-9, "256 ns"),
        (1.024e-6, "1.0 µs"),
        (0.131, "131 ms"),
        (4.29, "4.3 s"),
        (119.4, "119 s"),
        (720, "12 min"),
        (12_600, "3.5 h"),
        (float(2**39) * 128e-9, "19.5 h"),
    ],
)
def test_times_of_any_length(seconds: float, text: str) -> None:
    assert span(seconds) == text
    assert BUCKETS == 40
