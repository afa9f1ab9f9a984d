"""Source lines from debug information: of real objects where there is a compiler, else what binutils would say."""

import shutil
import subprocess
from pathlib import Path

import pytest

from kmwatch.errors import BadInputError, NotPossibleError, UsageError
from kmwatch.kernel.debuginfo import Code, DebugInfo

SOURCE = """\
extern void *take(unsigned long, int);
static inline __attribute__((always_inline)) void *kmalloc(unsigned long n)
{
	return take(n, 1);
}
char *drv_open(unsigned long n)
{
	char *p = kmalloc(n);
	p[0] = 1;
	return p;
}
__attribute__((section(".init.text"))) char *drv_init(unsigned long n)
{
	char *p = kmalloc(n);
	p[0] = 2;
	return p;
}
"""

needs_tools = pytest.mark.skipif(
    not all(map(shutil.which, ("gcc", "nm", "addr2line", "objdump"))), reason="no gcc or binutils"
)


def built(path: Path, *options: str) -> Path:
    source = path.parent / "drv.c"
    source.write_text(SOURCE)
    subprocess.run(["gcc", "-O2", "-g", *options, str(source), "-o", str(path)], check=True)
    return path


def after_the_call(path: Path, function: str) -> int:
    """The offset of the return address of a function's only call."""
    text = subprocess.run(["objdump", "-d", str(path)], capture_output=True, text=True, check=True).stdout
    lines = text.partition(f"<{function}>:\n")[2].partition("\n\n")[0].splitlines()
    at = next(number for number, line in enumerate(lines) if "call" in line)
    first, following = (int(lines[number].partition(":")[0], 16) for number in (0, at + 1))
    return following - first


@needs_tools
def test_a_modules_functions_are_named_by_line_outside_of_what_is_inlined(tmp_path: Path) -> None:
    module = built(tmp_path / "my-drv.ko", "-c")
    opened, begun = (Code(name, after_the_call(module, name), "my_drv") for name in ("drv_open", "drv_init"))
    others = Code("drv_none", 1, "my_drv"), Code("drv_open", 1, "other"), Code("drv_open", 1, "")
    of_another_build = Code("drv_open", 0x400, "my_drv")

    found = DebugInfo(None, tmp_path).lines([opened, begun, *others, of_another_build])
    assert found == {opened: (str(tmp_path / "drv.c"), 8), begun: (str(tmp_path / "drv.c"), 14)}


@needs_tools
def test_the_kernels_own_functions_are_named_by_line(tmp_path: Path) -> None:
    vmlinux = built(tmp_path / "vmlinux", "-nostdlib", "-shared", "-fPIC")
    code = Code("drv_open", after_the_call(vmlinux, "drv_open"), "")

    assert DebugInfo(vmlinux, None).lines([code]) == {code: (str(tmp_path / "drv.c"), 8)}


@needs_tools
def test_without_debug_information_nothing_is_said(tmp_path: Path) -> None:
    built(tmp_path / "drv.ko", "-c", "-g0")
    assert DebugInfo(None, tmp_path).lines([Code("drv_open", 14, "drv")]) == {}


@needs_tools
def test_a_file_that_is_no_object_is_refused(tmp_path: Path) -> None:
    (tmp_path / "drv.ko").write_text("hello")
    with pytest.raises(BadInputError, match=r"nm cannot read .*drv.ko: is it"):
        DebugInfo(None, tmp_path).lines([Code("drv_open", 14, "drv")])


def tools(directory: Path, symbols: str, lines: str) -> None:
    """An nm and an addr2line that say this."""
    for name, text in (("nm", symbols), ("addr2line", lines)):
        (directory / f"{name}.txt").write_text(text)
        (directory / name).write_text(
            f'#!/bin/sh\nwhile read -r line; do echo "$line"; done < {directory}/{name}.txt\n'
        )
        (directory / name).chmod(0o755)


def test_a_name_that_two_functions_have_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    symbols = "f |0001| t | FUNC|0009| |.text\ng |0010| t | FUNC|0009| |.text\nf |0020| t | FUNC|0009| |.text\n"
    tools(tmp_path, symbols, "0x0000000000000010\na b.c:3 (discriminator 2)\n")
    (tmp_path / "drv.ko").touch()
    monkeypatch.setenv("PATH", str(tmp_path))

    found = DebugInfo(None, tmp_path).lines([Code("f", 1, "drv"), Code("g", 1, "drv")])
    assert found == {Code("g", 1, "drv"): ("a b.c", 3)}


def test_an_unknown_line_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools(tmp_path, "g |0010| T | FUNC|0009| |.text\n", "0x0000000000000010\n??:?\n")
    (tmp_path / "vmlinux").touch()
    monkeypatch.setenv("PATH", str(tmp_path))

    assert DebugInfo(tmp_path / "vmlinux", None).lines([Code("g", 1, "")]) == {}


def test_what_is_missing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools(tmp_path, "", "")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="--vmlinux"):
        DebugInfo(tmp_path / "none", None)
    with pytest.raises(UsageError, match="--module-dir"):
        DebugInfo(None, tmp_path / "nm")
    (tmp_path / "addr2line").unlink()
    with pytest.raises(NotPossibleError, match="lines need addr2line, which is not here: install binutils"):
        DebugInfo(None, tmp_path)
