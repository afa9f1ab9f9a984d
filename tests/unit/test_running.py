"""What the running kernel's numbers mean, without a kernel: names of sites, and what an event costs."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kmwatch.kernel import symbols
from kmwatch.kernel.kept import Kept
from kmwatch.kernel.symbols import Symbols
from kmwatch.sources import ring, running
from kmwatch.sources.ring import RingRecorder
from kmwatch.sources.running import RunningKernel
from tests.unit import rows

KERNEL = b"ffffffff81000000 T start\nffffffffc0000000 t first\t[one]\n"
MODULE = b"ffffffffc0001000 t second\t[two]\n"


def kernel() -> RunningKernel:
    """A RunningKernel with these symbols, which has looked at nothing."""
    made = RunningKernel.__new__(RunningKernel)
    made.meta, made.notes, made._sites = rows.meta(), [], {0: 0}
    made._kallsyms, made._module_list = Kept(symbols.PATH), Kept(running._MODULES)
    made._symbols, made._symbols_at, made._reload_after = Symbols(KERNEL), time.monotonic(), running._RELOAD_AFTER
    made._modules = running._modules(made._module_list)
    return made


def test_a_module_that_comes_is_known_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its symbols its functions would be those of the module before it, far behind their ends."""
    modules = tmp_path / "modules"
    modules.write_text("one 4096 0 - Live 0xffffffffc0000000\n")
    monkeypatch.setattr(running, "_MODULES", modules)
    kallsyms = tmp_path / "kallsyms"
    kallsyms.write_bytes(KERNEL + MODULE)
    monkeypatch.setattr(symbols, "PATH", kallsyms)
    read: list[int] = []
    monkeypatch.setattr(running, "Symbols", lambda raw: read.append(1) or Symbols(raw))
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

    assert running._modules(Kept(running._MODULES)) == []


def test_symbols_that_are_hidden_later_are_missed_and_the_old_ones_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kallsyms = tmp_path / "kallsyms"
    kallsyms.write_bytes(b"0000000000000000 T start\n")
    monkeypatch.setattr(symbols, "PATH", kallsyms)
    one = kernel()

    one._read_symbols()

    assert one._symbols.resolve(0xFFFFFFFF81000004).text == "start+0x4"
    assert len(one.notes) == 1
    assert one.notes[0].startswith("code loaded from now on is unknown: the kernel hides its symbols: ")


def test_an_address_that_is_never_known_is_looked_for_less_and_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading all symbols takes a quarter of a second: a service must not do it all day."""
    kallsyms = tmp_path / "kallsyms"
    kallsyms.write_bytes(KERNEL)
    monkeypatch.setattr(symbols, "PATH", kallsyms)
    one, now, read = kernel(), [1000.0], []
    monkeypatch.setattr(running.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(running, "Symbols", lambda raw: read.append(now[0]) or Symbols(raw))
    one._symbols_at = now[0]
    for second in range(1000, 8200, 5):
        now[0] = float(second)
        assert one.site(0x1000) == 0

    assert 5 < len(read) < 12, read


def test_programs_do_not_stay_where_a_ring_cannot_be_mapped(monkeypatch: pytest.MonkeyPatch) -> None:
    class Kernel:
        closed = False
        programs: Any = type("Programs", (), {"descriptor": lambda *_: 1})()

        def open(self, *_: Any, **__: Any) -> None: ...

        def close(self) -> None:
            Kernel.closed = True

    def refuse(*_: Any) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(ring, "_rings", refuse)
    recorder = RingRecorder.__new__(RingRecorder)
    recorder._kernel, recorder._sizes, recorder._swaps, recorder._stacks = Kernel(), (1, 1), True, 0  # type: ignore[assignment]

    with pytest.raises(OSError, match="Cannot allocate memory"), recorder:
        pass
    assert Kernel.closed
