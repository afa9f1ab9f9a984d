"""Logged failures: kept as plain data, and judged by the watermarks as the kernel does."""

import json
import random
from dataclasses import replace
from typing import Any

import pytest

from kmwatch.errors import BadInputError
from kmwatch.failures import MOST_KEPT, Failure, SlabState, ZoneState, failures_from_json, failures_to_json
from kmwatch.verdicts import VERDICTS, judge
from kmwatch.watermarks import version_of, watermark
from tests.unit.logs import LOGS, read, sample
from tests.unit.rows import LIMITS, TABLE

NORMAL = ZoneState(0, "Normal", 25_600, 4000, 5000, 6000, 1_000_000, blocks=(25_600, *[0] * 10))
DMA32 = ZoneState(0, "DMA32", 1000, 2000, 2500, 3000, 500_000, blocks=(1000, *[0] * 10))
DMA = ZoneState(0, "DMA", 3900, 30, 40, 50, 3976, blocks=(0,) * 9 + (2, 3), reserve=(0, 3000, 9000, 9000))


def failure(*zones: ZoneState, order: int = 3, gfp: str = "GFP_ATOMIC", **changes: Any) -> Failure:
    return Failure(**{"kind": "page", "order": order, "gfp": TABLE.encode(gfp), "zones": zones} | changes)


def verdict(*zones: ZoneState, **changes: Any) -> str:
    return judge(failure(*zones, **changes), TABLE, LIMITS).name


# Plain data


@pytest.mark.parametrize("path", sorted(LOGS.glob("*.txt")), ids=lambda path: path.stem)
def test_failures_survive_json(path: Any) -> None:
    failures = read(path).failures

    assert failures_from_json(json.loads(json.dumps(failures_to_json(failures)))) == failures


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "other"},
        {"order": -1},
        {"order": True},
        {"gfp": 1 << 32},
        {"comm": "x" * 300},
        {"comm": None},
        {"seconds": float("nan")},
        {"seconds": -1},
        {"page_size": 4095},
        {"stack": ["f"] * 65},
        {"stack": [1]},
        {"nodes": [1 << 20]},
        {"zones": [{}]},
        {"zones": [[]]},
        {"zones": [{**vars(NORMAL), "free": -1}]},
        {"zones": [{**vars(NORMAL), "letters": ["U"]}]},
        {"slabs": [{"node": 0}]},
        {"cgroup": 1},
        {"taken": "guess"},
        {"taken": None},
        {"taken": "program"},  # by which event?
        {"event": "kmalloc"},  # a log has none
        {"taken": "program", "event": "kfree"},
        {"taken": "program", "event": ["kmalloc"]},
        {"more": 1},
    ],
)
def test_damaged_data_is_refused(changes: dict[str, Any]) -> None:
    good = failure(NORMAL, slabs=(SlabState(0, 1, 2, 3),)).to_json()

    assert Failure.from_json(good)
    with pytest.raises(BadInputError, match="record the capture again"):
        Failure.from_json(good | changes)


def test_a_failure_kept_before_programs_saw_any_is_of_a_log() -> None:
    old = {name: value for name, value in failure(NORMAL).to_json().items() if name not in ("taken", "event")}
    old["zones"] = [{name: value for name, value in zone.items() if name != "boost"} for zone in old["zones"]]

    assert Failure.from_json(old) == failure(NORMAL)


@pytest.mark.parametrize("data", [None, 1, "x", {}, [None], [{}], [[]], [failure().to_json()] * (MOST_KEPT + 1)])
def test_other_data_is_refused(data: object) -> None:
    with pytest.raises(BadInputError):
        failures_from_json(data)


def test_no_damage_makes_a_traceback() -> None:
    text = json.dumps(failures_to_json(sample("6.1-wifi").failures))
    chance = random.Random(7)  # noqa: S311 - repeatable, not secret
    for _ in range(400):
        at = chance.randrange(len(text))
        damaged = text[:at] + chance.choice('0123456789-{}[],":eE.nulltrue') + text[at + 1 :]
        try:
            data = json.loads(damaged)
        except ValueError:
            continue
        try:
            failures = failures_from_json(data)
        except BadInputError:
            continue
        assert all(judge(each, TABLE, LIMITS).name in VERDICTS for each in failures)


# The kernel's test


@pytest.mark.parametrize(
    ("order", "flags", "pages"), [(0, "GFP_ATOMIC", 1125), (1, "GFP_ATOMIC", 1500), (0, "GFP_KERNEL", 4000)]
)
def test_what_the_mark_is_raised_by_does_not_hold_for_urgent_single_pages(order: int, flags: str, pages: int) -> None:
    assert watermark(replace(NORMAL, boost=1000), TABLE, failure(order=order, gfp=flags)) == pages


