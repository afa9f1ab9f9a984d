"""The committed dashboards are what their script makes, what Grafana's own types accept, and what a reader needs."""

import itertools
import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from dashboards import build
from kmwatch.cli import cli
from kmwatch.findings import RULES
from tests.test_docs import ROOT, anchors
from tests.unit.grafana_types import grafana_faults

BOARDS = {board.uid: board for board in build.BOARDS}


def load(uid: str) -> dict[str, Any]:
    return json.loads((build.HERE / f"{uid}.json").read_text(encoding="utf-8"))


def panels(uid: str) -> list[dict[str, Any]]:
    found = [panel for panel in load(uid)["panels"] if panel["type"] != "row"]
    assert found
    return found


def test_the_files_are_what_the_script_makes() -> None:
    made = build.files()

    assert {path.name for path in build.HERE.glob("*.json")} == set(made)
    for name, text in made.items():
        assert (build.HERE / name).read_bytes() == text.encode(), f"{name} is old: run python -m dashboards.build"


@pytest.mark.parametrize("uid", BOARDS)
def test_grafanas_types_accept_it(uid: str) -> None:
    """The SDK's types are generated from the schemas that Grafana publishes, here of 11.6."""
    assert grafana_faults(load(uid)) == []


@pytest.mark.parametrize(
    ("break_it", "complaint"),
    [
        (lambda it: it.update(colour="red"), "not what was read"),
        (lambda it: it["panels"][1].update(hight=8), "not what was read"),
        (lambda it: it["panels"][1]["targets"][0].update(query="up"), "not what was read"),
        (lambda it: it["panels"][1].update(title=7), "title: 7 is no str"),
        (lambda it: it["panels"][1]["options"].update(graphMode="areas"), "is no BigValueGraphMode"),
        (lambda it: it["panels"][1]["gridPos"].update(w="12"), "'12' is no int"),
        (lambda it: it["templating"]["list"][1].update(refresh=9), "9 is no VariableRefresh"),
    ],
)
def test_the_types_refuse_what_is_wrong(break_it: Callable[[dict[str, Any]], None], complaint: str) -> None:
    document = load("kmwatch-overview")
    break_it(document)
    assert complaint in " ".join(grafana_faults(document))


@pytest.mark.parametrize("uid", BOARDS)
def test_every_panel_says_what_to_look_for_and_what_to_do(uid: str) -> None:
    for panel in panels(uid):
        assert re.fullmatch(r"\*\*Look for:\*\* .{20,}\n\n\*\*Do:\*\* .{20,}", panel["description"]), panel["title"]


@pytest.mark.parametrize("uid", BOARDS)
def test_titles_and_numbers_are_unique_and_nothing_overlaps(uid: str) -> None:
    every = load(uid)["panels"]
    assert len({panel["id"] for panel in every}) == len({panel["title"] for panel in every}) == len(every)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in every)
        for x, y in itertools.product(
            range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
        )
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24


@pytest.mark.parametrize("uid", BOARDS)
def test_links_lead_to_the_pages_of_rules(uid: str) -> None:
    pages = anchors((ROOT / "docs" / "rules.md").read_text())
    links = [link["url"] for panel in panels(uid) for link in panel.get("links", ())]

    assert links
    assert [url for url in links if url.removeprefix("${docs}/rules.md#") not in pages] == []


@pytest.mark.parametrize("uid", BOARDS)
def test_instance_module_and_site_can_be_chosen(uid: str) -> None:
    variables = {each["name"]: each for each in load(uid)["templating"]["list"]}

    assert list(variables) == ["source", "instance", "module", "site", "docs"]
    used = {name for panel in panels(uid) for t in panel["targets"] for name in re.findall(r"\$(\w+)", t["expr"])}
    assert used - {"__range", "__rate_interval"} <= set(variables)
    assert "instance" in used


def test_what_the_texts_name_exists() -> None:
    """Rules, commands and dashboards, in the dashboards and in the alerts."""
    texts = [path.read_text(encoding="utf-8") for path in (*build.HERE.glob("*.json"), *build.HERE.glob("*.yml"))]
    text = re.sub(r"\s+", " ", " ".join(texts))
    titles = {board.title.removeprefix("kmwatch: ") for board in build.BOARDS}

    assert set(re.findall(r"\bKM\d{3}\b", text)) <= set(RULES)
    assert set(re.findall(r"`kmwatch (\w+)", text)) <= set(cli.commands)
    assert set(re.findall(r"\*([A-Zk][a-z]+(?: [a-zA-Z]+)+)\*", text)) <= titles
