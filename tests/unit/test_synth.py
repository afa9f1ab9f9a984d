"""Synthetic fleets: the same by the same seed, whole, as different as hosts are, with faults that stand out alone."""

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import kmwatch.rules
from kmwatch.capture.layout import JOURNAL
from kmwatch.capture.reader import Capture
from kmwatch.capture.store import Store
from kmwatch.capture.writer import FullError
from kmwatch.cli import cli
from kmwatch.errors import UsageError
from kmwatch.fleet import synth
from kmwatch.fleet.calls import CALLS, FREES
from kmwatch.fleet.invented import CACHES, KERNELS, ROLES, VERSIONS
from kmwatch.fleet.layout import find
from kmwatch.ledger import Ledger
from kmwatch.schema import Kind
from kmwatch.sources.capture import CaptureSource

HOSTS = 40


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fleet of forty hosts."""
    directory = tmp_path_factory.mktemp("synth") / "fleet"
    synth.make(directory, HOSTS, 3, 4000, lambda _: None)
    return directory


@pytest.fixture(scope="module")
def ledgers(root: Path) -> dict[str, Ledger]:
    """The ledger of each host."""
    return {place.host: ledger_of(Path(place.url)) for place in find(str(root))}


@pytest.fixture(scope="module")
def planted(root: Path) -> dict[str, dict[str, Any]]:
    """What is planted, by fault."""
    return {each["fault"]: each for each in json.loads((root / synth.PLANTED).read_text())["planted"]}


def ledger_of(capture: Path) -> Ledger:
    with CaptureSource(capture) as source:
        ledger = Ledger(source.meta)
        for batch in source:
            ledger.add(batch)
    assert source.meta.doubts == []
    return ledger


def by_function(ledgers: dict[str, Ledger], name: str) -> dict[str, dict[str, int]]:
    """A measure by function and host."""
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for host, ledger in ledgers.items():
        for group in ledger.groups("site"):
            function = ledger.meta.sites[group["site"]].symbol
            found[function][host] = found[function].get(host, 0) + int(group[name])
    return found


def digests(root: Path) -> dict[str, list[str]]:
    """What the journals tell of every file, and what is planted."""
    places = {place.name: (Path(place.url) / JOURNAL).read_text().splitlines() for place in find(str(root))}
    return {**places, synth.PLANTED: (root / synth.PLANTED).read_text().splitlines()}


def test_the_same_seed_makes_the_same_fleet(tmp_path: Path) -> None:
    for name, seed in (("one", 5), ("same", 5), ("other", 6)):
        synth.make(tmp_path / name, synth.LEAST_HOSTS, seed, 1000, lambda _: None)

    assert digests(tmp_path / "one") == digests(tmp_path / "same")
    assert not {str(each) for each in digests(tmp_path / "one").values()} & {
        str(each) for each in digests(tmp_path / "other").values()
    }


def test_captures_are_whole_and_follow_the_layout(root: Path) -> None:
    places, events = find(str(root)), 0
    for place in places:
        capture = Capture(Path(place.url))
        capture.check()
        events += capture.events
        assert capture.doubts == []
        assert capture.end
        assert (capture.meta.host.hostname, place.date) == (place.host, "2026-09-21")
        assert capture.seconds == synth.SECONDS
        assert 1500 < capture.events < 10_000
    assert len({place.host for place in places}) == HOSTS
    assert events == json.loads((root / synth.PLANTED).read_text())["events"]


def test_hosts_differ_as_hosts_do(ledgers: dict[str, Ledger]) -> None:
    metas = [ledger.meta for ledger in ledgers.values()]
    assert {meta.host.kernel for meta in metas} == {kernel.release for kernel in KERNELS}
    assert {host.partition("-")[0] for host in ledgers} == set(ROLES)
    assert len({meta.gfp.flags for meta in metas}) == len(KERNELS)
    assert {meta.gfp.bit("GFP_ATOMIC") for meta in metas} == {0xA20, 0x820}
    assert {meta.zones.index("Normal") for meta in metas} == {1, 2}
    for name, both in VERSIONS.items():
        assert {meta.modules[name] for meta in metas if name in meta.modules} == {*both}
    functions = by_function(ledgers, "count")
    assert len(functions) == len({call.function for call in CALLS}) > 48
    on = sorted(len(hosts) for hosts in functions.values())
    assert (on[0], on[-1]) == (round(HOSTS * ROLES["build"]), HOSTS)
    offsets = {(meta.host.kernel, site.text) for meta in metas for site in meta.sites if site.symbol == "__alloc_skb"}
    assert len(offsets) == len({text for _, text in offsets}) == len(KERNELS)


def test_each_host_numbers_by_itself(root: Path) -> None:
    """Two hosts of one kernel and one role agree in nothing but names."""
    alike: dict[tuple[str, str], list[Capture]] = defaultdict(list)
    for place in find(str(root)):
        capture = Capture(Path(place.url))
        alike[capture.meta.host.kernel, place.host.partition("-")[0]].append(capture)
    one, other = next(both for both in alike.values() if len(both) > 1)[:2]

    assert {site.text for site in one.meta.sites} == {site.text for site in other.meta.sites}
    assert [site.text for site in one.meta.sites] != [site.text for site in other.meta.sites]
    assert [cache.name for cache in one.meta.caches] != [cache.name for cache in other.meta.caches]
    assert len(one.keys) == pytest.approx(len(other.keys), abs=5)
    assert (one.keys["kind"][:40] != other.keys["kind"][:40]).any()


def test_what_is_released_was_allocated_before(root: Path) -> None:
    from kmwatch.capture.database import ask

    place = find(str(root))[0]
    query = (
        "select ptr, list(kind order by time), list(cache order by time) from events where ptr > 0 and"
        " ptr in (select ptr from events where kind in ({})) group by ptr"
    )
    kinds = ", ".join(f"'{kind.name.lower()}'" for kind in FREES.values())
    rows = ask(Capture(Path(place.url)), query.format(kinds)).rows(100_000)

    assert len(rows) > 300
    for _, (first, second), caches in rows:
        assert FREES[Kind[first.upper()]] == Kind[second.upper()]
        assert caches[0] == caches[1]


def test_a_planted_host_stands_out_and_no_other_does(
    ledgers: dict[str, Ledger], planted: dict[str, dict[str, Any]]
) -> None:
    """By the median of all hosts that have a function."""
    outliers: dict[str, set[tuple[str, str]]] = {}
    for name in ("count", "bytes_wasted", "bytes_allocated"):
        outliers[name] = set()
        for function, hosts in by_function(ledgers, name).items():
            middle = float(np.median([*hosts.values()]))
            outliers[name] |= {(function, host) for host, value in hosts.items() if value > 4 * middle}
    waste = planted["waste"]
    wasted = by_function(ledgers, "bytes_wasted")[waste["function"]]

    assert outliers == {"count": set(), "bytes_wasted": {(waste["function"], waste["host"])}, "bytes_allocated": set()}
    assert 12 < wasted[waste["host"]] / np.median([*wasted.values()]) < 30


def test_rules_find_what_is_planted_in_hosts(ledgers: dict[str, Ledger], planted: dict[str, dict[str, Any]]) -> None:
    found: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for host, ledger in ledgers.items():
        for each in kmwatch.rules.judge(ledger):
            found[each.rule.code].add((host, each.finding.site.partition("+")[0]))
    failing = {place for place in found["KM202"] if place[1] != planted["version"]["function"]}
    wasting = {host for host, function in found["KM101"] if function == planted["waste"]["function"]}

    assert found["KM201"] == {(planted["sleeps"]["host"], planted["sleeps"]["function"])}
    assert failing == {(planted["failures"]["host"], planted["failures"]["function"])}
    assert wasting == {planted["waste"]["host"]}
    # All else is found on many hosts, or on none.
    assert set(found) - {"KM201", "KM202"} <= {"KM101", "KM102", "KM303"}


def test_a_kernel_wastes_more(ledgers: dict[str, Ledger], planted: dict[str, dict[str, Any]]) -> None:
    """An event, whatever the host's rate."""
    grew = planted["kernel"]
    wasted, counts = (by_function(ledgers, name)[grew["function"]] for name in ("bytes_wasted", "count"))
    each: dict[bool, list[float]] = defaultdict(list)
    for host, ledger in ledgers.items():
        each[ledger.meta.host.kernel == grew["kernel"]].append(wasted[host] / counts[host])

    assert np.median(each[True]) / np.median(each[False]) == pytest.approx(1.4, abs=0.05)


