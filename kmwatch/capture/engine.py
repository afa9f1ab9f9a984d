"""DuckDB as captures use it: in memory, and what does not fit there in a directory of its own while it is open."""

import atexit
from functools import cache
from pathlib import Path
from secrets import token_hex
from tempfile import gettempdir

import duckdb

from kmwatch.units import printable

_LONGEST = 200  # characters of an error
_MEMORY = "400MB"


def connect(memory: str, *, threads: int | None = None) -> duckdb.DuckDBPyConnection:
    """An empty database.

    Args:
        memory: what it may take, as DuckDB writes it: "400MB".
        threads: how many it may use; None for one a CPU.
    """
    # By itself DuckDB takes .tmp in whatever directory kmwatch was started. Nobody can have made this one before: its
    # name cannot be guessed. DuckDB makes it when there is need, and removes it.
    aside = Path(gettempdir(), f"kmwatch-{token_hex(16)}")
    config: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": memory,
        "temp_directory": str(aside),
        "autoinstall_known_extensions": "false",
    }
    if threads:
        config["threads"] = threads
    return duckdb.connect(":memory:", config=config)


@cache
def _instance() -> duckdb.DuckDBPyConnection:
    database = connect(_MEMORY)
    database.execute("SET preserve_insertion_order = false")  # a tenth faster at adding up; who needs order asks for it
    atexit.register(database.close)
    return database


def shared() -> duckdb.DuckDBPyConnection:
    """A connection whose temporary tables and views are its own, to a database that others use as well.

    Starting one takes longer than adding up a small capture, and a fleet has many. Memory and settings are shared.
    """
    return _instance().cursor()


def first_line(error: duckdb.Error) -> str:
    """What an error says, cut; it can quote what a capture holds, which shall not steer a terminal."""
    return printable(str(error).partition("\n")[0])[:_LONGEST]
