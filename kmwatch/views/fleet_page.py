"""A fleet's report as one HTML file without any script. A text that is not kmwatch's own goes through `text`."""

import re
from collections.abc import Sequence
from string import Template
from typing import Any

from kmwatch.units import number, size
from kmwatch.views import fleet_words as words
from kmwatch.views.page.html import asset, policy
from kmwatch.views.page.parts import FIRST, text, when

Row = tuple[tuple[str, ...], tuple[str, ...]]
"""Cells of words, and cells of numbers."""


_NUMBER = '<td class="number">'


def render(data: dict[str, Any], how: dict[str, Any]) -> str:
    """The whole file; how: `command` (the command line), `made` (when, in seconds since the epoch)."""
    return Template(asset("fleet.html")).substitute(
        policy=policy(),
        title=f"kmwatch: {words.many(data['captures']['hosts'], 'host')}",
        style=asset("page.css"),
        verdict=_verdict(data),
        first=_first(data),
        findings=_findings(data),
        outliers=_outliers(data),
        releases=_releases(data),
        skipped=_skipped(data),
        rows_title=words.rows_title(data),
        rows=_groups(data["report"]) if data["report"]["by"] else _sites(data["report"]),
        how=_facts({"Command": how["command"], "kmwatch": data["kmwatch"], "Made": when(how["made"]),
                    "Form of the data": data["schema"]}),
    )  # fmt: skip


def _verdict(data: dict[str, Any]) -> str:
    # A number stays in one line.
    sentence = re.sub(r"(?<=[0-9]) (?=[0-9])", "&nbsp;", text(words.verdict(data)))
    told = {label.capitalize(): each for label, each in words.summary(data).items() if each}
    return f'<p class="sentence">{sentence}</p>{_facts(told)}'


def _facts(facts: dict[str, str]) -> str:
    shown = "".join(f"<div><dt>{name}</dt><dd>{text(value)}</dd></div>" for name, value in facts.items())
    return f'<dl class="facts">{shown}</dl>'


def _first(data: dict[str, Any]) -> str:
    if not data["first"]:
        return '<p class="empty">No host differs from the others.</p>'
    listed = "".join(
        f"<li><b>{text(each['host'])}</b> <small>score {each['score']}</small>"
        f"<ul>{''.join(f'<li>{text(reason)}</li>' for reason in each['reasons'])}</ul></li>"
        for each in data["first"]
    )
    return f"<ol>{listed}</ol>"


def _findings(data: dict[str, Any]) -> str:
    rows = "".join(map(_finding, data["findings"]))
    return f"<ol>{rows}</ol>{_more(data, 'findings')}" if rows else '<p class="empty">No rule found anything.</p>'


def _finding(finding: dict[str, Any]) -> str:
    severity, example = text(finding["severity"]), finding["example"]
    return (
        f'<li class="finding {severity}"><p class="what"><b>{severity}</b> <code>{text(finding["rule"])}</code> '
        f'{text(finding["name"])} <span class="where">{text(words.place(finding))}</span></p>'
        f"<p>{text(words.hosts_of(finding))} of the hosts: {text(_named(finding))}.{_saves(finding)}</p>"
        f"<details><summary>As on {text(example['host'])}</summary><p>{text(example['message'])}</p>"
        f'<p class="advice">{text(example["advice"])}</p></details></li>'
    )


def _named(finding: dict[str, Any]) -> str:
    rest = finding["hosts"] - len(finding["first"])
    return ", ".join(finding["first"]) + (f" and {number(rest)} more" if rest else "")


def _saves(finding: dict[str, Any]) -> str:
    saving = words.saving(finding)
    return f' <span class="saving">saves {text(saving)} on all of them</span>' if saving else ""


def _outliers(data: dict[str, Any]) -> str:
    rows = [
        (
            (each["host"], words.place(each), words.measure(each)),
            (*words.outlier_numbers(each), f"{each['spreads']:.1f}", number(each["hosts"])),
        )
        for each in data["outliers"]
    ]
    names = (("host", "function", "measure"), ("value", "median", "times", "spreads", "hosts"))
    return _table(*names, rows) + _more(data, "outliers")


def _releases(data: dict[str, Any]) -> str:
    rows = [
        (
            (words.since(each), words.before(each), words.place(each), words.measure(each)),
            words.move_numbers(each),
        )
        for each in data["releases"]
    ]
    names = (("since", "before", "function", "measure"), ("old", "new", "change", "hosts"))
    return _table(*names, rows) + _more(data, "releases")


def _skipped(data: dict[str, Any]) -> str:
    return _table(("capture", "reason"), (), [((each["name"], each["reason"]), ()) for each in data["skipped"]])


def _sites(report: dict[str, Any]) -> str:
    rows = [
        (
            (each["kind"], words.place(each), each["gfp"], each["context"]),
            (*(number(each[name]) for name in ("count", "failures")),
             *(size(each[name]) for name in ("bytes_allocated", "bytes_wasted"))),
        )
        for each in report["sites"][:FIRST]
    ]  # fmt: skip
    names = (("kind", "function", "flags", "context"), ("allocations", "failures", "allocated", "wasted"))
    return _table(*names, rows) + _rest(len(report["sites"]) - len(rows))


def _groups(report: dict[str, Any]) -> str:
    rows = [
        (
            (each["name"],),
            (
                number(each["count"]),
                number(each["failures"]),
                size(each["bytes_allocated"]),
                size(each["bytes_wasted"]),
            ),
        )
        for each in report["groups"][:FIRST]
    ]
    names = ((report["by"],), ("allocations", "failures", "allocated", "wasted"))
    return _table(*names, rows) + _rest(len(report["groups"]) - len(rows))


def _rest(count: int) -> str:
    return f'<p class="caption">{number(count)} more: --json has all.</p>' * bool(count)


def _table(named: Sequence[str], numbered: Sequence[str], rows: Sequence[Row]) -> str:
    if not rows:
        return '<p class="empty">None.</p>'
    head = "".join(f'<th scope="col">{name}</th>' for name in named)
    head += "".join(f'<th scope="col" class="number">{name}</th>' for name in numbered)
    body = "".join(f"<tr>{_cells('<td>', first)}{_cells(_NUMBER, second)}</tr>" for first, second in rows)
    table = f'<table class="dense fleet"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    return f'<div class="scroll" tabindex="0">{table}</div>'


def _cells(tag: str, values: Sequence[str]) -> str:
    return "".join(f"{tag}{text(value)}</td>" for value in values)


def _more(data: dict[str, Any], name: str) -> str:
    rest = words.left_out(data, name, len(data[name]))
    return f'<p class="caption">{number(rest)} more are left out.</p>' if rest else ""
