"""Even chunks: taken apart by columns they give what they give line by line, to the last number."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kmwatch.events import COLUMNS
from kmwatch.schema import Kind
from kmwatch.sources.text import TextRecorder, even, open_text, reading, stream
from tests.unit.trace_texts import DATA, NAMES

PERF_HEAD, FTRACE_HEAD = "# captured on : today\n#\n", "# tracer: nop\n#\n"
REST = "bytes_req=60 bytes_alloc=64 gfp_flags=GFP_KERNEL node=-1 accounted=false"
LARGE = "bytes_req=20000 bytes_alloc=32768 gfp_flags=GFP_KERNEL node=-1 accounted=false"


@pytest.fixture(autouse=True)
def chunks_of_few_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many chunks, and pointers that two readings can be compared by."""
    monkeypatch.setattr(stream, "_CHUNK", 4096)
    monkeypatch.setattr(stream, "HEAD", 4096)
    monkeypatch.setattr("kmwatch.sources.text.recorder.Scrambler", lambda: lambda pointers: pointers)


def perf(words: str, time: str = "67602.486342811", who: str = "   stress-ng-msg 22329 [001]") -> str:
    """A line as perf writes it."""
    return f"{who} {time}: kmem:{words}"


def ftrace(words: str, time: str = "12233.078251", who: str = "            bash-11399   [001] .....") -> str:
    """A line as ftrace writes it."""
    return f"{who} {time}: {words}"


def everything(path: Path) -> dict[str, Any]:
    """All that a text gives."""
    recorder = open_text(path)
    assert isinstance(recorder, TextRecorder)
    segments = list(recorder.segments())
    meta, read = recorder.meta, recorder._reading
    return {
        **{column.name: [each.columns[column.name].tolist() for each in segments] for column in COLUMNS},
        "spans": [(each.start, each.seconds, each.trust) for each in segments],
        "keys": recorder.keys.tolist(),
        "meta": (
            meta.host,
            meta.sites,
            meta.stacks,
            meta.caches,
            meta.tasks,
            meta.probes,
            meta.context,
            meta.gfp,
        ),
        "doubts": recorder.doubts,
        "read": (read.others, read.without_stack, recorder._clock.back, recorder._threads.full, recorder._lines.rows),
    }


def both(path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, Any], int]:
    """All that a text gives, after it was the same line by line; and how many lines were taken by columns."""
    taken = []

    def counted(self: even.Evens, text: str, of: Callable[[even.Evens, str], even.Even | None]) -> even.Even | None:
        found = of(self, text)
        taken.append(len(found.heads) if found else 0)
        return found

    of = even.Evens.of
    with monkeypatch.context() as patch:
        patch.setattr(even.Evens, "of", lambda self, text: counted(self, text, of))
        got = everything(path)
    with monkeypatch.context() as patch:
        patch.setattr(even.Evens, "of", lambda *_: None)
        expected = everything(path)
    for name, value in expected.items():
        assert got[name] == value, name
    return got, sum(taken)


def written(tmp_path: Path, lines: list[str], head: str = PERF_HEAD, end: str = "\n") -> Path:
    """A file of such lines."""
    path = tmp_path / "text"
    path.write_bytes((head + "\n".join(lines) + end).encode("utf-8", "surrogateescape"))
    return path


def ordinary(seed: int, count: int, line: Callable[..., str], prefix: str) -> list[str]:
    """Allocations and frees as they come, a third of the frees of NULL."""
    chance = random.Random(seed)  # noqa: S311 - repeatable, not secret
    found, nulls = [], ["(nil)", "(null)"] if seed % 2 else [f"{prefix}{0:016}"]
    for at in range(count):
        time, site = f"{9_000 + at // 100}.{at % 100:02}{chance.randrange(10_000):04}", chance.randrange(9)
        value = f"{prefix}{0xFFFF888100000000 + 64 * chance.randrange(500):016x}"
        words = f"kfree: call_site=f{site}+0x1/0x2 ptr={chance.choice([value, value, *nulls])}"
        if chance.random() < 0.5:
            words = f"kmalloc: call_site=f{site}+0x1/0x2 [m{site % 2}] ptr={value} {REST}"
        found.append(line(words, time))
    return found


