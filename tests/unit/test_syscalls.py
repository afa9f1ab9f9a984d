"""What an old kernel counts as locked memory, and calls that fail."""

import errno
import resource

import pytest

from kmwatch.kernel import abilities, syscalls
from kmwatch.kernel.syscalls import Map

NONE = 1 << 30  # no descriptor
SOME = Map("some", 2, 4, 8, 1, 0)


class Kernel:
    """Refuses to make anything with EPERM until its limit of locked memory is raised, as Linux before 5.11 does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, allows: bool = True) -> None:
        self.allows, self.limit, self.asked = allows, 0, 0
        monkeypatch.setattr(syscalls, "_bpf", self.bpf)
        monkeypatch.setattr(resource, "setrlimit", self.setrlimit)

    def bpf(self, *_: object) -> int:
        """As the system call."""
        self.asked += 1
        if self.limit != resource.RLIM_INFINITY:
            raise OSError(errno.EPERM, "Operation not permitted")
        return 31

    def setrlimit(self, which: int, limits: tuple[int, int]) -> None:
        """As the system call."""
        assert which == resource.RLIMIT_MEMLOCK
        if not self.allows:
            raise ValueError("not allowed to raise maximum limit")
        self.limit = limits[0]


def test_the_limit_of_locked_memory_is_raised_where_it_hinders(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch)

    assert syscalls.create_map(SOME) == 31
    assert syscalls.load_program(syscalls.PROG_KPROBE, "some", b"\0" * 8) == 31
    assert kernel.asked == 3  # once more for the first


def test_who_may_not_raise_it_hears_what_the_kernel_said(monkeypatch: pytest.MonkeyPatch) -> None:
    Kernel(monkeypatch, allows=False)

    with pytest.raises(PermissionError, match="Operation not permitted"):
        syscalls.create_map(SOME)
    assert abilities.programs() == "Operation not permitted"


@pytest.mark.parametrize(
    "call",
    [
        lambda: syscalls.lookup(NONE, 0, 0),
        lambda: syscalls.update(NONE, 0, 0),
        lambda: syscalls.delete(NONE, 0),
        lambda: syscalls.read_info(NONE, 0, 0),
        lambda: syscalls.lookup_batch(NONE, (0, 0), 0, 0, 1),
        lambda: syscalls.open_raw_tracepoint(NONE, "no_such_event"),
        lambda: syscalls.open_tracepoint(NONE, 1 << 40),
    ],
)
def test_what_fails_raises_with_the_kernels_number(call: object) -> None:
    with pytest.raises(OSError, match="Errno") as raised:
        call()  # type: ignore[operator]
    assert raised.value.errno
