"""The file: whole without JavaScript where that is promised, harmless whatever it is told, and what it says it is."""

import base64
import dataclasses
import hashlib
import itertools
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from kmwatch.batch import Cache, Trust
from kmwatch.failures import ZoneState
from kmwatch.findings import RULES, Finding, Found
from kmwatch.kernel.symbols import Site
from kmwatch.ledger import Ledger
from kmwatch.schema import Context
from kmwatch.views import page
from kmwatch.views.page import html, parts
from tests.unit import pages, rows

ROOT = Path(__file__).parent.parent.parent
ASSETS, VENDOR = ROOT / "kmwatch/views/page/assets", ROOT / "scripts/vendor"
SECTIONS = ("verdict", "findings", "timeline", "flame", "sizes", "heat", "zones", "sites", "trust", "how")
HOSTILE = (
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "\"'><svg onload=alert(1)>",
    "--><!--",
    "]]>${alert(1)}$data",
    "\x00\x1b[31mred\r\n",
    "\U0001f98a\u202edesrever\u202c",
    "x" * 4096,
)
SLICES = tuple((rows.kmalloc("f+0x1 [drv]", 60, count=9 + at), rows.kmalloc("g+0x2", 33, count=at)) for at in range(3))


@pytest.fixture(scope="module")
def data() -> dict[str, Any]:
    return pages.built(pages.ledger_of(SLICES))


@pytest.fixture(scope="module")
def text(data: dict[str, Any]) -> str:
    return page.render(data)


def hostile() -> Ledger:
    """A ledger that has each hostile text as a symbol, a module, a cache, a zone, a doubt, a host and a kernel."""
    ledger = pages.ledger_of(
        ((*(rows.kmalloc(f"f{at}+0x1", 60, count=9) for at in range(len(HOSTILE))), rows.object_of(C, "c+0x1")),),
        memory=[ZoneState(0, evil, 10, 1, blocks=(1, 2)) for evil in HOSTILE],
        zones=HOSTILE,
        doubts=list(HOSTILE),
        probes=dict(zip(HOSTILE, HOSTILE, strict=True)),
        context=HOSTILE[0],
    )
    meta = ledger.meta
    meta.host = dataclasses.replace(meta.host, hostname=HOSTILE[0], kernel=HOSTILE[1])
    for at, evil in enumerate(HOSTILE):
        place = next(number for number, site in enumerate(meta.sites) if site.symbol == f"f{at}")
        meta.sites[place] = Site(f"{evil}+0x1", evil, HOSTILE[at - 1])
    return ledger


C = Cache(HOSTILE[0], 90, 128)


def test_the_parts_stand_in_their_order(text: str) -> None:
    elements = pages.Elements(text)
    assert tuple(each["id"] for each in elements.named("section")) == SECTIONS
    assert len(elements.named("h1")) == 1
    assert len(elements.named("h2")) == len(SECTIONS) - 1


def test_nothing_is_fetched(text: str) -> None:
    elements = pages.Elements(text)
    addresses = {
        attributes[name] for _, attributes in elements.found for name in ("src", "href", "action") if name in attributes
    }
    assert {each for each in addresses if not str(each).startswith("#")} == {"data:,"}
    styles = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    assert len(styles) == 2
    assert not re.search(r"url\(|@import", "".join(styles))


def test_a_browser_runs_these_scripts_only(text: str) -> None:
    (policy,) = (each["content"] for each in pages.Elements(text).named("meta") if each.get("http-equiv"))
    assert policy
    directives = dict(each.split(" ", 1) for each in policy.split("; "))
    digests = [
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in re.findall(r'<script(?: type="module")?>(.*?)</script>', text, re.DOTALL)
    ]
    assert directives["default-src"] == "'none'"
    assert (len(digests), directives["script-src"].split()) == (2, digests)


def test_the_data_is_all_there(data: dict[str, Any], text: str) -> None:
    told = pages.unpacked(text)
    sites = [
        {name: column["values"][column["at"][at] if "at" in column else at] for name, column in told["sites"].items()}
        for at in range(len(data["ids"]))
    ]
    assert sites == data["report"]["sites"]
    assert (told["ids"], told["memory"]) == (data["ids"], data["memory"])
    slices, wanted = told["timeline"]["sites"], data["timeline"]["sites"]
    assert list(itertools.accumulate(slices["site"])) == wanted["site"]
    assert (slices["slice"], slices["count"]) == (wanted["slice"], wanted["count"])
    for name in ("bytes_requested", "bytes_allocated"):
        units = [slices[name]["units"][site] for site in wanted["site"]]
        assert [u * c for u, c in zip(units, wanted["count"], strict=True)] == wanted[name]
        assert slices[name]["values"] == []


