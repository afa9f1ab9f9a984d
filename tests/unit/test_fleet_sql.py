"""One question to many captures: their sum answers, each row says whose it is, and nothing else is seen."""

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner, Result

from kmwatch.batch import Host
from kmwatch.capture.database import VIEWS, WHOSE, Database, ask
from kmwatch.capture.layout import EVENTS
from kmwatch.capture.reader import Capture
from kmwatch.cli import cli
from kmwatch.errors import BadInputError, UsageError
from tests.unit import rows, storage
from tests.unit.captures import at, small_capture, tell, write_capture

HOSTILE = ["*", "?", "[ab]", "x'y", "k=1", "{a,b}", '"; drop', "e\x1b[2J", "héllo 🧠", "a", "b"]


def invoked(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [*map(str, arguments)], standalone_mode=False)


def answer(fleet: Path | str, query: str) -> list[tuple[Any, ...]]:
    """The rows; every capture must have been read."""
    result = invoked("sql", fleet, query, "--json")
    assert (result.exception, result.return_value) == (None, 0)
    return [tuple(row.values()) for row in json.loads(result.stdout)]


def small(root: Path, host: str, kernel: str, *events: Any) -> Path:
    """A capture of a host, laid out as a fleet's."""
    about = Host("localhost", kernel, "", 2)
    return write_capture(root / f"host={host}" / "date=2026-11-23" / "boot", [[*events]], host=about)


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    """Two captures whose keys, symbols, tasks and stacks have the same numbers and mean different things."""
    for host, size, count, kernel in (("a", 60, 3, "6.12.1"), ("b", 3000, 5, "6.18.2")):
        event = at(
            0.1, rows.kmalloc(f"on_{host}+0x1", size, count=count), comm=f"comm-{host}", stack=(f"on_{host}+0x1",)
        )
        small(tmp_path, host, kernel, event)
    return tmp_path


def test_numbers_of_one_capture_are_not_those_of_another(fleet: Path) -> None:
    name = "host={}/date=2026-11-23/boot"
    query = "select capture, host, kernel, site, requested, comm, stack, count(*) from events group by all order by 1"
    assert answer(fleet, query) == [
        (name.format("a"), "a", "6.12.1", "on_a+0x1", 60, "comm-a", 1, 3),
        (name.format("b"), "b", "6.18.2", "on_b+0x1", 3000, "comm-b", 1, 5),
    ]
    query = "select distinct host, s.site, e.site as own from events e join stacks s using (capture, host, stack)"
    assert answer(fleet, f"{query} order by 1") == [("a", "on_a+0x1", "on_a+0x1"), ("b", "on_b+0x1", "on_b+0x1")]
    assert answer(fleet, "select host, task, comm from tasks where task = 1 order by 1") == [
        ("a", 1, "comm-a"),
        ("b", 1, "comm-b"),
    ]
    assert answer(fleet, "select host from sites where function = 'on_b'") == [("b",)]


def test_sums_are_those_of_the_single_captures(tmp_path: Path) -> None:
    for host in ("a", "b", "c"):
        small_capture(tmp_path / f"host={host}" / "x")
    small(tmp_path, "d", "6.12.1", at(0.1, rows.pages("probe+0x9", 2, gfp="GFP_ATOMIC", count=4)))
    query = """select kind, site, gfp, context, cache, "order", zone, via, failed, comm, cgroup, count(*),
        sum(requested)::bigint, sum(allocated)::bigint, sum(time) from events group by all"""
    singles: dict[tuple[Any, ...], list[float]] = {}
    for path in tmp_path.rglob("journal.jsonl"):
        for *group, events, requested, allocated, time in ask(Capture(path.parent), query).rows(999):
            summed = singles.setdefault(tuple(group), [0, 0, 0, 0.0])
            summed[:] = [one + other for one, other in zip(summed, (events, requested, allocated, time), strict=True)]

    whole = {tuple(row[:-4]): list(row[-4:]) for row in answer(tmp_path, query)}

    assert whole.keys() == singles.keys()
    assert all(whole[group] == pytest.approx(singles[group]) for group in whole)
    assert sum(values[0] for values in whole.values()) == 3 * 18 + 4


@pytest.mark.parametrize("view", VIEWS)
def test_the_columns_are_those_of_the_table_of_fields(fleet: Path, view: str) -> None:
    wanted = [(field.name, field.type) for field in (*WHOSE, *VIEWS[view])]

    assert [row[:2] for row in answer(fleet, f"describe {view}")] == wanted


def test_hosts_and_directories_can_have_any_name(tmp_path: Path) -> None:
    for number, name in enumerate(HOSTILE):
        write_capture(tmp_path / name / "c", [[at(0.1, rows.kmalloc("f+0x1", 60, count=number + 1))]])

    found = answer(tmp_path, "select capture, count(*) from events group by all order by 2")

    assert found == [(f"{name}/c", number + 1) for number, name in enumerate(HOSTILE)]
    assert "\x1b" not in invoked("sql", tmp_path, "select distinct capture from events").stdout


