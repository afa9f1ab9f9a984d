"""Data flows one way: who imports whom in kmwatch/ is held here.

Layering counts every import, also one inside a function, and what is reached through other modules: a view that asks a
helper that asks a source is no better than one that asks it directly. Cycles count only what runs at import time, which
leaves out functions and `if TYPE_CHECKING`: an import inside a function finds both modules whole, and the command line
needs it to start fast.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = "kmwatch"

# A part of the package -> parts it must not reach, directly or through others.
MUST_NOT_REACH = {
    "sources": {"views", "rules", "cli"},
    "views": {"sources", "cli"},
    "rules": {"sources", "views", "cli"},
    "kernel": {"sources", "views", "rules", "ledger", "cli"},
    "ledger": {"sources", "views", "rules", "cli"},
    "capture": {"sources", "views", "rules", "cli"},
    "gate": {"sources", "views", "rules", "cli"},
}
KNOW_BOTH_ENDS = {"cli", "__main__"}  # the only ones that may import sources and views
_SPARK = ("sources.fleet.spark", "sources.fleet.worker")
ONLY_IMPORTERS = {"bcc": ("sources.compiled",), **dict.fromkeys(("pyarrow", "pyspark", "sqlglot"), _SPARK)}
# Kept out on purpose, each with its reason in docs/design.md; to let one in, move the reason there.
KEPT_OUT = {"jinja2", "pandas", "pluggy"}


@dataclass
class Module:
    """What one module imports: names of modules in the package, and top names of others."""

    inside: set[str] = field(default_factory=set)
    at_import_time: set[str] = field(default_factory=set)
    outside: set[str] = field(default_factory=set)


def read_package(package: Path) -> dict[str, Module]:
    """Every module below the directory, by its name relative to it; the package itself is ''."""
    paths = {module_name(package, path): path for path in package.rglob("*.py")}
    return {name: read_module(name, path, set(paths), package.name) for name, path in sorted(paths.items())}


def module_name(package: Path, path: Path) -> str:
    parts = path.relative_to(package).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def read_module(name: str, path: Path, known: set[str], package: str) -> Module:
    module = Module()
    base = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node, runs_at_import in walk(ast.parse(path.read_text(), str(path)), runs_at_import=True):
        for target in imported(node, [package, *filter(None, base)]):
            top, _, rest = target.partition(".")
            if top != package:
                module.outside.add(top)
                continue
            while rest not in known:  # `from kmwatch.units import size` names a function: its module counts
                rest = rest.rpartition(".")[0]
            module.inside.add(rest)
            if runs_at_import:
                module.at_import_time.add(rest)
    return module


def walk(node: ast.AST, *, runs_at_import: bool) -> Iterator[tuple[ast.AST, bool]]:
    """Every node below, with whether it runs when the module is imported."""
    for child in ast.iter_child_nodes(node):
        later = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or (
            isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        )
        yield child, runs_at_import and not later
        yield from walk(child, runs_at_import=runs_at_import and not later)


def imported(node: ast.AST, base: list[str]) -> list[str]:
    """The full dotted names that one node imports; `base` is the package around it."""
    match node:
        case ast.Import(names=names):
            return [alias.name for alias in names]
        case ast.ImportFrom(module=module, names=names, level=level):
            around = base[: len(base) - level + 1] if level else []
            return [".".join([*around, *filter(None, [module]), alias.name]) for alias in names]
        case ast.Call(func=function, args=[ast.Constant(value=str(name)), *_]):
            return [name] if ast.unparse(function).split(".")[-1] in {"import_module", "__import__"} else []
    return []


def part(name: str) -> str:
    return name.partition(".")[0]


def path_to(modules: dict[str, Module], start: str, parts: set[str]) -> list[str]:
    """The shortest chain of imports from a module to any of these parts, or nothing."""
    queue, seen = [[start]], {start}
    for chain in queue:
        for target in sorted(modules[chain[-1]].inside - seen):
            if part(target) in parts:
                return [*chain, target]
            seen.add(target)
            queue.append([*chain, target])
    return []


def find_cycle(modules: dict[str, Module]) -> list[str]:
    """One chain of import-time imports that comes back to where it began, or nothing."""
    finished: set[str] = set()

    def visit(name: str, chain: list[str]) -> list[str]:
        if name in chain:
            return [*chain[chain.index(name) :], name]
        if name in finished:
            return []
        for target in sorted(modules[name].at_import_time):
            if found := visit(target, [*chain, name]):
                return found
        finished.add(name)
        return []

    return next(filter(None, (visit(name, []) for name in sorted(modules))), [])


def violations(package: Path) -> list[str]:
    """Every broken layer rule, a line each."""
    modules = read_package(package)
    lines = []
    for name, module in modules.items():
        if chain := path_to(modules, name, MUST_NOT_REACH.get(part(name), set())):
            lines.append(f"{name} reaches {chain[-1]}: {' -> '.join(chain)}")
        if {"sources", "views"} <= {part(target) for target in module.inside} and part(name) not in KNOW_BOTH_ENDS:
            lines.append(f"{name} imports both sources and views")
        lines += [f"{name} imports {other}" for other in sorted(module.outside & KEPT_OUT)]
        lines += [
            f"{name} imports {other}, which only {' and '.join(only)} may"
            for other, only in ONLY_IMPORTERS.items()
            if other in module.outside and name not in only
        ]
    if cycle := find_cycle(modules):
        lines.append(f"cycle: {' -> '.join(cycle)}")
    return lines


def write_package(directory: Path, files: dict[str, str]) -> Path:
    package = directory / PACKAGE
    for name, text in {"__init__.py": "", "sources/__init__.py": "", "views/__init__.py": "", **files}.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    return package


def test_kmwatch_keeps_its_layers() -> None:
    assert violations(ROOT / PACKAGE) == []


def test_a_good_package_passes(tmp_path: Path) -> None:
    """Everything that the rules allow, so that the refusals below mean something."""
    files = {
        "units.py": "def size(): ...",
        "ledger.py": "from kmwatch.units import size",
        "sources/compiled.py": "def load():\n    from bcc import BPF",
        "sources/bpf.py": "",
        "views/report.py": "from kmwatch import ledger, units\nfrom . import table",
        "views/table.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from kmwatch.views import report",
        "cli.py": "from kmwatch.sources import bpf\nfrom kmwatch.views.report import render",
        "__main__.py": "from kmwatch.cli import main",
    }
    assert violations(write_package(tmp_path, files)) == []


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"sources/bpf.py": "import kmwatch.views"}, "sources.bpf reaches views: sources.bpf -> views"),
        (
            {"views/top.py": "def show():\n    from ..sources import bpf", "sources/bpf.py": ""},
            "views.top reaches sources.bpf",
        ),
        (
            {"views/top.py": "from kmwatch import run", "run.py": "import kmwatch.sources"},
            "views.top -> run -> sources",
        ),
        ({"run.py": "import kmwatch.sources, kmwatch.views"}, "run imports both sources and views"),
        ({"rules/waste.py": "from kmwatch import sources"}, "rules.waste reaches sources"),
        ({"kernel/gfp.py": "from kmwatch.ledger import Ledger", "ledger.py": ""}, "kernel.gfp reaches ledger"),
        ({"sources/maps.py": "from bcc import BPF"}, "sources.maps imports bcc, which only sources.compiled may"),
        ({"doctor.py": "__import__('bcc')"}, "doctor imports bcc, which only sources.compiled may"),
        ({"sql.py": "def run():\n    import pandas"}, "sql imports pandas"),
        ({"a.py": "from kmwatch import b", "b.py": "if True:\n    from kmwatch import a"}, "cycle: a -> b -> a"),
        ({"__init__.py": "import kmwatch.a", "a.py": "from kmwatch import __version__"}, "cycle:  -> a -> "),
    ],
)
def test_a_bad_package_is_refused(tmp_path: Path, files: dict[str, str], complaint: str) -> None:
    assert complaint in "\n".join(violations(write_package(tmp_path, files)))
