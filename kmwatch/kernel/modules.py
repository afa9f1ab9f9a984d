"""Versions of loaded modules, as their authors count them: the same driver may be of another release elsewhere."""

from pathlib import Path

_PLACE = Path("/sys/module")
_MOST, _LONGEST = 4096, 64


def versions(place: Path = _PLACE) -> dict[str, str]:
    """By name, of those that have a MODULE_VERSION(): most of the kernel's own have none."""
    found = {}
    for path in sorted(place.glob("*/version"))[:_MOST]:
        try:
            text = path.read_text(encoding="utf-8", errors="replace").strip()
        except OSError:  # unloaded just now
            continue
        if text:
            found[path.parent.name] = text[:_LONGEST]
    return found
