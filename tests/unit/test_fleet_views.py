"""A fleet's report as published data, for the terminal, and as a page: all of it told, whatever the names are."""

import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from referencing import Registry, Resource
from rich.cells import cell_len
from rich.console import Console

from kmwatch import __version__
from kmwatch.batch import Batch, Host, Meta, Rows
from kmwatch.findings import RULES, Finding, Found
from kmwatch.fleet.measures import MEASURES
from kmwatch.fleet.survey import Survey, Surveyed
from kmwatch.kernel.symbols import Site
from kmwatch.ledger import Ledger
from kmwatch.thresholds import DEFAULTS
from kmwatch.units import printable
from kmwatch.views import fleet as view
from kmwatch.views import fleet_page, fleet_text, report
from kmwatch.views.page.parts import FIRST
from tests.unit import hostile, rows
from tests.unit.fleets import SECONDS, fleet, scale
from tests.unit.pages import Elements

DOCS = Path(__file__).parents[2] / "docs"
PUBLISHED = json.loads((DOCS / "fleet.schema.json").read_text())
REPORT = json.loads((DOCS / "report.schema.json").read_text())
HOW: dict[str, Any] = {"command": "kmwatch report fleet --html page.html", "made": 1.7e9}
SECTIONS = ["verdict", "first", "findings", "outliers", "releases", "skipped", "rows", "how"]
NAMES = list(hostile.NAMES.values())


def finding(code: str, site: str, saving: float = 0.0, told: str = "told") -> Found:
    return Found(RULES[code], Finding(site, told, f"advice: {told}", saving=saving))


def planted(number: int, made: Rows, known: Meta) -> None:
    """A busy host, a driver whose new version wastes more, and a kernel with larger allocations."""
    known.modules["drv"] = ("1.4", "1.5")[number % 2]
    if number == 17:
        scale(made, np.where(np.arange(len(made)) == 3, 300.0, 1.0))
    if number % 2:
        made["bytes_requested"][5] = made["bytes_allocated"][5] // 10
    if number // 2 % 2:
        for name in ("bytes_requested", "bytes_allocated"):
            made[name][8] *= 2


