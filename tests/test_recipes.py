"""The recipe for a rule in CONTRIBUTING.md, followed to the letter in a copy of the tree."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_house import ROOT, project_files

# What `make golden` would record is in captures of another rule already: its quiet one fires this one.
RECORDED = {"KM399-fires": "KM303-quiet", "KM399-quiet": "KM303-fires"}


def run(tree: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Python in the tree, which is not the one that is installed."""
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    return subprocess.run(
        [sys.executable, *arguments], check=False, capture_output=True, text=True, cwd=tree, env=environment
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the project in which nothing is changed yet."""
    for path in project_files():
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)  # tests ask git which files there are
    return tmp_path


def follow(tree: Path) -> None:
    """Add the rule of CONTRIBUTING.md: one function, and two captures with their lines."""
    recipe = (tree / "CONTRIBUTING.md").read_text().partition("**A rule**")[2]
    function, lines = re.findall(r"```(?:python|text)\n(.*?)```", recipe, re.DOTALL)[:2]
    (tree / "kmwatch/rules/example.py").write_text(function)
    table = tree / "tests/guest/golden.py"
    before, mark, after = table.read_text().partition('    Golden("KM401-fires"')
    table.write_text(before + lines + mark + after)
    golden = tree / "tests/data/golden"
    truth = json.loads((golden / "truth.json").read_text())
    told = {name: truth[source] for name, source in RECORDED.items()}
    told["KM399-fires"]["finding"] = {"site": "lab_vmalloc", "times": 31}
    told["KM399-quiet"]["finding"] = None
    at = [*truth].index("KM401-fires")
    ordered = [*truth.items()]
    (golden / "truth.json").write_text(json.dumps(dict([*ordered[:at], *told.items(), *ordered[at:]])))
    for name, source in RECORDED.items():
        shutil.copytree(golden / f"{source}.kmw", golden / f"{name}.kmw")


def test_a_rule_is_one_function_and_two_captures(tree: Path) -> None:
    follow(tree)
    docs = run(tree, "scripts/generate_docs.py")
    page = run(tree, "-m", "kmwatch", "explain", "KM399")
    catalogue = run(tree, "-m", "kmwatch", "rules")
    tests = ["tests/unit/test_golden.py", "tests/unit/test_rules.py", "tests/test_docs.py", "tests/test_layers.py"]
    held = run(
        tree, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests, "-k", "KM399 or every_rule or docs or layers"
    )

    assert docs.returncode == 0, docs.stderr
    assert "### KM399 vmalloc-of-two-pages" in (tree / "docs/rules.md").read_text()
    assert "A vmalloc asks for more than a page and for two at most." in page.stdout, page.stderr
    assert "vmalloc-of-two-pages" in catalogue.stdout
    assert held.returncode == 0, held.stdout


def test_a_rule_without_its_captures_does_not_pass(tree: Path) -> None:
    follow(tree)
    shutil.rmtree(tree / "tests/data/golden/KM399-quiet.kmw")

    held = run(tree, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/unit/test_golden.py", "-k", "every_rule")

    assert held.returncode == 1, held.stdout
