"""How the captures of a fleet are added up: one after another by DuckDB in this process, or by other means at once."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from kmwatch.batch import Batch, Meta
from kmwatch.errors import BadInputError, NotPossibleError
from kmwatch.fleet.layout import Place
from kmwatch.fleet.staging import reason, staged
from kmwatch.sources.capture import CaptureSource, OutsideError

Opening = Callable[[Path], CaptureSource]
"""Opens the capture in a directory, with what is chosen of it."""


@dataclass(frozen=True)
class Folded:
    """One capture added up: batches in numbers of its own meta."""

    place: Place
    meta: Meta
    batches: Sequence[Batch]


@dataclass(frozen=True)
class Skipped:
    """A capture that is in no number, and why."""

    place: Place
    reason: str


class Engine(Protocol):
    """What adds captures up."""

    def fold(self, places: Sequence[Place], opening: Opening) -> Iterator[Folded | Skipped]:
        """Each capture, in the order of the places; those that have nothing of what was asked for are left out."""


class DuckDB:
    """In this process, one capture at a time: memory is bounded by one, whatever their number."""

    def fold(self, places: Sequence[Place], opening: Opening) -> Iterator[Folded | Skipped]:
        """Each capture."""
        for opened in opened_each(places, opening):
            if isinstance(opened, Skipped):
                yield opened
                continue
            place, source = opened
            try:
                folded = Folded(place, source.meta, list(source))
            except BadInputError as error:
                yield Skipped(place, reason(error, place, source.capture.directory))
            else:
                yield folded


def opened_each(places: Sequence[Place], opening: Opening) -> Iterator[tuple[Place, CaptureSource] | Skipped]:
    """Each capture, open until the next one is asked for; of those elsewhere there is one on this machine at a time."""
    for place in places:
        directory = Path(place.url)  # until there is a copy
        try:
            with staged(place) as directory, opening(directory) as source:
                hosted(source.meta, place)
                yield place, source
        except OutsideError:
            continue
        except (BadInputError, NotPossibleError) as error:
            yield Skipped(place, reason(error, place, directory))


def hosted(meta: Meta, place: Place) -> None:
    """Name the host as the layout does: containers can all have one hostname."""
    if place.host:
        meta.host = replace(meta.host, hostname=place.host)
