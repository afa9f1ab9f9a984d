"""What leaves the Prometheus that scrapes hosts: only what it recorded, by both ways that deploy/ shows."""

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import yaml

from benchmarks import arithmetic
from kmwatch.metrics import METRICS
from scripts.prometheus import ROOT, RULES, Prometheus, configured
from tests.monitoring.conftest import Exporter
from tests.monitoring.test_rules import promtool
from tests.support import wait_until

SHARD, FLEET = (yaml.safe_load((ROOT / "deploy" / f"prometheus-{name}.yml").read_text()) for name in ("shard", "fleet"))
RECORDING = {
    group["name"]: [rule["record"] for rule in group["rules"]]
    for group in yaml.safe_load((ROOT / "dashboards" / "recording.yml").read_text())["groups"]
}
_INTERVAL = 0.5  # seconds


def sent() -> str:
    """The names that a shard sends, as a regular expression."""
    (only,) = SHARD["remote_write"]
    (keep,) = only["write_relabel_configs"]
    assert (keep["source_labels"], keep["action"]) == (["__name__"], "keep")
    return str(keep["regex"])


@pytest.mark.parametrize(("name", "files"), [("shard", 2), ("fleet", 1)])
def test_promtool_finds_nothing_wrong_with_the_configurations_of_a_fleet(name: str, files: int) -> None:
    assert f"{files} rule files found" in promtool("check", "config", str(ROOT / "deploy" / f"prometheus-{name}.yml"))


def test_what_is_sent_is_what_is_recorded_for_it_and_nothing_else() -> None:
    names = {name: group for group, records in RECORDING.items() for name in records}
    leaving = {name for name, group in names.items() if group in ("kmwatch_fleet", "kmwatch_sites")}

    assert {name for name in names if re.fullmatch(sent(), name)} == leaving
    assert [each.full for each in METRICS.values() if re.fullmatch(sent(), each.full)] == []


def test_what_is_fetched_is_what_would_be_sent() -> None:
    (job,) = FLEET["scrape_configs"]

    assert job["params"] == {"match[]": [f'{{__name__=~"{sent()}"}}']}
    assert job["honor_labels"]


def test_the_arithmetic_counts_the_series_that_are_recorded() -> None:
    levels = [name.partition(":")[0] for name in RECORDING["kmwatch_fleet"]]

    assert {level: levels.count(level) for level in levels} == arithmetic.RECORDED
    assert SHARD["global"]["scrape_interval"] == f"{arithmetic.SCRAPE_SECONDS}s"
    assert FLEET["global"]["scrape_interval"] == f"{arithmetic.FLEET_SECONDS // 60}m"


def to(address: str, job: dict[str, Any]) -> dict[str, Any]:
    """A job with this target and none of its own."""
    kept = {name: value for name, value in job.items() if name not in ("file_sd_configs", "relabel_configs")}
    return {**kept, "static_configs": [{"targets": [address]}]}


@contextmanager
def fetching(exporter: Exporter) -> Iterator[Prometheus]:
    """The Prometheus of the fleet, which fetches from one that scrapes the exporter."""
    with configured({"scrape_configs": [to(exporter.address, SHARD["scrape_configs"][0])]}, _INTERVAL, RULES) as shard:
        jobs = [to(f"127.0.0.1:{shard.port}", FLEET["scrape_configs"][0])]
        with configured({**FLEET, "scrape_configs": jobs}, _INTERVAL, RULES[-1:]) as fleet:
            yield fleet


@contextmanager
def receiving(exporter: Exporter) -> Iterator[Prometheus]:
    """The same, to which the other sends."""
    with ExitStack() as stack:
        receiver = ({}, _INTERVAL, RULES[-1:], "--web.enable-remote-write-receiver")
        fleet = stack.enter_context(configured(*receiver))
        wait_until(fleet.is_ready, 60, "the receiver to start")
        remote = {**SHARD["remote_write"][0], "url": f"{fleet.address}/api/v1/write"}
        jobs = [to(exporter.address, SHARD["scrape_configs"][0])]
        settings = {**SHARD, "scrape_configs": jobs, "remote_write": [remote]}
        stack.enter_context(configured(settings, _INTERVAL, RULES[:-1]))
        yield fleet


@pytest.mark.parametrize("way", [fetching, receiving], ids=["fetched", "sent"])
@pytest.mark.parametrize("exporter", ["failures"], indirect=True, scope="module")
def test_the_fleet_is_judged_by_what_arrives(exporter: Exporter, way: Any) -> None:
    with way(exporter) as fleet:
        wait_until(fleet.is_ready, 60, "prometheus to start")
        shares = 'job_rule:kmwatch_hosts_with_finding:ratio{rule="KM202"} == 1'
        wait_until(lambda: fleet.query(shares), 60, "the share of hosts with the finding")
        (host,) = wait_until(lambda: fleet.query("instance:kmwatch_wasted_bytes:rate5m"), 60, "what the host wastes")
        raw = fleet.query('{__name__=~"kmwatch_.+"}')
        series = len(fleet.query('{__name__=~"instance.*"}'))

    assert (host["metric"]["job"], host["metric"]["instance"]) == ("kmwatch", exporter.address)
    assert raw == []
    assert 0 < series <= arithmetic.recorded_series()
