"""What the captures of a fleet are, a line each, and their sum."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from kmwatch import __version__
from kmwatch.units import number, printable, seconds, short, size, span
from kmwatch.views.tables import show_shared
from kmwatch.views.text import show_lines

SCHEMA = "kmwatch.fleet-info/1"
_SUMMED = ("events", "lost", "seconds", "bytes")
_WIDE = 110  # columns from which there is room for hosts and whole numbers
_NARROW = 24  # columns of a name that has lines
_LONGEST = 400  # characters of a name
_MOST_KERNELS = 8


def build(captures: Iterable[Mapping[str, Any]], skipped: Iterable[Mapping[str, str]]) -> dict[str, Any]:
    """A fleet as plain data.

    Args:
        captures: what `kmwatch.views.captured.build` says of each, with its `name` in the fleet.
        skipped: name and reason of those that cannot be read.
    """
    told = [*captures]
    kernels = Counter(str(each["host"]["kernel"]) for each in told)
    return {
        "schema": SCHEMA,
        "kmwatch": __version__,
        "sum": {
            "captures": len(told),
            "hosts": len({each["host"]["hostname"] for each in told}),
            **{name: sum(each[name] for each in told) for name in _SUMMED},
            "doubts": sum(len(each["doubts"]) for each in told),
        },
        "kernels": [{"kernel": name, "captures": count} for name, count in kernels.most_common()],
        "captures": told,
        "skipped": [*skipped],
    }


def render(data: dict[str, Any], console: Console) -> None:
    """Print it: a line for each capture, the sum below them, and what cannot be read."""
    wide = console.width >= _WIDE
    if data["captures"]:
        named, numbered = ("capture", "host", "kernel"), ("events", "lost", "time", "size", "doubts")
        rows = [_row(each, wide=wide) for each in data["captures"]]
        show_shared(named if wide else ("capture", "kernel"), numbered, rows, console, folded=True)
        console.print()
    show_lines(_sum(data), console)
    if data["skipped"]:
        console.print()
        console.print(Text("Skipped captures", "bold"))
        unread = [((_plain(each["name"]), _plain(each["reason"])), ()) for each in data["skipped"]]
        show_shared(("capture", "reason"), (), unread, console, folded=True)


def _row(each: dict[str, Any], *, wide: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of a capture and its numbers; in few columns the name has to tell the host, too."""
    host, doubts = each["host"], number(len(each["doubts"]))
    kernel = _plain(host["kernel"])
    if wide:
        names: tuple[str, ...] = (_plain(each["name"]), _plain(host["hostname"]), kernel)
        return names, (
            number(each["events"]),
            number(each["lost"]),
            seconds(each["seconds"]),
            size(each["bytes"]),
            doubts,
        )
    return (_broken(_plain(each["name"])), kernel), (
        short(each["events"]), short(each["lost"]), span(each["seconds"]), size(each["bytes"]), doubts,
    )  # fmt: skip


def _broken(name: str) -> str:
    """A path in lines, so that a narrow column breaks no word of it."""
    lines = [""]
    for part in name.replace("/", "/\n").split("\n"):
        if lines[-1] and cell_len(lines[-1] + part) > _NARROW:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def _sum(data: dict[str, Any]) -> dict[str, str]:
    whole, kernels = data["sum"], data["kernels"]
    named = [f"{each['kernel'][:_LONGEST]} ({number(each['captures'])})" for each in kernels[:_MOST_KERNELS]]
    more = [f"{number(len(kernels) - _MOST_KERNELS)} more"] * (len(kernels) > _MOST_KERNELS)
    unread = f", {number(len(data['skipped']))} cannot be read" * bool(data["skipped"])
    return {
        "captures": f"{number(whole['captures'])} of {number(whole['hosts'])} hosts{unread}",
        "kernels": ", ".join(named + more),
        "events": f"{number(whole['events'])}, {number(whole['lost'])} lost",
        "time": f"{seconds(whole['seconds'])}, all added up",
        "disk": size(whole["bytes"]),
        "missing": f"{number(whole['doubts'])} doubts: `kmwatch info` of a capture names its own"
        * bool(whole["doubts"]),
    }


def _plain(text: str) -> str:
    return printable(text if len(text) <= _LONGEST else text[:_LONGEST] + "…")
