"""kmwatch.toml, read strictly: what nobody understands is refused, with the nearest word that is understood.

What its tables mean stands where it is used: [thresholds] in kmwatch/thresholds.py, [serve] in kmwatch/serve/config.py.
"""

import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any

from kmwatch.errors import BadInputError
from kmwatch.words import refuse_unknown

CONFIG = "kmwatch.toml"
"""The file that is looked for in the working directory."""

TABLES = ("thresholds", "serve")
"""The tables that it may have."""

_LARGEST_TEXT = 1 << 20


def find(path: Path | None) -> Path | None:
    """The file to read: the one that was named, or kmwatch.toml in the working directory, None where there is none."""
    return path or (Path(CONFIG) if Path(CONFIG).is_file() else None)


def read(path: Path) -> dict[str, Any]:
    """All of a file, with known tables only.

    Raises BadInputError for one that cannot be read, that is not TOML, or that has a table which nobody asked for.
    """
    try:
        with path.open("rb") as stream:
            text = stream.read(_LARGEST_TEXT + 1)
        if len(text) > _LARGEST_TEXT:
            raise BadInputError(f"{path} is over 1 MiB: that is no file of settings")
        data = tomllib.loads(text.decode())
    except OSError as error:
        raise BadInputError(f"{path} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise BadInputError(f"{path} is not TOML: {str(error) or 'nested too deeply'}") from error
    refuse_unknown(data, TABLES, str(path), BadInputError)
    return data


def table(data: dict[str, Any], name: str, known: Collection[str], where: str) -> dict[str, Any]:
    """One table of a file, empty where it is not there; BadInputError where it is none or has an unknown key."""
    given = data.get(name, {})
    if not isinstance(given, dict):
        raise BadInputError(f"{where}: `{name}` must be a table: [{name}], and below it NAME = VALUE")
    refuse_unknown(given, known, f"{where}: [{name}]", BadInputError)
    return given
