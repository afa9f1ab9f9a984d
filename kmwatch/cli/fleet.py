"""`kmwatch report` of many captures: each judged by itself, all surveyed, and their sum."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kmwatch.cli.base import emit, say
from kmwatch.cli.output import write_whole
from kmwatch.cli.sources import Detail, Part, is_fleet, open_fleet
from kmwatch.errors import BadInputError, UsageError
from kmwatch.units import printable

if TYPE_CHECKING:
    from kmwatch.sources.fleet.engine import Engine
    from kmwatch.thresholds import Thresholds

ENGINES = ("duckdb", "spark")


def refuse_engine(source: str, engine: str | None, master: str | None, *, outstanding: bool) -> None:
    """Raise UsageError for an engine without a fleet, one that cannot do it, or a master without Spark."""
    if master is not None and engine != "spark":
        raise UsageError("--master goes with --engine spark: DuckDB has none")
    if engine is not None and not is_fleet(source):
        raise UsageError(f"--engine goes with a directory of captures: {source} is none")
    if engine == "spark" and outstanding:
        raise UsageError("--outstanding follows single objects through time: --engine duckdb does")


def engine_of(name: str | None, master: str | None) -> "Engine":
    """The engine of this name."""
    from kmwatch.sources.fleet.engine import DuckDB
    from kmwatch.sources.fleet.spark import Spark

    return Spark(master) if name == "spark" else DuckDB()


def survey(source: str, part: Part, detail: Detail, engine: "Engine", thresholds: "Thresholds") -> dict[str, Any]:
    """What a fleet's captures say, each by itself and together, in the form `kmwatch.fleet/1`."""
    from kmwatch.fleet.survey import Survey
    from kmwatch.ledger import Ledger
    from kmwatch.rules import judge
    from kmwatch.views import fleet, report
    from kmwatch.views.progress import Progress

    surveyed = Survey(thresholds)
    with open_fleet(source, part, detail, engine) as captures, Progress() as progress:
        whole = Ledger(captures.meta, thresholds)
        for member in captures.members():
            own = Ledger(member.meta, thresholds)
            for batch, translated in zip(member.batches, member.translated, strict=True):
                own.add(batch)
                whole.add(translated)
            surveyed.add(member.name, member.meta.host.hostname, own, judge(own))
            progress.show({"seconds": whole.seconds, "events": whole.events(), "lost": whole.trust.lost})
        whole.held = captures.held()
    for skipped in captures.skipped:
        surveyed.skip(skipped.place.name, skipped.reason)
    return fleet.build(surveyed.result(), report.build(whole, judge(whole), part.by))


def show_survey(data: dict[str, Any], html: Path | None, as_json: bool, rows: int, how: dict[str, Any]) -> int:
    """Print it, or make a page of it; the exit code tells of captures that could not be read."""
    from kmwatch.views import fleet_page, fleet_text

    if html:
        text = fleet_page.render(data, how).encode()
        write_whole(html, text)
        say([f"wrote {html}, {len(text) / 1e6:.1f} MB: open it in a browser"])
    if as_json or not html:
        emit(data, as_json, lambda console: fleet_text.render(data, console, rows))
    return unread([(each["name"], each["reason"]) for each in data["skipped"]])


def unread_of(source: Any) -> int:
    """Say which captures of a source are in no number, where it has many; the exit code."""
    return unread([(each.place.name, each.reason) for each in getattr(source, "skipped", ())])


def unread(skipped: list[tuple[str, str]]) -> int:
    """Say which captures are in no number, by name and reason; the exit code."""
    say([printable(f"{name} is in no number: {reason}") for name, reason in skipped])
    return BadInputError.exit_code if skipped else 0
