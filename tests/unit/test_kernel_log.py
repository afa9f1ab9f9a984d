"""Kernel logs of many generations: what is read from them, and that no damage makes a traceback."""

import gzip
import random
from pathlib import Path

import pytest

from kmwatch.errors import BadInputError
from kmwatch.events import KEY_TYPE, Recorder
from kmwatch.schema import Context, Kind
from kmwatch.sources.text import open_text
from kmwatch.sources.text.kernel_log import KernelLog, looks_like
from tests.unit.logs import LOGS, read, sample, written

NAMES = sorted(path.stem.removeprefix("linux-") for path in LOGS.glob("*.txt"))
HEAD = "cat: page allocation failure: order:2, mode:0xcc0(GFP_KERNEL), nodemask=(null)"
ZONE = "Node 0 Normal free:4000kB min:1000kB low:1200kB high:1400kB managed:900000kB"
BLOCKS = "Node 0 Normal: 1000*4kB (UME) 0*8kB 0*16kB = 4000kB"


@pytest.mark.parametrize(
    ("name", "asked", "site", "caller", "who", "zones"),
    [
        ("2.6.32-nic", ("page", 2, "GFP_ATOMIC"), "__alloc_skb+0x6a", "igb_alloc_rx_buffers+0x1bc [igb]",
         ("swapper", 0), ["DMA", "DMA32", "Normal"]),
        ("3.6-arm-usb", ("page", 3, "GFP_ATOMIC|__GFP_COMP"), "__alloc_skb+0x48", "rx_submit+0x24", ("swapper", 0),
         ["Normal"]),
        ("3.8-slab", ("page", 4, "GFP_KERNEL|__GFP_COMP"), "sd_probe_async+0x31", "sd_probe_async+0x31", ("khubd", 21),
         ["DMA", "DMA32", "Normal"]),
        ("4.9-pieces", ("page", 0, "GFP_ATOMIC"), "__napi_alloc_skb+0x8a", "bnx2x_rx_int+0x1a1 [bnx2x]",
         ("swapper/5", 0), ["DMA", "Normal"]),
        ("4.14-arm", ("vmalloc", 0, "GFP_KERNEL"), "load_module+0x9e8", "load_module+0x9e8", ("kmodloader", 1134),
         ["Normal"]),
        ("5.4-nvme", ("page", 4, "GFP_KERNEL|__GFP_ZERO|__GFP_COMP"), "nvme_validate_ns+0x1e1 [nvme_core]",
         "nvme_validate_ns+0x1e1 [nvme_core]", ("kworker/u16:3", 1333536), ["DMA", "DMA32", "Normal"]),
        ("6.11-modem", ("page", 7, "GFP_NOIO|__GFP_DMA32"), "__dma_direct_alloc_pages.isra.0+0x14a",
         "mhi_alloc_bhie_table+0xe8 [mhi]", ("kworker/u33:8", 2744), ["DMA", "DMA32"]),
    ],
)  # fmt: skip
def test_a_report_is_read_on_every_generation(
    name: str, asked: tuple[str, int, str], site: str, caller: str, who: tuple[str, int], zones: list[str]
) -> None:
    log = sample(name)
    failure = log.only

    assert (failure.kind, failure.order, log.names(failure)) == asked
    assert (failure.site, failure.caller) == (site, caller)
    assert (failure.comm, failure.pid) == who
    assert [zone.name for zone in failure.zones] == zones
    assert log.log.doubts.skipped == 0
    assert name.startswith(".".join(failure.kernel.split(".")[:2]))


def test_the_zones_are_read_in_pages() -> None:
    dma, dma32 = sample("6.11-modem").only.zones

    assert (dma32.free, dma32.min, dma32.low, dma32.high, dma32.managed) == (2459, 2066, 2582, 3098, 466860)
    assert dma32.blocks == (103, 52, 43, 58, 35, 23, 5, 0, 0, 0, 0)
    assert (dma32.letters[0], dma32.letters[6], dma32.letters[7]) == ("UME", "ME", "")
    assert (dma.reserve, dma.blocks[:4]) == ((0, 1808, 14772, 0, 0), (5, 0, 1, 1))


