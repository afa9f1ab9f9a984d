"""What a text leaves in doubt: lines that are not understood, events that are missing, and what else to know."""

from dataclasses import dataclass, field

from kmwatch.errors import BadInputError
from kmwatch.units import number

KEPT_LINES, KEPT_NOTES = 5, 50
"""How many skipped lines, and how many notes, are kept at most."""
LINE_CHARACTERS = 200
"""How much of a skipped line is kept."""


def counted(count: int, one: str, several: str) -> str:
    """A count and what it is of: `1 event is`, `10 007 events are`."""
    return f"{number(count)} {one if count == 1 else several}"


@dataclass
class Doubts:
    """Counts of one text; they grow while it is read.

    lines, events: read, and understood as events.
    skipped: lines that look like none that is known; `first` keeps some of them, as (line number, text).
    lost: events that the text itself says are missing.
    notes: what else the reader of a report should know, a sentence each.
    strict: a line that is not understood is an error.
    """

    lines: int = 0
    events: int = 0
    skipped: int = 0
    lost: int = 0
    first: list[tuple[int, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    strict: bool = False

    def skip(self, number: int, line: str) -> None:
        """Count a line that is not understood; with `strict` raise BadInputError, which names the line."""
        text = "".join(letter if letter.isprintable() else " " for letter in line[:LINE_CHARACTERS]).rstrip()
        if self.strict:
            raise BadInputError(
                f"line {number} is not understood: {text!r}; without --strict it is skipped and counted"
            )
        self.skipped += 1
        if len(self.first) < KEPT_LINES:
            self.first.append((number, text))

    def note(self, text: str) -> None:
        """Keep a note, once, and not more than KEPT_NOTES."""
        if text not in self.notes and len(self.notes) < KEPT_NOTES:
            self.notes.append(text)
