"""Commands that look into captures, of a fleet: `kmwatch info` and `kmwatch sql`."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from kmwatch.cli.base import emit, say
from kmwatch.cli.fleet import unread
from kmwatch.errors import BadInputError, NotPossibleError
from kmwatch.units import number, printable

if TYPE_CHECKING:
    from kmwatch.capture.database import Answer
    from kmwatch.capture.reader import Capture
    from kmwatch.fleet.layout import Place

_MOST_SAID = 20
Skipped = list[tuple[str, str]]
"""Names of captures that cannot be read, each with the reason."""


def show_info(source: str, as_json: bool) -> int:
    """Print what each capture of a fleet is; the exit code tells of those that cannot be read."""
    from kmwatch.fleet.layout import find
    from kmwatch.views import captured, fleet_info

    told, skipped = [], Skipped()
    for place in _watched(find(source)):
        with ExitStack() as staging:
            if capture := _opened(place, staging, skipped):
                told.append({**captured.build(capture), "path": place.url, "name": place.name})
    data = fleet_info.build(told, [{"name": name, "reason": reason} for name, reason in skipped])
    emit(data, as_json, lambda console: fleet_info.render(data, console))
    return unread(skipped)


@contextmanager
def asked(source: str, query: str) -> "Iterator[tuple[Answer, Skipped]]":
    """The answer of all captures of a fleet, and which of them cannot be read; copies stay as long as it is read.

    Raises UsageError for a query that is none, BadInputError where no capture can be read.
    """
    from kmwatch.capture.database import Database
    from kmwatch.fleet.layout import find
    from kmwatch.fleet.staging import reason

    places, skipped, doubts = find(source), Skipped(), list[str]()
    # All would have been fetched for nothing.
    Database(several=True).refuse(query)
    database = Database(several=True)
    with ExitStack() as staging:
        for place in _watched(places):
            if capture := _opened(place, staging, skipped):
                try:
                    database.add(capture, place.name)
                except BadInputError as error:
                    skipped.append((place.name, reason(error, place, capture.directory)))
                doubts += [printable(f"{place.name}: {doubt}") for doubt in capture.doubts]
        if len(skipped) == len(places):
            raise BadInputError(printable(f"none of {len(places):,} captures can be read: {': '.join(skipped[0])}"))
        more = len(doubts) - _MOST_SAID
        say(doubts[:_MOST_SAID] + [f"and {number(more)} doubts more: `kmwatch info` counts them"] * (more > 0))
        yield database.ask(query), skipped


def _opened(place: "Place", staging: ExitStack, skipped: Skipped) -> "Capture | None":
    """A capture, of which every file was looked at; None, and a reason more, for one that cannot be read."""
    from kmwatch.capture.reader import Capture
    from kmwatch.fleet.staging import reason, staged
    from kmwatch.sources.fleet.engine import hosted

    directory = Path(place.url)  # until there is a copy
    try:
        directory = staging.enter_context(staged(place))
        capture = Capture(directory)
        capture.check()
    except (BadInputError, NotPossibleError) as error:
        skipped.append((place.name, reason(error, place, directory)))
        return None
    hosted(capture.meta, place)
    return capture


def _watched(places: "Sequence[Place]") -> "Iterator[Place]":
    """Each, while a bar tells how far it has come."""
    from kmwatch.views.progress import Bar

    with Bar(f"{number(len(places))} captures", len(places)) as bar:
        for at, place in enumerate(places):
            bar.show(at, printable(place.name)[-40:])
            yield place
