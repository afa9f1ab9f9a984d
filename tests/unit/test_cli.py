"""The command line: every help with an example, every mistake one line and the right exit code, and a fast start."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from kmwatch import __version__, terms
from kmwatch.cli import cli
from kmwatch.errors import BadInputError, KmwatchError, NotPossibleError, UsageError
from kmwatch.findings import RULES
from kmwatch.views import explain, rulebook

ROOT = Path(__file__).parents[2]
HEAVY = ("numpy", "bcc", "rich", "textual", "importlib.metadata")


def kmwatch(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """The program as a user runs it."""
    command = [sys.executable, "-m", "kmwatch", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False, encoding="utf-8")


def answer(*arguments: str) -> Any:
    """What a command prints as JSON, in this process."""
    result = CliRunner().invoke(cli, [*arguments, "--json"], catch_exceptions=False)
    return json.loads(result.stdout)


def test_the_published_commands_are_there() -> None:
    assert {"doctor", "top", "report", "explain", "rules", "gfp"} <= set(cli.commands)


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_every_command_has_a_help_with_a_sentence_and_examples_that_parse(name: str) -> None:
    for flag in ("--help", "-h"):
        result = CliRunner().invoke(cli, [name, flag])
        assert result.exit_code == 0
    first = (cli.commands[name].help or "").splitlines()[0]
    assert first.endswith(".")
    assert first in " ".join(result.output.split())

    lines = result.output.partition("Examples:\n")[2].splitlines()
    # A line of the shell: the command is the part of it, between pipes and &&, that names kmwatch and it.
    parts = [
        re.findall(rf"(?:^|\| |&& )(?:sudo )?kmwatch {name}( .*?|)(?= \| | && | > |$)", line.strip()) for line in lines
    ]
    assert parts
    for found in parts:
        assert len(found) == 1, lines
        cli.commands[name].make_context(name, shlex.split(found[0]))  # raises where it does not parse


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_every_option_is_described(name: str) -> None:
    for parameter in cli.commands[name].params:
        if isinstance(parameter, click.Option):
            assert (parameter.help or "").endswith("."), parameter.name


def test_the_version_is_printed() -> None:
    assert kmwatch("--version").stdout.strip() == f"kmwatch, version {__version__}"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["tpo"], "kmwatch: No such command 'tpo'"),
        (["report", "--durration", "5"], "kmwatch: No such option"),
        (["report", "-d", "0"], "kmwatch: Invalid value for '-d' / '--duration'"),
        (["report", "-d", "soon"], "kmwatch: Invalid value for '-d' / '--duration'"),
        (["report", "--top", "0"], "kmwatch: Invalid value for '--top'"),
        (["report", "--outstanding", "--sample", "1/3"], "kmwatch: Invalid value for '--sample': '1/3' is no sample"),
        (["report", "--outstanding", "--sample", "131072"], "kmwatch: Invalid value for '--sample'"),
        (["report", "--sample", "16"], "kmwatch: --sample goes with --outstanding: nothing else is sampled"),
        (["report", "a.kmw", "--outstanding", "--sample", "16"], "kmwatch: --sample goes with `live`: of a.kmw every"),
        (["top", "-i", "0.01"], "kmwatch: Invalid value for '-i' / '--interval'"),
        (["report", "no-such-source"], "kmwatch: there is no no-such-source: SOURCE is `live`"),
        (["top", "no-such-source", "--once"], "kmwatch: there is no no-such-source: SOURCE is `live`"),
        (["report", "live", "--kinds", "vremap"], "kmwatch: unknown kind 'vremap'; choose from kmalloc,"),
        (["report", "live", "--kinds", ""], "kmwatch: no kind given; choose from kmalloc,"),
        (["gfp"], "kmwatch: Missing argument 'MASK|NAME…'"),
        (["gfp", "GFP_KERNLE"], "kmwatch: this kernel has no GFP flag 'GFP_KERNLE'; did you mean GFP_KERNEL"),
        (["explain", "GFP_ATOMC"], "kmwatch: nothing is known of 'GFP_ATOMC'; did you mean GFP_ATOMIC"),
        (["explain", "vremapp"], "kmwatch: nothing is known of 'vremapp'; did you mean vremap"),
        (["explain", "KM999"], "kmwatch: no rule 'KM999'; `kmwatch rules` lists them"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments: list[str], says: str) -> None:
    result = kmwatch(*arguments)

    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith(says)
    assert result.stderr.count("\n") == 1
    assert re.search(r"[`;:]", result.stderr.removeprefix("kmwatch:"))  # it ends in the next step


def test_no_command_is_the_help_not_a_mistake_with_the_help_in_it() -> None:
    result = kmwatch()

    assert result.returncode in (0, 2)
    assert (result.stdout + result.stderr).startswith("Usage: ")
    assert "Commands:" in result.stdout + result.stderr


def test_every_error_has_its_exit_code() -> None:
    codes = {KmwatchError: 5, UsageError: 2, NotPossibleError: 3, BadInputError: 4}
    assert {kind: kind("x").exit_code for kind in codes} == codes


def test_a_fault_of_kmwatch_itself_is_not_taken_for_a_failed_check() -> None:
    """1 would be Python's own answer."""
    program = "from kmwatch import __main__ as kmwatch\nkmwatch.cli = lambda **_: 1 // 0\nkmwatch.main()"
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)

    assert (result.returncode, "ZeroDivisionError" in result.stderr) == (5, True)


