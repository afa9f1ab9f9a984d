"""Context: where the CPU was when memory was asked for, and what follows from it."""

import os
from pathlib import Path
from typing import Any

import pytest

from kmwatch import schema
from kmwatch.ledger import Ledger
from kmwatch.rules import judge
from kmwatch.schema import Kind, Phase, Way
from kmwatch.sources import offsets, plan
from kmwatch.sources.maps import LiveSource
from tests.live.watching import (
    MESSAGE,
    PAYLOAD,
    PIPE,
    TIMER,
    Watch,
    Workload,
    kmwatch,
    message_parts,
    only,
    rounded,
    sites,
    split_report,
)

# Seconds and the allocations that they must show at least; the long run is for a release, not for every change.
BUSY = (60, 1_000_000) if os.environ.get("KMWATCH_LONG") else (5, 100_000)
INTERRUPTS = ("softirq", "hardirq", "nmi")


def in_interrupt(site: dict[str, Any]) -> bool:
    return str(site["context"]).startswith(INTERRUPTS)


def test_loopback_is_served_in_softirq(watch: Watch, workload: Workload) -> None:
    """A connection request is answered in a soft interrupt, whose allocations never sleep."""
    found = sites(watch.during(lambda: workload.run("tcp", 503, 20000)))

    served = [site for site in found if in_interrupt(site)]
    assert [site for site in served if site["may_sleep"] or not site["atomic"]] == []
    requests = [site for site in served if site["symbol"] == "inet_reqsk_alloc"]
    assert sum(site["count"] for site in requests) >= 503, requests
    assert {site["context"].split("+")[0] for site in requests} == {"softirq"}, requests


def test_a_lock_of_the_kernel_is_seen(watch: Watch, workload: Workload) -> None:
    """connect() takes a port under spin_lock_bh(): a process, with preemption and bottom halves off."""
    found = sites(watch.during(lambda: workload.run("tcp", 503, 1)))

    ports = [site for site in found if site["symbol"].startswith(("__inet_hash_connect", "inet_bind2_bucket_create"))]
    held = [site for site in ports if site["context"].startswith("process+preempt-off+bh-off")]
    assert sum(site["count"] for site in held) >= 503, ports
    assert {site["may_sleep"] for site in held} == {False}, held


def test_a_busy_machine_has_no_false_finding(workload: Workload) -> None:
    """Files, connections and processes: a healthy kernel never sleeps in atomic context, and kmwatch never says so."""
    seconds, least = BUSY
    ended = kmwatch("report", "live", "--json", "--", *workload.command("busy", seconds), timeout=seconds + 60)
    assert ended.returncode == 0, ended.stderr
    ended.stdout, report = split_report(ended.stdout)
    workload.check(ended, seconds)

    assert [finding for finding in report["findings"] if finding["rule"] == "KM201"] == []
    found = report["sites"]
    assert [site for site in found if site["may_sleep"] and site["atomic"]] == []
    totals, trust = report["totals"], report["trust"]
    assert totals["allocations"] >= least, totals
    assert sum(site["count"] for site in found if in_interrupt(site)) >= least // 100, "hardly any interrupt was seen"
    assert sum(site["count"] for site in found if site["may_sleep"]) >= least // 100, "hardly anything could sleep"
    assert trust["map_full"] == 0, trust
    assert trust["lost"] <= trust["events"] // 1000, trust
    print(f"{seconds} s: {totals['allocations']} allocations, {trust}")  # noqa: T201  # shown by pytest -s


