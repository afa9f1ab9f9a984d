"""Texts that nobody should trust: which kind they are, damage, size, pipes, and what may not leave them."""

import gzip
import io
import os
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from kmwatch.errors import BadInputError
from kmwatch.events import COLUMNS
from kmwatch.kernel.symbols import UNKNOWN, Site
from kmwatch.schema import Kind
from kmwatch.sources.text import TextRecorder, open_text, places, recorder, stream
from kmwatch.sources.text.doubts import KEPT_LINES, LINE_CHARACTERS, Doubts
from kmwatch.sources.text.places import Places, symbols_of
from kmwatch.sources.text.shapes import shape_of
from tests.unit.trace_texts import DATA, NAMES, lines, read

KMALLOC = "kmalloc: call_site=f+0x1/0x2 ptr=00000000353eab38 bytes_req=60 bytes_alloc=64 gfp_flags=GFP_KERNEL"
LINE = f"  a-1 [000] ..... 1.000001: {KMALLOC}"
KINDS = {
    "perf-6.18-flat.txt": "perf script",
    "perf-6.18-stacks.txt": "perf script",
    "perf-4.0-ppc64.txt": "perf script",
    "trace-cmd-3.1.txt": "trace-cmd report",
    "trace-cmd-letters.txt": "trace-cmd report",
}


@pytest.mark.parametrize("name", NAMES)
def test_the_kind_follows_from_the_content(name: str, tmp_path: Path) -> None:
    """Not from the name, and not from the head lines either: trace_pipe has none."""
    content = (DATA / name).read_text()
    other = tmp_path / "x.dat"
    other.write_text(content)
    bare = "".join(line for line in content.splitlines(keepends=True) if line[0] != "#")
    shape = shape_of(bare)

    text = open_text(other)
    assert isinstance(text, TextRecorder)
    text.close()
    assert text.kind == KINDS.get(name, "ftrace")
    assert shape
    assert shape.kind == KINDS.get(name, "ftrace")


@pytest.mark.parametrize(
    "content",
    [
        b"Lorem ipsum\ndolor sit amet\n",
        b"\x00\xff\x17\x08\x44tracing6\0" * 50,
        b"{}",
        b"PERFILE2" + bytes(100),
        b"[1]\n" * 99,
    ],
)
def test_what_is_no_trace_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "text"
    path.write_bytes(content)

    with pytest.raises(
        BadInputError, match=r"is no text that is understood: give ftrace's `trace`.*perf script"
    ) as caught:
        open_text(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\n \n\t\n", gzip.compress(b"")])
def test_an_empty_text_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "text").write_bytes(content)

    with pytest.raises(BadInputError, match="is empty"):
        open_text(tmp_path / "text")


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(BadInputError, match="cannot read"):
            open_text(path)


