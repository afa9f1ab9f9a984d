"""Whatever names a kernel or a capture brings: no view lets them out of the place where they stand.

What is for machines has them exactly, and apart; what is for a terminal has no character that steers it.
"""

import asyncio
import csv
import io
import json
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from shutil import copytree
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from kmwatch.capture.layout import META
from kmwatch.cli import cli
from kmwatch.cli.exposing import Exposed
from kmwatch.leaks import grown
from kmwatch.profile import Frame
from kmwatch.serve.config import ServeConfig
from kmwatch.serve.snapshot import Own
from kmwatch.sources.capture import CaptureSource
from kmwatch.sources.replay import ReplaySource
from kmwatch.thresholds import DEFAULTS
from kmwatch.units import printable
from kmwatch.views import leaks, text
from kmwatch.views.export.ways import label
from kmwatch.views.top.app import TopApp
from kmwatch.views.top.catalog import VIEWS
from kmwatch.views.top.catalog import build as rows_of
from kmwatch.views.top.feed import Feed
from tests.unit import hostile
from tests.unit.captures import START, tell
from tests.unit.folded import folded

NAMES = set(hostile.NAMES.values())
ALLOCATIONS, FAILURES = (hostile.COUNT + 1) * len(NAMES) * hostile.SECONDS, len(NAMES) * hostile.SECONDS
# A finding is at a label, `function [module]`: where a module's name has brackets itself, all of it is the function.
FOUND = {f"{name}+0x1 [{name}]" if set(name) & set("[]") else name for name in NAMES}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The capture in which every name is one of them."""
    return hostile.capture(tmp_path_factory.mktemp("hostile") / "a.kmw")


@pytest.fixture(scope="module")
def later(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, and twice as much of it."""
    return hostile.capture(tmp_path_factory.mktemp("hostile") / "b.kmw", 2 * hostile.COUNT)


def said(*arguments: str | Path) -> str:
    """What a command prints; findings and changes are no failure here."""
    ran = CliRunner().invoke(cli, list(map(str, arguments)), catch_exceptions=False, standalone_mode=False)
    return ran.stdout_bytes.decode()


def steering(shown: str) -> set[str]:
    """The characters of a text that are not for showing; lines end by nothing but a line feed."""
    return {each for each in shown if each != "\n" and not each.isprintable()}


def squeezed(shown: str) -> str:
    """Without the blanks and line ends that a terminal's width brings."""
    return "".join(shown.split())


def missing(shown: str) -> set[str]:
    """The names that a text does not have, character for character, where they can be shown."""
    return {name for name in NAMES if squeezed(printable(name)) not in squeezed(shown)}


@pytest.mark.parametrize(
    "arguments",
    [
        ["report", "--top", "500"],
        *(["report", "--top", "500", "--by", dimension] for dimension in ("site", "cache", "comm", "cgroup", "module")),
        ["report", "--outstanding"],
        ["info"],
        ["whatif", "--top", "500"],
        ["check"],
        ["top", "--once"],
    ],
    ids=" ".join,
)
def test_no_name_steers_a_terminal(recorded: Path, arguments: list[str]) -> None:
    command, *options = arguments
    shown = said(command, recorded, *options)

    assert steering(shown) == set()
    assert len(shown) > 200


def test_no_name_of_a_fleet_steers_a_terminal_or_leaves_its_place_on_the_page(recorded: Path, tmp_path: Path) -> None:
    for host in ("a", "b"):
        copytree(recorded, tmp_path / "fleet" / f"host={host}" / "boot")
    page = tmp_path / "page.html"
    shown = said("report", tmp_path / "fleet", "--top", "500")
    said("report", tmp_path / "fleet", "--html", page)

    assert steering(shown) | steering(page.read_text()) == set()
    assert {name for name in missing(shown) if len(name) < 30} == set()  # tables cut long ones
    assert "<script" not in page.read_text()
    assert "<img" not in page.read_text()


@pytest.mark.parametrize("command", ["report", "check"])
def test_findings_name_every_site_as_it_is(recorded: Path, command: str) -> None:
    """No brackets are taken for markup, and nothing is cut."""
    assert missing(said(command, recorded)) == set()


def test_a_terminal_with_colours_gets_no_others(recorded: Path) -> None:
    """Brackets in a name neither colour it nor end what is coloured."""

    def shown(**colours: Any) -> Console:
        console = Console(file=io.StringIO(), width=120, highlight=False, record=True, **colours)
        text.render(json.loads(said("report", recorded, "--json")), console, 500)
        return console

    coloured = shown(force_terminal=True, color_system="standard")
    assert coloured.export_text() == shown().export_text()
    assert steering(coloured.export_text()) == set()


def test_a_change_between_runs_is_told_apart(recorded: Path, later: Path) -> None:
    told = json.loads(said("diff", recorded, later, "--json"))

    assert {each["symbol"] for each in told["changes"]} == NAMES
    assert steering(said("diff", recorded, later, "--top", "500")) == set()


