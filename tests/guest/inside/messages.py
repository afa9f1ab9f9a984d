"""Messages, a workload of the live tests that needs no call site of one kernel: how many, and what they take."""

from typing import Any

from tests.live.watching import MESSAGE, Workload, message_parts, rounded

_COUNT, _SIZE = 1009, 5000


def command(workload: Workload) -> list[str]:
    """The command line that sends them."""
    return workload.command("msgsnd", _COUNT, _SIZE)


def send(workload: Workload) -> None:
    """Send them."""
    workload.run("msgsnd", _COUNT, _SIZE)


def told(report: dict[str, Any]) -> list[tuple[int, int, int, str]]:
    """Count, bytes requested and allocated, and context of each row of a report at the sites of messages."""
    own = [each for each in report["sites"] if each["kind"] == "kmalloc" and _symbol(each) in MESSAGE]
    return sorted((each["count"], each["bytes_requested"], each["bytes_allocated"], each["context"]) for each in own)


def _symbol(site: dict[str, Any]) -> str:
    return str(site["symbol"].partition(".")[0])


def expected() -> list[tuple[int, int, int, str]]:
    """What a report tells of them."""
    parts = message_parts(_SIZE)
    return sorted((_COUNT, _COUNT * part, _COUNT * rounded(part), "process") for part in parts)
