"""When watching ends: the command's end, the time, Ctrl-C; and what is left behind: nothing."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kmwatch.errors import UsageError
from kmwatch.sources.workload import Workload
from tests.support import wait_until

FOREVER = (sys.executable, "-c", "import signal; signal.pause()")


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """What a test leaves installed must not reach the next one."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def shell(script: str) -> tuple[str, ...]:
    return ("sh", "-c", script)


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_it_ends_with_its_command(tmp_path: Path) -> None:
    """Not before: the command waits for a writer."""
    os.mkfifo(tmp_path / "go")
    with Workload(shell(f"read line < {tmp_path}/go"), None) as workload:
        assert not workload.finished()
        workload.start()
        (tmp_path / "go").write_text("now\n")
        wait_until(workload.finished, 10, "the command's end")


def test_it_ends_after_its_duration_counted_from_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    with Workload((), 5.0) as workload:
        clock[0] += 60.0
        assert not workload.finished()
        workload.start()
        clock[0] += 4.99
        assert not workload.finished()
        clock[0] += 0.01
        assert workload.finished()


def test_it_ends_with_whichever_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    with Workload(shell("exit 3"), 3600.0) as workload:
        workload.start()
        wait_until(workload.finished, 10, "the command's end")
    clock = [100.0]
    with Workload(FOREVER, 5.0) as workload:
        monkeypatch.setattr(time, "monotonic", lambda: clock[0])
        workload.start()
        clock[0] += 5.0
        assert workload.finished()


def test_without_a_command_or_a_duration_it_goes_on() -> None:
    with Workload((), None) as workload:
        workload.start()
        assert not workload.finished()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_without_an_exception_and_only_while_it_is_entered(number: signal.Signals) -> None:
    caught: list[int] = []
    signal.signal(number, lambda received, _: caught.append(received))

    with Workload((), None) as workload:
        workload.start()
        os.kill(os.getpid(), number)
        wait_until(lambda: workload.interrupted, 10, "the signal")
        assert workload.finished()
    assert caught == []

    os.kill(os.getpid(), number)
    wait_until(lambda: caught, 10, "the signal")
    assert caught == [number]


def test_handlers_come_back_after_an_error_too() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)

    def fail_inside() -> None:
        with Workload((), None):
            assert signal.getsignal(signal.SIGINT) != before[0]
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail_inside()

    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_what_is_left_of_the_command_is_ended() -> None:
    with Workload(FOREVER, None) as workload:
        workload.start()
        assert workload._process is not None
        process = workload._process.pid
        assert alive(process)
        assert not workload.finished()

    assert not alive(process)


@pytest.mark.timeout(20)
def test_a_command_that_ignores_the_polite_signal_is_ended_too(tmp_path: Path) -> None:
    """Otherwise kmwatch would wait for it for ever, with Ctrl-C switched off."""
    deaf = "import signal, pathlib, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    ready = tmp_path / "ready"
    command = (sys.executable, "-c", deaf + "pathlib.Path(sys.argv[1]).touch(); signal.pause()", str(ready))
    workload = Workload(command, None)
    try:
        with workload:
            workload.start()
            wait_until(ready.exists, 10, "the command to be deaf")
        assert workload._process is not None
        assert workload._process.returncode == -signal.SIGKILL
    finally:
        if workload._process is not None:
            workload._process.kill()
            workload._process.wait()


def _not_executable(place: Path) -> str:
    (place / "script").write_text("#!/bin/sh\n")
    return str(place / "script")


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda place: str(place / "no-such-command"), "No such file or directory"),
        (str, "Permission denied"),
        (_not_executable, "Permission denied"),
    ],
)
def test_a_command_that_cannot_run_is_a_usage_error(tmp_path: Path, make: Callable[[Path], str], why: str) -> None:
    command = make(tmp_path)
    with Workload((command, "-x"), None) as workload, pytest.raises(UsageError) as raised:
        workload.start()

    assert str(raised.value) == f"cannot run {command!r}: {why}"
    assert raised.value.exit_code == 2
