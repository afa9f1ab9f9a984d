"""What is held: the table in the kernel and the pairing of a recording's events are the same, and are exact."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from kmwatch.capture.writer import Writer
from kmwatch.held import Held
from kmwatch.ledger import Ledger
from kmwatch.schema import Kind, Stacks
from kmwatch.sources.capture import CaptureSource
from kmwatch.sources.held import Hold
from kmwatch.sources.maps import LiveSource
from kmwatch.sources.ring import RingRecorder
from tests.live.watching import ADD_KEY, MAP, MESSAGE, PAYLOAD, PIPE, Workload, kmwatch, split_report
from tests.support import wait_until

pytestmark = pytest.mark.live

_OWN = {*MESSAGE, *ADD_KEY, *PAYLOAD, *MAP, *PIPE}
_SUMS = ("objects", "bytes_requested", "bytes_allocated", "released", "elsewhere", "unseen")
_KEPT, _SIZE = 31, 450  # 498 bytes with the header, of 512; a queue has room for 16384 bytes


def sums_by_site(ledger: Ledger) -> dict[tuple[Any, ...], tuple[int, ...]]:
    """_SUMS of what the workload's functions hold, by names."""
    assert isinstance(ledger.held, Held)
    found = {}
    for row in ledger.held.rows:
        site = ledger.meta.sites[row["site"]]
        if site.symbol.partition(".")[0] in _OWN:
            rest = tuple(row[name].item() for name in ("kind", "gfp", "bytes_alloc", "via", "order"))
            found[(site.text, ledger.meta.caches[row["cache"]].name, *rest)] = tuple(int(row[name]) for name in _SUMS)
    return found


@contextmanager
def both(directory: Path, live: Ledger, kept: Ledger) -> Iterator[None]:
    """Live and recorded at the same time, from entering the context to leaving it."""
    with ExitStack() as stack:
        source = stack.enter_context(LiveSource(frozenset(Kind), hold=Hold(0, sure=True)))
        recorder = stack.enter_context(RingRecorder(frozenset(Kind), Stacks.NONE, lambda: True))
        writer = stack.enter_context(Writer(directory, recorder, {}))
        live.meta = source.meta
        yield
        # Keys and maps go a while after their process, and the two do not end at the same moment.
        wait_until(lambda: settled(live, source), 30, "what the kernel releases late")
        live.add(source.finish())
        for segment in recorder.segments():
            writer.write(segment)
        writer.finish("the test ended", {})
    with CaptureSource(directory, outstanding=True) as capture:
        kept.meta = capture.meta
        for batch in capture:
            kept.add(batch)


def settled(live: Ledger, source: LiveSource) -> bool:
    """Whether of the workload nothing but messages is held."""
    live.add(source.read())
    return not any(sums[0] for (site, *_), sums in sums_by_site(live).items() if site.partition("+")[0] not in MESSAGE)


@pytest.fixture
def ledgers() -> tuple[Ledger, Ledger]:
    """Two, whose meta is that of the sources that fill them."""
    nothing: Any = None
    return Ledger(nothing), Ledger(nothing)


def message_sums(ledger: Ledger) -> list[tuple[int, ...]]:
    """_SUMS of the messages; those of their size are ours alone."""
    found = sums_by_site(ledger)
    return [sums for (site, *_, size, _, _), sums in found.items() if site.partition("+")[0] in MESSAGE and size == 512]


def test_live_and_recorded_hold_the_same(tmp_path: Path, workload: Workload, ledgers: tuple[Ledger, Ledger]) -> None:
    """While a queue keeps its messages; what is large, or an area, or gone again, besides."""
    live, kept = ledgers
    with ExitStack() as holding, both(tmp_path / "both.kmw", live, kept):
        for what, count, size in (("msgsnd", 1009, 5000), ("add_key", 101, 20000), ("bpf_map", 101, 65536)):
            workload.run(what, count, size)
        workload.run("pipe", 101, 256)
        holding.enter_context(workload.holding("messages", _KEPT, _SIZE))

    held = (_KEPT + 1) // 2
    expected = (held, held * (_SIZE + 48), held * 512, _KEPT - held, 0, 0)
    assert [sums[:4] for sums in message_sums(live)] == [expected[:4]]
    assert sums_by_site(live) == sums_by_site(kept)
    kinds = {key[2] for key, sums in sums_by_site(live).items() if sums[3]}
    assert kinds >= {Kind.KMALLOC, Kind.VMALLOC}


def test_nothing_is_held_after_the_release(tmp_path: Path, workload: Workload, ledgers: tuple[Ledger, Ledger]) -> None:
    live, kept = ledgers
    with both(tmp_path / "both.kmw", live, kept), workload.holding("messages", _KEPT, _SIZE):
        pass

    assert [sums[:4] for sums in message_sums(live)] == [(0, 0, 0, _KEPT)]
    assert message_sums(live) == message_sums(kept)


def test_the_report_of_a_command_has_what_is_held(workload: Workload) -> None:
    """As a user asks for it: what was kept before the start is not known, what came and went is released."""
    with workload.holding("messages", _KEPT, _SIZE):
        result = kmwatch(
            "report", "live", "--outstanding", "--sample", "1", "--json", "--", *workload.command("msgsnd", 101, 60)
        )

    assert result.returncode == 0, result.stderr
    _, data = split_report(result.stdout)
    outstanding = data["outstanding"]
    assert outstanding["sample"] == 1
    assert {each["field"] for each in outstanding["memory"]} >= {"Slab", "VmallocUsed"}
    (site,) = [
        each for each in outstanding["sites"] if each["symbol"].partition(".")[0] in MESSAGE and each["released"] == 101
    ]
    assert (site["cache"], site["objects"]["estimate"], site["unseen"]) == ("kmalloc-128", 0, 0)