def test_a_version_fails_more(ledgers: dict[str, Ledger], planted: dict[str, dict[str, Any]]) -> None:
    bad = planted["version"]
    sums: dict[bool, list[int]] = {True: [0, 0], False: [0, 0]}
    for at, name in enumerate(("failures", "count")):
        for host, value in by_function(ledgers, name)[bad["function"]].items():
            sums[ledgers[host].meta.modules[bad["module"]] == bad["version"]][at] += value
    rates = {new: failures / (failures + count) for new, (failures, count) in sums.items()}

    assert rates[True] == pytest.approx(0.08, abs=0.04)
    assert rates[False] < 0.015


@pytest.mark.parametrize("hosts", [synth.LEAST_HOSTS, 301])
def test_every_fault_is_in_a_fleet_of_any_size(hosts: int) -> None:
    for seed in range(20):
        fleet = synth.design(hosts, seed)
        assert len({host.name for host in fleet.hosts}) == hosts
        assert {host.role for host in fleet.hosts} == set(ROLES)
        assert {host.kernel.release for host in fleet.hosts} == {kernel.release for kernel in KERNELS}
        assert sorted(host.fault for host in fleet.hosts if host.fault) == ["failures", "sleeps", "waste"]
        assert {host.versions.get("ice") for host in fleet.hosts} == {None, *VERSIONS["ice"]}
        assert {each["fault"]: each.get("host") for each in fleet.planted} == {
            **{host.fault: host.name for host in fleet.hosts if host.fault},
            "kernel": None,
            "version": None,
        }