def test_lines_in_pieces_are_put_together() -> None:
    dma, normal = sample("4.9-pieces").only.zones

    assert (dma.reserve, normal.reserve) == ((0, 2450, 64241, 64241, 64241), (0, 0, 0, 0, 0))
    assert (normal.blocks[:5], normal.letters[:5]) == ((3100, 800, 300, 20, 2), ("UMEH", "UMEH", "UMEH", "H", "H"))
    assert (normal.free, normal.cpu_lists) == (6124, 1496)


def test_lists_of_the_cpus_are_added_up() -> None:
    assert [zone.cpu_lists for zone in sample("2.6.32-nic").only.zones] == [0, 218, 154]


def test_reports_of_two_callers_are_kept_apart() -> None:
    vmalloc, page = (log := sample("5.16-callers")).failures

    assert (vmalloc.kind, vmalloc.size, vmalloc.site, vmalloc.comm) == (
        "vmalloc",
        20480,
        "copy_process+0x926",
        "syz-executor.5",
    )
    assert (page.kind, page.site) == ("page", "e1000_alloc_rx_buffers+0x3c2 [e1000]")
    assert (vmalloc.context, page.context) == (0, Context.HARDIRQ)
    assert [(zone.node, zone.name) for zone in page.zones] == [(0, "DMA32"), (1, "Normal")]
    assert [event["kind"] for event in log.events()] == [Kind.VMALLOC, Kind.PAGE_ALLOC]


def test_each_failure_is_a_failed_event() -> None:
    log = sample("6.1-wifi")
    first, second = log.events()

    recorder: Recorder = log.log
    assert recorder.keys.dtype == KEY_TYPE
    assert first["key"] == second["key"]
    assert (first["time"], second["time"]) == (0, 130_500_000_000)
    assert (first["kind"], first["failed"], first["order"], first["pid"], first["cpu"]) == (
        Kind.PAGE_ALLOC,
        1,
        3,
        3121,
        2,
    )
    assert log.log.meta.sites[first["site"]].symbol == "kmalloc_reserve"
    assert log.log.meta.tasks[first["task"]].comm == "kworker/u9:2"
    stack = log.log.meta.stacks[first["stack"]]
    assert [log.log.meta.sites[site].symbol for site in stack][-2:] == ["kthread", "ret_from_fork"]
    assert log.ledger().totals().failures == 2


@pytest.mark.parametrize(
    ("name", "context"),
    [
        ("2.6.32-nic", Context.SOFTIRQ),
        ("3.6-arm-usb", Context.SOFTIRQ),
        ("4.9-pieces", Context.SOFTIRQ),
        ("5.4-nvme", Context(0)),
        ("6.11-modem", Context(0)),
        ("6.1-wifi", Context.UNKNOWN),  # a process that may not sleep: the locks that it holds do not show
        ("6.12-slub", Context.UNKNOWN),  # no trace
    ],
)
def test_the_trace_tells_the_context(name: str, context: Context) -> None:
    assert sample(name).failures[0].context == context


def test_caches_are_events_of_their_own_kind() -> None:
    log = sample("6.12-slub")
    kmalloc, cache = log.events()
    first, second = log.failures

    assert (kmalloc["kind"], kmalloc["requested"], kmalloc["bytes_alloc"]) == (Kind.KMALLOC, 64, 128)
    assert (cache["kind"], log.log.meta.caches[cache["cache"]].name) == (Kind.CACHE_ALLOC, "page->ptl")
    assert (first.cache, first.object_size, first.buffer_size, first.node) == ("kmalloc-rnd-05-64", 64, 128, -1)
    assert (second.slabs[0].slabs, second.slabs[0].objects, second.slabs[0].free) == (236, 13216, 0)
    assert log.segments[0].trust.unknown_site == 2


