"""Exact counts on this kernel; what was recorded of the same is test_capture's."""

from kmwatch.views.report import build
from tests.guest.inside import messages
from tests.live.watching import Watch, Workload


def test_messages_are_counted(watch: Watch, workload: Workload) -> None:
    ledger = watch.during(lambda: messages.send(workload))

    assert messages.told(build(ledger, [])) == messages.expected()
