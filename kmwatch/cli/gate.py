"""What `check` and `diff` do: files read before anything is watched, then a ledger judged, then the result written."""

import json
import sys
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kmwatch.cli.base import say
from kmwatch.cli.output import refuse_nowhere
from kmwatch.errors import UsageError
from kmwatch.findings import RULES

if TYPE_CHECKING:
    from kmwatch.findings import Found
    from kmwatch.ledger import Ledger


class Gate:
    """What a run is held to, read from the options of `check`; raises where one of them is wrong."""

    def __init__(self, options: dict[str, Any]) -> None:
        import kmwatch.rules  # noqa: F401  # enters the rules
        from kmwatch.gate import baseline, budget
        from kmwatch.gate.selection import choose
        from kmwatch.gate.verdict import Scope

        self._options = options
        refuse_nowhere(options["output"], options["write_baseline"])
        self._scope = Scope(choose(options["select"], options["ignore"], RULES), _modules(options["modules"]))
        self._budget = budget.read(options["budget"], RULES) if options["budget"] else budget.Budget()
        self._known = baseline.read(options["baseline"]) if options["baseline"] else frozenset()
        self._debug = _debug_info(options["vmlinux"], options["module_dir"])

    def pass_or_fail(self, ledger: "Ledger", source: str) -> int:
        """Judge a ledger and write the result; the exit code."""
        from kmwatch.gate.verdict import weigh
        from kmwatch.rules import judge
        from kmwatch.views import check as view

        found, options = judge(ledger), self._options
        if options["write_baseline"]:
            return self._keep([each for each in found if self._scope.covers(each)])
        verdict = weigh(ledger, found, self._scope, self._known, self._budget)
        codes = [code for each in verdict.judged if (code := view.code_of(each.found.finding))]
        lines = self._debug.lines(codes) if self._debug else {}
        data = view.build(ledger, verdict, source, options["baseline"] and str(options["baseline"]), lines)
        self._write(data)
        return 0 if data["passed"] else 1

    def _keep(self, found: "list[Found]") -> int:
        from kmwatch.gate import baseline

        path = self._options["write_baseline"]
        count = baseline.write(path, found)
        click.echo(f"{path}: {count} known findings; `kmwatch check … --baseline {path}` leaves them out")
        return 0

    def _write(self, data: dict[str, Any]) -> None:
        """The result in its form: to the terminal, or to a file with text to the terminal beside it."""
        from rich.console import Console

        from kmwatch.views import check as view

        form, output = self._options["form"], self._options["output"]
        if output:
            _write_text(output, self._text(data))
        elif form != "text":
            click.echo(self._text(data), nl=False)
            say([*data["notes"]])
            return
        view.render(data, Console(file=sys.stdout, highlight=False, soft_wrap=False))

    def _text(self, data: dict[str, Any]) -> str:
        from kmwatch.views import junit, sarif

        match self._options["form"]:
            case "junit":
                return junit.build(data, self._scope.codes)
            case "sarif":
                return json.dumps(sarif.build(data, self._scope.codes), indent=2) + "\n"
            case "json":
                return json.dumps(data, indent=2) + "\n"
        return _rendered(data)


def _rendered(data: dict[str, Any]) -> str:
    from rich.console import Console

    from kmwatch.views import check as view

    text = StringIO()
    view.render(data, Console(file=text, width=120, highlight=False, color_system=None))
    return text.getvalue()


def compare(
    sources: tuple[str, str], modules: tuple[str, ...], per: str | None, fail_on: tuple[str, ...], *, per_second: bool
) -> dict[str, Any]:
    """What changed between two captures, as `kmwatch.views.diff.build` tells it."""
    from kmwatch.cli.sources import Part, open_source, whole_ledger
    from kmwatch.gate import changes, conditions
    from kmwatch.views import diff as view

    if per is not None and per_second:
        raise UsageError("--per-second and --per are two ways to compare: choose one")
    if "live" in sources:
        raise UsageError("diff compares what was recorded: `kmwatch record -o DIR` first")
    per = changes.SECOND if per is None else per
    wanted = [conditions.parse(text) for text in fail_on]
    runs = []
    for source in sources:
        ledger = whole_ledger(open_source(source, Part()))
        runs.append((source, changes.run_of(ledger, per, source, _modules(modules))))
    changed = changes.changes(*(run for _, run in runs))
    return view.build(runs, per, changed, wanted)


def _modules(names: tuple[str, ...]) -> frozenset[str]:
    from kmwatch.gate.places import KERNEL, same_module

    if not all(names):
        raise UsageError(f"--module '' is no module: {KERNEL} is the kernel itself")
    return frozenset(same_module(name) for name in names)


def _debug_info(vmlinux: Path | None, modules: Path | None) -> Any:
    from kmwatch.kernel.debuginfo import DebugInfo

    return DebugInfo(vmlinux, modules) if vmlinux or modules else None


def _write_text(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {path} ({error.strerror}): choose another file") from error