def test_calibration(watch: Watch) -> None:
    """What the probe machinery adds to preempt_count was found out from kmwatch's own system calls."""
    ways = {"raw tracepoint": Way.RAW, "tracepoint": Way.TRACEPOINT}
    used = {ways[how] for how in watch.source.meta.probes.values() if how in ways}
    assert used, watch.source.meta.probes
    for way in used:
        (config,) = watch.source._kernel.programs.read_array("config", schema.dtype("config"), way)
        assert config["phase"] == Phase.COUNTING, (way, config)
        assert config["samples"] > 0, f"no event of kmwatch's own was recognised: {way!r}"
        assert config["self_tgid"] > 0, (way, config)
        assert config["preempt_depth"] in (0, 1, 2), (way, config)
        assert config["rcu_depth"] in (0, 1, 2), (way, config)
    assert watch.source.meta.context in ("BTF", "kallsyms")


def test_ordinary_tracepoints_count_exactly_too(monkeypatch: pytest.MonkeyPatch, workload: Workload) -> None:
    """The way for kernels whose raw prototypes are not known: all is the same except the names of caches."""
    known = plan._how
    monkeypatch.setattr(plan, "_how", lambda *of, **how: known(*of, **how).replace("raw ", ""))

    with LiveSource(frozenset(Kind)) as source:
        assert "raw tracepoint" not in source.meta.probes.values(), source.meta.probes
        watch = Watch(source)
        messages = watch.during(lambda: workload.run("msgsnd", 1009, 5000))
        for request in message_parts(5000):
            (site,) = sites(only(messages, MESSAGE, Kind.KMALLOC, rounded(request)))
            assert (site["count"], site["bytes_requested"]) == (1009, 1009 * request), site
            assert (site["context"], site["may_sleep"]) == ("process", True), site
        keys = watch.during(lambda: workload.run("add_key", 1009, 20000))
        (site,) = sites(only(keys, PAYLOAD, Kind.KMALLOC))
        assert (site["count"], site["bytes_requested"], site["bytes_allocated"]) == (1009, 1009 * 20024, 1009 * 32768)
        assert keys.trust.duplicates_removed >= 2 * 1009, keys.trust
        pipes = watch.during(lambda: workload.run("pipe", 1009, 256))
        assert only(pipes, PIPE, Kind.KFREE).events(Kind.KFREE) == 2 * 1009
        timers = watch.during(lambda: workload.run("timer", 1009))
        (site,) = sites(only(timers, TIMER, Kind.CACHE_ALLOC))
        sizes = {int(line.split()[3]) for line in Path("/proc/slabinfo").read_text().splitlines()[2:]}
        assert (site["count"], site["cache"]) == (1009, None), site
        assert site["bytes_allocated"] / 1009 in sizes, site


def test_where_nothing_is_known_of_the_context_nothing_is_said(
    monkeypatch: pytest.MonkeyPatch, workload: Workload
) -> None:
    """A kernel that does not show preempt_count: the context is unknown, and that is no finding."""
    monkeypatch.setattr(offsets, "context", lambda *_: ("", 0, {}))

    with LiveSource(frozenset(Kind)) as source:
        assert any("context" in note for note in source.notes), source.notes
        ledger: Ledger = Watch(source).during(lambda: workload.run("msgsnd", 1009, 17))
    (site,) = sites(only(ledger, MESSAGE, Kind.KMALLOC, 96))
    assert (site["count"], site["context"], site["atomic"]) == (1009, "unknown", False), site
    assert [found for found in judge(ledger) if found.rule.code == "KM201"] == []


def test_a_kernel_that_does_not_count_locks_is_said_to(monkeypatch: pytest.MonkeyPatch, workload: Workload) -> None:
    """One that is not preemptible: interrupts show, the rest is exact, and the loss of sight is told."""
    monkeypatch.setattr(offsets, "_task", lambda *_: {})

    with LiveSource(frozenset(Kind)) as source:
        assert any("only interrupts" in note for note in source.notes), source.notes
        assert source.meta.context.endswith("interrupts only")
        ledger = Watch(source).during(lambda: workload.run("msgsnd", 1009, 17))
    (site,) = sites(only(ledger, MESSAGE, Kind.KMALLOC, 96))
    assert (site["count"], site["context"]) == (1009, "process"), site
