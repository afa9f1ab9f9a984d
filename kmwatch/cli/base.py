"""What the commands share: the group, options, and how data is printed."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kmwatch import __version__
from kmwatch.errors import UsageError
from kmwatch.timespec import duration

if TYPE_CHECKING:
    from rich.console import Console

    from kmwatch.thresholds import Thresholds

JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
KINDS = click.option("--kinds", metavar="LIST", help="What to observe, separated by commas; everything by default.")
CONFIG = click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Thresholds of the rules, as docs/rules.md lists them; ./kmwatch.toml where there is one.",
)
INTO = click.option(
    "--into",
    "root",
    metavar="ROOT",
    help="Root of a fleet, a directory or a URL: the capture goes to ROOT/host=HOST/date=DATE/NAME.",
)
NAME = click.option(
    "--name", default="", metavar="NAME", help="Its name there; by default the time of its start in UTC, HHMMSS."
)
DIMENSIONS = ("site", "cache", "gfp", "zone", "context", "comm", "cgroup", "module", "host", "kernel")


class _Seconds(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.3
    """A length of time in seconds."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The seconds; a usage error for what is no length of time, or none at all."""
        seconds = duration(str(value))
        if not seconds:
            self.fail(f"{value!r:.40} is no length of time: 12.5, 90s, 5m, 1h30m", param, ctx)
        return seconds


class Sample(click.ParamType):  # type: ignore[type-arg]
    """Which share of objects is looked at, as the binary logarithm of one in how many."""

    name = "1/N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The logarithm; a usage error for what is no power of two up to 65536."""
        every = str(value).removeprefix("1/")
        number = int(every) if every.isascii() and every.isdigit() and len(every) < 6 else 0
        if number not in {1 << bits for bits in range(_MOST_BITS + 1)}:
            self.fail(f"{value!r:.40} is no sample: 1 for every object, or 1/2, 1/4, 1/8, 1/16 …", param, ctx)
        return number.bit_length() - 1


_MOST_BITS = 16
SECONDS = _Seconds()


class Group(click.Group):
    """Click's group, except that a parameter's own error is one line as everywhere else, without the usage."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run; click's usage errors become UsageError."""
        try:
            return super().main(*args, **extra)
        except getattr(click.exceptions, "NoArgsIsHelpError", ()):  # a usage error since click 8.2
            raise
        except click.UsageError as error:
            command = error.ctx.command_path if error.ctx else "kmwatch"
            said = " ".join(error.format_message().split())  # of a choice it has a line for each
            raise UsageError(f"{said.rstrip('.')}; see `{command} --help`") from error

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; where the reader of our output has gone, `head` perhaps, it has what it wanted."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            return 0


class WithCommand(click.Command):
    """A command whose arguments after `--` are another command, kept apart so that SOURCE can be left out."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take what follows `--` away before the rest is parsed."""
        at = args.index("--") if "--" in args else len(args)
        ctx.meta["command"] = tuple(args[at + 1 :])
        return super().parse_args(ctx, args[:at])

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """The usage line, with the command."""
        return [*super().collect_usage_pieces(ctx), "[-- CMD…]"]


def part_until(end: str) -> Callable[[Any], Any]:
    """The options that take a part of a capture, of which the one that ends it is called so."""

    def options(command: Any) -> Any:
        for option in (
            click.option(
                "--from", "begin", metavar="TIME", help="Only what happened since: 12.5, 1m30s, 14:03:07, a date."
            ),
            click.option(end, "end", metavar="TIME", help="Only what happened before."),
            click.option("--site", metavar="REGEX", help="Only these call sites, function+offset [module]."),
            click.option("--comm", metavar="REGEX", help="Only threads with such a command name."),
            click.option("--cgroup", metavar="REGEX", help="Only cgroups with such a path."),
        )[::-1]:
            command = option(command)
        return command

    return options


PART = part_until("--to")


def examples(*lines: str) -> str:
    """The end of a command's help: how it is used."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="kmwatch")
def cli() -> None:
    """Watch the Linux kernel allocate memory: what is wasteful, wrong or dangerous, where, and what to do instead."""


def emit(data: Any, as_json: bool, render: "Callable[[Console], Any]") -> None:
    """Print data as JSON, or as its view renders it."""
    if as_json:
        click.echo(json.dumps(data, indent=2))
        return
    from rich.console import Console

    render(Console(file=sys.stdout, highlight=False, soft_wrap=False))


def say(notes: list[str]) -> None:
    """Print what the user should know beside the result, once."""
    while notes:
        click.echo(f"kmwatch: {notes.pop(0)}", err=True)


def thresholds_of(config: Path | None) -> "Thresholds":
    """The thresholds to judge by; where a file changes them, that is said, as a finding may be missing for it."""
    from kmwatch.thresholds import load

    loaded = load(config)
    say([f"thresholds from {loaded.path}"] * bool(loaded.path))
    return loaded