def test_a_link_and_a_relative_path_lead_to_it(fleet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (fleet / "work").mkdir()
    (fleet / "work" / "link").symlink_to(fleet)
    monkeypatch.chdir(fleet / "work")

    for source in ("..", "link", "../host=[ab]"):
        assert answer(source, "select count(*) from events") == [(8,)], source


def test_nothing_else_is_seen(fleet: Path) -> None:
    other = small_capture(fleet.parent / "other.kmw")
    for query in (
        "from read_text('/etc/passwd')",
        f"from read_parquet('{other}/keys.parquet')",
        f"from '{fleet}/../other.kmw/keys.parquet'",
        "from glob('/*')",
        "select 1; select 2",
        "copy (select 1) to '/tmp/x'",
        "set threads = 1",
    ):
        assert isinstance(invoked("sql", fleet, query).exception, UsageError), query


def test_damaged_segments_are_left_out_and_told(fleet: Path) -> None:
    broken = fleet / "host=b" / "date=2026-11-23" / "boot" / "events-00001.parquet"
    broken.write_bytes(broken.read_bytes()[:-1] + b"x")

    result = invoked("sql", fleet, "select host, count(*) from events group by all", "--csv")

    assert result.stdout.splitlines()[1:] == ["a,3"]
    assert "host=b/date=2026-11-23/boot: events-00001.parquet is damaged" in result.stderr


def test_one_that_is_unreadable_is_named_and_the_rest_answers(fleet: Path) -> None:
    (fleet / "host=a" / "date=2026-11-23" / "boot" / "meta.json").write_text("{")

    result = invoked("sql", fleet, "select host, count(*) from events group by all", "--csv")

    assert result.stdout.splitlines()[1:] == ["b,5"]
    assert result.return_value == 4
    assert "host=a/date=2026-11-23/boot is in no number: " in result.stderr
    assert "meta.json is damaged" in result.stderr


def test_where_none_can_be_read_that_is_an_error(fleet: Path) -> None:
    for path in fleet.rglob("keys.parquet"):
        path.unlink()

    assert "none of 2 captures can be read" in str(invoked("sql", fleet, "from events").exception)


@pytest.mark.parametrize(("name", "number"), [("aaa", 1), ("aaa", 2), ("zzz", 2)])
def test_a_made_up_capture_does_not_decide_for_the_others(fleet: Path, name: str, number: int) -> None:
    """Its digests are right, its columns are not; the first of all files says what the others are read as."""
    directory = small_capture(fleet / name)
    path = directory / f"events-{number:05}.parquet"
    names = ", ".join(f"'x' AS \"{field.name}\"" for field in EVENTS)
    duckdb.execute(f"COPY (SELECT {names}) TO '{path}' (FORMAT parquet)")
    tell(directory, path.name)

    result = invoked("sql", fleet, "select count(*) from events", "--csv")

    assert result.stdout.splitlines()[1:] == ["8"]
    assert result.return_value == 4
    assert "segments have columns of other types" in result.stderr


def test_captures_without_events_have_their_tables(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_capture(tmp_path / name, [[]])

    assert answer(tmp_path, "select count(*) from events") == [(0,)]
    assert answer(tmp_path, "select capture, symbol, site from sites order by 1") == [
        ("a", 0, "unknown"),
        ("b", 0, "unknown"),
    ]


def test_a_long_list_of_doubts_is_cut(tmp_path: Path) -> None:
    for number in range(30):
        write_capture(tmp_path / f"c{number:02}", [[at(0.1, rows.kmalloc("f+0x1", 60))]], ended=False)

    told = invoked("sql", tmp_path, "select 1").stderr.splitlines()

    assert len(told) == 21
    assert told[-1] == "kmwatch: and 10 doubts more: `kmwatch info` counts them"


def test_captures_behind_a_url_stay_until_the_query_has_ended(
    fleet: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path_factory.mktemp("staged")
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    with storage.server() as address:
        storage.use(monkeypatch, address)
        for path in sorted(fleet.rglob("journal.jsonl")):
            assert (
                invoked(
                    "upload", path.parent, "--into", f"s3://{storage.BUCKET}/sql", "--name", path.parts[-4][-1]
                ).exception
                is None
            )
        found = answer(f"s3://{storage.BUCKET}/sql", "select site, count(*) from events group by all order by 2")
        monkeypatch.setattr("kmwatch.fleet.staging._fetch", lambda *_: pytest.fail("it was fetched"))
        assert isinstance(invoked("sql", f"s3://{storage.BUCKET}/sql", "select nope from events").exception, UsageError)

    assert found == [("on_a+0x1", 3), ("on_b+0x1", 5)]
    assert list(temporary.iterdir()) == []


def test_a_path_that_is_no_utf8_is_refused_in_words(fleet: Path) -> None:
    fleet.joinpath("host=a").rename(f"{fleet}/host=\udcff")

    result = invoked("sql", fleet, "select count(*) from events", "--csv")

    assert result.stdout.splitlines()[1:] == ["5"]
    assert result.return_value == 4
    assert "is no UTF-8: rename it" in result.stderr
    with pytest.raises(BadInputError, match="is no UTF-8"):
        Capture(Path(f"{fleet}/host=\udcff/date=2026-11-23/boot"))


def test_names_are_joined_to_events_and_not_to_each_of_their_files(tmp_path: Path) -> None:
    """A table with a row for each pair of a segment and a key would outgrow any memory."""
    seconds = [[at(second + 0.1, rows.kmalloc(f"f{key}+0x1", 60)) for key in range(20)] for second in range(12)]
    database = Database(several=True)
    for name in ("a", "b"):
        database.add(Capture(write_capture(tmp_path / name, seconds)), name)
    assert database.ask("select count(*), count(distinct site) from events").rows(9) == [(480, 20)]

    database._database.execute("explain (format json) select site from events where site = 'f3+0x1'")
    plan = json.loads(str(database._database.fetchall()[0][1]))

    inside = [each for each in _joins(plan[0]) if "segments" in each and "named_keys" in each]
    assert inside
    assert all("READ_PARQUET" in each for each in inside)


def _joins(node: dict[str, Any]) -> list[str]:
    """Of each join in a plan all that is below it."""
    below = [join for child in node["children"] for join in _joins(child)]
    return [*below, json.dumps(node).replace("PARQUET_SCAN", "READ_PARQUET")] if "JOIN" in node["name"] else below
