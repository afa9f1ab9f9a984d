"""The report as text: tables as wide as the terminal, no colour where there is none. It decides nothing."""

from typing import Any

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from kmwatch.units import number, printable, seconds, short, size
from kmwatch.views import outstanding

_WIDE, _NUMBERS = 110, 32  # columns from which there is room for flags and context; what the numbers take
_MOMENT = 0.1  # seconds
SEVERITY_STYLES = {"error": "bold red", "warning": "yellow", "notice": "cyan"}


def render(data: dict[str, Any], console: Console, top: int = 20) -> None:
    """Print a report (`kmwatch.views.report.build`): a summary, the `top` sites, what is held, all findings."""
    _summary(data, console)
    show_rows(data, console, top)
    if data["outstanding"]:
        outstanding.render(data["outstanding"], console)
    _findings(data, console)


def show_rows(data: dict[str, Any], console: Console, top: int) -> None:
    """Print the first groups of a report, or its first sites where it has no groups."""
    if data["by"]:
        _groups(data, console, top)
    else:
        _sites(data, console, top)


def _summary(data: dict[str, Any], console: Console) -> None:
    host, span, trust, totals, cost = (data[name] for name in ("host", "span", "trust", "totals", "cost"))
    took, failures = max(span["seconds"], 1e-9), totals["failures"]
    wasted = totals["bytes_wasted"] / max(totals["bytes_allocated"], 1)
    busy = (cost["kernel_cpu_seconds"] + cost["own_cpu_seconds"]) / took / max(host["cpus"], 1)
    # Over a moment a rate means nothing, and below one a second the count says more.
    rated = span["seconds"] >= _MOMENT and trust["events"] >= took
    rate = f" ({short(trust['events'] / took)}/s)" if rated else ""
    lines = {
        "kmwatch": f"{whose(host)}, {seconds(took)}",
        "events": f"{number(trust['events'])}{rate}: "
        f"{number(totals['allocations'])} allocations, {number(totals['frees'])} frees",
        "memory": f"{size(totals['bytes_allocated'])} allocated ({size(totals['bytes_allocated'] / took)}/s), "
        f"{size(totals['bytes_wasted'])} of it never asked for ({wasted:.1%})",
        "failures": f"{number(failures['real'])} real, {number(failures['opportunistic'])} opportunistic",
        "trust": f"{number(trust['lost'])} lost, {number(trust['map_full'])} for want of room, "
        f"{number(trust['unknown_site'])} of unknown site, {number(trust['duplicates_removed'])} double reports removed"
        + ("; the context is unknown" if trust["coverage"]["context"] == "unknown" else ""),
        "missing": "; ".join(trust["doubts"]),
        "cost": f"{busy:.2%} of this machine's CPU time ({cost['kernel_cpu_seconds']:.2f} s in the kernel, "
        f"{cost['own_cpu_seconds']:.2f} s in kmwatch)" * bool(busy),  # an imported text took none
        "pressure": ", ".join(f"{name.replace('_', ' ')} {number(n)}" for name, n in data["pressure"].items() if n),
    }
    show_lines(lines, console)


def show_lines(lines: dict[str, str], console: Console) -> None:
    """Print labels and their texts, one below the other; a label without a text is left out."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    for label, text in lines.items():
        if text:
            table.add_row(Text(label), Text(printable(text)))
    console.print(table)


def whose(host: dict[str, Any]) -> str:
    """Whose memory it is; a text of another tool may not say."""
    if host["hostname"] == host["kernel"] == "unknown":
        return "host unknown"
    cpus = f"{host['cpus']} CPU{'s' if host['cpus'] != 1 else ''}"
    return f"{host['hostname']}, Linux {host['kernel']}, {cpus}"


def _sites(data: dict[str, Any], console: Console, top: int) -> None:
    sites = data["sites"]
    shown = sites[:top]
    console.print()
    if not shown:
        console.print(Text("no allocation was seen", "dim"))
        return
    took = max(data["span"]["seconds"], 1e-9)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    wide = console.width >= _WIDE
    # The numbers keep their width; the words share the rest.
    rest = max(console.width - _NUMBERS, 20)
    words = {"kind": 12, "site": rest * 4 // 10, "gfp": rest * 3 // 10, "context": rest * 3 // 10 - 20}
    for name, width in words.items() if wide else (("kind", 12), ("site", rest - 14)):
        table.add_column(name, overflow="ellipsis", no_wrap=True, max_width=width)
    for name in ("count/s", "bytes/s", "waste"):
        table.add_column(name, justify="right", no_wrap=True)
    for each in shown:
        wasted = each["bytes_wasted"] / each["bytes_allocated"] if each["bytes_allocated"] else 0.0
        where: tuple[str, ...] = (each["kind"], _place(each), each["gfp"], each["context"])
        if not wide:
            told = "" if each["context"] in ("process", "unknown") else f" in {each['context']}"
            where = (each["kind"], _place(each) + told)
        numbers = (short(each["count"] / took), size(each["bytes_allocated"] / took), f"{wasted:.0%}")
        table.add_row(*(Text(printable(word)) for word in (*where, *numbers)))
    console.print(table)
    if len(sites) > top:
        console.print(Text(f"{number(len(sites) - top)} more rows: --top N shows more, --json shows all", "dim"))


def _groups(data: dict[str, Any], console: Console, top: int) -> None:
    took, groups = max(data["span"]["seconds"], 1e-9), data["groups"]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column(data["by"], overflow="ellipsis", no_wrap=True)
    for name in ("count/s", "bytes/s", "bytes", "waste", "failed"):
        table.add_column(name, justify="right", no_wrap=True)
    for each in groups[:top]:
        wasted = each["bytes_wasted"] / each["bytes_allocated"] if each["bytes_allocated"] else 0.0
        rates = (short(each["count"] / took), size(each["bytes_allocated"] / took), size(each["bytes_allocated"]))
        numbers = (*rates, f"{wasted:.0%}", number(each["failures"]))
        table.add_row(*(Text(printable(word)) for word in (each["name"], *numbers)))
    console.print()
    console.print(table)
    if len(groups) > top:
        console.print(Text(f"{number(len(groups) - top)} more rows: --top N shows more, --json shows all", "dim"))


def _place(site: dict[str, Any]) -> str:
    module = f" [{site['module']}]" if site["module"] else ""
    what = site["cache"] or (f"order {site['order']}" if site["order"] else "")
    return f"{site['site']}{module}" + (f" ({what})" if what else "")


def _findings(data: dict[str, Any], console: Console) -> None:
    console.print()
    if not data["findings"]:
        console.print(Text("no findings", "green"))
        return
    for each in data["findings"]:
        head = Text.assemble(
            (f"{each['severity']:<8}", SEVERITY_STYLES[each["severity"]]), (each["rule"], "bold"), f" {each['name']}  ",
            (printable(each["site"]), "bold"), (_confidence(each), "dim"),
        )  # fmt: skip
        console.print(head)
        console.print(Padding(Text(printable(each["message"])), (0, 0, 0, 8)))
        console.print(Padding(Text(printable(each["advice"]), "italic"), (0, 0, 0, 8)))


def _confidence(finding: dict[str, Any]) -> str:
    """What is certain needs no word."""
    return "" if finding["confidence"] == "certain" else f"  ({finding['confidence']})"
