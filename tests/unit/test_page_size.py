"""A page of a busy machine is small enough to be attached to a message, and has nothing less in it."""

from kmwatch.ledger import MEASURES
from kmwatch.views import page
from kmwatch.views.page import flame
from tests.unit import pages

LARGEST = 3_000_000  # bytes


def test_five_thousand_sites_and_a_hundred_thousand_stacks_fit() -> None:
    ledger = pages.crowded(sites=5000, stacks=100_000, slices=60)
    data = page.build(ledger, [], pages.HOW)
    told = data["flame"]

    assert len(page.render(data).encode()) < LARGEST
    assert (len(data["ids"]), told["stacks"], len(data["timeline"]["seconds"])) == (5000, 100_000, 60)
    assert told["merged"] > 500_000
    assert flame.NODES < len(told["nodes"]["parent"]) < 2 * flame.NODES
    for measure in MEASURES:
        assert sum(told["values"][measure]) == sum(site[measure] for site in data["report"]["sites"])
