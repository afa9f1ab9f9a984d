"""Sources by their name on the command line: `live`, a capture's directory, or a text of another tool."""

import atexit
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

from kmwatch.cli.base import say
from kmwatch.errors import UsageError

if TYPE_CHECKING:
    from kmwatch.batch import Task
    from kmwatch.ledger import Ledger
    from kmwatch.sources.fleet.engine import Engine
    from kmwatch.sources.held import Hold
    from kmwatch.thresholds import Thresholds


_OF_TASKS: "dict[str, Callable[[Task], object]]" = {"comm": attrgetter("comm"), "cgroup": attrgetter("cgroup")}


@dataclass(frozen=True)
class Part:
    """The part of a source that is wanted; None means all of it.

    begin, end: as kmwatch.timespec understands them. site, comm, cgroup: regular expressions.
    by: the dimension that rows are to be told apart by, beside those that they always are.
    end_option: what `end` is called on the command line.
    """

    kinds: str | None = None
    begin: str | None = None
    end: str | None = None
    site: str | None = None
    comm: str | None = None
    cgroup: str | None = None
    by: str | None = None
    end_option: str = "--to"

    def refuse_live(self) -> None:
        """Raise UsageError where the ledger in the kernel does not tell this part from the rest."""
        wanted = {
            "--from": self.begin,
            self.end_option: self.end,
            "--site": self.site,
            "--comm": self.comm,
            "--cgroup": self.cgroup,
        }
        named = [option for option, value in wanted.items() if value is not None]
        if self.by in _OF_TASKS:
            named.append("--by comm or cgroup")
        if named:
            raise UsageError(f"{named[0]} needs a capture, `live` adds up all there is: `kmwatch record -o DIR` first")


@dataclass(frozen=True)
class Detail:
    """What a source is to tell beside its rows.

    hold: what is held: `live` as that says, others of every object; None for nothing. stacks: "none", "sampled" or
    "all"; of others than `live` those that were recorded. sliced: when it happened, in slices that are small enough.
    """

    hold: "Hold | None" = None
    stacks: str = "none"
    sliced: bool = False


def open_source(
    source: str,
    part: Part,
    interval: float = 1.0,
    until: Callable[[], bool] = lambda: False,
    detail: Detail = Detail(),  # frozen
) -> Any:
    """The source, not yet entered; UsageError where there is none of this name, BadInputError where it is none."""
    if source == "live":
        part.refuse_live()
        from kmwatch.schema import Stacks
        from kmwatch.sources.maps import LiveSource
        from kmwatch.sources.probes import parse_kinds

        stacks = Stacks[detail.stacks.upper()]
        live = LiveSource(parse_kinds(part.kinds), interval, until, hold=detail.hold, stacks=stacks)
        say(live.notes)
        return live
    if is_fleet(source):
        return open_fleet(source, part, detail)
    path = Path(source)
    if not path.exists():
        raise UsageError(f"there is no {source}: SOURCE is `live`, captures by their directory, or a text to import")
    return open_capture(path if path.is_dir() else _imported(path), part, detail)


def is_fleet(source: str) -> bool:
    """Whether a source is many captures; `live` starts without looking."""
    if source == "live":
        return False
    from kmwatch.fleet import layout

    return layout.is_fleet(source)


def open_fleet(source: str, part: Part, detail: Detail = Detail(), engine: "Engine | None" = None) -> Any:  # frozen
    """All captures of a fleet, or the parts of them that are wanted, not yet entered; added up by DuckDB by default."""
    from kmwatch.fleet.layout import find
    from kmwatch.sources.fleet import FleetSource
    from kmwatch.sources.fleet.engine import DuckDB

    if detail.sliced:
        refuse_fleet(source)
    return FleetSource(find(source), partial(open_capture, part=part, detail=detail), engine or DuckDB(), part.by)


def refuse_fleet(source: str) -> None:
    """Raise UsageError for many captures, where time is to be shown."""
    if is_fleet(source):
        raise UsageError(f"{source} has many captures, which have no time line in common: name one of them")


def _imported(file: Path) -> Path:
    """A capture of a text, which goes when kmwatch does."""
    from kmwatch.cli.keeping import import_text
    from kmwatch.sources.text import open_text

    directory = Path(mkdtemp(prefix="kmwatch-"))
    atexit.register(rmtree, directory, ignore_errors=True)
    text = open_text(file)
    import_text(text, directory, force=False, quiet=True)
    if text.doubts.skipped:
        say([f"{text.doubts.skipped:,} of {text.doubts.lines:,} lines are not understood: `kmwatch import` shows some"])
    say(text.doubts.notes)
    return directory


def open_capture(path: Path, part: Part, detail: Detail = Detail()) -> Any:  # frozen
    """A capture, or the part of it that is wanted, not yet entered."""
    from kmwatch.capture.choosing import Choice, matching
    from kmwatch.sources.capture import CaptureSource
    from kmwatch.sources.probes import parse_kinds
    from kmwatch.timeline import SLICES
    from kmwatch.timespec import parse

    site, comm, cgroup = (matching(pattern) for pattern in (part.site, part.comm, part.cgroup))
    choice = Choice(
        kinds=parse_kinds(part.kinds) if part.kinds else None,
        sites=site and (lambda one: site(one.label)),
        tasks=(comm or cgroup) and (lambda one: (not comm or comm(one.comm)) and (not cgroup or cgroup(one.cgroup))),
        by_task=_OF_TASKS.get(part.by or ""),
    )
    source = CaptureSource(
        path,
        choice,
        outstanding=detail.hold is not None,
        stacks=detail.stacks != "none",
        slices=SLICES if detail.sliced else 0,
    )
    source.limit(
        *(
            parse(text, source.meta.start, option)
            for text, option in ((part.begin, "--from"), (part.end, part.end_option))
        )
    )
    return source


def refuse_live_only(source: str, command: tuple[str, ...], duration: float | None) -> None:
    """Raise UsageError where something is asked of a recorded source that only `live` can do."""
    if source != "live" and (command or duration):
        what = "a command" if command else "--duration"
        raise UsageError(f"{what} goes with `live`: {source} has been recorded already")


def ledgers(
    source: Any, opened: Callable[[], None], thresholds: "Thresholds | None" = None, *, sliced: bool = False
) -> Iterator["Ledger"]:
    """The ledger after each batch; `opened` is called when the source is watching. Ctrl-C ends the watching only.

    With `sliced` it has a timeline.
    """
    with source:
        say(source.notes)
        ledger = _empty(source, thresholds, sliced=sliced)
        opened()
        for batch in source:
            ledger.add(batch)
            yield ledger


def whole_ledger(
    source: Any,
    opened: Callable[[], None] = lambda: None,
    thresholds: "Thresholds | None" = None,
    *,
    sliced: bool = False,
) -> "Ledger":
    """The ledger over all that a source gives; with `sliced` it has a timeline."""
    ledger = _empty(source, thresholds, sliced=sliced)
    for last in ledgers(source, opened, thresholds, sliced=sliced):
        ledger = last
    return ledger


def _empty(source: Any, thresholds: "Thresholds | None", *, sliced: bool) -> "Ledger":
    from kmwatch.ledger import Ledger
    from kmwatch.thresholds import DEFAULTS
    from kmwatch.timeline import Timeline

    return Ledger(source.meta, thresholds or DEFAULTS, Timeline(source.slice_length) if sliced else None)
