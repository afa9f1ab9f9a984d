"""Questions to a capture in SQL: only its own events answer, nothing is changed, and nothing steers the terminal."""

import io
import os
from pathlib import Path

import duckdb
import pytest

from kmwatch.capture import engine
from kmwatch.capture.database import ask
from kmwatch.capture.reader import Capture
from kmwatch.errors import UsageError
from kmwatch.views import query as view
from tests.unit import rows
from tests.unit.captures import at, small_capture, write_capture

STEERING = "evil\x1b[2J"


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """small_capture, not to be changed."""
    return small_capture(tmp_path_factory.mktemp("sql") / "a.kmw")


@pytest.fixture(scope="module")
def steering(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A capture with a command name that would clear the screen."""
    events = [at(0.5, rows.kmalloc("f+0x1", 60), comm=STEERING)]
    return write_capture(tmp_path_factory.mktemp("steering") / "a.kmw", [events])


@pytest.mark.parametrize("name", ["*", "?", "a*.kmw", "[ab]", "a[b].kmw", "x'y", "k=1", "{a,b}"])
def test_a_directory_means_itself_whatever_it_is_called(tmp_path: Path, name: str) -> None:
    """DuckDB would take some of these for patterns, and read the neighbours too."""
    for other in ("a", "b", "ab.kmw"):
        small_capture(tmp_path / other / "c.kmw")
    directory = write_capture(tmp_path / name / "c.kmw", [[at(0.5, rows.kmalloc("f+0x1", 60))]])

    assert ask(Capture(directory), "select site, requested from events").rows(9) == [("f+0x1", 60)]


@pytest.mark.parametrize(
    "query",
    [
        "explain analyze copy (select 1) to '{}/events-00001.parquet'",
        "explain select 1",
        "copy (select 1) to '{}/x'",
        "pragma database_list",
        "set threads = 1",
        "select 1; select 2",
        "",
    ],
)
def test_what_is_no_select_is_refused(capture: Path, query: str) -> None:
    before = {path.name: path.read_bytes() for path in capture.iterdir()}

    with pytest.raises(UsageError, match="one SELECT, please"):
        ask(Capture(capture), query.format(capture))
    assert {path.name: path.read_bytes() for path in capture.iterdir()} == before


@pytest.mark.parametrize(
    "query", ["from read_text('{}/../b')", "from '/etc/passwd'", "from glob('/*')", "from capture"]
)
def test_nothing_else_is_seen(capture: Path, query: str) -> None:
    (capture.parent / "b").write_text("other")

    with pytest.raises(UsageError, match="the query does not work: "):
        ask(Capture(capture), query.format(capture))


def test_an_error_in_a_late_row_is_one_line(capture: Path) -> None:
    answer = ask(Capture(capture), "select if(i = 900000, error('late'), i) from range(1000000) t(i)")

    with pytest.raises(UsageError, match="the query does not work: late"):
        list(view._each(answer.rows))


def test_an_error_that_quotes_a_capture_is_printable(steering: Path) -> None:
    with pytest.raises(UsageError) as raised:
        ask(Capture(steering), "select comm::int from events").rows(1)

    assert "evil�[2J" in str(raised.value)
    assert str(raised.value).isprintable()


def test_csv_is_exact_in_a_file_and_printable_on_a_terminal(steering: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    for terminal in (False, True):
        answer, file = ask(Capture(steering), "select comm, 1.5, null from events"), io.StringIO()
        monkeypatch.setattr(file, "isatty", lambda terminal=terminal: terminal)
        view.write_csv((STEERING, "n", "nothing"), answer.rows, file)
        written.append(file.getvalue())

    assert written == [f"{STEERING},n,nothing\n{STEERING},1.5,\n", "evil�[2J,n,nothing\nevil�[2J,1.5,\n"]


def test_what_does_not_fit_in_memory_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself DuckDB would make .tmp in the working directory."""
    work, temporary = tmp_path / "work", tmp_path / "temporary"
    work.mkdir()
    temporary.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setattr(engine, "gettempdir", lambda: str(temporary))

    with engine.connect("50MB") as database:
        database.execute("create table x as select range i, md5(range::varchar) h from range(2000000)")
        assert list(temporary.glob("kmwatch-*/*"))
    assert (os.listdir(work), os.listdir(temporary)) == ([], [])  # noqa: PTH208


def test_an_error_is_cut() -> None:
    assert engine.first_line(duckdb.Error("a" * 1000 + "\nb")) == "a" * 200