def test_gzip_is_unpacked_and_a_cut_one_read_as_far_as_it_goes(tmp_path: Path) -> None:
    text = "".join(f"  a-{at} [000] ..... 1.{at:06}: {KMALLOC}\n" for at in range(20_000)).encode()
    packed = gzip.compress(text)
    (tmp_path / "whole").write_bytes(packed)
    (tmp_path / "cut").write_bytes(packed[: len(packed) // 2])

    assert len(read(tmp_path / "whole").events) == 20_000
    cut = read(tmp_path / "cut")
    assert 1000 < len(cut.events) < 20_000
    assert any("damaged" in note for note in cut.recorder.doubts.notes)


def test_a_pipe_is_read_as_it_comes(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def write() -> None:
        with pipe.open("w") as end:
            end.write((DATA / "ftrace-6.18.txt").read_text())

    writer = threading.Thread(target=write)
    writer.start()
    text = read(pipe)
    writer.join()
    assert len(text.events) == 19


def test_a_dash_is_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO((DATA / "perf-6.18-stacks.txt").read_bytes())
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(raw))

    assert len(read(Path("-")).events) == 11
    assert not raw.closed


def test_progress_ends_at_the_size() -> None:
    told: list[tuple[int, int]] = []
    size = (DATA / "ftrace-6.18.txt").stat().st_size
    read(DATA / "ftrace-6.18.txt", progress=lambda done, whole: told.append((done, whole)))

    assert told[-1] == (size, size)


def test_many_chunks_are_the_same_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records are cut nowhere in between, and pairs are found across chunks and segments."""
    path = tmp_path / "text"
    once = (DATA / "perf-6.18-stacks.txt").read_text()
    path.write_text("".join(once.replace(" 12234.", f" {at}1.").replace(" 12668.", f" {at}2.") for at in (1, 2, 3)))
    whole = read(path)
    monkeypatch.setattr(stream, "_CHUNK", 97)
    monkeypatch.setattr(stream, "HEAD", 700)
    monkeypatch.setattr(recorder, "_SEGMENT_EVENTS", 2)
    parts = read(path)

    assert len(whole.events) == 33
    assert [event.site for event in parts.events] == [event.site for event in whole.events]
    assert [event.stack for event in parts.events] == [event.stack for event in whole.events]
    assert parts.trust == whole.trust
    assert parts.recorder.doubts == whole.recorder.doubts


def test_segments_follow_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "_CHUNK", 1000)
    monkeypatch.setattr(recorder, "_SEGMENT_EVENTS", 500)
    text = open_text(lines(tmp_path, *(f"  a-1 [000] ..... {at}.5: {KMALLOC}" for at in range(10, 2010))))
    segments = list(text.segments())

    assert len(segments) > 2
    assert sum(len(segment) for segment in segments) == 2000
    assert {len(column) for column in segments[0].columns.values()} == {len(segments[0])}
    assert list(segments[0].columns) == [column.name for column in COLUMNS]
    assert all(segments[0].columns[column.name].dtype == column.type for column in COLUMNS)
    ends = [segment.start + segment.seconds for segment in segments]
    assert [segment.start for segment in segments[1:]] == pytest.approx(ends[:-1])
    assert (segments[0].start, ends[-1]) == (0.0, 1999.0)
    assert all((np.diff(segment.columns["time"]) >= 0).all() for segment in segments)


def test_no_address_is_left(tmp_path: Path) -> None:
    """Not of memory, not of code, with and without symbols."""
    for symbols in (None, DATA / "kallsyms.txt"):
        text = read(DATA / "ftrace-3.10.txt", kallsyms=symbols)
        meta = text.recorder.meta
        told = repr((meta.sites, meta.stacks, meta.tasks, meta.caches, text.recorder.doubts))
        assert "ffffffff8" not in told
        assert "0x88" not in told
        assert 0xFFFF8800729C3000 not in {event.ptr for event in text.events}
    path = lines(
        tmp_path, *(LINE.replace("f+0x1", site) for site in ("0xffffffff81234567", "ffffffff81234567+0x1", "c0123456"))
    )
    sites = read(path).recorder.meta.sites
    assert [site.text for site in sites[1:]] == ["site-1", "site-2"]


def test_symbols_without_addresses_are_refused(tmp_path: Path) -> None:
    hidden = tmp_path / "kallsyms"
    hidden.write_text("0000000000000000 T _stext\n0000000000000000 t do_one\n")
    for path, words in ((hidden, "has no addresses"), (tmp_path / "none", "cannot read")):
        with pytest.raises(BadInputError, match=words):
            read(DATA / "ftrace-3.10.txt", kallsyms=path)


def test_symbols_of_a_32_bit_kernel(tmp_path: Path) -> None:
    (tmp_path / "kallsyms").write_text("c0529d00 T seq_open\nc0529e00 t other\n")

    assert symbols_of(tmp_path / "kallsyms").resolve(0xC0529D2D) == Site("seq_open+0x2d", "seq_open")


def test_tables_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "MOST", 3)
    sites, stacks = [UNKNOWN], dict[int, tuple[int, ...]]()
    table = Places(sites, stacks, None)

    assert [table.of(f"f{at}+0x1") for at in range(5)] == [1, 2, 0, 0, 0]
    assert (len(sites), table.full) == (3, 3)
    assert [table.stack(f"=> f{at % 2}\n" * at).number for at in range(6)][-1] == 0
    assert len(stacks) == 3


@pytest.mark.parametrize(
    "line",
    [
        LINE.replace("bytes_req=60", "bytes_req=many"),
        LINE.replace("bytes_req=60", "bytes_req=-1"),
        LINE.replace(" bytes_req=60", ""),
        LINE.replace(" gfp_flags=GFP_KERNEL", ""),
        LINE.replace("call_site=", "called_from="),
        LINE.replace("ptr=", "pointer="),
        LINE.replace("00000000353eab38", "x"),
        LINE.replace("00000000353eab38", "f" * 17),
        "  a-1 [000] ..... 1.0: mm_page_alloc: page=1 pfn=0x99 order=99 migratetype=0 gfp_flags=GFP_KERNEL",
        LINE + "x" * 70_000,
        LINE + " more=" + "x" * 3000,
        LINE.replace("1.000001", "1.00000\u0661"),
        "a" * 70_000,
        "\x00\x01\udcff".encode("utf-8", "surrogateescape").decode("latin-1"),
    ],
)
def test_a_line_that_is_no_event_is_skipped_and_kept_short(tmp_path: Path, line: str) -> None:
    text = read(lines(tmp_path, LINE, line, LINE))

    assert len(text.events) == 2
    assert text.recorder.doubts.skipped == 1
    [(number, kept)] = text.recorder.doubts.first
    assert number == 4
    assert len(kept) <= LINE_CHARACTERS
    assert kept.isprintable()


def test_only_the_first_skipped_lines_are_kept() -> None:
    doubts = Doubts()
    for number in range(100):
        doubts.skip(number, "what")
        doubts.note(f"note {number % 60}")

    assert (doubts.skipped, len(doubts.first), len(doubts.notes)) == (100, KEPT_LINES, 50)


def test_numbers_beyond_all_measure_are_capped(tmp_path: Path) -> None:
    most = "9" * 19
    text = read(
        lines(
            tmp_path,
            LINE.replace("1.000001", "9999999999.9").replace("a-1 ", "a-4294967295 ").replace("[000]", "[99999]"),
            LINE.replace("bytes_req=60", f"bytes_req={most}").replace("bytes_alloc=64", f"bytes_alloc={most}"),
            LINE.replace("1.000001", "0.0"),
        )
    )

    assert [event.time for event in text.events] == [0, 0, 0]
    assert text.events[0].cpu == 65535
    assert (text.events[1].requested, text.events[1].key["bytes_alloc"]) == (1 << 48, 0xFFFFFFFF)
    assert any("earlier than the first" in note for note in text.recorder.doubts.notes)


PAGE = "mm_page_alloc: page=0x1 pfn=0x1 order=0 migratetype=0 gfp_flags=GFP_KERNEL"


@pytest.mark.parametrize("comm", ["cat", "[x] y-1", "k-5  [003]", "(tgid) [1]"])
def test_a_strange_command_name_costs_no_stack(tmp_path: Path, comm: str) -> None:
    frames = (
        "\tffffffff81000010 __alloc_pages+0x1 ([kernel.kallsyms])",
        "\tffffffff81000020 f+0x2 ([kernel.kallsyms])",
    )
    perf = f"{comm}  7 [001] 1.%d: kmem:{PAGE}"
    plain = f"cat  7 [001] 1.4: kmem:{PAGE}"
    _, first, second = read(lines(tmp_path, plain, perf % 5, *frames, "", perf % 6, head="")).events

    assert (first.stack, first.site, second.stack) == (("__alloc_pages+0x1", "f+0x2"), "f+0x2", ())
    head = f"  {comm}-7 [001] ....."
    ftrace = lines(tmp_path, f"{head} 1.5: {PAGE}", f"{head} 1.5: <stack trace>", " => __alloc_pages", " => f")
    [event] = read(ftrace).events

    assert (event.stack, event.site) == (("__alloc_pages", "f"), "f")


def test_no_number_of_lost_events_is_too_large_for_a_capture(tmp_path: Path) -> None:
    text = read(lines(tmp_path, LINE, *["CPU:0 [LOST 999999999999999 EVENTS]"] * 2000))

    assert text.trust.lost == text.recorder.doubts.lost == 1 << 48


def test_a_head_that_promises_more_is_noted(tmp_path: Path) -> None:
    head = "# tracer: nop\n#\n# entries-in-buffer/entries-written: 500/500   #P:2\n#\n"

    [note] = [note for note in read(lines(tmp_path, LINE, head=head)).recorder.doubts.notes if "cut" in note]
    assert note == "the text was cut: its head speaks of 500 entries, 1 are there"


def damaged(data: bytes, dice: random.Random) -> bytes:
    """Some bytes changed, doubled, or cut away."""
    raw = bytearray(data)
    for _ in range(dice.randrange(1, 30)):
        at = dice.randrange(len(raw))
        match dice.randrange(4):
            case 0:
                raw[at] = dice.randrange(256)
            case 1:
                del raw[at : at + dice.randrange(1, 40)]
            case 2:
                raw[at:at] = raw[at : at + dice.randrange(1, 40)]
            case _:
                raw[at:at] = dice.choice([b"\n", b" ", b"[", b"9" * 30, b"=", b"\t", b"-", b"\xff", b"\r\n"])
    return bytes(raw)


def attempts() -> Iterator[tuple[str, int]]:
    return ((name, seed) for name in NAMES for seed in range(60))


def test_damage_is_never_more_than_bad_input(tmp_path: Path) -> None:
    path, understood = tmp_path / "text", 0
    for name, seed in attempts():
        path.write_bytes(damaged((DATA / name).read_bytes(), random.Random(f"{name}{seed}")))  # noqa: S311 - a seed
        try:
            text = read(path, strict=seed % 10 == 9)
        except BadInputError:
            continue
        understood += 1
        assert all(isinstance(event.kind, Kind) and event.time >= 0 for event in text.events)
    assert understood > 400


@pytest.mark.parametrize(
    "line",
    [
        "  a-1 [000] ..... 1.0: kmalloc: " + "call_site=" * 5000,
        "  a-1 [000] ..... 1.0: mm_page_alloc_extfrag: " + "page=" * 12_000,
        "  a-1 [000] ..... 1.0: percpu_alloc_percpu: " + "base_addr=" * 6_000 + " ptr=0x1 size=1",
        "  a-1" + " " * 60_000 + "x [000] 1.0: kfree: ptr=1",
        "(" * 60_000,
        " abc ( " * 9000,
        "[" * 60_000,
        "a-1 [0] " * 8000,
        "  a-" + "-1" * 30_000 + " [0]",
    ],
)
def test_no_line_takes_long(tmp_path: Path, line: str) -> None:
    path = lines(tmp_path, LINE, *[line] * 20, LINE)
    start = time.process_time()

    assert len(read(path).events) == 2
    assert time.process_time() - start < 5  # a quadratic pattern takes minutes
