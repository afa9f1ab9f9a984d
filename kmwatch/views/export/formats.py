"""The forms of `kmwatch export`, once: the command, its help and docs/exports.md show this table."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from kmwatch.findings import Found
    from kmwatch.ledger import Ledger


class Format(NamedTuple):
    """A form.

    holds: what is in it. opens: what reads it, and how.
    binary: whether it is nothing to look at in a terminal. stacks, slices: whether it tells stacks, and times.
    """

    name: str
    holds: str
    opens: str
    binary: bool = False
    stacks: bool = False
    slices: bool = False


FORMATS = {
    each.name: each
    for each in (
        Format(
            "folded",
            "one line for each way of calls, `outermost;…;site;[kind] value`, of the measure that `--measure` names",
            "FlameGraph: `flamegraph.pl --countname=bytes FILE > flame.svg`; inferno: `inferno-flamegraph < FILE`",
            stacks=True,
        ),
        Format(
            "speedscope",
            "the ways of calls as JSON, with a profile for each measure that has something",
            "speedscope.app: drop the file into the page; or, where its program is installed, `speedscope FILE`",
            stacks=True,
        ),
        Format(
            "pprof",
            "the ways of calls with all measures, labels kind, gfp, context and cache, modules as mappings, comments",
            "`go tool pprof -http=: FILE`, or in the terminal `go tool pprof -top -sample_index=wasted FILE`; "
            "`-tagfocus=gfp=GFP_ATOMIC` takes a part, `-tagleaf=cache` splits, `-comments` shows host and losses",
            binary=True,
            stacks=True,
        ),
        Format(
            "perfetto",
            "counters over time: allocations, releases, failures and bytes a second, bytes by kind, free pages where "
            "known; failures and findings as instants, those of a known thread on its own track",
            "ui.perfetto.dev: open the file, it stays in the browser; or `trace_processor FILE` for SQL",
            binary=True,
            slices=True,
        ),
        Format(
            "csv",
            "the sites of the report, a line each, with the names that `kmwatch report --json` has",
            "any spreadsheet, or `duckdb -c \"from read_csv('FILE')\"`",
        ),
        Format(
            "parquet",
            "the same columns with their types; the file's own keys tell host, kernel and span",
            "DuckDB, Polars, pandas, Spark: `duckdb -c \"from read_parquet('FILE')\"`",
            binary=True,
        ),
        Format(
            "openmetrics",
            "the counters that `kmwatch serve` would have shown, with the times at which it would have",
            "Prometheus, as history: `promtool tsdb create-blocks-from openmetrics FILE DATA_DIRECTORY`, and then the "
            "dashboards",
            slices=True,
        ),
    )
}
"""Every form by its name."""


def write(name: str, ledger: "Ledger", findings: "Sequence[Found]", measure: str) -> bytes:
    """A ledger in a form.

    Args:
        name: of FORMATS.
        ledger: with stacks and a timeline where the form tells them.
        findings: what the rules found in it.
        measure: of measures.WORDS, for a form that has only one.
    """
    match name:
        case "folded":
            from kmwatch.views.export import folded

            return folded.render(folded.build(ledger, measure))
        case "speedscope":
            from kmwatch.views.export import speedscope

            return speedscope.render(speedscope.build(ledger))
        case "pprof":
            from kmwatch.views.export import pprof

            return pprof.render(pprof.build(ledger))
        case "perfetto":
            from kmwatch.views.export import perfetto

            return perfetto.render(perfetto.build(ledger, findings))
        case "openmetrics":
            from kmwatch.views.export import openmetrics

            return openmetrics.render(openmetrics.build(ledger, findings))
    from kmwatch.views.export import sites

    return sites.csv(sites.build(ledger)) if name == "csv" else sites.parquet(sites.build(ledger))