@pytest.mark.parametrize(
    ("flags", "kernel", "pages"),
    [
        ("GFP_KERNEL", "", 4000),
        ("GFP_KERNEL|__GFP_HIGH", "", 2000),
        ("GFP_ATOMIC", "", 1500),
        ("GFP_ATOMIC|__GFP_NOMEMALLOC", "", 2000),
        ("GFP_NOWAIT", "", 4000),
        ("GFP_ATOMIC", "3.10.0", 1500),
        ("__GFP_KSWAPD_RECLAIM", "4.4.0", 4000),
        ("__GFP_KSWAPD_RECLAIM", "4.3.0", 3000),  # then all who could not wait were helped
        ("none", "4.3.0", 4000),  # but for those who did not wake kswapd
    ],
)
def test_the_watermark_depends_on_the_mask(flags: str, kernel: str, pages: int) -> None:
    assert watermark(NORMAL, TABLE, failure(gfp=flags, kernel=kernel)) == pages


@pytest.mark.parametrize(
    ("flags", "kernel", "opened"),
    [
        ("GFP_ATOMIC", "", True),
        ("GFP_ATOMIC", "5.10.0", True),
        ("GFP_KERNEL", "", False),
        ("GFP_KERNEL|__GFP_HIGH", "6.3.0", True),
        ("GFP_KERNEL|__GFP_HIGH", "6.2.0", False),
        ("__GFP_KSWAPD_RECLAIM", "6.3.0", True),
        ("__GFP_KSWAPD_RECLAIM", "6.2.0", False),
        ("__GFP_KSWAPD_RECLAIM|__GFP_NOMEMALLOC", "6.3.0", False),
    ],
)
def test_the_reserve_for_atomic_requests_is_open_to_those_whom_the_kernel_lets(
    flags: str, kernel: str, opened: bool
) -> None:
    zone = replace(NORMAL, free=5000, highatomic=3500)

    assert verdict(zone, order=0, gfp=flags, kernel=kernel) == ("unknown" if opened else "depletion")


@pytest.mark.parametrize(
    ("kernel", "version"), [("6.1.0-13", (6, 1)), ("2.6.32-431.el6", (2, 6)), ("", None), ("x", None)]
)
def test_versions(kernel: str, version: tuple[int, int] | None) -> None:
    assert version_of(kernel) == version


# Verdicts


def test_enough_but_in_pieces_is_fragmentation() -> None:
    found = judge(failure(NORMAL, DMA), TABLE, LIMITS)

    assert found.name == "fragmentation"
    assert found.asked == "order-3, 32 KiB contiguous, may not sleep (GFP_ATOMIC)"
    assert found.free == (
        "Normal had 100 MiB free in 25 600 blocks, the largest 4 KiB: none of the 32 KiB wanted; "
        "DMA had 15.2 MiB free, reserved for requests that can use no other zone"
    )
    assert found.why == "in Normal only 5.9 MiB must stay free: there was enough, but no block of 32 KiB for this mask"
    assert found.advice.startswith("ask for order 0 (page fragments")


def test_below_the_watermark_is_depletion() -> None:
    found = judge(failure(replace(NORMAL, free=1400), order=0), TABLE, LIMITS)

    assert found.name == "depletion"
    assert found.why == "in Normal 5.9 MiB must stay free for such a request (min is 15.6 MiB), and less was"
    assert "vm.min_free_kbytes" in found.advice


def test_the_mask_decides_what_is_depleted() -> None:
    low = replace(NORMAL, free=3000)

    assert verdict(low, order=0, gfp="GFP_KERNEL") == "depletion"
    assert verdict(low, order=0, gfp="GFP_ATOMIC") == "unknown"  # above its watermark: others freed memory


def test_a_zone_that_was_not_needed_is_wrong() -> None:
    roomy = replace(NORMAL, blocks=(1600, 0, 0, 3000, *[0] * 7))
    found = judge(failure(DMA32, roomy, gfp="GFP_KERNEL|GFP_DMA32"), TABLE, LIMITS)

    assert (found.name, found.why) == (
        "wrong zone",
        "only DMA32 was allowed, and it was exhausted while Normal had plenty",
    )
    assert "from DMA32 only" in found.asked
    assert "DMA mask" in found.advice
    assert verdict(DMA32, replace(roomy, free=5000), gfp="GFP_KERNEL|GFP_DMA32") == "depletion"
    assert verdict(DMA32, NORMAL, gfp="GFP_KERNEL|GFP_DMA32") == "depletion"  # Normal has no such block either


def test_zones_that_are_not_in_the_log_are_mentioned() -> None:
    alone = replace(DMA32, reserve=(0, 0, 12964, 0, 0))

    assert judge(failure(alone, gfp="GFP_KERNEL|GFP_DMA32", order=0), TABLE, LIMITS).why.endswith(
        "(the mask kept it to DMA32; the zones above are not in the log)"
    )


def test_dma32_means_normal_where_there_is_none() -> None:
    assert verdict(NORMAL, gfp="GFP_KERNEL|GFP_DMA32") == "fragmentation"


