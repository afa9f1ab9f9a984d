"""Captures opened and added up for tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest

from kmwatch.capture import engine
from kmwatch.capture.choosing import Choice
from kmwatch.capture.reader import Capture
from kmwatch.ledger import Ledger
from kmwatch.sources.capture import CaptureSource


@contextmanager
def one_database() -> Iterator[None]:
    """DuckDB started once: a capture does it twice, and for a small one that takes longer than all the rest."""
    with duckdb.connect(":memory:", config={"threads": 1}) as database, pytest.MonkeyPatch.context() as patch:
        patch.setattr(duckdb, "connect", lambda *_, **__: database.cursor())
        engine._instance.cache_clear()
        yield
    engine._instance.cache_clear()


def folded(
    directory: Path, choice: Choice | None = None, begin: float | None = None, end: float | None = None
) -> tuple[Capture, Ledger]:
    """A capture, and what is in it, or in a part of it."""
    with CaptureSource(directory, choice) as source:
        source.limit(begin, end)
        ledger = Ledger(source.meta)
        for batch in source:
            ledger.add(batch)
    return source.capture, ledger