def test_a_slab_that_got_no_page_is_one_failure() -> None:
    failure = sample("3.8-slab").only

    assert (failure.cache, failure.object_size, failure.slabs[0].slabs) == ("size-65536", 65536, 42)


def test_caches_of_a_cgroup_tell_of_its_limit() -> None:
    log = sample("3.10-memcg")

    assert [(each.cache, each.cgroup) for each in log.failures] == [("kmalloc-1024", True)] * 3
    assert log.log.meta.host.kernel == "3.10.0-693.el7.x86_64"


def test_what_the_kernel_kept_to_itself_is_lost() -> None:
    log = sample("3.6-arm-usb")

    assert (log.log.doubts.lost, log.segments[0].trust.lost) == (5676, 5676)
    assert any("rate limit" in note for note in log.log.doubts.notes)


def test_stalls_are_noted_and_no_failures() -> None:
    notes = sample("4.14-arm").log.doubts.notes

    assert notes == ["1 allocation stalled but did not fail, the longest for 10 060 ms"]


OOM = "cat invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0"


def test_the_oom_killer_is_noted_and_no_failure(tmp_path: Path) -> None:
    log = written(tmp_path, f"[1.0] {OOM}\n[1.1] {ZONE}\n")

    assert log.failures == []
    assert log.log.doubts.notes == ["the OOM killer ran 1 time: it makes room, and no allocation has failed by that"]


def test_what_the_oom_killer_shows_is_not_of_the_failure_before_it(tmp_path: Path) -> None:
    log = written(tmp_path, f"[1.0] {HEAD}\n[1.1] {OOM}\n[1.2] Call Trace:\n[1.2]  f+0x1/0x2\n[1.3] {ZONE}\n")

    assert (log.only.zones, log.only.stack) == ((), ())


def test_of_the_reserve_for_atomic_requests_the_free_part_counts(tmp_path: Path) -> None:
    zone = ZONE.replace("managed", "reserved_highatomic:2048KB free_highatomic:40KB managed")

    assert written(tmp_path, f"{HEAD}\nMem-Info:\n{zone}\n").only.zones[0].highatomic == 10
    old = ZONE.replace("managed", "reserved_highatomic:2048KB managed")
    assert written(tmp_path, f"{HEAD}\nMem-Info:\n{old}\n").only.zones[0].highatomic == 512


def test_a_date_that_does_not_exist_is_no_time(tmp_path: Path) -> None:
    days = ("Feb 28", "Feb 31", "Mar  1")
    log = written(tmp_path, "".join(f"{day} 03:14:07 host kernel: {HEAD}\n" for day in days))

    assert [each.seconds for each in log.failures] == [0.0, 0.0, 2 * 86400.0]  # 2000 was a leap year


@pytest.mark.parametrize(
    ("kernel", "number", "names"),
    [
        ("2.6.32", 0x20, "GFP_ATOMIC"),
        ("3.10.0", 0x4020, "GFP_ATOMIC|__GFP_COMP"),
        ("3.10.0", 0xD0, "GFP_KERNEL"),
        ("3.10.0", 0xD2, "GFP_KERNEL|__GFP_HIGHMEM"),
        ("3.10.0", 0x10, "GFP_NOIO"),
        ("3.18.18", 0x204010, "GFP_NOIO|__GFP_COMP|__GFP_NOTRACK"),
        ("4.4.0", 0x2080020, "GFP_ATOMIC"),
        ("4.5.0", 0x24000C0, "GFP_KERNEL"),
        ("", 0x20, "GFP_ATOMIC"),
        ("", 0x2284020, "GFP_ATOMIC|__GFP_COMP|__GFP_NOTRACK"),
    ],
)
def test_numbers_without_names_are_read_by_the_kernel_of_the_log(
    tmp_path: Path, kernel: str, number: int, names: str
) -> None:
    banner = f"[0.0] Linux version {kernel} (builder@host)\n" if kernel else ""
    log = written(tmp_path, f"{banner}[1.0] cat: page allocation failure: order:1, mode:{number:#x}\n")

    assert set(log.names(log.only).split("|")) == set(names.split("|"))
    assert "read by the bits of" in log.log.doubts.notes[0]


