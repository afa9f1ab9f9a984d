"""A budget: how many findings a run may have and how much memory a module may take, from a TOML file."""

import tomllib
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kmwatch.errors import BadInputError, UsageError
from kmwatch.findings import SEVERITIES
from kmwatch.gate.places import same_module
from kmwatch.gate.selection import refuse_no_rule
from kmwatch.words import refuse_unknown

_TABLES = ("findings", "rules", "total", "modules")
_MOST = 1e18
_EXAMPLE = "`[findings]`, then `error = 0`"

MEASURES = {
    "waste": "bytes/s never asked for",
    "bytes": "bytes/s allocated",
    "allocations": "allocations/s",
    "failures": "failures",
}
"""What a budget can limit for a module or for all, and its unit; opportunistic failures do not count."""


@dataclass(frozen=True)
class Budget:
    """The most that is allowed; what is not named is not limited, except errors: there may be none.

    severities, rules: findings, by severity and by a rule's code or the beginning of several.
    total, modules: by MEASURES, over everything and by module ("" is the kernel itself).
    """

    severities: dict[str, int] = field(default_factory=lambda: {"error": 0})
    rules: dict[str, int] = field(default_factory=dict)
    total: dict[str, float] = field(default_factory=dict)
    modules: dict[str, dict[str, float]] = field(default_factory=dict)


def read(path: Path, codes: Collection[str]) -> Budget:
    """The budget in a file; UsageError where there is none, BadInputError where it says what nobody understands."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read the budget {path} ({error.strerror}): docs/ci.md shows one") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInputError(f"{path} is not TOML: {str(error) or 'nested too deeply'}") from error
    return parse(data, str(path), codes)


def parse(data: dict[str, Any], where: str, codes: Collection[str]) -> Budget:
    """The budget that a TOML document says; BadInputError, with the nearest word, for a key that there is not."""
    refuse_unknown(data, _TABLES, where, BadInputError)
    tables = {name: _table(data.get(name, {}), f"{where}: [{name}]") for name in _TABLES}
    refuse_unknown(tables["findings"], SEVERITIES, f"{where}: [findings]", BadInputError)
    for code in tables["rules"]:
        refuse_no_rule(code, codes, f"{where}: [rules]", BadInputError)
    modules = {name: _table(each, f"{where}: [modules.{name}]") for name, each in tables["modules"].items()}
    return Budget(
        {"error": 0} | {name: _count(each, f"{where}: {name}") for name, each in tables["findings"].items()},
        {name.upper(): _count(each, f"{where}: {name}") for name, each in tables["rules"].items()},
        _measures(tables["total"], f"{where}: [total]"),
        {same_module(name): _measures(each, f"{where}: [modules.{name}]") for name, each in modules.items()},
    )


def _table(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadInputError(f"{where:.120} is no table: write {_EXAMPLE}")
    return value


def _measures(table: dict[str, Any], where: str) -> dict[str, float]:
    refuse_unknown(table, MEASURES, where, BadInputError)
    return {name: _number(value, f"{where} {name}") for name, value in table.items()}


def _count(value: Any, where: str) -> int:
    if not isinstance(value, int):
        raise BadInputError(f"{where:.120} is {value!r:.40}, no whole number: write 0 or more")
    return int(_number(value, where))


def _number(value: Any, where: str) -> float:
    """A finite number from 0 on; true is none, although Python takes it for 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MOST:
        raise BadInputError(f"{where:.120} is {value!r:.40}, no number that can be a limit: write 0 or more")
    return value