def test_reserved_memory_is_no_help() -> None:
    kept = replace(DMA32, free=9000, blocks=(0, 0, 0, 1125, *[0] * 7), reserve=(0, 0, 8000, 8000))

    found = judge(failure(kept, replace(NORMAL, free=1000), gfp="GFP_KERNEL"), TABLE, LIMITS)

    assert found.name == "lowmem_reserve"
    assert "DMA32 keeps 31.2 MiB for requests that can use no other zone" in found.why
    assert verdict(DMA, replace(NORMAL, free=1000), gfp="GFP_KERNEL") == "depletion"  # 16 MiB are always reserved


@pytest.mark.parametrize(
    ("order", "flags", "name"),
    [
        (11, "GFP_KERNEL", "too large"),
        (7, "GFP_NOIO|GFP_DMA32", "too large"),
        (4, "GFP_ATOMIC", "too large"),
        (4, "GFP_KERNEL", "fragmentation"),
        (3, "GFP_ATOMIC", "fragmentation"),
    ],
)
def test_what_cannot_be_expected_to_succeed(order: int, flags: str, name: str) -> None:
    assert verdict(replace(DMA32, free=20_000), NORMAL, order=order, gfp=flags) == name


def test_without_zones_little_can_be_said() -> None:
    assert verdict() == "unknown"
    assert verdict(cgroup=True) == "cgroup limit"
    assert verdict(NORMAL, cgroup=True, order=0) == "cgroup limit"
    assert verdict(NORMAL, cgroup=True) == "fragmentation"  # a zone was short all the same
    assert verdict(replace(NORMAL, blocks=())) == "unknown"


def test_what_would_tell_more_depends_on_what_is_missing() -> None:
    def advice(*zones: ZoneState, **changes: Any) -> str:
        return judge(failure(*zones, order=0, **changes), TABLE, LIMITS).advice

    assert advice().startswith("import the whole log")
    assert advice(NORMAL).startswith("`kmwatch record`")
    assert "/proc/vmallocinfo" in advice(NORMAL, kind="vmalloc", size=8192)


def test_a_single_page_is_not_called_contiguous() -> None:
    assert judge(failure(NORMAL, order=0), TABLE, LIMITS).asked == "order-0, 4 KiB, may not sleep (GFP_ATOMIC)"


def test_blocks_of_others_do_not_count() -> None:
    letters = ("UME", *[""] * 9, "C")
    zone = replace(NORMAL, free=80_000, cma=56_320, blocks=(22_000, *[0] * 9, 55), letters=letters)
    found = judge(failure(zone), TABLE, LIMITS)

    assert found.name == "fragmentation"
    assert found.why.endswith("no block of 32 KiB for this mask: those of that size belonged to CMA")
    assert found.free == (
        "Normal had 312.5 MiB free, 220 MiB of it CMA, in 22 000 blocks, the largest 4 KiB: none of the 32 KiB wanted"
    )
    assert verdict(zone, gfp="GFP_HIGHUSER_MOVABLE") == "unknown"  # its pages may lie in CMA
    highatomic = replace(zone, cma=0, letters=("UME", *[""] * 9, "H"))
    assert verdict(highatomic, gfp="GFP_KERNEL") == "fragmentation"
    assert verdict(highatomic) == "unknown"  # it may use the reserve for atomic requests


def test_before_linux_4_4_small_blocks_did_not_count() -> None:
    zone = replace(NORMAL, blocks=(25_000, 0, 0, 75, *[0] * 7))

    assert verdict(zone, kernel="3.10.0-693.el7") == "fragmentation"
    assert verdict(zone, kernel="4.4.0") == "unknown"


def test_before_linux_4_4_the_blocks_were_held_against_the_watermark_alone() -> None:
    """Not against the reserve for lower zones, which counts once, for all that is free."""
    zone = replace(DMA32, free=20_000, blocks=(12_000, 0, 0, 1000, *[0] * 7), reserve=(0, 0, 16_000, 16_000))

    assert verdict(zone, gfp="GFP_KERNEL", kernel="3.10.0") == "unknown"
    assert verdict(replace(zone, free=18_000), gfp="GFP_KERNEL", kernel="3.10.0") == "lowmem_reserve"


def test_nodes_that_were_not_allowed_do_not_count() -> None:
    other = replace(NORMAL, node=1, blocks=(0, 0, 0, 3200, *[0] * 7))

    assert verdict(NORMAL, other) == "unknown"
    assert verdict(NORMAL, other, nodes=(0,)) == "fragmentation"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("2.6.32-nic", "fragmentation"),
        ("3.6-arm-usb", "fragmentation"),
        ("3.8-slab", "fragmentation"),
        ("3.10-memcg", "cgroup limit"),
        ("4.9-pieces", "depletion"),
        ("4.14-arm", "unknown"),
        ("5.4-nvme", "fragmentation"),
        ("5.16-callers", "depletion"),
        ("6.1-wifi", "fragmentation"),
        ("6.11-modem", "too large"),
        ("6.12-slub", "unknown"),
    ],
)
def test_the_samples_are_judged(name: str, expected: str) -> None:
    log = sample(name)

    assert {log.verdict(each).name for each in log.failures} == {expected}