@pytest.mark.parametrize("name", ["explain", "gfp", "rules"])
def test_a_reader_that_leaves_early_is_no_error(name: str) -> None:
    """`kmwatch explain | head -1`."""
    arguments = [*([] if name != "gfp" else ["GFP_KERNEL"]), "--json"]
    command = [sys.executable, "-m", "kmwatch", name, *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        said = process.stderr.read()
    assert (process.returncode, said) == (0, b"")


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["report", "--help"], ["top", "-h"], ["check", "-h"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    """What makes the start slow, by name and not by a clock."""
    program = (
        "import sys\nsys.argv = ['kmwatch', *sys.argv[1:]]\nfrom kmwatch.__main__ import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    command = [sys.executable, "-c", program, *arguments]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)

    assert len(result.stdout) > 10
    assert result.stderr.strip() == "[]"


def test_a_mask_is_decoded_and_encoded() -> None:
    assert (answer("gfp", "0xcc0")["text"], answer("gfp", "0xcc0")["may_sleep"]) == ("GFP_KERNEL", True)
    assert answer("gfp", "GFP_KERNEL", "__GFP_ZERO") == answer("gfp", "GFP_KERNEL|__GFP_ZERO")
    assert "GFP_KERNEL" in kmwatch("gfp", "0xcc0").stdout


@pytest.mark.parametrize(
    ("name", "kind"), [("GFP_ATOMIC", "flag"), ("vremap", "allocator"), ("opportunistic", "concept")]
)
def test_words_are_explained(name: str, kind: str) -> None:
    assert answer("explain", name)["kind"] == kind
    assert answer("explain", name)["summary"] in " ".join(kmwatch("explain", name).stdout.split())


def test_rules_are_explained_by_code_and_name() -> None:
    assert answer("explain", "km201") == answer("explain", "sleeping-allocation-in-atomic-context")
    assert "What it sees:" in kmwatch("explain", "KM201").stdout


def test_without_a_name_everything_that_can_be_explained_is_listed() -> None:
    assert answer("explain") == {**explain.names(), "rules": rulebook.codes()}
    text = kmwatch("explain").stdout
    assert [name for name in (*terms.TERMS, *RULES) if name not in text] == []


def test_a_file_of_thresholds_is_used_and_named(tmp_path: Path) -> None:
    config = tmp_path / "mine.toml"
    config.write_text("[thresholds]\nwaste_share = 1.0\n")
    sample = str(ROOT / "kmwatch" / "sample.kmw")

    strict, lax = kmwatch("report", sample), kmwatch("report", sample, "--config", str(config))
    once = kmwatch("top", sample, "--once", "--config", str(config))

    assert [("KM101" in each.stdout) for each in (strict, lax, once)] == [True, False, False]
    assert f"kmwatch: thresholds from {config}" in lax.stderr
    assert "thresholds" not in strict.stderr

    config.write_text("[thresholds]\nwaste_shares = 1.0\n")
    refused = kmwatch("report", sample, "--config", str(config))
    assert (refused.returncode, refused.stdout) == (4, "")
    assert "did you mean waste_share" in refused.stderr


PAGE = {"rule", "name", "severity", "since", "summary", "sections", "text"}


def test_the_rule_book_is_listed_whole() -> None:
    pages = answer("rules")

    assert {page["rule"]: page["name"] for page in pages} == {code: rule.name for code, rule in RULES.items()}
    assert all(set(page) == PAGE for page in pages)
    text = kmwatch("rules").stdout
    assert [part for rule in RULES.values() for part in (rule.code, rule.name) if part not in text] == []
