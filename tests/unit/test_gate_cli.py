"""`kmwatch check` and `kmwatch diff` on the golden captures: exit codes, and what is written where."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema
import pytest
from click.testing import CliRunner, Result

from kmwatch.cli import cli, sources
from kmwatch.errors import BadInputError, KmwatchError, NotPossibleError, UsageError
from kmwatch.gate.baseline import SCHEMA
from tests.guest.golden import CAPTURES, GOLDEN
from tests.unit.folded import one_database

FIRES, QUIET, WASTES = (str(GOLDEN / f"{name}.kmw") for name in ("KM201-fires", "KM201-quiet", "KM101-fires"))
TEXTS = Path(__file__).parents[1] / "data" / "logs"


@pytest.fixture(scope="module", autouse=True)
def _database() -> Iterator[None]:
    with one_database():
        yield


def run(*arguments: str | Path) -> Result:
    """A command in this process, its errors as they are raised; `check` with rules that a new one does not change."""
    if arguments[:1] == ("check",) and not {"--select", "--ignore"} & {*arguments}:
        arguments = ("check", "--select", "KM101,KM201,KM205", *arguments[1:])
    return CliRunner().invoke(cli, [str(each) for each in arguments], catch_exceptions=False, standalone_mode=False)


def code(*arguments: str | Path) -> int:
    """What the program would leave with."""
    try:
        return int(run(*arguments).return_value)
    except KmwatchError as error:
        return error.exit_code


def answer(*arguments: str | Path) -> dict[str, Any]:
    return dict(json.loads(run("check", *arguments, "--format", "json").stdout))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([FIRES], 1),
        ([QUIET], 0),
        ([WASTES], 0),  # a warning is allowed
        ([FIRES, "--module", "kmwatch-lab"], 1),
        ([FIRES, "--module", "kernel"], 0),
        ([FIRES, "--select", "KM2"], 1),
        ([FIRES, "--select", "KM1,KM3"], 0),
        ([FIRES, "--ignore", "KM201"], 0),
        ([FIRES, "--site", "lab_prepare"], 0),
        ([FIRES, "--select", "KM7"], 2),
        ([FIRES, "-d", "1"], 2),
        ([FIRES, "--format", "xml"], 2),
        ([FIRES, "--module", ""], 2),
        (["no-such.kmw"], 2),
        ([], 2),
        ([str(TEXTS)], 4),
    ],
)
def test_the_exit_code_says_it(arguments: list[str], expected: int) -> None:
    assert code("check", *arguments) == expected


def test_a_kernel_log_is_judged_as_well() -> None:
    log = next(path for path in sorted(TEXTS.iterdir()) if path.suffix in (".txt", ".log"))
    assert code("check", log) == 1


def test_a_baseline_is_written_and_makes_the_same_run_pass(tmp_path: Path) -> None:
    known = tmp_path / "known.json"

    written = run("check", FIRES, "--write-baseline", known)
    assert (written.return_value, written.stdout.partition(": ")[2].partition(";")[0]) == (0, "1 known findings")
    assert json.loads(known.read_text()) == {
        "schema": SCHEMA,
        "findings": [{"rule": "KM201", "symbol": "lab_kmalloc", "module": "kmwatch_lab"}],
    }
    assert code("check", FIRES, "--baseline", known) == 0
    assert [each["known"] for each in answer(FIRES, "--baseline", known)["findings"]] == [True]

    assert code("check", QUIET, "--baseline", known) == 0
    gone = run("check", QUIET, "--baseline", known).stdout
    assert "gone    KM201 lab_kmalloc [kmwatch_lab]: no longer found" in gone
    assert "passed: 0 findings, 0 known, 1 gone" in gone


def test_a_budget_allows_and_refuses(tmp_path: Path) -> None:
    budget = tmp_path / "b.toml"

    budget.write_text("[findings]\nerror = 1\n")
    assert code("check", FIRES, "--budget", budget) == 0
    budget.write_text("[findings]\nwarning = 0\n")
    assert code("check", WASTES, "--budget", budget) == 1
    budget.write_text("[modules.kmwatch-lab]\nwaste = 1\n")
    (waste,) = [each["value"] for each in answer(WASTES, "--budget", budget)["limits"] if "waste" in each["name"]]
    budget.write_text(f"[modules.kmwatch-lab]\nwaste = {waste - 1}\n")
    assert code("check", WASTES, "--budget", budget) == 1
    assert "over    kmwatch_lab waste: " in run("check", WASTES, "--budget", budget).stdout
    budget.write_text(f"[modules.kmwatch_lab]\nwaste = {waste + 1}\n")
    assert code("check", WASTES, "--budget", budget) == 0
    budget.write_text("[modules.absent]\nwaste = 4000\n")
    assert "module absent allocated nothing: was it loaded" in run("check", WASTES, "--budget", budget).stdout
    noted = run("check", WASTES, "--budget", budget, "--format", "junit")
    assert "kmwatch: module absent allocated nothing" in noted.stderr
    budget.write_text("[modul]\n")
    assert code("check", WASTES, "--budget", budget) == 4
    assert code("check", WASTES, "--budget", tmp_path / "none") == 2


def test_mistakes_are_found_before_anything_is_watched(tmp_path: Path) -> None:
    """`live` would need root: the mistake is told first."""
    (tmp_path / "b.toml").write_text("[modul]\n")
    with pytest.raises(BadInputError, match="did you mean modules"):
        run("check", "live", "--budget", tmp_path / "b.toml")
    with pytest.raises(UsageError, match="no rule begins with"):
        run("check", "live", "--select", "KM7")
    for option in ("-o", "--write-baseline"):
        with pytest.raises(UsageError, match=r"there is no .*: make that directory first"):
            run("check", "live", option, tmp_path / "none" / "x")


def test_live_is_watched_while_the_command_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With a capture in place of the kernel."""
    given: list[str] = []
    monkeypatch.setattr(
        sources, "open_source", lambda name, part, *_: given.append(name) or sources.open_capture(Path(FIRES), part)
    )
    mark = tmp_path / "ran"

    assert code("check", "live", "--select", "KM2", "--", "touch", mark) == 1
    assert given == ["live"]
    assert code("check", "live", "-d", "0.01", "--select", "KM1") == 0
    assert code("check", "live", "--", str(tmp_path / "none")) == 2


