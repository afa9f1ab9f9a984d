"""Every query of every dashboard has data in a real Prometheus, or is on the list of what is empty when healthy."""

import contextlib
import time
from typing import Any

import pytest

from dashboards.queries import expressions
from kmwatch.metrics import METRICS
from scripts.prometheus import Prometheus
from tests.monitoring.conftest import Exporter
from tests.monitoring.exporters import COMMAND, FAULTS
from tests.monitoring.healthy import EMPTY_WHEN_HEALTHY
from tests.support import wait_until

EXPRESSIONS = list(expressions(window="10s", span="1m"))


def test_the_list_names_panels_and_faults() -> None:
    assert set(EMPTY_WHEN_HEALTHY) <= {(each.board, each.panel) for each in EXPRESSIONS}
    assert set(EMPTY_WHEN_HEALTHY.values()) == set(FAULTS)


def test_every_query_has_data(exporter: Exporter, scraping: Prometheus) -> None:
    """Those of a healthy host there, and those of each fault where it was forced."""
    mine = [each for each in EXPRESSIONS if EMPTY_WHEN_HEALTHY.get((each.board, each.panel), "") == exporter.fault]

    def empty() -> list[str]:
        return [f"{each.board}: {each.panel}: {each.expr}" for each in mine if not scraping.query(each.expr)]

    with contextlib.suppress(pytest.fail.Exception):
        wait_until(lambda: not empty(), 30, "data")
    assert mine
    assert empty() == []


@pytest.mark.parametrize("exporter", ["failures"], indirect=True, scope="module")
def test_prometheus_keeps_who_failed(scraping: Prometheus) -> None:
    """Of each counter that has them, an exemplar comes out, no older than the exporter."""
    for metric in (metric.full for metric in METRICS.values() if metric.exemplars):
        began = scraping.query("kmwatch_start_time_seconds")[0]["value"][1]

        def kept(metric: str = metric, began: str = began) -> list[dict[str, Any]]:
            return scraping.exemplars(metric, float(began), time.time())

        series = wait_until(kept, 30, f"exemplars of {metric}")
        assert {told["labels"]["comm"] for each in series for told in each["exemplars"]} == {COMMAND}
        assert all(float(told["timestamp"]) >= float(began) for each in series for told in each["exemplars"])
        assert all(each["seriesLabels"].get("site") != "other" for each in series)