def test_bytes_that_no_unit_tells_are_told_one_by_one() -> None:
    made = pages.built(pages.ledger_of(((rows.kmalloc("f+0x1", 60, count=2),), (rows.kmalloc("f+0x1", 50, count=3),))))
    told, wanted = pages.unpacked(page.render(made))["timeline"]["sites"], made["timeline"]["sites"]

    asked = told["bytes_requested"]
    assert wanted["bytes_requested"] == [120, 150]
    assert (asked["units"], asked["steps"], asked["values"]) == ([60], [1], [150 - 3 * 60])
    assert told["bytes_allocated"] == {"units": [64], "steps": [], "values": []}


def test_weights_and_tree_survive_packing(data: dict[str, Any], text: str) -> None:
    told, wanted = pages.unpacked(text)["flame"], data["flame"]
    assert list(itertools.accumulate(told["nodes"]["parent"])) == wanted["nodes"]["parent"]
    assert list(itertools.accumulate(told["weights"]["site"])) == wanted["weights"]["site"]
    assert told["weights"]["share"] == pytest.approx(wanted["weights"]["share"], rel=1e-11)
    column = told["values"]["bytes_wasted"]
    places = list(itertools.accumulate(column["steps"]))
    assert dict(zip(places, column["values"], strict=True)) == {
        at: value for at, value in enumerate(wanted["values"]["bytes_wasted"]) if value
    }


def test_the_same_data_makes_the_same_file(data: dict[str, Any], text: str) -> None:
    assert page.render(data) == text


def test_the_first_sites_can_be_read_and_linked_to(data: dict[str, Any], text: str) -> None:
    elements = pages.Elements(text)
    ids = [each["id"] for each in elements.named("tr") if each.get("id")]
    cells = [each["data-value"] for each in elements.named("td") if each.get("data-column") == "bytes_wasted"]

    assert ids == [f"site={name}" for name in data["ids"]]
    assert cells == [str(site["bytes_wasted"]) for site in data["report"]["sites"]]


def test_a_finding_tells_its_rule_and_leads_to_its_site() -> None:
    rule = RULES["KM101"]
    ledger = pages.ledger_of(SLICES)
    found = Found(rule, Finding("f+0x1 [drv]", "too <much>", "less & less", saving=2048.0, confidence="likely"))
    text = page.render(page.build(ledger, [found], pages.HOW))

    links = {str(each["href"]) for each in pages.Elements(text).named("a")}
    assert unquote(max(links, key=len)) == "#site=kmalloc/f+0x1[drv]/0xcc0/process"
    assert "#site=kmalloc/f%2B0x1%5Bdrv%5D/0xcc0/process" in links
    told = pages.Elements(text).text
    for words in ("KM101 kmalloc-rounding-waste", "too <much>", "less & less", "likely", "saves 2.0 KiB/s"):
        assert words in told


def test_findings_beyond_the_first_are_data() -> None:
    found = [Found(RULES["KM101"], Finding("g+0x2", f"number {at}", "")) for at in range(parts.FIRST + 3)]
    text = page.render(page.build(pages.ledger_of(SLICES), found, pages.HOW))

    rest = pages.unpacked(text)["findings"]
    assert rest["message"]["values"] == [f"number {at}" for at in range(parts.FIRST, parts.FIRST + 3)]
    assert set(rest["link"]["values"]) == {"site=kmalloc/g+0x2/0xcc0/process"}
    assert "number 19" in pages.Elements(text).text
    assert "3 more" in pages.Elements(text).text


def test_hostile_texts_are_shown_and_do_nothing() -> None:
    rule = next(iter(RULES.values()))
    found = [Found(rule, Finding(evil, evil, evil)) for evil in HOSTILE]
    ledger = hostile()
    text = page.render(page.build(ledger, found, pages.HOW | {"command": f"kmwatch {HOSTILE[0]}\udc80"}))

    elements, harmless = pages.Elements(text), pages.Elements(page.render(pages.built(pages.ledger_of(SLICES))))
    assert text.encode()
    assert {tag for tag, _ in elements.found} <= {tag for tag, _ in harmless.found} | {"ul", "li", "small", "ol", "b"}
    assert len(elements.named("script")) == 3
    assert not [name for _, attributes in elements.found for name in attributes if name.startswith("on")]
    assert "\u202e" not in text
    assert "\x1b" not in text
    for evil in HOSTILE[:4]:
        assert elements.text.count(evil) > 4
    assert "x" * (parts._LONGEST + 1) not in elements.text


