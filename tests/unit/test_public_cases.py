"""Three cases of public reports, given as their texts: kmwatch says of each what kernel developers said."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from kmwatch.cli import cli
from kmwatch.units import number

LOGS = Path(__file__).parent.parent / "data" / "logs"


def findings(text: Path) -> list[dict[str, Any]]:
    """The findings of `kmwatch report TEXT`, notices left out."""
    ran = CliRunner().invoke(cli, ["report", str(text), "--json"], catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    found: list[dict[str, Any]] = json.loads(ran.stdout)["findings"]
    return [each for each in found if each["severity"] != "notice"]


def test_an_order_3_buffer_in_a_transmit_path_failed_for_fragmentation_and_wants_order_0() -> None:
    """Memory was free, in smaller blocks and in CMA; adding memory would not have helped."""
    (finding,) = findings(LOGS / "linux-6.1-wifi.txt")

    assert (finding["rule"], finding["severity"]) == ("KM205", "error")
    assert (finding["evidence"]["order"], finding["evidence"]["verdict"]) == (3, "fragmentation")
    assert "for brcmu_pkt_buf_get_skb+0x2c [brcmutil]" in finding["message"]
    assert "may not sleep" in finding["message"]
    assert "those of that size belonged to CMA" in finding["message"]
    assert finding["advice"].startswith("ask for order 0 (page fragments, a scatter list) or allocate ahead in process")


def test_an_order_7_request_without_io_from_dma32_is_to_be_expected_to_fail() -> None:
    (finding,) = findings(LOGS / "linux-6.11-modem.txt")

    assert (finding["rule"], finding["evidence"]["order"], finding["evidence"]["verdict"]) == ("KM205", 7, "too large")
    assert "from DMA32 only (GFP_NOIO|GFP_DMA32), for mhi_alloc_bhie_table+0xe8 [mhi]" in finding["message"]
    assert "512 KiB in one piece without any I/O: cannot be expected to succeed" in finding["message"]
    assert "allocate the device's buffer once, at start, and keep it over suspend" in finding["advice"]
    assert "without GFP_DMA32" in finding["advice"]


# As kmalloc printed it before 5.19, in a soft interrupt.
_LARGE = (
    "          <idle>-0     [001] ..s. {time:.6f}: kmalloc: call_site=__alloc_skb+0x8d/0x1a0 ptr={pointer:016x} "
    "bytes_req=10176 bytes_alloc=16384 gfp_flags=GFP_ATOMIC|__GFP_NOWARN"
)


@pytest.mark.parametrize("count", [127, 1009])
def test_10176_bytes_want_a_cache_of_10880_of_which_three_share_32_kib(tmp_path: Path, count: int) -> None:
    text = tmp_path / "trace.txt"
    events = (_LARGE.format(time=100 + at / 100, pointer=0xFFFF888000000000 + at * 16384) for at in range(count))
    text.write_text("# tracer: nop\n#\n" + "\n".join(events) + "\n")

    large = {each["rule"]: each for each in findings(text)}

    finding = large["KM104"]
    assert "KM103" not in large
    assert finding["site"].startswith("__alloc_skb+0x8d")
    assert finding["message"] == (
        f"asks {number(count)} times for 10 176 bytes and takes 16 384: "
        "in 32.0 KiB lie 2, where a cache of its own puts 3"
    )
    assert "(up to 10 880 bytes 3 fit a slab of order 3)" in finding["advice"]
    assert finding["evidence"]["objects_by_order"] == {"2": 1, "3": 3}
    saved = count * (16384 - 32768 / 3)
    assert finding["evidence"]["bytes_saved"] == pytest.approx(saved, abs=1)
