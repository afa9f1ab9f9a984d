"""`kmwatch serve` as a user runs it: counters of the running kernel, in the formats that Prometheus reads."""

import signal
from collections.abc import Iterator
from http.client import HTTPConnection

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

from tests.live import test_serve
from tests.live.test_manners import programs_of
from tests.live.test_serve import Served, service
from tests.live.watching import KMWATCH, MESSAGE, Workload, program_exists
from tests.support import wait_until


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """The command, watching."""
    monkeypatch.setattr(test_serve, "SERVICE", (*KMWATCH, "serve", "--listen", "127.0.0.1:0", "-i", "0.5"))
    monkeypatch.setattr(test_serve, "USUAL", ())
    with service("--max-overhead", "100%") as one:
        yield one


def text(one: Served, accept: str) -> str:
    connection = HTTPConnection("127.0.0.1", one.port, timeout=20)
    try:
        connection.request("GET", "/metrics", headers={"Accept": accept})
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def value(one: Served, name: str, **labels: str) -> float:
    """The sum of the samples of a metric that have these labels."""
    return sum(values(one, name, **labels))


def values(one: Served, name: str, **labels: str) -> list[float]:
    """The samples of a metric that have these labels."""
    samples = (sample for family in plain(text(one, "text/plain")) for sample in family.samples)
    return [sample.value for sample in samples if sample.name == name and labels.items() <= sample.labels.items()]


def messages(one: Served) -> float:
    return sum(value(one, "kmwatch_site_allocations_total", site=site, kind="kmalloc") for site in MESSAGE)


def test_the_command_counts_exactly_and_ends_cleanly(command: Served, workload: Workload) -> None:
    # A site has a series of its own from when it entered the top: what it did before stays in `other`.
    workload.run("msgsnd", 10007, 700)
    wait_until(lambda: _known(command), 20, "the site to have a series")
    for _ in range(2):
        _after_a_reading(command)
    before = messages(command)
    workload.run("msgsnd", 10007, 700)
    wait_until(lambda: messages(command) - before >= 10007, 20, "the messages")
    _after_a_reading(command)
    assert messages(command) - before == 10007

    assert value(command, "kmwatch_programs_attached") > 5
    assert value(command, "kmwatch_build_info") == 1
    assert value(command, "kmwatch_overhead_step") == 0
    families = {family.name for family in openmetrics(text(command, "application/openmetrics-text"))}
    assert {"kmwatch_allocations", "kmwatch_events", "kmwatch_scrape_duration_seconds"} <= families

    assert value(command, "kmwatch_held_sample_ratio") == 1 / 16
    for name in ("held_objects", "held_bytes", "site_held_objects", "site_held_bytes"):
        assert value(command, f"kmwatch_{name}") > 0
    # Only what the kernel's own count confirms has grade A: its file was opened before the privileges went.
    assert 0 in values(command, "kmwatch_held_grade", kind="cache_alloc")

    programs = programs_of(command.process.pid)
    command.process.send_signal(signal.SIGTERM)
    assert command.process.wait(timeout=20) == 0
    wait_until(lambda: not any(map(program_exists, programs)), 10, "the programs to be unloaded")
    assert "Traceback" not in command.said


def _known(one: Served) -> bool:
    samples = (sample for family in plain(text(one, "text/plain")) for sample in family.samples)
    return any(sample.labels.get("site") in MESSAGE for sample in samples)


def _after_a_reading(one: Served) -> None:
    first = value(one, "kmwatch_read_timestamp_seconds")
    wait_until(lambda: value(one, "kmwatch_read_timestamp_seconds") > first, 20, "another reading")
