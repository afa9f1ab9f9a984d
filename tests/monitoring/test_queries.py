"""Every query of every dashboard has data in a real Prometheus, or is on the list of what is empty when healthy."""

import pytest

from dashboards.queries import Expression, expressions
from scripts.prometheus import Prometheus
from tests.monitoring.conftest import Exporter
from tests.monitoring.healthy import EMPTY_WHEN_HEALTHY
from tests.monitoring.standin import FAULTS
from tests.support import wait_until

EXPRESSIONS = list(expressions(window="10s", span="1m"))


def test_the_list_names_panels_and_faults() -> None:
    assert set(EMPTY_WHEN_HEALTHY) <= {(each.board, each.panel) for each in EXPRESSIONS}
    assert set(EMPTY_WHEN_HEALTHY.values()) == set(FAULTS)


@pytest.mark.parametrize("each", EXPRESSIONS, ids=lambda each: f"{each.board}: {each.panel}")
def test_a_query_has_data(exporter: Exporter, scraping: Prometheus, each: Expression) -> None:
    fault = EMPTY_WHEN_HEALTHY.get((each.board, each.panel))
    if fault is None or fault in exporter.faults:
        assert wait_until(lambda: scraping.query(each.expr), 20, f"data of {each.expr}")
    else:
        assert scraping.query(each.expr) == [], "this has data on a healthy host: take it off the list"
