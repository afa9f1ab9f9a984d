"""The flame graph as plain data: what leads where, with small neighbours put together so that sums stay exact."""

from typing import Any

import numpy as np

from kmwatch.ledger import MEASURES, Array, Ledger
from kmwatch.profile import CUT, NO_STACK, Frame, Profile, profile

NODES = 8_000
"""Frames that are kept: those with the largest share of any sum. More would neither be seen nor drawn in time."""

_ROOT = 0


class _Tree:
    """All paths as a tree; a node's parent has a smaller number.

    parents, frames: by node; the root is node 0, its own parent, and has no frame. leaves: where each path ends.
    """

    def __init__(self, paths: list[tuple[int, ...]]) -> None:
        numbers: dict[tuple[int, int], int] = {}
        ends = []
        for path in paths:
            node = _ROOT
            for frame in path:
                node = numbers.setdefault((node, frame), len(numbers) + 1)
            ends.append(node)
        whole = np.array([(_ROOT, -1), *numbers], np.int64).reshape(-1, 2)
        self.parents, self.frames, self.leaves = whole[:, 0], whole[:, 1], np.array(ends, np.int64)
        self.depths, above = np.zeros(len(whole), np.int64), np.arange(len(whole))
        while above.any():
            self.depths += above != _ROOT
            above = self.parents[above]

    def inclusive(self, own: Array) -> Array:
        """The sums of each node with all below it, from those that end there: (nodes, sums)."""
        sums = own.copy()
        for depth in range(int(self.depths.max()), 0, -1):
            there = np.flatnonzero(self.depths == depth)
            np.add.at(sums, self.parents[there], sums[there])
        return sums

    def kept(self, own: Array) -> Array:
        """Which nodes are drawn as they are: the largest, each with its parents."""
        sums = self.inclusive(np.abs(own))
        shares = (sums / np.maximum(sums[_ROOT], 1)).max(axis=1)
        kept = np.zeros(len(shares), bool)
        # No node has more than its parent, and of two alike the parent comes first.
        kept[np.argsort(-shares, kind="stable")[:NODES]] = True
        return kept


def build(ledger: Ledger) -> dict[str, Any]:
    """The tree, what ends at its nodes, and how that follows from the sites.

    frames: name, module ("" in the kernel itself) and sort: `function`, `kind` of an allocation, `missing` where the
    stack does not tell, `smaller` for neighbours put together. nodes: parent and frame by number; the root is node 0
    and has frame -1. values: of the whole recording, by measure, what ends at each node. weights: the share of each
    site's events, of those that failed or of the others, that ends at a node. merged: nodes that were put together.
    """
    known = profile(ledger)
    tree = _Tree(known.paths)
    own = np.zeros((len(tree.parents), len(MEASURES)), np.int64)
    np.add.at(own, tree.leaves, known.values())
    kept = tree.kept(own)
    frames, nodes, places = _pruned(tree, kept, known.frames)
    values = np.zeros((len(nodes["parent"]), len(MEASURES)), np.int64)
    np.add.at(values, places, own)
    return {
        "frames": frames,
        "nodes": nodes,
        "values": dict(zip(MEASURES, values.T.tolist(), strict=True)),
        "weights": _weights(known, places[tree.leaves] if len(tree.leaves) else tree.leaves),
        "merged": int((~kept).sum()),
        "stacks": len(ledger.meta.stacks),
        "paths": len(known.paths),
    }


def _pruned(tree: _Tree, kept: Array, known: list[Frame]) -> tuple[list[dict[str, str]], dict[str, list[int]], Array]:
    """The frames and nodes that are left, and the new number of each old node.

    The nodes that are kept come first; behind them, one for all that a node has lost below it.
    """
    owners = np.where(kept, np.arange(len(kept)), 0)
    for depth in range(1, int(tree.depths.max()) + 1):
        there = np.flatnonzero((tree.depths == depth) & ~kept)
        owners[there] = owners[tree.parents[there]]
    numbers = np.cumsum(kept) - 1
    losers, counts = np.unique(tree.parents[~kept & kept[tree.parents]], return_counts=True)
    frames = [{"name": frame.name, "module": frame.module, "sort": _sort(frame)} for frame in known]
    sums = np.unique(counts)
    names = len(frames) + np.searchsorted(sums, counts)
    frames += [{"name": f"[{count} smaller]", "module": "", "sort": "smaller"} for count in sums.tolist()]
    nodes = {
        "parent": [*numbers[tree.parents[kept]].tolist(), *numbers[losers].tolist()],
        "frame": [*tree.frames[kept].tolist(), *names.tolist()],
    }
    others = int(kept.sum()) + np.searchsorted(losers, owners)
    return frames, nodes, np.where(kept, numbers, others)


def _sort(frame: Frame) -> str:
    if frame in (NO_STACK, CUT):
        return "missing"
    return "kind" if frame.name.startswith("[") and not frame.module else "function"


def _weights(known: Profile, places: Array) -> dict[str, list[Any]]:
    """The weights of a profile by node, where its paths end now; ordered by site, then failed."""
    weights = known.weights
    order = np.argsort(weights["site"] * 2 + weights["failed"], kind="stable")
    sums: dict[tuple[int, bool, int], float] = {}
    columns = (weights["site"], weights["failed"], places[weights["path"]], weights["share"])
    for site, failed, node, share in zip(*(column[order].tolist() for column in columns), strict=True):
        sums[site, failed, node] = sums.get((site, failed, node), 0.0) + share
    sites, failed, nodes = (list(column) for column in zip(*sums, strict=True)) if sums else ([], [], [])
    return {"site": sites, "failed": failed, "node": nodes, "share": list(sums.values())}
