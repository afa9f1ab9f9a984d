"""Alerts and recording rules: what promtool says of them, and what a real Prometheus makes of their texts."""

import http.client
import json
import re
import subprocess
from typing import Any

import pytest
import yaml

from scripts.prometheus import ROOT, RULES, Prometheus, program
from tests.monitoring.conftest import Exporter
from tests.support import wait_until

_ALERTS = {
    "failures": {"KmwatchAtomicAllocationFailure"},
    "sleeping in atomic context": {"KmwatchSleepingInAtomicContext"},
}
HERE = ROOT / "tests" / "monitoring"
TESTS = {"alerts.yml": "alerts.test.yml", "fleet.yml": "fleet.test.yml"}
"""Where the alerts of a file of rules are tested."""


def promtool(*arguments: str, text: str | None = None) -> str:
    """What promtool prints; it fails where promtool does."""
    done = subprocess.run(
        [str(program("promtool")), *arguments], input=text, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def rules(name: str, kind: str) -> dict[str, dict[str, Any]]:
    """The alerts or records of a file, by name."""
    groups = yaml.safe_load((ROOT / "dashboards" / name).read_text())["groups"]
    found = {rule[kind]: rule for group in groups for rule in group["rules"] if kind in rule}
    assert found
    return found


def alerts() -> dict[str, dict[str, Any]]:
    """Those of all files, by name."""
    return {name: alert for file in TESTS for name, alert in rules(file, "alert").items()}


def written_tests(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load((HERE / name).read_text())["tests"]
    return found


def test_promtool_finds_nothing_wrong_with_the_rules() -> None:
    assert promtool("check", "rules", *map(str, RULES)).count("SUCCESS") == len(RULES)


@pytest.mark.parametrize("name", [*TESTS.values(), "recording.test.yml"])
def test_the_rules_do_what_their_tests_say(name: str) -> None:
    assert "SUCCESS" in promtool("test", "rules", str(HERE / name))


@pytest.mark.parametrize("name", TESTS)
def test_every_alert_is_tested_to_fire_and_to_stay_quiet(name: str) -> None:
    """A test of that name asks for that alert, and expects some or none."""
    seen = set()
    for test in written_tests(TESTS[name]):
        alert, verb = re.match(r"(\w+) (fires|stays quiet)", test["name"]).groups()
        for asked in test["promql_expr_test"]:
            assert f'alertname="{alert}"' in asked["expr"]
            assert bool(asked["exp_samples"]) == (verb == "fires"), test["name"]
        seen.add((alert, verb))
    assert seen == {(alert, verb) for alert in rules(name, "alert") for verb in ("fires", "stays quiet")}


def test_every_record_is_tested() -> None:
    asked = {each["expr"] for test in written_tests("recording.test.yml") for each in test["promql_expr_test"]}
    assert asked == {*rules("recording.yml", "record"), *rules("fleet.yml", "record")}


def test_every_alert_tells_what_happened_and_what_to_do() -> None:
    for name, alert in alerts().items():
        assert set(alert["annotations"]) == {"summary", "description", "runbook"}, name
        assert len(alert["annotations"]["runbook"]) > 100, name
        assert alert["labels"]["severity"] in {"critical", "warning", "info"}


def test_every_alert_has_its_section_in_the_documents() -> None:
    sections = dict(
        re.findall(r"^### (Kmwatch\w+)\n\n\*(\w+)\.\*", (ROOT / "docs/monitoring.md").read_text(), re.MULTILINE)
    )
    assert sections == {name: alert["labels"]["severity"] for name, alert in alerts().items()}


def test_promtool_finds_nothing_wrong_with_the_metrics(exporter: Exporter) -> None:
    connection = http.client.HTTPConnection(exporter.address, timeout=10)
    connection.request("GET", "/metrics")
    page = connection.getresponse().read().decode()
    connection.close()

    assert promtool("check", "metrics", text=page) == ""


def test_promtool_finds_nothing_wrong_with_the_configuration_to_copy() -> None:
    assert "2 rule files found" in promtool("check", "config", str(ROOT / "deploy" / "prometheus.yml"))


def test_an_alert_that_fires_names_host_and_site(exporter: Exporter, scraping: Prometheus) -> None:
    """Texts are templates that ask Prometheus again: only a real one shows that they come out whole."""
    wanted = _ALERTS.get(exporter.fault, set())

    def firing() -> dict[str, dict[str, str]]:
        found = json.loads(scraping.get("/api/v1/alerts")[1])["data"]["alerts"]
        return {each["labels"]["alertname"]: each["annotations"] for each in found if each["state"] == "firing"}

    def evaluated() -> bool:
        groups = json.loads(scraping.get("/api/v1/rules")[1])["data"]["groups"]
        return all(rule["health"] == "ok" for group in groups for rule in group["rules"]) and wanted <= set(firing())

    wait_until(evaluated, 30, f"all rules to be evaluated, and {wanted or 'none'} to fire")
    assert wanted <= set(firing())
    for alert in wanted:
        annotations = firing()[alert]
        assert exporter.address in annotations["summary"]
        assert "lab_kmalloc kmwatch_lab" in annotations["description"]
        assert "error" not in " ".join(annotations.values())
