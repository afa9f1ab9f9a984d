"""The house numbers and habits, held by a test so that nobody has to argue about them."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import hold_tier, required_tiers, wait_until

ROOT = Path(__file__).parent.parent
FILE_TEXT = re.compile(r"_included\(\w+\)\.encode\(\)")  # a file and its own headers, unchanged
MODULE_LINES, FUNCTION_LINES, BPF_LINES, TEST_LINES = 350, 50, 200, 400
# Another kernel's layout of these would be read without any error: only BTF offsets are right.
KERNEL_STRUCTS = ("task_struct", "page", "folio", "slab", "kmem_cache", "rq", "zone", "mm_struct", "cred", "file")
# Places that exist on one machine only. Spelled in two halves: this file is searched as well.
MACHINE_PATHS = tuple(first + second for first, second in (("/wo", "rk/"), ("../sha", "red"), ("/fa", "rm/")))

Function = ast.FunctionDef | ast.AsyncFunctionDef


def project_files() -> list[Path]:
    """Every file of the project: those in git and those that are about to be."""
    # safe.directory: the owner of the checkout may be another than who runs the tests.
    listing = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def below(directory: str, *suffixes: str) -> list[Path]:
    found = sorted(path for path in (ROOT / directory).rglob("*") if path.suffix in suffixes)
    assert found, f"{directory} is empty: this test would hold nothing"
    return found


def short(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name


def too_long(paths: list[Path], limit: int) -> list[str]:
    counts = ((path, len(path.read_text().splitlines())) for path in paths)
    return [f"{short(path)}: {count} lines, at most {limit}" for path, count in counts if count > limit]


def functions(path: Path) -> Iterator[tuple[Function, bool]]:
    """Every function of a file, and whether it is public: not private, nor inside something private or a function."""

    def visit(node: ast.AST, *, public: bool) -> Iterator[tuple[Function, bool]]:
        for child in ast.iter_child_nodes(node):
            seen = public and not getattr(child, "name", "").startswith("_")
            if isinstance(child, Function):
                yield child, seen
                yield from visit(child, public=False)
            else:
                yield from visit(child, public=seen if isinstance(child, ast.ClassDef) else public)

    return visit(ast.parse(path.read_text(), str(path)), public=True)


def function_faults(path: Path) -> list[str]:
    """Functions that are too long, not annotated, or public without a docstring."""
    faults = []
    for function, public in functions(path):
        where = f"{short(path)}:{function.lineno} {function.name}"
        lines = (function.end_lineno or function.lineno) - function.lineno + 1
        if lines > FUNCTION_LINES:
            faults.append(f"{where}: {lines} lines, at most {FUNCTION_LINES}")
        arguments = function.args
        given = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
        bare = [a.arg for a in given if a and not a.annotation and a.arg not in {"self", "cls"}]
        if bare or function.returns is None:
            faults.append(f"{where}: no annotation for {', '.join(bare) or 'what it returns'}")
        if public and not ast.get_docstring(function):
            faults.append(f"{where}: public, and no docstring")
    return faults


def assembled_programs(path: Path) -> list[str]:
    """Calls of BPF(text=...) with anything but the text of a file: C belongs in a file, varied by -D constants."""
    calls = (node for node in ast.walk(ast.parse(path.read_text(), str(path))) if isinstance(node, ast.Call))
    named = (call for call in calls if ast.unparse(call.func).split(".")[-1] == "BPF")
    return [
        f"{short(call_path)}:{call.lineno}"
        for call_path, call in ((path, c) for c in named)
        if any(k.arg == "text" and not FILE_TEXT.fullmatch(ast.unparse(k.value)) for k in call.keywords)
    ]


def kernel_faults(path: Path, bpf: Path) -> list[str]:
    """Kernel structs that a BPF file names, and headers it includes from outside of our own tree."""
    code = re.sub(r"/\*.*?\*/|//[^\n]*", " ", path.read_text(), flags=re.DOTALL)
    structs = re.findall(rf"\bstruct\s+(?:{'|'.join(KERNEL_STRUCTS)})\b", code)
    includes = re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', code, flags=re.MULTILINE)
    own = (path.parent, bpf, bpf / "headers" / "include", bpf / "headers")
    strange = [name for name in includes if not any((directory / name).is_file() for directory in own)]
    return [f"{short(path)}: {fault}" for fault in [*structs, *(f"#include {name}" for name in strange)]]


def test_files_are_short() -> None:
    assert too_long(below("kmwatch", ".py"), MODULE_LINES) == []
    assert too_long(below("bpf", ".c", ".h"), BPF_LINES) == []
    assert too_long(below("tests", ".py"), TEST_LINES) == []


def test_functions_are_short_annotated_and_documented() -> None:
    assert [fault for path in below("kmwatch", ".py") for fault in function_faults(path)] == []


def test_c_stands_in_files() -> None:
    assert [fault for path in project_files() if path.suffix == ".py" for fault in assembled_programs(path)] == []


def test_bpf_programs_name_no_kernel_struct() -> None:
    assert [fault for path in below("bpf", ".c", ".h") for fault in kernel_faults(path, ROOT / "bpf")] == []


def test_bpf_files_begin_with_their_licence() -> None:
    """The kernel wants a GPL-compatible one; a file that is copied elsewhere must still tell."""
    spdx = "SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0"
    firsts = {path: path.read_text().partition("\n")[0] for path in below("bpf", ".c", ".h")}
    assert [short(path) for path, first in firsts.items() if spdx not in first] == []


def test_no_file_names_a_place_on_one_machine() -> None:
    assert [
        f"{short(path)}: {place}"
        for path in project_files()
        for place in MACHINE_PATHS
        if place.encode() in path.read_bytes()
    ] == []


def test_the_function_check_sees_each_fault(tmp_path: Path) -> None:
    """One fault each, and one function without any."""
    source = tmp_path / "module.py"
    long_body = "\n".join(["    value = 0"] * 50)
    source.write_text(
        'def good(a: int, *rest: int) -> int:\n    """Fine."""\n    def inner() -> int: ...\n'
        f'def long() -> None:\n    """Long."""\n{long_body}\n'
        'def bare(a, *, b) -> None:\n    """Bare."""\n'
        "class Thing:\n    def method(self) -> None: ...\n    def _hidden(self): ...\n"
    )

    assert function_faults(source) == [
        "module.py:4 long: 52 lines, at most 50",
        "module.py:56 bare: no annotation for a, b",
        "module.py:59 method: public, and no docstring",
        "module.py:60 _hidden: no annotation for what it returns",
    ]


def test_the_length_check_sees_a_long_file(tmp_path: Path) -> None:
    (tmp_path / "long.py").write_text("x = 1\n" * 3)

    assert too_long([tmp_path / "long.py"], 2) == ["long.py: 3 lines, at most 2"]
    assert too_long([tmp_path / "long.py"], 3) == []


def test_the_c_check_sees_assembled_programs(tmp_path: Path) -> None:
    source = tmp_path / "load.py"
    good, bad = (
        'bcc.BPF(src_file="ledger.c")\nbcc.BPF(text=_included(name).encode())\n',
        'bcc.BPF(cflags=[], text="int x;")\n',
    )
    source.write_text(good + bad)

    assert assembled_programs(source) == ["load.py:3"]


def test_the_kernel_check_sees_structs_and_headers(tmp_path: Path) -> None:
    """Comments may name what they like; a struct whose name only begins alike is another one."""
    source = tmp_path / "probe.c"
    source.write_text(
        '#include "events.h"\n#include <linux/sched.h>\n/* struct page */ // struct zone\n'
        "struct page_event e; struct\ttask_struct *task;\n"
    )
    (tmp_path / "events.h").write_text("")

    assert kernel_faults(source, tmp_path) == ["probe.c: struct\ttask_struct", "probe.c: #include linux/sched.h"]


def test_a_skip_becomes_a_failure_where_the_tier_is_required() -> None:
    with pytest.raises(pytest.skip.Exception, match="live: not root"):
        hold_tier("live", "not root", frozenset())
    with pytest.raises(pytest.fail.Exception, match="cannot run: not root"):
        hold_tier("live", "not root", frozenset({"live"}))
    hold_tier("live", "", frozenset({"live"}))


def test_required_tiers_are_read_and_misspelt_ones_refused() -> None:
    assert required_tiers("") == frozenset()
    assert required_tiers(" live,") == frozenset({"live"})
    with pytest.raises(pytest.UsageError, match="no tier is called lvie"):
        required_tiers("lvie")


def test_waiting_returns_the_answer_or_names_what_never_came() -> None:
    answers = iter([0, 0, 7])

    assert wait_until(lambda: next(answers), 5, "a seven") == 7
    with pytest.raises(pytest.fail.Exception, match=r"waited 0\.02 s in vain for nothing"):
        wait_until(lambda: False, 0.02, "nothing")
