"""What the tests in a guest share: the module, and where results go."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.guest.inside.lab import Lab, loaded


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """The module, loaded for as long as the tests take."""
    with loaded() as lab:
        yield lab


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that the host gets back; one that is thrown away where nobody wants it."""
    wanted = os.environ.get("KMWATCH_RESULTS")
    return Path(wanted) if wanted else tmp_path_factory.mktemp("results")
