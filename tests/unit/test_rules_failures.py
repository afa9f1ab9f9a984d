"""KM205: what is said of failures that the kernel logged."""

from dataclasses import replace

from kmwatch.failures import Failure
from tests.unit.logs import sample
from tests.unit.rows import TABLE, found, ledger, meta, only


def test_a_wifi_driver_is_told_what_it_asked_and_what_was_there() -> None:
    finding = only("KM205", sample("6.1-wifi").ledger())

    assert finding.site == "kmalloc_reserve+0x68"
    assert finding.message == (
        "failed 2 times in 2 min 10 s: order-3, 32 KiB contiguous, may not sleep (GFP_ATOMIC|__GFP_COMP), for "
        "brcmu_pkt_buf_get_skb+0x2c [brcmutil]; DMA had 189.2 MiB free, 164.1 MiB of it CMA, in 3 338 blocks, the "
        "largest 16 KiB: none of the 32 KiB wanted; Normal had 56.1 MiB free in 9 214 blocks, the largest 16 KiB: "
        "none of the 32 KiB wanted; fragmentation: in DMA only 12.8 MiB must stay free: there was enough, but no "
        "block of 32 KiB for this mask: those of that size belonged to CMA"
    )
    assert finding.advice.startswith("ask for order 0 (page fragments, a scatter list)")
    assert finding.evidence["failures"] == 2
    assert finding.evidence["first"] == {"seconds": 0.0, "stamp": "86554.227453"}
    assert finding.evidence["last"] == {"seconds": 130.5, "stamp": "86684.727453"}
    assert finding.evidence["verdict"] == "fragmentation"
    dma, normal = finding.evidence["zones"]
    assert (dma["watermark"], dma["reserve"]) == (348, 2934)
    assert (normal["free"], normal["min"], normal["watermark"]) == (14364, 3168, 1188)


def test_a_modem_driver_is_told_that_it_asks_too_much() -> None:
    finding = only("KM205", sample("6.11-modem").ledger())

    assert finding.message == (
        "failed once: order-7, 512 KiB contiguous, may sleep but start no I/O, from DMA32 only "
        "(GFP_NOIO|GFP_DMA32), for mhi_alloc_bhie_table+0xe8 [mhi]; DMA32 had 9.6 MiB free in 319 blocks, the "
        "largest 256 KiB: none of the 512 KiB wanted; DMA had 68 KiB free in 7 blocks, the largest 32 KiB: none of "
        "the 512 KiB wanted; too large: 512 KiB in one piece without any I/O: cannot be expected to succeed"
    )
    assert "keep it over suspend" in finding.advice
    assert "without GFP_DMA32" in finding.advice


def test_equal_failures_are_one_finding() -> None:
    one = Failure(
        "page", 3, TABLE.encode("GFP_ATOMIC"), symbol="drv_tx", site="drv_tx+0x9 [drv]", caller="drv_tx+0x9 [drv]"
    )
    failures = [
        replace(one, comm="a", seconds=1.0),
        replace(one, comm="b", seconds=9.0),  # who ran is chance
        replace(one, order=2),
        replace(one, gfp=TABLE.encode("GFP_KERNEL")),
        replace(one, symbol="drv_rx"),
        replace(one, cgroup=True),
    ]

    findings = found("KM205", ledger(known=meta(failures=failures)))

    assert [each.evidence["failures"] for each in findings] == [2, 1, 1, 1, 1]
    assert findings[0].evidence["comms"] == ["a", "b"]
    assert findings[0].message.startswith(
        "failed 2 times in 8.0 s: order-3, 32 KiB contiguous, may not sleep (GFP_ATOMIC);"
    )
    assert [each.evidence["verdict"] for each in findings][-1] == "cgroup limit"


def test_a_log_without_failures_has_no_findings() -> None:
    assert found("KM205", ledger()) == []
