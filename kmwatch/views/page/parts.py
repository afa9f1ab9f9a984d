"""The parts of the page that can be read without JavaScript. A text that is not kmwatch's own goes through `text`."""

import html
import re
from collections import Counter
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from kmwatch.findings import SEVERITIES
from kmwatch.units import number, printable, seconds, size

FIRST = 20
"""Sites, and findings, that stand in the file for readers without JavaScript."""

_SITE_COLUMNS = ("count", "bytes_allocated", "bytes_wasted", "failures", "opportunistic_failures")
_TRUST = {
    "lost": "lost: not counted",
    "map_full": "not counted for want of room",
    "duplicates_removed": "double reports removed",
    "unknown_site": "counted, but who asked is not known",
    "unknown_task": "recorded without command name",
    "unknown_stack": "recorded without stack",
}
_LONGEST = 400  # characters of a name


def text(value: object) -> str:
    """Any text, shown and not obeyed: neither by a browser nor by what reads right to left."""
    told = printable(str(value))
    return html.escape(told if len(told) <= _LONGEST else told[:_LONGEST] + "…")


def title(data: dict[str, Any]) -> str:
    """The title of the window."""
    return f"kmwatch: {text(data['report']['host']['hostname'])}, {text(when(data['report']['span']['start']))}"


def verdict(data: dict[str, Any]) -> str:
    """The sentence, whose memory it is, and the totals."""
    report = data["report"]
    totals, span, host = report["totals"], report["span"], report["host"]
    took = max(span["seconds"], 1e-9)
    share = totals["bytes_wasted"] / max(totals["bytes_allocated"], 1)
    failures = totals["failures"]
    cards = (
        ("Allocated", size(totals["bytes_allocated"]), f"{size(totals['bytes_allocated'] / took)}/s"),
        ("Never asked for", size(totals["bytes_wasted"]), f"{share:.1%} of what was allocated"),
        ("Allocations", number(totals["allocations"]), f"{number(totals['frees'])} frees"),
        ("Failures", number(failures["real"]), f"{number(failures['opportunistic'])} more that callers expect"),
    )
    facts = {
        "Host": f"{host['hostname']}, {host['cpus']} CPU{'s' if host['cpus'] != 1 else ''}",
        "Kernel": host["kernel"],
        "Span": f"{when(span['start'])}, {seconds(took)}",
        "Events": number(report["trust"]["events"]),
    }
    shown = "".join(f"<div><dt>{name}</dt><dd>{text(value)}</dd></div>" for name, value in facts.items())
    boxes = "".join(
        f'<div class="card"><span>{name}</span><strong>{text(value)}</strong><small>{text(more)}</small></div>'
        for name, value, more in cards
    )
    return (
        # A number stays in one line.
        f'<p class="sentence">{re.sub(r"(?<=[0-9]) (?=[0-9])", "&nbsp;", text(sentence(data)))}</p>'
        f'<dl class="facts">{shown}</dl><div class="cards">{boxes}</div>'
    )


def sentence(data: dict[str, Any]) -> str:
    """What to know if nothing else is read."""
    report = data["report"]
    found = report["findings"]
    if not report["trust"]["events"]:
        return "No event was seen, so nothing can be said."
    missed = report["trust"]["lost"] + report["trust"]["map_full"]
    doubt = f" {number(missed)} events were missed." if missed else ""
    if not found:
        events = report["trust"]["events"]
        return f"No rule found anything wrong in {number(events)} event{'s' if events != 1 else ''}.{doubt}"
    counts = Counter(each["severity"] for each in found)
    told = [f"{number(counts[s])} {s}{'s' if counts[s] != 1 else ''}" for s in SEVERITIES if counts[s]]
    worst = min(found, key=lambda each: SEVERITIES.index(each["severity"]))
    listed = " and ".join([", ".join(told[:-1]), told[-1]] if len(told) > 1 else told)
    first = ", first of all" if len(found) > 1 else ":"
    return f"{listed}{first} {worst['name']} at {worst['site']}.{doubt}"


def findings(data: dict[str, Any]) -> str:
    """The first findings, each with its advice, its rule and a link to its site; assets/findings.js adds the rest."""
    found = data["report"]["findings"]
    if not found:
        return '<p class="empty">No rule found anything.</p>'
    rows = [_finding(each, link) for each, link in zip(found[:FIRST], data["links"], strict=False)]
    rest = len(found) - len(rows)
    more = f'<details id="findings-more"><summary>{number(rest)} more</summary><ol></ol></details>' if rest else ""
    return f"<ol>{''.join(rows)}</ol>{more}"


def _finding(finding: dict[str, Any], link: str | None) -> str:
    where = text(finding["site"])
    if link:
        where = f'<a href="{html.escape(fragment(link))}">{where}</a>'
    sure = "" if finding["confidence"] == "certain" else f' <span class="sure">{text(finding["confidence"])}</span>'
    saving = finding["saving_bytes_per_second"]
    saves = f'<p class="saving">saves {text(size(saving))}/s</p>' if saving > 0 else ""
    severity = text(finding["severity"])
    return (
        f'<li class="finding {severity}" data-rule="{text(finding["rule"])}"><p class="what"><b>{severity}</b> '
        f'<code>{text(finding["rule"])}</code> {text(finding["name"])}{sure} <span class="where">{where}</span></p>'
        f'<p>{text(finding["message"])}</p><p class="advice">{text(finding["advice"])}</p>{saves}</li>'
    )


