"""The exporter that is scraped, and the Prometheus that scrapes it."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from scripts import prometheus
from tests.monitoring import exporters
from tests.support import wait_until


@dataclass(frozen=True)
class Exporter:
    """What is scraped, at host:port, and the fault that it shows; "" where it is healthy."""

    address: str
    fault: str


@pytest.fixture(scope="module", params=["", *exporters.FAULTS], ids=lambda fault: fault.replace(" ", "-") or "healthy")
def exporter(request: pytest.FixtureRequest) -> Iterator[Exporter]:
    """That of a healthy host, then of one with each fault."""
    with exporters.faulty(request.param) if request.param else exporters.healthy() as address:
        yield Exporter(address, request.param)


@pytest.fixture(scope="module")
def scraping(exporter: Exporter) -> Iterator[prometheus.Prometheus]:
    """A Prometheus that has scraped it often enough for rates."""
    with prometheus.running(exporter.address, interval_seconds=0.5) as running:
        wait_until(running.is_ready, 60, "prometheus to start")
        wait_until(lambda: running.query("count_over_time(kmwatch_build_info[1m]) >= 4"), 60, "four scrapes")
        yield running
