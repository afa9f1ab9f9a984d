"""Stacks counted in the kernel lead to the module's functions, for everything that it allocates."""

from collections.abc import Iterator

import pytest

from kmwatch.ledger import ALLOCATIONS
from kmwatch.profile import profile
from kmwatch.schema import Stacks
from kmwatch.sources.maps import LiveSource
from tests.guest.inside.lab import Lab
from tests.live.watching import Watch

COUNT = 101
ASKED = {
    "op=kmalloc size=100": ("lab_kmalloc", "[kmalloc]"),
    "op=kmalloc size=20000": ("lab_kmalloc", "[kmalloc]"),
    "op=cache size=200": ("lab_cache", "[cache_alloc kmwatch_lab"),
    "op=alloc_pages order=2": ("lab_alloc_pages", "[page_alloc]"),
    "op=vmalloc size=20000": ("lab_vmalloc", "[vmalloc]"),
    "op=percpu size=64": ("lab_percpu", "[percpu_alloc]"),
}


@pytest.fixture(scope="module")
def everything() -> Iterator[Watch]:
    """Every stack is counted."""
    with LiveSource(frozenset(ALLOCATIONS), stacks=Stacks.ALL) as source:
        yield Watch(source)


@pytest.mark.parametrize("line", ASKED)
def test_stacks_lead_to_the_function_that_asked(lab: Lab, everything: Watch, line: str) -> None:
    function, leaf = ASKED[line]
    ledger = everything.during(lambda: lab.ask(f"{line} n={COUNT}"))
    assert lab.result()["done"] == COUNT
    found, ways = profile(ledger), []
    for path, value in zip(found.paths, found.values()[:, 0].tolist(), strict=True):
        names = [found.frames[at].name.partition(".")[0] for at in path]
        if names[-2] == function:
            ways.append((names[-1].startswith(leaf), "vfs_write" in names, value))

    assert ways == [(True, True, COUNT)]
    assert int(ledger.stacked["count"][ledger.stacked["stack"] != 0].sum()) >= COUNT
