"""A board as Grafana's JSON, by Grafana's own builders; what a panel says is decided in the board."""

import itertools
import json
from collections.abc import Callable

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as forms
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

import kmwatch.rules  # noqa: F401  # enters the rules
from dashboards.model import Board, Panel, Query, Row
from kmwatch.findings import RULES
from scripts.generate_docs import anchor

TAG = "kmwatch"
DOCS = "https://kmwatch.example/docs"
"""Where the rule pages are, until the variable `docs` says better: kmwatch does not know where you keep them."""
_SOURCE = models.DataSourceRef(type_val="prometheus", uid="${source}")
_HEIGHTS = {"lines": 8, "number": 4, "table": 8}  # in Grafana's units of 30 pixels

Built = timeseries.Panel | stat.Panel | table.Panel


def render(board: Board) -> str:
    """The dashboard's file: JSON with a newline at its end, the same for the same board."""
    built = (
        dashboard.Dashboard(board.title)
        .uid(board.uid)
        .description(board.summary)
        .tags([TAG])
        .timezone("browser")
        .refresh("1m")
        .time("now-6h", "now")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .link(_others())
    )
    for variable in _variables():
        built.with_variable(variable)
    numbers = itertools.count(1)
    for row in board.rows:
        built.with_row(_row(row).id(next(numbers)))
        for panel in row.panels:
            built.with_panel(_panel(panel).id(next(numbers)))
    return json.dumps(built.build(), cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _row(row: Row) -> dashboard.Row:
    return dashboard.Row(row.title)


def _others() -> dashboard.DashboardLink:
    """A menu of the other dashboards, which keeps the time and the variables."""
    link = dashboard.DashboardLink("kmwatch").type(models.DashboardLinkType.DASHBOARDS).tags([TAG])
    return link.as_dropdown(as_dropdown=True).include_vars(include_vars=True).keep_time(keep_time=True)


def _variables() -> list[dashboard.DatasourceVariable | dashboard.QueryVariable | dashboard.TextBoxVariable]:
    chosen = 'instance=~"$instance"'
    return [
        dashboard.DatasourceVariable("source").label("Prometheus").type("prometheus"),
        _choice("instance", "kmwatch_build_info", "Hosts; their address as Prometheus scrapes it."),
        _choice("module", f"kmwatch_site_allocations_total{{{chosen}}}", "Kernel modules; All has the kernel itself."),
        _choice(
            "site",
            f'kmwatch_site_allocations_total{{{chosen},module=~"$module"}}',
            "Call sites (functions) that have a series of their own.",
        ),
        dashboard.TextBoxVariable("docs")
        .label("Rule pages")
        .description("Where kmwatch's docs/ can be read: the links of the panels go to rules.md there.")
        .default_value(DOCS),
    ]


def _choice(label: str, series: str, description: str) -> dashboard.QueryVariable:
    """One or several values of a label, or all: also of series that lack it."""
    return (
        dashboard.QueryVariable(label)
        .label(label.capitalize())
        .description(description)
        .datasource(_SOURCE)
        .query(f"label_values({series}, {label})")
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .multi(multi=True)
        .include_all(include_all=True)
        .all_value(".*")
        .current(models.VariableOption(text="All", value="$__all"))
    )


def _panel(panel: Panel) -> Built:
    built: Built = _SHAPES[panel.shape]()
    built.title(panel.title).description(f"**Look for:** {panel.look}\n\n**Do:** {panel.act}")
    built.unit(panel.unit).datasource(_SOURCE).span(panel.width).height(_HEIGHTS[panel.shape])
    if panel.rules:
        built.links([_page(code) for code in panel.rules])
    if panel.quiet:
        built.no_value(panel.quiet)
    if panel.steps:
        built.thresholds(_steps(panel.steps))
    for letter, query in zip("ABCDEFGH", panel.queries, strict=False):
        built.with_target(_target(query, letter, instant=panel.shape == "table"))
    return built


def _target(query: Query, letter: str, *, instant: bool) -> prometheus.Dataquery:
    target = prometheus.Dataquery().ref_id(letter).datasource(_SOURCE).expr(query.expr)
    if query.legend:
        target.legend_format(query.legend)
    return target.instant().format(PromQueryFormat.TABLE) if instant else target.range()


def _page(code: str) -> dashboard.DashboardLink:
    """The page of a rule."""
    name = f"{code} {RULES[code].name}"
    link = dashboard.DashboardLink(name).type(models.DashboardLinkType.LINK).url(f"${{docs}}/rules.md#{anchor(name)}")
    return link.target_blank(target_blank=True)


def _steps(steps: tuple[float, ...]) -> dashboard.ThresholdsConfig:
    colours = [models.Threshold(value=0, color="green")]  # the first holds for all that is less, whatever it says
    named = zip(steps, ("orange", "red")[-len(steps) :], strict=True)
    colours += [models.Threshold(value=value, color=colour) for value, colour in named]
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(colours)


def _lines() -> timeseries.Panel:
    legend = common.VizLegendOptions().display_mode(forms.LegendDisplayMode.TABLE).calcs(["lastNotNull", "max"])
    legend.placement(forms.LegendPlacement.BOTTOM).show_legend(show_legend=True)
    tooltip = common.VizTooltipOptions().mode(forms.TooltipDisplayMode.MULTI).sort(forms.SortOrder.DESCENDING)
    return timeseries.Panel().min(0).fill_opacity(8).legend(legend).tooltip(tooltip)


def _number() -> stat.Panel:
    reduce = common.ReduceDataOptions().calcs(["lastNotNull"])
    return stat.Panel().reduce_options(reduce).graph_mode(forms.BigValueGraphMode.AREA)


def _table() -> table.Panel:
    named = {"excludeByName": {"Time": True}, "renameByName": {"Value": "count"}}
    by_count = common.TableSortByFieldState().display_name("count").desc(desc=True)
    built = table.Panel().align(forms.FieldTextAlignment.AUTO).inspect(inspect=False).sort_by([by_count])
    return built.with_transformation(models.DataTransformerConfig(id_val="organize", options=named))


_SHAPES: dict[str, Callable[[], Built]] = {"lines": _lines, "number": _number, "table": _table}
