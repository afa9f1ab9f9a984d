"""What the running kernel's numbers mean, without a kernel: names of sites, and what an event costs."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kmwatch.kernel.symbols import Symbols
from kmwatch.sources import ring, running
from kmwatch.sources.ring import RingRecorder
from kmwatch.sources.running import RunningKernel
from tests.unit import rows

KERNEL = b"ffffffff81000000 T start\nffffffffc0000000 t first\t[one]\n"
MODULE = b"ffffffffc0001000 t second\t[two]\n"


class Programs:
    """Programs that ran: by name, nanoseconds and runs."""

    def __init__(self, costs: dict[str, tuple[int, int]]) -> None:
        self._costs = costs

    def costs(self) -> dict[str, tuple[int, int]]:
        """What they took."""
        return self._costs


def kernel(costs: dict[str, tuple[int, int]] | None = None) -> RunningKernel:
    """A RunningKernel with these symbols and programs, which has looked at nothing."""
    made = RunningKernel.__new__(RunningKernel)
    made.meta, made._sites, made._statistics, made._nanoseconds = rows.meta(), {0: 0}, ExitStack(), 0.0
    made._symbols, made._symbols_at, made._modules = Symbols(KERNEL), running.time.monotonic(), running._modules()
    made._programs = Programs(costs or {})  # type: ignore[assignment]
    return made


def test_a_second_copy_is_no_event_of_its_own() -> None:
    one = kernel({"kmalloc": (300, 10), "kmalloc_again": (100, 10), "kfree": (200, 10)})

    assert one.cost(1_000_000) == pytest.approx(0.030)  # 600 ns for 20 events


def test_a_module_that_comes_is_known_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its symbols its functions would be those of the module before it, far behind their ends."""
    modules = tmp_path / "modules"
    modules.write_text("one 4096 0 - Live 0xffffffffc0000000\n")
    monkeypatch.setattr(running, "_MODULES", modules)
    read: list[int] = []
    monkeypatch.setattr(Symbols, "running", lambda: read.append(1) or Symbols(KERNEL + MODULE))
    one = kernel()

    def names(*addresses: int) -> list[str]:
        return [one.meta.sites[at].label for at in one.sites(np.array(addresses, np.uint64)).tolist()]

    assert names(0xFFFFFFFFC0000010) == ["first+0x10 [one]"]
    modules.write_text("one 4096 7 two, Live 0xffffffffc0000000\n")  # used more often, and still the same
    assert names(0xFFFFFFFFC0000020) == ["first+0x20 [one]"]
    assert not read
    modules.write_text("two 4096 0 - Live 0xffffffffc0001000 (O)\none 4096 0 - Live 0xffffffffc0000000\n")
    assert names(0xFFFFFFFFC0000020, 0xFFFFFFFFC0001010) == ["first+0x20 [one]", "second+0x10 [two]"]
    assert names(0xFFFFFFFFC0001020) == ["second+0x20 [two]"]
    assert len(read) == 1


def test_a_kernel_without_modules_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "_MODULES", tmp_path / "nothing")

    assert running._modules() == []


def test_programs_do_not_stay_where_a_ring_cannot_be_mapped(monkeypatch: pytest.MonkeyPatch) -> None:
    class Kernel:
        closed = False
        programs: Any = type("Programs", (), {"descriptor": lambda *_: 1})()

        def open(self, *_: Any, **__: Any) -> None: ...

        def close(self) -> None:
            Kernel.closed = True

    def refuse(*_: Any) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(ring, "_Ring", refuse)
    recorder = RingRecorder.__new__(RingRecorder)
    recorder._kernel, recorder._sizes, recorder._stacks = Kernel(), (1, 1), 0  # type: ignore[assignment]

    with pytest.raises(OSError, match="Cannot allocate memory"), recorder:
        pass
    assert Kernel.closed
