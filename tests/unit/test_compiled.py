"""Compiled programs as bytes, and the key that says when they are no longer right."""

import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kmwatch.errors import NotPossibleError
from kmwatch.kernel.syscalls import Map
from kmwatch.sources import compiled
from kmwatch.sources.bpf import _kept
from kmwatch.sources.compiled import INSTRUCTION, Compiled, key_of
from kmwatch.sources.kept_code import keep

KEY = "c" * 64
# A map's address (two instructions), a number as large (two), a call, the end.
CODE = np.array(
    [
        (0x18, 0x11, 0, 1),
        (0, 0, 0, 0),
        (0x18, 0x01, 0, 1),
        (0, 0, 0, 0),
        (0x18, 0x12, 0, 0),
        (0, 0, 0, 0),
        (0x85, 0, 0, 1),
        (0x95, 0, 0, 0),
    ],
    INSTRUCTION,
)
MAPS = (Map("config", 2, 4, 48, 5, 0), Map("ledger", 5, 32, 64, 4096, 0))
MADE = Compiled(MAPS, {"kmalloc": CODE.tobytes(), "kfree": CODE[6:].tobytes()})


def test_bytes_give_the_same_again() -> None:
    again = Compiled.from_bytes(MADE.to_bytes())

    assert again == MADE
    assert list(again.programs) == ["kmalloc", "kfree"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\0",
        struct.pack("<I", 1 << 31),
        struct.pack("<I", 2) + b"[]",
        struct.pack("<I", 2) + b"{}",
        struct.pack("<I", 4) + b"null",
        struct.pack("<I", 3) + b"\xff\xfe\xfd",
        MADE.to_bytes()[:-1],
        MADE.to_bytes() + b"\0",
        MADE.to_bytes().replace(b'"kfree": 16', b'"kfree": 8 '),
        MADE.to_bytes().replace(b"4096, 0]", b"4096]   "),
    ],
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a compiled program"):
        Compiled.from_bytes(data)


def test_what_is_kept_but_cannot_be_understood_is_compiled_again(tmp_path: Path) -> None:
    place = tmp_path / "kmwatch"
    keep(KEY, b"of another version", place)
    assert _kept(KEY, place) is None
    keep(KEY, MADE.to_bytes(), place)
    assert _kept(KEY, place) == MADE


def test_maps_get_their_descriptors_and_numbers_stay_numbers() -> None:
    code = MADE.code("kmalloc", {"config": 31, "ledger": 37})

    assert code["immediate"].tolist() == [37, 0, 1, 0, 31, 0, 1, 0]
    others = [name for name in INSTRUCTION.names or () if name != "immediate"]
    assert (code[others] == CODE[others]).all()


@pytest.fixture
def a_bcc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of a package named bcc, found before any other."""
    package = tmp_path / "bcc"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('it is found, not imported')")
    (package / "version.py").write_text("__version__ = '0.26.0'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "bcc", raising=False)
    return package


def key(**changed: Any) -> str:
    given: dict[str, Any] = {"source": "ledger.c", "flags": ["-DCPUS=2"], "formats": ["field: int order;"]}
    return key_of(**{**given, **changed})


@pytest.mark.parametrize(
    "changed", [{"source": "events.c"}, {"flags": ["-DCPUS=4"]}, {"formats": ["field: long order;"]}]
)
def test_the_key_changes_with_what_is_compiled(a_bcc: Path, changed: dict[str, Any]) -> None:
    assert a_bcc.exists()
    assert len({key(), key(), key(**changed)}) == 2


def test_the_key_changes_with_a_header_of_ours(a_bcc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert a_bcc.exists()
    (tmp_path / "headers").mkdir()
    (tmp_path / "own.h").write_text("int one;\n")
    (tmp_path / "some.c").write_text('#include "own.h"\n')
    (tmp_path / "headers" / "types.h").write_text("typedef int s32;\n")
    monkeypatch.setattr(compiled, "BPF_DIR", tmp_path)
    monkeypatch.setattr(compiled, "_HEADERS", tmp_path / "headers")
    keys = {key(source="some.c")}
    (tmp_path / "own.h").write_text("int two;\n")
    keys.add(key(source="some.c"))
    (tmp_path / "headers" / "types.h").write_text("typedef long s32;\n")

    assert len(keys | {key(source="some.c")}) == 3


@pytest.mark.parametrize("what", ["machine", "release", "version"])
def test_the_key_changes_with_the_kernel(a_bcc: Path, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert a_bcc.exists()
    before = key()
    monkeypatch.setattr(compiled.platform, what, lambda: "another")

    assert key() != before


def test_the_key_changes_with_bcc_which_is_not_loaded_for_it(a_bcc: Path) -> None:
    first = key()
    (a_bcc / "version.py").write_text("__version__ = '0.31.0'\n")
    second = key()
    (a_bcc / "version.py").touch()

    assert len({first, second, key()}) == 3


def test_the_key_changes_with_settings_of_bcc_that_are_not_ours(a_bcc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert a_bcc.exists()
    before = key()
    monkeypatch.setenv("BCC_KERNEL_SOURCE", "/set/by/us")
    assert key() == before
    monkeypatch.setenv("ARCH", "arm64")
    assert key() != before


def test_without_bcc_the_next_step_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled.importlib.util, "find_spec", lambda _: None)

    with pytest.raises(NotPossibleError, match="apt install python3-bpfcc"):
        key()