def test_the_data_has_no_letter_that_ends_it() -> None:
    text = page.render(page.build(hostile(), [], pages.HOW))
    told = pages.unpacked(text)

    assert {site for column in ("symbol", "module") for site in told["sites"][column]["values"]} >= set(HOSTILE)
    (packed,) = re.findall(r'id="data">(.*?)</script>', text, re.DOTALL)
    assert re.fullmatch(r"[A-Za-z0-9+/=]+", packed)


@pytest.mark.parametrize("script", [*html.SCRIPTS, "vendor.min.js"])
def test_no_script_ends_early(script: str) -> None:
    code = (ASSETS / script).read_text()
    assert not re.search(r"</script|<!--", code, re.IGNORECASE)


@pytest.mark.parametrize("script", html.SCRIPTS)
def test_own_scripts_make_no_html_of_texts(script: str) -> None:
    code = (ASSETS / script).read_text()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\.html\(|\beval\(|fetch\(", code)
    assert len(code.splitlines()) <= 350


def test_the_page_has_every_script_there_is() -> None:
    there = {path.name for path in ASSETS.glob("*.js")} - {"vendor.min.js"}
    assert set(html.SCRIPTS) == there


@pytest.mark.parametrize(
    ("severities", "lost", "words"),
    [
        ((), 0, "No rule found anything wrong in 27 events."),
        ((), 1200, "No rule found anything wrong in 27 events. 1 200 events were missed."),
        (("notice",), 0, "1 notice: kmalloc-rounding-waste at f+0x1."),
        (
            ("error", "warning", "warning", "notice"),
            0,
            "1 error, 2 warnings and 1 notice, first of all kmalloc-rounding-waste at f+0x1.",
        ),
    ],
)
def test_the_sentence_says_what_there_is(severities: tuple[str, ...], lost: int, words: str) -> None:
    ledger = rows.ledger(rows.kmalloc("f+0x1", 60, count=27), trust=Trust(lost=lost))
    found = [Found(RULES["KM101"], Finding("f+0x1", "", "", severity=severity)) for severity in severities]
    assert parts.sentence(page.build(ledger, found, pages.HOW)) == words


def test_without_events_nothing_is_claimed() -> None:
    data = page.build(Ledger(rows.meta()), [], pages.HOW)
    told = pages.Elements(page.render(data)).text
    assert "No event was seen, so nothing can be said." in told
    assert "there is no snapshot of free memory" in told


def test_losses_are_not_called_nothing() -> None:
    clean, lossy = (
        parts.trust(pages.built(rows.ledger(rows.kmalloc("f+0x1", 60), trust=trust)))
        for trust in (Trust(), Trust(lost=1))
    )
    assert "Nothing is known to be missing." in clean
    assert "Nothing is known to be missing." not in lossy


def test_how_it_was_made_is_told(text: str) -> None:
    told = pages.Elements(text).text
    assert pages.HOW["command"] in told
    assert "2023-11-14 22:13:20 UTC" in told
    assert (ASSETS / "LICENSES.txt").read_text() in told
    assert all(library in told for library in html.libraries())


def test_the_bundle_is_of_the_versions_that_are_asked_for() -> None:
    wanted = json.loads((VENDOR / "package.json").read_text())["dependencies"]
    lock = json.loads((VENDOR / "package-lock.json").read_text())["packages"]
    there = dict(each.split(" ")[:2] for each in html.libraries())
    licences = (ASSETS / "LICENSES.txt").read_text()

    assert {name: there.get(name) for name in wanted} == wanted
    assert all(lock[f"node_modules/{name}"]["version"] == version for name, version in there.items())
    assert [name for name, version in there.items() if f"{name} {version}" not in licences] == []
    assert "://" not in (VENDOR / "package-lock.json").read_text()


def test_softirq_is_no_place_to_sleep() -> None:
    """What the heat map marks is told to it by the data, not found out by it."""
    made = pages.built(pages.ledger_of(((rows.kmalloc("f+0x1", 60, context=int(Context.SOFTIRQ)),),)))
    assert pages.unpacked(page.render(made))["sleeping"] == [0]