@pytest.mark.parametrize(
    ("names", "decoded"),
    [
        ("GFP_ATOMIC|__GFP_COLD|__GFP_COMP", "GFP_ATOMIC|__GFP_COMP|__GFP_COLD"),
        ("GFP_KERNEL_ACCOUNT|__GFP_ZERO", "GFP_KERNEL_ACCOUNT|__GFP_ZERO"),
        ("GFP_NOWAIT", "GFP_NOWAIT"),
    ],
)
def test_names_win_over_the_number(tmp_path: Path, names: str, decoded: str) -> None:
    log = written(tmp_path, f"cat: page allocation failure: order:1, mode:0x1234567({names}), nodemask=(null)\n")

    assert set(log.names(log.only).split("|")) == set(decoded.split("|"))
    assert not log.log.meta.gfp.opportunistic(log.only.gfp)  # nothing silent is logged


@pytest.mark.parametrize(
    ("line", "size"),
    [
        ("cat: vmalloc: allocation failure: 425984 bytes, mode:0x14000c0(GFP_KERNEL), nodemask=(null)", 425984),
        ("cat: vmalloc: allocation failure, allocated 4096 of 8192 bytes, mode:0xcc0(GFP_KERNEL)", 8192),
        ("cat: vmalloc error: size 4096, page order 0, failed to allocate pages, mode:0xcc0(GFP_KERNEL)", 4096),
        ("cat: vmalloc error: size 99, exceeds total pages, mode:0xcc0(GFP_KERNEL), nodemask=(null)", 99),
        ("vmalloc: allocation failure: 37798136 bytes\ncat: page allocation failure: order:0, mode:0xd2", 37798136),
    ],
)
def test_vmalloc_failures_tell_their_size(tmp_path: Path, line: str, size: int) -> None:
    log = written(tmp_path, line + "\n")

    assert (log.only.kind, log.only.size, log.only.comm) == ("vmalloc", size, "cat")
    assert [(event["kind"], event["requested"]) for event in log.events()] == [(Kind.VMALLOC, size)]


@pytest.mark.parametrize(
    ("first", "second", "apart"),
    [
        ("[   12.345678] ", "[   14.345678] ", 2.0),
        ("[12.345678][ T1234] ", "[13.345678][    C7] ", 1.0),
        ("<4>[   12.5] ", "<4>[   12.75] ", 0.25),
        ("Nov 22 03:14:07 host kernel: [12345.5] ", "Nov 22 03:14:09 host kernel: [12347.0] ", 1.5),
        ("Nov 22 03:14:07 host kernel: ", "Nov 22 03:14:09 host kernel: ", 2.0),
        ("Dec 31 23:59:59 host kernel: ", "Jan  1 00:00:01 host kernel: ", 2.0),
        ("2026-11-22T03:14:07+0000 host kernel: ", "2026-11-22T04:14:08+0100 host kernel: ", 1.0),
        ("2026-11-22T03:14:07,500000+00:00 ", "2026-11-22T03:14:08,000000+00:00 ", 0.5),
        ("[Sun Nov 22 03:14:07 2026] ", "[Sun Nov 22 03:15:07 2026] ", 60.0),
        ("Sun Nov 22 03:14:07 2026 kern.warn kernel: [5.0] ", "Sun Nov 22 03:14:08 2026 kern.warn kernel: [6.5] ", 1.5),
        ("kernel: ", "kernel: ", 0.0),
        ("", "", 0.0),
        ("[900.0] ", "[3.0] ", 0.0),  # a restart
    ],
)
def test_every_prefix_comes_off(tmp_path: Path, first: str, second: str, apart: float) -> None:
    log = written(tmp_path, f"{first}{HEAD}\n{second}{HEAD}\n")
    one, two = log.failures

    assert (one.comm, two.comm, one.order) == ("cat", "cat", 2)
    assert two.seconds - one.seconds == pytest.approx(apart)
    assert looks_like(f"{first}{HEAD}\n")