@pytest.mark.parametrize(
    ("head", "line", "prefix"),
    [(PERF_HEAD, perf, "0x"), (PERF_HEAD, perf, ""), (FTRACE_HEAD, ftrace, ""), (FTRACE_HEAD, ftrace, "0x")],
)
def test_a_plain_text_is_taken_by_columns(
    head: str, line: Callable[..., str], prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but the chunks with head lines, and the one after it."""
    lines = ordinary(1, 2000, line, prefix)

    got, taken = both(written(tmp_path, lines, head), monkeypatch)

    assert taken > 1800
    assert got["doubts"].lines == 2002
    assert got["doubts"].events == sum("ptr=(" not in text for text in lines)
    assert len(got["keys"]) == 18


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("repeated", [1, 40])
def test_real_texts_are_the_same(name: str, repeated: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "text"
    path.write_bytes((DATA / name).read_bytes() * repeated)

    both(path, monkeypatch)


@pytest.mark.parametrize(("name", "head"), [("ftrace-6.18.txt", FTRACE_HEAD), ("perf-6.18-flat.txt", PERF_HEAD)])
def test_real_slab_lines_are_taken_by_columns(
    name: str, head: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of one width of time; of NULL ftrace writes digits, perf a word."""
    events = ("kmalloc: ", "kfree: ", "kmem_cache_alloc: ", "kmem_cache_free: ")
    lines = [line for line in (DATA / name).read_text().splitlines() if any(event in line for event in events)]
    width = lines[0].index(": ")
    lines = [line for line in lines if line.index(": ") == width and line[width - 12] == lines[0][width - 12]]

    _, taken = both(written(tmp_path, lines * (1000 // len(lines)), head), monkeypatch)

    assert taken > 500


ODD = [
    "kmalloc: call_site=f+0x1/0x2 ptr=(nil) " + REST,
    "kmalloc: call_site=f+0x1/0x2 ptr=(null) " + REST,
    "kmalloc: call_site=f+0x1/0x2 ptr=0x0000000000000010 " + REST,
    "kfree: call_site=f+0x1/0x2 ptr=0x0000000000000010",
    "kfree: call_site=f+0x1/0x2 ptr=0x0000000000000000",
    "kfree: call_site=f+0x1/0x2 ptr=0xffffffffffffffff",
    "kfree: call_site=g+0x1/0x2 ptr=(nil)",
    "kfree: call_site=g+0x1/0x2 ptr=(nil) ",
    "kfree: call_site=g+0x1/0x2 xptr=(nil)",
    "kfree: call_site=f+0x1/0x2 ptr=0xffff88810000000",
    "kfree: call_site=f+0x1/0x2 ptr=0xffff8881000000000",
    "kfree: call_site=f+0x1/0x2 ptr=0xFFFF888100000000",
    "kfree: call_site=f+0x1/0x2 ptr=0Xffff888100000000",
    "kfree: call_site=f+0x1/0x2 ptr=ffff888100000000",
    "kfree: call_site=f+0x1/0x2 ptr= 0xffff888100000000",
    "kfree: call_site=f+0x1/0x2 ptr=0xffff888100000000\t",
    "kfree: call_site=f+0x1/0x2 ptr=0xffff888100000000 more=1 ",
    "kfree: call_site=f+0x1/0x2 ptr=(____ptrval____)",
    "kfree: call_site=a=b ptr=0xffff888100000000",
    "kfree: call_site=a:b ptr=0xffff888100000000",
    "kfree: ptr=0xffff888100000000 call_site=f+0x1/0x2",
    "kfree: call_site=f+0x1/0x2 ptr=0xffff888100000000 ptr=0xffff888100000040",
    "kfree: nothing=f ptr=0xffff888100000000",
    "kmalloc: call_site=f+0x1/0x2 ptr=0xffff888100000000 bytes_req=-1 bytes_alloc=64 gfp_flags=GFP_KERNEL",
    "kmalloc: call_site=sel_write_load+0x1/0x2 ptr=0xffff888100004000 " + LARGE,
    "kmalloc: call_site=kvmalloc_node+0x1/0x2 ptr=0xffff888100004000 " + LARGE,
    "kmalloc: call_site=kvmalloc_node+0x1/0x2 ptr=(nil) " + LARGE,
    "kmalloc: call_site=sel_write_load+0x1/0x2 ptr=(nil) " + LARGE,
    "kfree: call_site=f+0x1/0x2 ptr=0xffff888100004000",
    "kmem_cache_alloc: call_site=f ptr=0xffff888100000000 name=c bytes_req=60 bytes_alloc=64 gfp_flags=GFP_NOFS",
    "kmem_cache_alloc: call_site=f ptr=0xffff888100000000 name=c bytes_req=70 bytes_alloc=72 gfp_flags=GFP_NOFS",
    "kmem_cache_free: call_site=f ptr=0xffff888100000000 name=c",
    "kmem_cache_free: call_site=f ptr=(nil) name=c",
    "mm_page_free: page=0xffffea00 pfn=0x1234 order=0",
    "kfree: call_site=f\N{SNOWMAN} ptr=0xffff888100000000",
    "kfree: call_site=f\0 ptr=0xffff888100000000",
    "kfree: call_site=f\r ptr=0xffff888100000000\r",
    "kfree: call_site=" + "f" * 500 + " ptr=0xffff888100000000",
    "kfree: call_site=f+0x1/0x2 ptr=0xffff888100000000 " + "x=" * 50_000,
    "kfree: <stack trace> call_site=f ptr=0xffff888100000000",
    "kfree",
]
WHOLE = [
    "",
    "#",
    "CPU:1 [LOST 17 EVENTS]",
    "\tffffffff8162184b __alloc_frozen_pages_noprof+0x26b ([kernel.kallsyms])",
    "\t[000] 1.000001: kmem:kfree: call_site=f ptr=0xffff888100000000",
    " => f",
    "=> f[000] 1.000001: kfree: call_site=f ptr=0xffff888100000000",
    "=" * 3,
    ":" * 9 + "call_site=f ptr=0xffff888100000000",
]
WHO = [
    "   stress-ng-msg 22329 [001]",
    "   stress-ng-msg 22330 [000]",
    "    a=b ptr=0x1   123 [000]",
    "     a: b: c:d:   123 [000]",
    "      1.2: a:     123 [000]",
    "         [a] b    123 [000]",
    " kworker/0:1-x    123 [000]",
    "  123 [000]",
    "            bash-16258   [000] .....",
    "            bash-16258   (  16258) [000] d..2.",
    "            bash-16258   [000]",
    "           <...>-7       [017] D.h1.  ",
    " [[x]]-7       [000] D.h1.",
    "x" * 90 + "-7 [000] .....",
    "no head at all",
]
TIMES = [
    "9999.999999",
    "10000.000001",
    "9998.000000",
    "9999.9",
    "12",
    "9999.",
    "9_99.999999",
    "0009.999999",
    "9999.99999x",
]


@st.composite
def texts(draw: st.DrawFn) -> tuple[str, list[str], str]:
    """Ordinary lines with odd ones among them, at the end as at the beginning."""
    head, line, prefix = draw(st.sampled_from([(PERF_HEAD, perf, "0x"), (FTRACE_HEAD, ftrace, "")]))
    usual = draw(st.lists(st.sampled_from(WHO), min_size=1, max_size=2))
    lines = ordinary(draw(st.integers(0, 9)), draw(st.integers(60, 300)), line, draw(st.sampled_from([prefix, "0x"])))
    words = draw(st.lists(st.sampled_from(ODD), max_size=8))
    odd = [line(each, draw(st.sampled_from(TIMES[:2])), draw(st.sampled_from(usual))) for each in words]
    odd += [
        line(
            f"kfree: call_site=f ptr={prefix}ffff888100000000", draw(st.sampled_from(TIMES)), draw(st.sampled_from(WHO))
        )
        for _ in range(draw(st.integers(0, 3)))
    ]
    odd += draw(st.lists(st.sampled_from(WHOLE), max_size=2))
    for each in odd:
        for _ in range(draw(st.integers(1, 3))):
            lines.insert(draw(st.integers(1, len(lines))), each)
    return head, lines, draw(st.sampled_from(["\n", "", "\n\n", "\r\n"]))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=texts())
def test_odd_lines_change_nothing(
    text: tuple[str, list[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head, lines, end = text

    both(written(tmp_path, lines, head, end), monkeypatch)


@pytest.mark.parametrize("words", ODD)
def test_each_odd_line_changes_nothing(words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same line many times, in chunks that would be even without it or are even with it."""
    lines = ordinary(2, 1000, perf, "0x")
    for at in range(300, 900, 7):
        lines[at] = perf(words, lines[at].split()[3].rstrip(":"), WHO[at % 2])

    both(written(tmp_path, lines), monkeypatch)


FREE = "kfree: call_site=f ptr=0xffff888100000000"
ALIKE = {
    "letters": (
        FTRACE_HEAD,
        [
            ftrace("kmalloc: call_site=f ptr=0xffff888100000000 " + REST, who=f" a-1 [000] {letters}")
            for letters in (".....", "d..1.", "..s1.", ".....", "D.h1.")
        ],
    ),
    "zeros": (
        PERF_HEAD,
        [perf(f"kmem_cache_free: call_site=f ptr=0xffff888100000000 name=c{end}") for end in ("", "\0", " ", "\0\0")],
    ),
    "frames": (PERF_HEAD, [perf(FREE), perf(FREE, who="\tstress-ng-msg 22329 [001]"), perf(FREE)]),
    "empty": (
        PERF_HEAD,
        [
            perf(f"kmalloc: call_site=kvmalloc_node+0x1/0x2 ptr=0x0000000000000010 {LARGE}"),
            perf("kfree: call_site=f ptr=0x0000000000000010"),
            perf(f"kmalloc: call_site=sel_write_load+0x1/0x2 ptr=0x0000000000000010 {LARGE}"),
        ],
    ),
}


@pytest.mark.parametrize("name", ALIKE)
def test_lines_that_look_alike_are_told_apart(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What differs in one respect only, in chunks that are read by columns where they can be."""
    head, lines = ALIKE[name]
    usual = [line.replace("\0", "").replace("\t", "") for line in lines[:1]] * 99

    both(written(tmp_path, usual + lines * 200, head), monkeypatch)


def test_large_pairs_are_found_across_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the second of them is in the next chunk, and where the memory was freed in between."""
    lines = ordinary(3, 1500, perf, "0x")
    first, second, free = (perf(ODD[at], "9007.000000") for at in (25, 24, 28))
    for at in range(200, 1400, 31):
        lines[at], lines[at + 1 + at % 25] = first, second
    for at in range(210, 1400, 93):
        lines[at] = free

    got, taken = both(written(tmp_path, lines), monkeypatch)

    assert taken > 1300
    assert sum(trust.duplicates_removed for _, _, trust in got["spans"]) > 20


def test_a_cache_whose_sizes_become_known_in_a_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is known of templates becomes void then, in chunks that are read either way."""
    lines = ordinary(4, 1500, perf, "0x")
    small, other, free = (perf(ODD[at], "9007.000000") for at in (29, 30, 31))
    for at in range(200, 1400, 20):
        size = 64 + 8 * (at // 100)
        lines[at : at + 3] = [free, (small if at % 100 else other).replace("=64", f"={size}"), free]
    lines[700] = "#"

    got, taken = both(written(tmp_path, lines), monkeypatch)

    assert taken > 1000
    assert {row[4] for row in got["keys"]} >= {int(Kind.CACHE_ALLOC), int(Kind.CACHE_FREE)}
    assert len({cache.size for cache in got["meta"][3] if cache.name == "c"}) > 10


def test_a_time_that_grows_a_digit_is_read_line_by_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [perf("kfree: call_site=f ptr=0xffff888100000000", f"{9995 + at / 100:.6f}") for at in range(1000)]

    got, taken = both(written(tmp_path, lines), monkeypatch)

    assert taken > 500
    assert got["time"][-1][-1] == 9_990_000_000


def test_tables_are_renewed_and_what_is_always_new_is_read_line_by_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever makes up names for every line fills no table, and wins no time."""
    monkeypatch.setattr(even, "_MOST_NUMBERS", 10)
    monkeypatch.setattr(reading, "_MOST_MEMO", 100)
    many = [
        perf(f"kfree: call_site=f{at // 40} ptr=0xffff888100000000", who=f" a{at // 20} 1 [000]") for at in range(2000)
    ]
    new = [perf(f"kfree: call_site=f{at} ptr=0xffff888100000000") for at in range(2000)]

    _, taken = both(written(tmp_path, many), monkeypatch)
    assert taken > 1800
    _, taken = both(written(tmp_path, new), monkeypatch)
    assert taken == 0


def test_after_chunks_that_are_not_even_few_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    evens = even.Evens(open_shape())
    asked = []
    cut = even.cuts_of
    monkeypatch.setattr(even, "cuts_of", lambda text, colons: (asked.append(text), cut(text, colons))[1])
    good = perf("kfree: call_site=f ptr=0xffff888100000000") + "\n"

    assert [bool(evens.of("other\n")) for _ in range(1000)] == [False] * 1000
    assert 10 < len(asked) < 25
    assert any(evens.of(good) for _ in range(65))
    assert all(evens.of(good) for _ in range(9))


def open_shape() -> Any:
    """The shape of perf's lines."""
    from kmwatch.sources.text.shapes import shape_of

    return shape_of(perf("kfree: call_site=f ptr=0xffff888100000000") + "\n")
