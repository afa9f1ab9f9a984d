"""Real time for a thread that must not wait for its turn (man 7 sched).

On busy CPUs the kernel shares time between groups, sessions or services, before it looks at their threads. A thread
that mostly sleeps, alone in its group, was seen to wait for up to two seconds there, and no nice value helps it. A
thread in real time comes first in all of this. What the kernel keeps for the others (sched_rt_runtime_us: 5 %) is
theirs.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

_PRIORITY = 1  # the lowest: others in real time come before it


@contextmanager
def realtime() -> Iterator[str]:
    """The calling thread runs in real time until the context is left; threads and processes that it starts do not.

    Gives why that is not possible, or nothing. A thread that somebody put into another class stays there.
    """
    before = os.sched_getscheduler(0)
    if before & ~os.SCHED_RESET_ON_FORK != os.SCHED_OTHER:
        yield ""
        return
    try:
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(_PRIORITY))
    except OSError as error:  # no CAP_SYS_NICE, or a group that has no real time
        yield str(error.strerror).lower()
        return
    try:
        yield ""
    finally:
        os.sched_setscheduler(0, before, os.sched_param(0))