def fragment(link: str) -> str:
    """The link to a place in the page; what stands behind `=` is quoted as in a query."""
    name, equals, value = link.partition("=")
    return f"#{name}{equals}{quote(value, safe='/')}"


def sites(data: dict[str, Any]) -> str:
    """The rows of the first sites."""
    rows = zip(data["report"]["sites"][:FIRST], data["ids"], strict=False)
    return "".join(_site(each, name) for each, name in rows)


def _site(site: dict[str, Any], name: str) -> str:
    module = f' <span class="module">[{text(site["module"])}]</span>' if site["module"] else ""
    what = site["cache"] or (f"order {site['order']}" if site["order"] else "")
    place = f"<code>{text(site['site'])}</code>{module}" + (f" <small>{text(what)}</small>" if what else "")
    words = (site["kind"], place, _breakable(site["gfp"]), _breakable(site["context"]))
    cells = "".join(f"<td>{word}</td>" for word in words)
    shown = {"bytes_allocated": size, "bytes_wasted": size}
    numbers = "".join(
        f'<td class="number" data-column="{column}" data-value="{site[column]}">'
        f"{text(shown.get(column, number)(site[column]))}</td>"
        for column in _SITE_COLUMNS
    )
    return f'<tr id="site={html.escape(name)}">{cells}{numbers}<td></td></tr>'


def _breakable(words: str) -> str:
    """A text that may go to the next line behind `|` and `+`."""
    return re.sub(r"([|+])", r"\1<wbr>", text(words))


def zones(data: dict[str, Any]) -> str:
    """The zones when they were last looked at."""
    memory = data["memory"]
    if not memory["zones"]:
        return '<p class="empty">Nobody looked at the zones: there is no snapshot of free memory and no headroom.</p>'
    page, known = memory["page_size"], memory["zones"]
    orders = max(len(zone["blocks"]) for zone in known)
    head = "".join(f"<th scope='col'>{name}</th>" for name in ("node", "zone", "free", "min", "low", "high", "managed"))
    head += "".join(f"<th scope='col' class='number'>{order}</th>" for order in range(orders))
    rows = ""
    for zone in known:
        bytes_of = "".join(
            _cell(zone[name], size(zone[name] * page)) for name in ("free", "min", "low", "high", "managed")
        )
        blocks = "".join(_cell(count, number(count)) for count in zone["blocks"])
        rows += f"<tr><td>{zone['node']}</td><td>{text(zone['name'])}</td>{bytes_of}{blocks}</tr>"
    room = "".join(_cell(count, number(count)) for count in memory["headroom"])
    last = f'<tr class="headroom"><th scope="row" colspan="7">room for so many GFP_ATOMIC more</th>{room}</tr>'
    return (
        "<p>Free memory by zone when it was last looked at, free blocks by order, and how many further GFP_ATOMIC "
        "blocks of each order would be given out, nothing freed and nothing reclaimed.</p>"
        f'<div class="scroll"><table id="zones-memory" class="dense"><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}{last * bool(room)}</tbody></table></div>"
    )


def _cell(value: int, shown: str) -> str:
    return f'<td class="number" data-value="{value}">{text(shown)}</td>'


def trust(data: dict[str, Any]) -> str:
    """What was missed, what was watched, and every doubt."""
    told = data["report"]["trust"]
    numbers = "".join(
        f'<tr><th scope="row">{_TRUST[name]}</th>{_cell(told[name], number(told[name]))}</tr>' for name in _TRUST
    )
    doubts = "".join(f"<li>{text(each)}</li>" for each in told["doubts"])
    coverage = told["coverage"]
    probes = "".join(
        f"<tr><th scope='row'>{text(n)}</th><td>{text(v)}</td></tr>" for n, v in coverage["probes"].items()
    )
    events = "".join(
        f"<tr><th scope='row'>{text(name)}</th>{_cell(count, number(count))}</tr>"
        for name, count in coverage["events"].items()
    )
    return (
        (f'<ul class="doubts">{doubts}</ul>' if doubts else "")
        + "<p>Nothing is known to be missing.</p>" * (not doubts and not told["lost"] and not told["map_full"])
        + f'<div class="columns"><div><h3>Losses, in events</h3><table>{numbers}</table></div>'
        f"<div><h3>Events by kind</h3><table>{events}</table></div></div>"
        f"<p>How the context is seen: {text(coverage['context'])}.</p>"
        f'<details><summary>Probes</summary><div class="scroll"><table>{probes}</table></div></details>'
    )


def how(data: dict[str, Any], libraries: list[str], licences: str) -> str:
    """How the page was made, and with what."""
    made, cost = data["how"], data["report"]["cost"]
    spent = f"{cost['kernel_cpu_seconds']:.2f} s of CPU time in the kernel, {cost['own_cpu_seconds']:.2f} s in kmwatch"
    facts = {
        "Command": f"<code>{text(made['command'])}</code>",
        "kmwatch": text(data["report"]["kmwatch"]),
        "Made": text(when(made["made"])),
        "Form of the data": text(data["report"]["schema"]),
        "Cost": text(spent),
    }
    shown = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts.items())
    used = "".join(f"<li>{text(each)}</li>" for each in libraries)
    return (
        f'<dl class="facts">{shown}</dl><details><summary>Libraries in this file</summary><ul>{used}</ul>'
        f'<pre class="licences" tabindex="0">{html.escape(licences)}</pre></details>'
    )


def when(start: float) -> str:
    """A time in seconds since the epoch as people write it; 0 is none."""
    if not start:
        return "time unknown"
    try:
        return datetime.fromtimestamp(start, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return "time unknown"