def test_every_form_is_written_to_a_file_and_text_to_the_terminal(tmp_path: Path) -> None:
    schema = json.loads((Path(__file__).parents[1] / "data" / "sarif" / "sarif-2.1.0-rtm.5.json").read_text())
    for form in ("text", "json", "sarif", "junit"):
        result = run("check", FIRES, "--format", form, "-o", tmp_path / form)
        assert (result.return_value, "failed: 1 finding, 0 known" in result.stdout) == (1, True)
    assert "failed: 1 finding, 0 known" in (tmp_path / "text").read_text()
    assert json.loads((tmp_path / "json").read_text()) == answer(FIRES)
    jsonschema.Draft4Validator(schema).validate(json.loads((tmp_path / "sarif").read_text()))
    assert ET.parse(tmp_path / "junit").getroot().tag == "testsuites"  # noqa: S314  # our own
    for form in ("sarif", "junit"):
        assert run("check", FIRES, "--format", form).stdout == (tmp_path / form).read_text()
    assert [code("check", FIRES, "-o", path) for path in (tmp_path, "/dev/full")] == [2, 2]


def test_lines_need_binutils_and_files_that_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert code("check", FIRES, "--vmlinux", tmp_path / "none") in (2, 3)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotPossibleError, match="install binutils"):
        run("check", FIRES, "--module-dir", tmp_path)


def compared(*arguments: str) -> dict[str, Any]:
    return dict(json.loads(run("diff", *arguments, "--json").stdout))


@pytest.mark.parametrize("name", [golden.name for golden in CAPTURES if golden.how != "log"])
def test_nothing_changed_between_a_run_and_itself(name: str) -> None:
    path = str(GOLDEN / f"{name}.kmw")
    data = compared(path, path, "--fail-on", "count>0", "--fail-on", "waste>0%")

    assert (data["changes"], data["passed"]) == ([], True)
    assert data["runs"][0] == data["runs"][1]
    assert "no function changed" in run("diff", path, path).stdout


def test_what_changed_is_told_both_ways() -> None:
    there, back = (
        {(one["symbol"], one["state"]): (one["before"], one["after"]) for one in compared(*pair)["changes"]}
        for pair in ((FIRES, QUIET), (QUIET, FIRES))
    )
    other = {"new": "gone", "gone": "new", "grown": "shrunk", "shrunk": "grown"}

    assert there[("lab_kmalloc", "grown")][1]["count"] == pytest.approx(106 / 1.342949, rel=1e-6)
    assert {(symbol, other[state]): numbers[::-1] for (symbol, state), numbers in there.items()} == back
    text = run("diff", FIRES, QUIET, "--top", "1").stdout
    assert "3 more rows" in text
    assert "3 grown, 1 gone" in text


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([FIRES, QUIET], 0),
        ([FIRES, QUIET, "--fail-on", "waste>10%"], 1),
        ([QUIET, FIRES, "--fail-on", "waste>10%"], 0),
        ([FIRES, QUIET, "--fail-on", "waste>10%", "--per", "kmalloc"], 0),
        ([FIRES, QUIET, "--fail-on", "failures>0", "--fail-on", "failures>=0"], 1),
        ([FIRES, QUIET, "--fail-on", "count>=0", "--module", "absent"], 1),
        ([FIRES, QUIET, "--fail-on", "wast>10%"], 2),
        ([FIRES, QUIET, "--per", "kmallok"], 2),
        ([FIRES, QUIET, "--per", "vmalloc"], 2),
        ([FIRES, QUIET, "--per", ""], 2),
        ([FIRES, QUIET, "--per", "kmalloc", "--per-second"], 2),
        ([FIRES, "live"], 2),
        ([FIRES], 2),
        ([FIRES, "no-such.kmw"], 2),
        ([FIRES, str(TEXTS)], 4),
    ],
)
def test_a_comparison_has_its_exit_code(arguments: list[str], expected: int) -> None:
    assert code("diff", *arguments) == expected


def test_numbers_can_be_told_per_event_of_a_function() -> None:
    data = compared(FIRES, QUIET, "--module", "kmwatch_lab", "--per", "lab_kmalloc")

    assert [each["units"] for each in data["runs"]] == [53, 106]
    assert [each["total"]["count"] for each in data["runs"]] == [1, 1]
    with pytest.raises(UsageError, match="did you mean lab_kmalloc"):
        run("diff", FIRES, QUIET, "--per", "lab_kmaloc")