def test_json_has_every_name_exactly(recorded: Path) -> None:
    told = json.loads(said("report", recorded, "--json"))

    for name in ("symbol", "module"):
        assert {each[name] for each in told["sites"]} == NAMES
    assert {each["cache"] for each in told["sites"] if each["kind"] == "cache_alloc"} == NAMES
    assert told["host"]["hostname"] == hostile.HOST.hostname
    *_, last = said("top", recorded, "--json").splitlines()
    assert {each["symbol"] for each in json.loads(last)["sites"]} == NAMES
    for dimension, prefix in (("comm", ""), ("cgroup", "/"), ("module", "")):
        groups = json.loads(said("report", recorded, "--json", "--by", dimension))["groups"]
        assert {each["name"] for each in groups} == {prefix + name for name in NAMES}


@pytest.mark.parametrize(
    "command", [["report", "--json"], ["check", "--format", "json"], ["info", "--json"]], ids=" ".join
)
def test_json_is_plain_ascii(recorded: Path, command: list[str]) -> None:
    """So a terminal that it is shown on never meets a name's own characters."""
    assert said(*command, recorded).isascii()


def test_a_host_that_is_no_text_can_be_shown(tmp_path: Path) -> None:
    """JSON has half a character where a file cannot."""
    capture = hostile.capture(tmp_path / "a.kmw", names=["f"])
    meta = json.loads((capture / META).read_text())
    (capture / META).write_text(json.dumps({**meta, "host": {**meta["host"], "hostname": "box\udcff"}}))
    tell(capture, META)

    assert "box�" in said("report", capture)
    assert json.loads(said("report", capture, "--json"))["host"]["hostname"] == "box\udcff"


QUERY = "select distinct function, module, comm, cgroup from events where kind = 'kmalloc'"


def test_sql_gives_names_exactly_to_programs(recorded: Path) -> None:
    rows = list(csv.reader(io.StringIO(said("sql", recorded, "--csv", QUERY), newline="")))
    told = json.loads(said("sql", recorded, "--json", QUERY))

    assert rows[0] == ["function", "module", "comm", "cgroup"]
    assert {tuple(row) for row in rows[1:]} == {(name, name, name, f"/{name}") for name in NAMES}
    assert {tuple(each.values()) for each in told} == {tuple(row) for row in rows[1:]}
    assert steering(said("sql", recorded, QUERY)) == set()


def test_a_name_can_be_asked_for_in_sql(recorded: Path) -> None:
    for name in NAMES:
        quoted = name.replace("'", "''")
        query = f"select count(*) n from sites where function = '{quoted}'"  # noqa: S608  # it is quoted
        told = json.loads(said("sql", recorded, "--json", query))
        assert (name, told[0]["n"]) == (name, 1)


def strings(data: Any) -> list[str]:
    """All strings in plain data, names of members too."""
    if isinstance(data, dict):
        return [found for pair in data.items() for each in pair for found in strings(each)]
    if isinstance(data, list):
        return [found for each in data for found in strings(each)]
    return [data] if isinstance(data, str) else []


def test_sarif_shows_names_and_knows_them_apart(recorded: Path) -> None:
    (run,) = json.loads(said("check", recorded, "--format", "sarif", "--select", "KM201"))["runs"]
    messages = [each["message"]["text"] for each in run["results"]]
    functions = [each["locations"][0]["logicalLocations"][0]["name"] for each in run["results"]]
    (names,) = {tuple(each["partialFingerprints"]) for each in run["results"]}

    assert set(functions) == FOUND
    assert len({each["partialFingerprints"][names[0]] for each in run["results"]}) == len(NAMES)
    assert [each for each in strings(messages) if steering(each)] == []
    assert [each for each in messages if "](http" in each] == []


def test_junit_is_xml_with_every_name(recorded: Path) -> None:
    # Only what this program wrote is parsed.
    shown = ET.fromstring(said("check", recorded, "--format", "junit", "--select", "KM201"))  # noqa: S314
    (failure,) = shown.iter("failure")

    assert {each.tag for each in shown.iter()} == {"testsuites", "testsuite", "testcase", "failure"}
    assert missing(str(failure.text)) == set()
    assert steering("".join(shown.itertext()) + str(failure.get("message"))) == set()


PARSERS: dict[str, Callable[[str], Any]] = {
    "": text_string_to_metric_families,
    "application/openmetrics-text; version=1.0.0": openmetrics_parser.text_string_to_metric_families,
}


@pytest.mark.parametrize("accept", PARSERS, ids=["text", "openmetrics"])
def test_metrics_are_parsed_back_with_all_that_was_counted(recorded: Path, accept: str) -> None:
    """Labels are cut and shown; names that look alike then share a series, and no number is lost."""
    with CaptureSource(recorded) as source:
        exposed = Exposed(source.meta, ServeConfig(), DEFAULTS)
        for batch in source:
            exposed.add(batch)
    exposed.publish(START + 3, Own())
    families = {each.name: each for each in PARSERS[accept](exposed.render(accept)[0].decode())}
    samples = [each for each in families["kmwatch_site_allocations"].samples if each.name.endswith("_total")]
    labels = [tuple(sorted(each.labels.items())) for each in samples]

    assert len(set(labels)) == len(labels)
    assert sum(each.value for each in samples) == ALLOCATIONS
    assert {each for pairs in labels for _, value in pairs for each in steering(value)} == set()
    assert {each.name for each in families.values() if not each.name.startswith("kmwatch_")} == set()
    assert [each.value for each in families["kmwatch_build_info"].samples] == [1]


