"""speedscope's own form of JSON: the ways of calls once, and a profile of them for each measure."""

import json
from typing import Any

from kmwatch import __version__
from kmwatch.ledger import Ledger
from kmwatch.profile import profile
from kmwatch.units import printable
from kmwatch.views.export.ways import MEASURED

SCHEMA = "https://www.speedscope.app/file-format-schema.json"
_UNITS = {"bytes": "bytes", "count": "none"}


def build(ledger: Ledger) -> dict[str, Any]:
    """The file as plain data. Measures that are 0 have no profile, except the first."""
    ways = profile(ledger)
    values = ways.values()
    told = [word for at, (word, each) in enumerate(MEASURED.items()) if not at or values[:, each.at].any()]
    frames = [
        {"name": printable(frame.name), **({"file": printable(frame.module)} if frame.module else {})}
        for frame in ways.frames
    ]
    host = ledger.meta.host
    return {
        "$schema": SCHEMA,
        "exporter": f"kmwatch@{__version__}",
        "name": printable(f"kernel memory of {host.hostname}, Linux {host.kernel}"),
        "activeProfileIndex": 0,
        "shared": {"frames": frames},
        "profiles": [_profile(word, ways.paths, values[:, MEASURED[word].at].tolist()) for word in told],
    }


def _profile(word: str, paths: list[tuple[int, ...]], values: list[int]) -> dict[str, Any]:
    """Sorted, so that what shares a way stands side by side where nothing is merged."""
    by = sorted((list(path), value) for path, value in zip(paths, values, strict=True) if value)
    return {
        "type": "sampled",
        "name": word.replace("_", " "),
        "unit": _UNITS[MEASURED[word].unit],
        "startValue": 0,
        "endValue": sum(value for _, value in by),
        "samples": [path for path, _ in by],
        "weights": [value for _, value in by],
    }


def render(data: dict[str, Any]) -> bytes:
    """The JSON, in ASCII."""
    return json.dumps(data, separators=(",", ":")).encode() + b"\n"