def test_a_line_that_was_cut_says_nothing_of_the_rest(tmp_path: Path) -> None:
    log = written(tmp_path, f"{HEAD}\nMem-Info:\n{ZONE}\nNode 0 Normal: 9*4kB (MR) 4*8kB (R) 1*16k\n")

    assert log.only.zones[0].blocks == ()
    assert log.log.doubts.skipped == 1
    with pytest.raises(BadInputError, match="is not understood"):
        written(tmp_path, f"{HEAD}\nMem-Info:\n{ZONE}\nNode 0 Normal: 9*4kB (MR) 4*8k\n", strict=True)


def test_other_lines_in_between_change_nothing(tmp_path: Path) -> None:
    other = "usb 1-1: reset high-speed USB device\n"
    log = written(tmp_path, f"{HEAD}\n{other}Mem-Info:\n{other}{ZONE}\n{other}{BLOCKS}\n{other}")

    assert (log.only.zones[0].free, log.only.zones[0].blocks) == (1000, (1000, 0, 0))


def test_detail_is_bounded_and_the_rest_counted(tmp_path: Path) -> None:
    log = written(tmp_path, "".join(f"[{at}.0] {HEAD}\n" for at in range(1200)))

    assert (len(log.failures), log.log.doubts.events, sum(map(len, log.segments))) == (1000, 1200, 1200)
    assert "200 failures after the first 1 000: counted without detail" in log.log.doubts.notes


def test_a_compressed_log_is_read(tmp_path: Path) -> None:
    assert written(tmp_path, gzip.compress(f"{HEAD}\n".encode())).only.order == 2


def test_traces_of_other_tools_are_no_kernel_log() -> None:
    assert not looks_like("cat-123 [001] d..1. 12345.678901: kmalloc: call_site=f+0x1 ptr=(____ptrval____)\n" * 3)
    assert not looks_like("cat  123 [001] 12345.678901: kmem:kmalloc: call_site=f ptr=0x1\n" * 3)
    assert not looks_like("")


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="cannot read"):
        KernelLog(tmp_path / "none", None, strict=False)


@pytest.mark.parametrize("name", NAMES)
def test_damage_never_makes_a_traceback(tmp_path: Path, name: str) -> None:
    whole = (LOGS / f"linux-{name}.txt").read_bytes()
    chance = random.Random(name)  # noqa: S311 - repeatable, not secret
    for _ in range(40):
        damaged = bytearray(whole)
        for _ in range(chance.randrange(1, 60)):
            at = chance.randrange(len(damaged))
            match chance.randrange(4):
                case 0:
                    damaged[at] = chance.randrange(256)
                case 1:
                    del damaged[at : at + chance.randrange(1, 80)]
                case 2:
                    damaged[at:at] = bytes(chance.choices(b"0123456789*kB():[]<>/ \n", k=chance.randrange(1, 40)))
                case _:
                    damaged[at:at] = b"9" * chance.randrange(1, 400)
            if not damaged:
                break
        try:
            log = written(tmp_path, bytes(damaged), strict=chance.random() < 0.3)
        except BadInputError:
            continue
        for failure in log.failures:
            assert type(failure).from_json(failure.to_json()) == failure
            assert log.verdict(failure).why


def test_a_line_of_many_bytes_is_skipped(tmp_path: Path) -> None:
    log = written(tmp_path, b"[1.0] x" + b"A" * 100_000 + b"\n" + f"[2.0] {HEAD}\n".encode())

    assert (log.only.order, log.log.doubts.skipped) == (2, 1)


def test_samples_are_recognised() -> None:
    assert len(NAMES) >= 10
    assert all(looks_like(path.read_text()) for path in LOGS.glob("*.txt"))
    for path in LOGS.glob("*.txt"):
        text = open_text(path)
        assert text.kind == "kernel log"
        assert list(text.segments())
    assert all(read(path).failures for path in LOGS.glob("*.txt"))
