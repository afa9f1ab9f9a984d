"""How a recording gets on: one line, and on a terminal only."""

import io
from contextlib import redirect_stderr
from typing import Any

import pytest

from kmwatch.views.progress import Progress, line

DATA: dict[str, Any] = {"seconds": 12.0, "events": 36_000_000, "bytes": 5 << 20, "lost": 1234}


class Terminal(io.StringIO):
    """A text that says it is a terminal."""

    def isatty(self) -> bool:
        """It is none."""
        return True


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")


def test_a_recording_in_one_line() -> None:
    assert line(DATA) == "12 s, 36 000 000 events, 3.0M/s, 5.0 MiB, 1 234 lost"
    assert line({**DATA, "fill": 0.125}) == "12 s, 36 000 000 events, 3.0M/s, 5.0 MiB, 1 234 lost, ring 12%"
    assert line({**DATA, "fill": 1.0}).endswith(", ring 100%")
    assert line({"seconds": 2.0, "events": 10, "lost": 0}) == "2.0 s, 10 events, 5/s, 0 lost"


def test_nothing_yet_is_a_line_too() -> None:
    assert line({"seconds": 0.0, "events": 0, "bytes": 0, "lost": 0}) == "0.0 s, 0 events, 0/s, 0 B, 0 lost"


def test_without_a_terminal_only_the_last_line_is_printed() -> None:
    with redirect_stderr(io.StringIO()) as stderr, Progress() as progress:
        progress.show(DATA)
        progress.show({**DATA, "fill": 0.5})
        assert stderr.getvalue() == ""
        progress.close(DATA, "a directory with blanks/" + "x" * 200)

    assert stderr.getvalue() == f"{line(DATA)}: kmwatch report a directory with blanks/{'x' * 200}\n"


def test_where_it_ends_without_being_closed_nothing_is_printed() -> None:
    with redirect_stderr(io.StringIO()) as stderr, Progress() as progress:
        progress.show(DATA)

    assert stderr.getvalue() == ""


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_quiet_prints_nothing_anywhere(stream: type[io.StringIO]) -> None:
    with redirect_stderr(stream()) as stderr, Progress(quiet=True) as progress:
        progress.show(DATA)
        progress.close(DATA, "a.kmw")

    assert stderr.getvalue() == ""


def test_a_terminal_shows_each_line_anew_and_keeps_the_last() -> None:
    with redirect_stderr(Terminal()) as stderr, Progress() as progress:
        progress.show({**DATA, "lost": 1})
        progress.show({**DATA, "lost": 2})
        shown = stderr.getvalue()
        progress.close({**DATA, "lost": 3}, "a.kmw")
    kept = stderr.getvalue()[len(shown) :]

    assert "1 lost" in shown
    assert "2 lost" in shown
    assert "\x1b[2K" in shown  # the line is wiped
    assert kept.rpartition("\x1b[2K")[2] == f"{line({**DATA, 'lost': 3})}: kmwatch report a.kmw\n"
    assert "\x1b[?25h" in stderr.getvalue()  # the cursor is back


def test_an_error_gives_the_terminal_back() -> None:
    def fail() -> None:
        with Progress() as progress:
            progress.show(DATA)
            raise ZeroDivisionError

    with redirect_stderr(Terminal()) as stderr, pytest.raises(ZeroDivisionError):
        fail()
    assert 0 <= stderr.getvalue().rindex("\x1b[?25l") < stderr.getvalue().rindex("\x1b[?25h")
