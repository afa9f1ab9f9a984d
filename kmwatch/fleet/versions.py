"""Releases in the order in which they came, as far as their numbers tell."""

import re

_PARTS = re.compile(r"([0-9]{1,18})|([^0-9]+)|[0-9]+")  # more digits than a version has are no number
_END, _BEFORE_END, _MORE = 1, 0, 2

Key = tuple[tuple[int, int, str], ...]


def version_key(version: str) -> Key:
    """By this versions sort: `6.12-rc3` before `6.12`, that before `6.12.9`, and that before `6.12.30-generic`."""
    parts = []
    for number, word in _PARTS.findall(version):
        early = word.startswith(("-rc", "~rc"))
        parts.append((_BEFORE_END if early else _MORE, int(number or -1), word))
    return (*parts, (_END, 0, ""))
