"""Folded stacks: a line for each way of calls and what came by it, as FlameGraph and inferno read them."""

from kmwatch.ledger import Ledger
from kmwatch.profile import profile
from kmwatch.views.export.ways import MEASURED, label


def build(ledger: Ledger, measure: str) -> list[tuple[tuple[str, ...], int]]:
    """The frames of each way, outermost first, and what came by it of a measure of MEASURED; ways of nothing go."""
    ways = profile(ledger)
    words = [label(frame) for frame in ways.frames]
    values = ways.values()[:, MEASURED[measure].at].tolist()
    return [(tuple(words[at] for at in path), value) for path, value in zip(ways.paths, values, strict=True) if value]


def render(data: list[tuple[tuple[str, ...], int]]) -> bytes:
    """The lines, sorted."""
    lines = sorted(f"{';'.join(frames)} {value}\n" for frames, value in data)
    return "".join(lines).encode()