def everything() -> tuple[Surveyed, Ledger]:
    """A survey in which every list has something, and the last host's ledger in place of the merged one."""
    made = Survey(DEFAULTS)
    captures = fleet(60, functions=30, plant=planted, kernel=lambda number: ("6.12.9", "6.12.30")[number // 2 % 2])
    for number, (name, ledger) in enumerate(captures):
        found = [finding("KM101", "f004+0x4", 1234.5)]
        if number == 20:
            failed = rows.rows_of(ledger.meta, rows.kmalloc("f007+0x7", 1500, failed=1, count=600))
            whole = Ledger(ledger.meta)
            whole.add(Batch(np.concatenate([ledger.rows, failed]), 1000.0, SECONDS))
            ledger, found = whole, [*found, finding("KM202", "f007+0x7 [drv]")]  # noqa: PLW2901
        made.add(f"host={name}/boot", name, ledger, found)
    made.skip("host=broken/boot", "it has no meta.json")
    return made.result(), ledger


@pytest.fixture(scope="module")
def data() -> dict[str, Any]:
    surveyed, ledger = everything()
    return view.build(surveyed, report.build(ledger, []))


@pytest.fixture(scope="module")
def evil() -> dict[str, Any]:
    return view.build(*hostile_survey())


def hostile_survey() -> tuple[Surveyed, dict[str, Any]]:
    """Every name is a host, a release, a function, a module, a version, a finding's site and a reason."""
    made, whole = Survey(DEFAULTS), rows.ledger()
    for number, (_, ledger) in enumerate(fleet(24, functions=len(NAMES), plant=_doubled)):
        name = NAMES[number % len(NAMES)]
        known = replace(ledger.meta, host=Host(name, NAMES[number // 6], "boot", 4), modules={})
        numbers = iter(range(len(NAMES)))
        known.sites = [_site(NAMES[next(numbers)]) if each.symbol[0] == "f" else each for each in known.sites]
        known.modules.update(dict.fromkeys(NAMES, NAMES[number // 12]))
        ledger.meta = known
        made.add(name, f"{name} {number}", ledger, [finding("KM202", f"{name}+0x1 [{name}]", 0.0, name)])
        made.skip(name, name)
        whole = ledger
    return made.result(), report.build(whole, [])


def _site(name: str) -> Site:
    return Site(f"{name}+0x1", name, name)


def _doubled(number: int, made: Rows, _known: Meta) -> None:
    """Larger allocations from the second half of the hosts on, and one that does more of everything."""
    if number >= 12:
        for name in ("bytes_requested", "bytes_allocated"):
            made[name] *= 2
    if number == 5:
        scale(made, np.full(len(made), 4000.0))


def shown(told: dict[str, Any], width: int, top: int = 20) -> str:
    out = io.StringIO()
    fleet_text.render(told, Console(file=out, width=width, highlight=False, color_system=None), top)
    return out.getvalue()


def validator() -> jsonschema.Draft202012Validator:
    registry: Any = Registry().with_resource(REPORT["$id"], Resource.from_contents(REPORT))
    return jsonschema.Draft202012Validator(PUBLISHED, registry=registry)


def undescribed(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    """Properties without a word on what they are, and objects that may have more."""
    for name, each in {**schema.get("properties", {}), **schema.get("$defs", {})}.items():
        inner = each.get("items", each)
        if not each.get("description") or (inner.get("type") == "object" and inner.get("additionalProperties", True)):
            yield f"{path}/{name}"
        yield from undescribed(inner, f"{path}/{name}")


def test_the_schema_describes_and_closes_everything() -> None:
    jsonschema.Draft202012Validator.check_schema(PUBLISHED)

    assert list(undescribed(PUBLISHED)) == []
    assert PUBLISHED["properties"]["schema"]["const"] == view.SCHEMA
    told = {name for part in ("outlier", "move") for name in PUBLISHED["$defs"][part]["properties"]["measure"]["enum"]}
    assert told == set(MEASURES)


def test_the_data_has_the_published_form_and_all_of_its_fields(data: dict[str, Any], evil: dict[str, Any]) -> None:
    nothing = view.build(Survey(DEFAULTS).result(), report.build(rows.ledger(), []))
    for each in (data, evil, nothing):
        assert [error.message for error in validator().iter_errors(json.loads(json.dumps(each, allow_nan=False)))] == []
    assert list(data) == list(PUBLISHED["properties"])
    for name, part in (("findings", "finding"), ("outliers", "outlier"), ("releases", "move")):
        assert list(data[name][0]) == list(PUBLISHED["$defs"][part]["properties"])
    assert data["kmwatch"] == __version__


@pytest.mark.parametrize(
    ("path", "wrong"),
    [(("schema",), "kmwatch.fleet/2"), (("first", 0, "why"), 1), (("more", "outliers"), -1), (("report", "host"), 1)],
)
def test_another_form_is_refused(data: dict[str, Any], path: tuple[str | int, ...], wrong: object) -> None:
    changed: Any = json.loads(json.dumps(data))
    place = changed
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = wrong

    assert not validator().is_valid(changed)


def test_the_data_are_these(data: dict[str, Any]) -> None:
    assert (data["captures"]["hosts"], data["captures"]["count"], data["captures"]["seconds"]) == (60, 60, 3600.0)
    assert data["kernels"] == [{"release": "6.12.9", "hosts": 30}, {"release": "6.12.30", "hosts": 30}]
    rare, usual = data["findings"]
    assert (usual["rule"], usual["symbol"], usual["hosts"], usual["share"]) == ("KM101", "f004", 60, 1.0)
    assert usual["saving_bytes_per_second"] == 60 * 1234.5
    assert (rare["first"], rare["example"]["site"]) == (["host-020"], "f007+0x7 [drv]")
    assert [(each["host"], each["symbol"], each["times"]) for each in data["outliers"] if each["median"] == 0] == [
        ("host-020", "f007", None)
    ]
    assert {(each["symbol"], each["subject"], each["before"]["release"]) for each in data["releases"]} == {
        ("f005", "drv", "1.4"),
        ("f008", "kernel", "6.12.9"),
    }
    assert [each["host"] for each in data["first"]] == ["host-020", "host-017"]
    assert data["skipped"] == [{"name": "host=broken/boot", "reason": "it has no meta.json"}]


@pytest.mark.parametrize("width", [80, 120])
def test_the_terminal_shows_all_of_it_as_wide_as_it_is(data: dict[str, Any], width: int) -> None:
    text = shown(data, width)

    assert max(map(cell_len, text.splitlines())) <= width
    for part in ("Look first at host-020: error KM202", "60 hosts, 60 captures, 60 min watched in all",
                 "6.12.9 (30 hosts)", "60 (100%)", "72.3 KiB/s", "host-017", "a median of 0", "since", "drv 1.5",
                 "+100%", "host=broken/boot", "it has no meta.json"):  # fmt: skip
        assert part in text, part
    assert ("30, 30" in text) == (width == 120)


def test_no_more_rows_are_shown_than_are_asked_for_and_the_rest_is_told(data: dict[str, Any]) -> None:
    more = {**data, "more": {**data["more"], "outliers": 40}}
    text = shown(more, 100, top=1)

    assert text.count("host-020") == 1 + 1 + 1  # the sentence, where to look first, and the only row of outliers
    assert text.count("host-017") == 1
    assert f"{len(data['outliers']) - 1 + 40} more rows" in text
    assert f"{len(data['releases']) - 1} more rows" in text


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"captures": {"count": 0, "hosts": 0, "events": 0, "lost": 0, "seconds": 0.0}}, "No capture could be read"),
        ({"first": []}, "No host differs from the others; 1 of 60 have atomic-allocation-failure at f007 [drv]."),
        ({"first": [], "findings": []}, "No host differs from the others, and no rule found anything."),
    ],
)
def test_where_nothing_differs_that_is_said(data: dict[str, Any], changes: dict[str, Any], says: str) -> None:
    changed = {**data, **changes}

    assert shown(changed, 120).startswith(says)
    assert says in _text(fleet_page.render(changed, HOW))


def _text(page: str) -> str:
    """What of a page is read: without tags."""
    return re.sub(r"<[^>]*>", "", page).replace("&nbsp;", " ")


def test_the_page_has_its_parts_and_every_row(data: dict[str, Any]) -> None:
    page = fleet_page.render(data, HOW)
    elements = Elements(page)

    assert [each["id"] for each in elements.named("section")] == SECTIONS
    assert len(elements.named("h1")) == 1
    rows_of = sum(len(data[name]) for name in ("outliers", "releases", "skipped")) + min(
        FIRST, len(data["report"]["sites"])
    )
    assert len(elements.named("tr")) == rows_of + 4  # the heads
    assert page.count('<li class="finding ') == len(data["findings"])
    for part in ("host-020", "drv 1.5", "6.12.9 (30 hosts), 6.12.30 (30 hosts)", "saves 72.3 KiB/s on all of them",
                 "10 more: --json has all.", "it has no meta.json", HOW["command"], "kmwatch.fleet/1"):  # fmt: skip
        assert part in page, part


def test_groups_of_the_whole_fleet_stand_in_place_of_its_sites(data: dict[str, Any]) -> None:
    sums = {"count": 10_007, "failures": 3, "bytes_allocated": 1 << 20, "bytes_wasted": 1 << 10}
    grouped = {**data, "report": {**data["report"], "by": "host", "groups": [{"name": "</b>web-3", **sums}] * 21}}

    text, page = shown(grouped, 100), fleet_page.render(grouped, HOW)
    assert "The whole fleet by host\n" in text
    assert text.count("</b>web-3 ") == 20
    assert "1 more rows" in text
    assert (page.count("<td>&lt;/b&gt;web-3</td>"), page.count("10 007")) == (20, 20)
    assert "1 more: --json has all." in page


def test_the_page_runs_nothing_and_fetches_nothing(data: dict[str, Any], evil: dict[str, Any]) -> None:
    for each in (data, evil):
        page = fleet_page.render(each, HOW)
        elements = Elements(page)
        (policy,) = (one["content"] for one in elements.named("meta") if one.get("http-equiv"))
        assert policy
        assert policy.startswith("default-src 'none'; script-src 'none'; ")
        assert {one["href"] for one in elements.named("link")} == {"data:,"}
        assert not [one for one in elements.named("a") if not str(one["href"]).startswith("#")]
        assert {name for name, _ in elements.found} & {"script", "img", "svg", "iframe", "object"} == set()
        assert not [name for _, one in elements.found for name in one if name.startswith("on")]


def test_hostile_names_stay_what_they_are(evil: dict[str, Any]) -> None:
    """In data exactly; on a terminal without what steers it; on a page as text."""
    assert {each["name"] for each in evil["skipped"]} == set(NAMES)
    assert {each["symbol"] for each in evil["outliers"]} >= {name for name in NAMES if len(name) < 100}
    assert evil["releases"]
    page = _text(fleet_page.render(evil, HOW))
    for width in (80, 120):
        text = shown(evil, width, top=500)
        assert {each for each in text if each != "\n" and not each.isprintable()} == set()
        assert max(map(cell_len, text.splitlines())) <= width
        assert "[red]x[/red][/]" in text
        assert "x" * 401 not in text
    assert {each for each in page if each != "\n" and not each.isprintable()} == set()
    assert printable(hostile.NAMES["right to left"]) in page
    assert "x" * 401 not in page