def test_the_tables_agree() -> None:
    """Every name that a call uses is there, and each cache is used."""
    assert {call.cache for call in CALLS} == {"", *CACHES}
    assert len({(call.function, call.module) for call in CALLS}) == len(CALLS)
    for kernel in KERNELS:
        masks = {call.gfp: kernel.gfp.encode(call.gfp) for call in CALLS}
        assert all(masks.values())
        assert all(kernel.gfp.unknown(mask) == 0 for mask in masks.values())
        assert kernel.offset("__alloc_skb") == kernel.offset("__alloc_skb")


def test_the_command_tells_what_it_planted(tmp_path: Path) -> None:
    options = ["--hosts", "8", "--events", "1000"]
    told = CliRunner().invoke(cli, ["synth", "-o", str(tmp_path / "a"), *options, "--json"], catch_exceptions=False)
    assert json.loads(told.stdout) == json.loads((tmp_path / "a" / synth.PLANTED).read_text())
    text = CliRunner().invoke(cli, ["synth", "-o", str(tmp_path / "b"), *options], catch_exceptions=False).stdout
    data = json.loads(told.stdout)

    assert text.startswith("8 hosts, ")
    assert all(each["function"] in text and each["says"] in text for each in data["planted"])
    again = CliRunner().invoke(cli, ["synth", "-o", str(tmp_path / "a"), *options])
    assert isinstance(again.exception, UsageError)
    assert str(again.exception) == f"{tmp_path / 'a'} is not empty: choose another directory"


def test_a_root_that_cannot_be_had_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"^cannot write to .*/file: File exists$"):
        synth.make(tmp_path / "file", 8, 1, 1000, lambda _: None)


def test_a_full_disk_ends_it_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The third segment, of whichever host, finds no room: no fleet is said to be complete."""
    numbers: Iterator[int] = iter(range(1000))
    real = Store.put_segment

    def put_segment(self: Store, *given: Any) -> None:
        if next(numbers) == 2:
            raise OSError(28, "No space left on device")
        real(self, *given)

    monkeypatch.setattr(Store, "put_segment", put_segment)
    with pytest.raises(FullError, match=r"^the disk of .* is full$"):
        synth.make(tmp_path / "fleet", 50, 1, 1000, lambda _: None)
    assert not (tmp_path / "fleet" / synth.PLANTED).exists()
    assert len(find(str(tmp_path / "fleet"))) < 50
