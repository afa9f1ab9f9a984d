"""The tiers of tests: what cannot run here is skipped with the reason, or fails if KMWATCH_REQUIRE names its tier."""

import os
from pathlib import Path

import pytest

from tests.support import TIERS, hold_tier, required_tiers

_HERE = Path(__file__).parent
_REQUIRED = pytest.StashKey[frozenset[str]]()
_WHY_NOT = pytest.StashKey[dict[str, str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Refuse an unknown tier at once, not after the tests."""
    config.stash[_REQUIRED] = required_tiers(os.environ.get("KMWATCH_REQUIRE", ""))
    config.stash[_WHY_NOT] = {tier: why_not() for tier, why_not in TIERS.items()}


def pytest_report_header(config: pytest.Config) -> str:
    """Say which tiers run, which do not and why, and which are required."""
    tiers = [f"{tier} ({why_not or 'possible here'})" for tier, why_not in config.stash[_WHY_NOT].items()]
    return f"tiers: unit, {', '.join(tiers)}; required: {', '.join(sorted(config.stash[_REQUIRED])) or 'none'}"


def pytest_itemcollected(item: pytest.Item) -> None:
    """A test below tests/TIER/ belongs to that tier; nobody has to remember the marker.

    What runs inside a guest is live there.
    """
    parts = item.path.relative_to(_HERE).parts
    tier = "live" if parts[:2] == ("guest", "inside") else parts[0]
    if tier in TIERS:
        item.add_marker(tier)


@pytest.hookimpl(tryfirst=True)  # before the fixtures, which would fail on their own
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Hold each test to its tier."""
    for tier, why_not in item.config.stash[_WHY_NOT].items():
        if item.get_closest_marker(tier):
            hold_tier(tier, why_not, item.config.stash[_REQUIRED])
