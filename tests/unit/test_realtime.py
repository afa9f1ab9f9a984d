"""A thread in real time: it alone, and only for a while."""

import os
import subprocess
import sys
import threading

import pytest

from kmwatch.sources.realtime import realtime

_RR = os.SCHED_RR | os.SCHED_RESET_ON_FORK


def _policy() -> int:
    return os.sched_getscheduler(0)


@pytest.fixture
def may() -> None:
    """Whether this process may have real time at all."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except PermissionError:
        pytest.skip("needs CAP_SYS_NICE")
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


@pytest.mark.usefixtures("may")
def test_the_thread_is_in_real_time_and_what_it_starts_is_not() -> None:
    others = list[int]()
    with realtime() as obstacle:
        inside = _policy(), os.sched_getparam(0).sched_priority
        thread = threading.Thread(target=lambda: others.append(_policy()))
        thread.start()
        thread.join()
        child = subprocess.check_output([sys.executable, "-c", "import os; print(os.sched_getscheduler(0))"])

    assert (obstacle, inside) == ("", (_RR, 1))
    assert [*others, int(child)] == [os.SCHED_OTHER] * 2
    assert _policy() == os.SCHED_OTHER


@pytest.mark.usefixtures("may")
def test_an_error_inside_ends_it_too() -> None:
    with pytest.raises(KeyboardInterrupt), realtime():
        raise KeyboardInterrupt

    assert _policy() == os.SCHED_OTHER


@pytest.mark.usefixtures("may")
def test_a_class_that_somebody_chose_stays() -> None:
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    try:
        with realtime() as obstacle:
            assert (obstacle, _policy()) == ("", os.SCHED_BATCH)
        assert _policy() == os.SCHED_BATCH
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def test_where_it_is_not_allowed_it_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    with realtime() as obstacle:
        assert obstacle == "operation not permitted"
