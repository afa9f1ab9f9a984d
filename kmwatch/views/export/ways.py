"""What forms that tell ways of calls share: measures by their words, and frames as text."""

from typing import NamedTuple

from kmwatch.ledger import MEASURES
from kmwatch.profile import Frame
from kmwatch.units import printable
from kmwatch.views.export.measures import WORDS


class Measured(NamedTuple):
    """A measure: its place in MEASURES, and what it counts, `bytes` or `count`."""

    at: int
    unit: str


_FIELDS = {name.removeprefix("bytes_"): name for name in MEASURES}
MEASURED = {word: Measured(MEASURES.index(_FIELDS[word]), "count" if word in MEASURES else "bytes") for word in WORDS}
"""Measures by their words."""

_HARMLESS = str.maketrans({";": ":"})


def label(frame: Frame) -> str:
    """A frame as one word without `;`, its module behind it: `nvme_queue_rq_[nvme]`."""
    text = f"{frame.name}_[{frame.module}]" if frame.module else frame.name
    return word(text) or "unknown"


def word(text: str) -> str:
    """Text as one word that ends no field and no line, and steers no terminal."""
    kept = "_".join(text.split()).translate(_HARMLESS)
    return printable(kept)
