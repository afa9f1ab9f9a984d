"""Captures that someone made up, every digest right: none ends in a traceback, and no other file is opened."""

import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from kmwatch.capture.layout import JOURNAL, META, TABLES
from kmwatch.errors import BadInputError
from kmwatch.rules import judge
from kmwatch.views.report import build
from tests.unit.captures import entries, small_capture, tell, write_journal
from tests.unit.folded import folded, one_database

SEGMENT = "events-00002.parquet"
ODD: tuple[Any, ...] = (
    None, True, -1, 0, 1.5, 1 << 70, float("inf"), float("nan"), -1e300, "", "x", "x" * 5000, "../../etc/passwd",
    "\x1b[2J",
    [], [1], [[]], ["x"] * 3, {}, {"x": 1}, {"file": "x"},
)  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """small_capture, not to be changed."""
    with one_database():
        yield small_capture(tmp_path_factory.mktemp("whole") / "a.kmw")


@pytest.fixture
def capture(whole: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(whole, tmp_path / "a.kmw")


def outcome(directory: Path) -> str:
    """`refused` in one line, `doubted`, or `as before`; anything else is a fault."""
    try:
        made, ledger = folded(directory)
    except BadInputError as error:
        return "refused" if re.fullmatch(".{20,700}", str(error)) else f"said {error}"
    text = json.dumps(build(ledger, judge(ledger)), allow_nan=False)
    if made.doubts or ledger.trust.lost:
        return "doubted"
    return "as before" if ledger.events() == 18 else f"told {ledger.events()} events: {text}"


def places(data: Any) -> Iterator[tuple[Any, ...]]:
    """Where in plain data something stands; of a list the first."""
    items = data.items() if isinstance(data, dict) else [*enumerate(data)][:1] if isinstance(data, list) else []
    for name, value in items:
        yield (name,)
        yield from ((name, *rest) for rest in places(value))


def changed(data: Any, place: tuple[Any, ...], value: Any) -> Any:
    """The same data with something else in one place."""
    copy = json.loads(json.dumps(data))
    inside = copy
    for name in place[:-1]:
        inside = inside[name]
    inside[place[-1]] = value
    return copy


def test_the_manifest_can_say_anything(capture: Path) -> None:
    sound = json.loads((capture / META).read_text())
    seen = {}
    for place in places(sound):
        for value in ODD:
            (capture / META).write_text(json.dumps(changed(sound, place, value)))
            tell(capture, META)
            seen[place, repr(value)[:20]] = outcome(capture)

    assert {key: what for key, what in seen.items() if what not in ("refused", "as before")} == {}
    for place in (
        ("format",),
        ("version",),
        ("host",),
        ("gfp",),
        ("limits", "page_size"),
        ("start",),
        ("host", "cpus"),
    ):
        assert seen[place, "'x'"] == seen[place, "[[]]"] == "refused"
    for value in ("nan", "inf", "-1e+300", "-1"):
        assert seen[("start",), value] == seen[("host", "cpus"), value] == "refused"


@pytest.mark.parametrize(
    "text",
    ["", "[]", "7", "{", '{"format": "kmwatch.capture"}', "[" * 100_000, "\xff", "9" * 5000, '"kmwatch.capture"'],
)
def test_a_manifest_that_is_no_object_is_refused(capture: Path, text: str) -> None:
    (capture / META).write_bytes(text.encode("latin-1"))
    tell(capture, META)

    assert outcome(capture) == "refused"


def test_a_later_version_is_refused_with_what_to_do(capture: Path) -> None:
    sound = json.loads((capture / META).read_text())
    (capture / META).write_text(json.dumps({**sound, "version": 2}))
    tell(capture, META)

    with pytest.raises(BadInputError, match="version 2 of the format, this kmwatch reads 1: update"):
        folded(capture)


def test_the_journal_can_say_anything(capture: Path) -> None:
    sound = entries(capture)
    seen = {}
    told = {
        next(number for number, each in enumerate(sound) if key in each.values())
        for key in (META, "keys.parquet", SEGMENT)
    }
    for number in (*told, len(sound) - 1):
        entry = sound[number]
        for place in places(entry):
            for value in ODD:
                write_journal(capture, [*sound[:number], changed(entry, place, value), *sound[number + 1 :]])
                seen[number, place, repr(value)[:20]] = outcome(capture)

    assert {key: what for key, what in seen.items() if what not in ("refused", "doubted", "as before")} == {}
    segment = next(number for number, entry in enumerate(sound) if entry.get("file") == SEGMENT)
    for name in ("events", "start", "seconds", "first", "last", "trust", "cost"):
        for value in ("None", "True", "nan", "inf", "-1e+300", "'x'", "[[]]"):
            assert seen[segment, (name,), value] == "refused" or (name, value) == ("cost", "[[]]")
    for value in ("-1", "0", "1.5", "None", repr(1 << 70)[:20]):
        assert seen[segment, ("events",), value] == "refused"


@pytest.mark.parametrize(
    "name",
    [
        "../events-00001.parquet",
        "/etc/passwd",
        "./events-00001.parquet",
        "events-00001.parquet/../../x",
        "meta.json",
        "events-1.parquet",
        "events-00001.parquet\n",
        "events-00001.parquet\0",
        "~/events-00001.parquet",
    ],
)
def test_a_name_that_leads_elsewhere_is_refused(capture: Path, name: str) -> None:
    told = entries(capture)
    segment = next(each for each in told if each.get("file") == SEGMENT)
    write_journal(capture, [*told, {**segment, "file": name}])

    with pytest.raises(BadInputError, match="as a segment: this is not a journal of kmwatch"):
        folded(capture)


def test_a_segment_counts_once(capture: Path) -> None:
    told = entries(capture)
    write_journal(capture, [*told, next(each for each in told if each.get("file") == SEGMENT)])

    with pytest.raises(BadInputError, match="names a segment twice"):
        folded(capture)


OPENED: list[str] | None = None


def _watch(name: str, arguments: tuple[Any, ...]) -> None:
    if name == "open" and OPENED is not None:
        OPENED.append(str(arguments[0]))


@pytest.mark.parametrize("name", [META, JOURNAL, *TABLES, SEGMENT])
@pytest.mark.parametrize("to", ["copy", "/dev/zero", "pipe"])
def test_links_and_pipes_are_not_opened(capture: Path, name: str, to: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where what they lead to is what was recorded."""
    outside = capture.parent / "outside"
    shutil.copy(capture / name, outside)
    (capture / name).unlink()
    if to == "pipe":
        os.mkfifo(capture / name)
    else:
        (capture / name).symlink_to(outside if to == "copy" else to)
    sys.addaudithook(_watch)
    opened: list[str] = []
    monkeypatch.setattr(sys.modules[__name__], "OPENED", opened)

    assert outcome(capture) == ("doubted" if name == SEGMENT else "refused")
    assert opened or name == JOURNAL
    assert {path for path in opened if not path.startswith(str(capture))} == set()
    assert str(capture / name) not in opened


def rewritten(directory: Path, name: str, query: str) -> None:
    """A table or segment made anew from itself, called `it`, with the digest that it has then."""
    path = directory / name
    with duckdb.connect(":memory:") as database:
        database.execute(f"CREATE TEMP TABLE it AS SELECT * FROM '{path}'")  # noqa: S608  # a test's own path
        database.execute(f"COPY ({query}) TO '{path}' (FORMAT parquet)")
    tell(directory, name)


OTHER_TABLES: list[tuple[str, str]] = [
    ("keys.parquet", "SELECT * REPLACE (key + 1 AS key) FROM it"),
    ("keys.parquet", "SELECT * REPLACE (0::UINTEGER AS key) FROM it"),
    ("keys.parquet", "SELECT * REPLACE (4000000000 AS site) FROM it"),
    ("keys.parquet", "SELECT * REPLACE (200 AS kind) FROM it"),
    ("keys.parquet", "SELECT * REPLACE (0 AS kind) FROM it"),
    ("keys.parquet", 'SELECT * REPLACE (255 AS "order") FROM it'),
    ("keys.parquet", "SELECT * REPLACE (NULL::UINTEGER AS gfp) FROM it"),
    ("keys.parquet", "SELECT * REPLACE (CASE WHEN key > 0 THEN site END AS site) FROM it"),
    ("keys.parquet", "SELECT * REPLACE (-1 AS cache_size) FROM it"),
    ("keys.parquet", "SELECT * REPLACE (9000000000000000000 AS cache_object_size) FROM it"),
    ("keys.parquet", "SELECT * EXCLUDE (gfp) FROM it"),
    ("keys.parquet", "SELECT * FROM it WHERE key < 2"),
    ("keys.parquet", "SELECT * FROM it WHERE false"),
    ("symbols.parquet", "SELECT * FROM it WHERE symbol < 2"),
    ("symbols.parquet", "SELECT * REPLACE (symbol + 1 AS symbol) FROM it"),
    ("symbols.parquet", "SELECT 1 AS x"),
    ("stacks.parquet", "SELECT * REPLACE ('x' AS depth) FROM it"),
    ("stacks.parquet", "SELECT * REPLACE (-1 AS symbol) FROM it"),
    ("tasks.parquet", "SELECT * REPLACE ([1] AS task) FROM it"),
    ("tasks.parquet", "SELECT * REPLACE (NULL::UINTEGER AS task) FROM it"),
    (SEGMENT, "SELECT * FROM it LIMIT 2"),
    (SEGMENT, "SELECT * FROM it UNION ALL SELECT * FROM it"),
    (SEGMENT, "SELECT * FROM it WHERE false"),
    (SEGMENT, "SELECT * REPLACE (key + 900 AS key) FROM it"),
    (SEGMENT, "SELECT * REPLACE (CASE WHEN cpu = 0 THEN 4000000000 ELSE key END AS key) FROM it"),
    (SEGMENT, "SELECT * REPLACE (NULL::UINTEGER AS key) FROM it"),
    (SEGMENT, "SELECT * REPLACE (NULL::BIGINT AS time) FROM it"),
    (SEGMENT, "SELECT * REPLACE (NULL::BIGINT AS requested) FROM it"),
    (SEGMENT, "SELECT * REPLACE (-5 AS requested) FROM it"),
    (SEGMENT, "SELECT * REPLACE (9223372036854775807 AS requested) FROM it"),
    (SEGMENT, "SELECT * REPLACE (NULL::UINTEGER AS task) FROM it"),
    (SEGMENT, "SELECT * REPLACE ('x' AS key) FROM it"),
    (SEGMENT, "SELECT * REPLACE ([key] AS key) FROM it"),
    (SEGMENT, "SELECT * REPLACE (1e300 AS time) FROM it"),
    (SEGMENT, "SELECT * REPLACE ('NaN'::DOUBLE AS requested) FROM it"),
    (SEGMENT, "SELECT * EXCLUDE (task) FROM it"),
    (SEGMENT, "SELECT 1 AS x"),
]  # fmt: skip
SAME_TABLES: list[tuple[str, str]] = [
    ("keys.parquet", "SELECT * FROM it ORDER BY key DESC"),
    ("keys.parquet", "SELECT *, 1 AS more FROM it"),
    ("keys.parquet", "SELECT * REPLACE (key::VARCHAR AS key, gfp::BIGINT AS gfp) FROM it"),
    ("symbols.parquet", "SELECT * REPLACE (repeat('x', 100000) AS function) FROM it"),
    ("stacks.parquet", "SELECT * REPLACE (4000000000 AS symbol) FROM it"),
    ("tasks.parquet", "SELECT * FROM it WHERE false"),
    (SEGMENT, "SELECT *, 1 AS more FROM it"),
    (SEGMENT, "SELECT * REPLACE (key::VARCHAR AS key, cpu::BIGINT AS cpu) FROM it"),
    (SEGMENT, "SELECT * REPLACE (key::DOUBLE AS key) FROM it"),
    (SEGMENT, "SELECT * FROM it ORDER BY time DESC"),
]


@pytest.mark.parametrize(("name", "query"), OTHER_TABLES)
def test_a_table_with_something_else_in_it_is_refused(capture: Path, name: str, query: str) -> None:
    rewritten(capture, name, query)

    assert outcome(capture) in ("refused", "doubted")


@pytest.mark.parametrize(("name", "query"), SAME_TABLES)
def test_a_table_with_the_same_in_another_form_is_read(capture: Path, name: str, query: str) -> None:
    rewritten(capture, name, query)

    assert outcome(capture) == "as before"


@pytest.mark.parametrize("name", [*TABLES, SEGMENT])
@pytest.mark.parametrize(
    "data", [b"", b"PAR1", b"PAR1" + bytes(100) + b"PAR1", b"\0" * 5000, b"site,function\n1,2\n", b"{}"]
)
def test_what_is_no_parquet_is_refused(capture: Path, name: str, data: bytes) -> None:
    (capture / name).write_bytes(data)
    tell(capture, name)

    assert outcome(capture) == "refused"


@pytest.mark.parametrize(
    "make", [Path.mkdir, lambda path: path.symlink_to("nowhere")], ids=["directory", "dangling link"]
)
@pytest.mark.parametrize("name", [META, JOURNAL, *TABLES, SEGMENT])
def test_what_is_no_file_is_refused(capture: Path, name: str, make: Callable[[Path], None]) -> None:
    (capture / name).unlink()
    make(capture / name)

    assert outcome(capture) == ("doubted" if name == SEGMENT else "refused")


def test_what_is_no_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")

    for name in ("file", "nothing"):
        with pytest.raises(
            BadInputError, match="is not a directory: a capture is one; `kmwatch record -o DIR` makes it"
        ):
            folded(tmp_path / name)


def test_segments_that_the_journal_does_not_tell_of_are_doubted(capture: Path) -> None:
    for number in (7, 5):
        shutil.copy(capture / SEGMENT, capture / f"events-{number:05}.parquet")

    made, ledger = folded(capture)

    assert made.doubts == ["2 segments that the journal does not tell of are left out: events-00005.parquet …"]
    assert ledger.events() == 18