def drawn(app: TopApp) -> str:
    """All text on the screen, without the blanks that stand for places."""
    # Only what this program drew is parsed.
    return "".join(ET.fromstring(app.export_screenshot()).itertext()).replace("\xa0", " ")  # noqa: S314


async def test_no_name_steers_the_live_screen(recorded: Path) -> None:
    feed = Feed(ReplaySource(CaptureSource(recorded), 1.0, 0.0))
    app = TopApp(feed)
    try:
        async with app.run_test(size=(160, 100)) as pilot, asyncio.timeout(30):
            while not (app.frame and app.frame.total.events() == ALLOCATIONS + FAILURES):
                await pilot.pause(0.01)
            for key in ("8", "7", "6", "5", "4", "3", "2", "1"):
                for more in (key, "enter", "escape"):
                    await pilot.press(more)
                    await pilot.pause()
                    assert steering(drawn(app)) == set()
            assert squeezed(hostile.NAMES["console markup"]) in squeezed(drawn(app))
    finally:
        feed.close()
    assert feed.error is None


@pytest.mark.parametrize("view", VIEWS)
def test_every_cell_of_the_live_screen_can_be_shown(recorded: Path, view: str) -> None:
    ledger = hostile.growing() if view == "outstanding" else folded(recorded)[1]
    rows = rows_of(VIEWS[view], ledger, ledger)
    shown = [str(cell) for row in rows for cell in row.cells]

    assert {each for cell in shown for each in steering(cell)} == set()
    assert shown or view in ("mappings", "pressure")


def test_leaks_are_named_exactly_and_shown_harmlessly() -> None:
    ledger = hostile.growing()
    told = leaks.build(ledger, grown(ledger))
    out = io.StringIO()
    leaks.render(Console(file=out, width=120, highlight=False, color_system=None), told, 100)

    assert {each["symbol"] for each in told["sites"]} == NAMES
    assert {each["module"] for each in told["sites"]} == NAMES
    assert steering(out.getvalue()) == set()


def exported(capture: Path, form: str, *more: str) -> str:
    return said("export", capture, "--to", form, *more)


def test_folded_lines_end_where_their_numbers_do(recorded: Path) -> None:
    lines = exported(recorded, "folded", "--measure", "count").splitlines()
    frames = {frame for line in lines for frame in line.rpartition(" ")[0].split(";")}

    assert sum(int(line.rpartition(" ")[2]) for line in lines) == ALLOCATIONS
    assert {" " in frame for frame in frames} == {False}
    assert {each for line in lines for each in steering(line)} == set()
    assert frames >= {label(Frame(name, name)) for name in NAMES}


def test_speedscope_has_every_function(recorded: Path) -> None:
    told = json.loads(exported(recorded, "speedscope"))
    names = {each["name"] for each in told["shared"]["frames"]}

    assert names >= {printable(name) for name in NAMES}
    assert {each for name in names for each in steering(name)} == set()


def test_tables_for_spreadsheets_have_a_row_for_each_site(recorded: Path) -> None:
    """What a spreadsheet would compute begins with an apostrophe, as a person writes it there."""
    rows = list(csv.DictReader(io.StringIO(exported(recorded, "csv"), newline="")))
    sites = json.loads(said("report", recorded, "--json"))["sites"]

    assert [row["symbol"].removeprefix("'") for row in rows] == [
        printable(each["symbol"]).removeprefix("'") for each in sites
    ]
    assert [cell for row in rows for cell in row.values() if cell[:1] in "=+-@" and cell] == []


def test_history_for_prometheus_is_parsed_back(recorded: Path) -> None:
    families = {
        each.name: each for each in openmetrics_parser.text_string_to_metric_families(exported(recorded, "openmetrics"))
    }
    last: dict[Any, float] = {}
    for each in families["kmwatch_allocations"].samples:
        last[tuple(sorted(each.labels.items()))] = each.value

    assert sum(last.values()) == ALLOCATIONS
    assert {name for name in families if not name.startswith("kmwatch_")} == set()


class Tags(HTMLParser):
    """What a browser makes of a page: its elements, and their attributes that are not for showing."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()
        self.handlers: list[str] = []
        self.addresses: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """One more of these."""
        self.found[tag] += 1
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        self.addresses |= {str(value)[:5] for name, value in attrs if name in ("href", "src", "action")}


def test_the_page_has_no_element_of_a_name(recorded: Path, tmp_path: Path) -> None:
    said("report", recorded, "--html", tmp_path / "a.html")
    tags = Tags()
    tags.feed((tmp_path / "a.html").read_text(encoding="utf-8"))

    assert tags.handlers == []
    assert (tags.found["script"], tags.found["img"], tags.found["style"]) == (3, 0, 2)
    assert {each for each in tags.addresses if not each.startswith("#")} == {"data:"}
