"""A baseline: findings that are known and do not count, kept as a file by rule, function and module."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kmwatch.errors import BadInputError, UsageError
from kmwatch.findings import Found
from kmwatch.gate.places import spot_of

SCHEMA = "kmwatch.baseline/1"
_AGAIN = "write it again with --write-baseline"


@dataclass(frozen=True, order=True)
class Known:
    """What makes a finding the same one in another run, on another build."""

    rule: str
    symbol: str
    module: str


def known_as(found: Found) -> Known:
    """What a baseline calls a finding."""
    place = spot_of(found.finding).place
    return Known(found.rule.code, place.symbol, place.module)


def read(path: Path) -> frozenset[Known]:
    """The findings of a baseline; UsageError where there is no such file, BadInputError where it is none."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read the baseline {path} ({error.strerror}): --write-baseline makes one") from error
    except UnicodeDecodeError as error:
        raise BadInputError(f"{path} is no baseline, it is not text: {_AGAIN}") from error
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInputError(f"{path} is no baseline, it is not JSON: {_AGAIN}") from error
    if not isinstance(data, dict) or data.get("schema") != SCHEMA or not isinstance(data.get("findings"), list):
        raise BadInputError(f"{path} is no baseline of the form {SCHEMA}: {_AGAIN}")
    return frozenset(_known(each, path) for each in data["findings"])


def write(path: Path, found: Iterable[Found]) -> int:
    """Keep these findings as a baseline, sorted, one a line; returns how many there are of them."""
    known = sorted({known_as(each) for each in found})
    lines = ",".join(f"\n  {json.dumps(asdict(each))}" for each in known)
    try:
        path.write_text(f'{{\n "schema": "{SCHEMA}",\n "findings": [{lines}\n ]\n}}\n', encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {path} ({error.strerror}): choose another file") from error
    return len(known)


def _known(entry: Any, path: Path) -> Known:
    fields = ("rule", "symbol", "module")
    if not isinstance(entry, dict) or not all(isinstance(entry.get(name), str) for name in fields):
        raise BadInputError(f"{path}: {json.dumps(entry)[:80]} has no rule, symbol and module: {_AGAIN}")
    return Known(*(entry[name] for name in fields))
