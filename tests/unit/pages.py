"""Pages for tests: ledgers with stacks and slices, and what is in a file."""

import base64
import dataclasses
import gzip
import json
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np

from kmwatch.batch import KEY, ROW, STACKED, Batch
from kmwatch.kernel.symbols import Site
from kmwatch.ledger import Ledger
from kmwatch.rules import judge
from kmwatch.schema import NO_ZONE, Kind
from kmwatch.timeline import Timeline
from kmwatch.views import page
from tests.unit import rows

HOW: dict[str, Any] = {"command": "kmwatch report live --html page.html", "made": 1.7e9}

Slices = tuple[tuple[rows.Row, ...], ...]
Stacks = dict[int, list[tuple[tuple[str, ...], int]]]


def ledger_of(slices: Slices, stacks: Stacks | None = None, **known: Any) -> Ledger:
    """A ledger with a second for each tuple of rows.

    `stacks` has, by the number of a row of the first, its stacks (innermost first) and their counts.
    """
    meta = rows.meta(**known)
    ledger = Ledger(meta, timeline=Timeline(1.0))
    for at, made in enumerate(slices):
        batch = rows.batch(meta, *made, start=1000.0 + at)
        stacked = []
        for row, counted in (stacks or {}).items() if not at else ():
            for frames, count in counted:
                number = len(meta.stacks) + 1
                sites = rows.rows_of(meta, *(rows.kmalloc(frame, 8) for frame in frames))["site"]
                meta.stacks[number] = tuple(sites.tolist())
                stacked.append((*(batch.rows[name][row] for name in KEY), number, count))
        ledger.add(dataclasses.replace(batch, stacked=np.array(stacked, STACKED)))
    return ledger


def crowded(sites: int, stacks: int, slices: int) -> Ledger:
    """A ledger in which nearly every site does something in every slice, and every stack is another."""
    numbers = np.random.default_rng(7)
    meta = rows.meta()
    ledger = Ledger(meta, timeline=Timeline(1.0))
    modules = ("", "", "ext4", "nvme", "mlx5_core")
    meta.sites += [Site(f"site_{at}+{at % 251:#x}", f"site_{at}", modules[at % 5]) for at in range(1, sites + 1)]
    meta.sites += [Site(f"caller_{at}", f"caller_{at}", modules[at % 5]) for at in range(3000)]
    base = np.zeros(sites, ROW)
    for name in ("zone", "node", "migratetype"):
        base[name] = NO_ZONE
    asked = numbers.integers(1, 8000, sites)
    base["kind"], base["site"], base["min_request"], base["max_request"] = (
        Kind.KMALLOC,
        np.arange(sites) + 1,
        asked,
        asked,
    )
    base["gfp"] = numbers.choice([rows.TABLE.encode(name) for name in ("GFP_KERNEL", "GFP_ATOMIC", "GFP_NOFS")], sites)
    base["bytes_alloc"] = [rows.LIMITS.class_for(size) for size in asked.tolist()]
    of = np.arange(stacks) % sites
    stacked = np.zeros(stacks, STACKED)
    for name in KEY:
        stacked[name] = base[name][of]
    stacked["stack"], stacked["count"] = np.arange(stacks) + 1, numbers.integers(1, 200, stacks)
    callers = (sites + 1 + (3000 * numbers.random((stacks, 15)) ** 2).astype(int)).tolist()
    depths = numbers.integers(6, 16, stacks).tolist()
    for at in range(stacks):
        meta.stacks[at + 1] = (int(of[at]) + 1, *callers[at][: depths[at]])
    often = numbers.pareto(1.0, sites) + 0.2
    for at in range(slices):
        part = base.copy()
        part["count"] = numbers.poisson(often * 3)
        part["bytes_requested"], part["bytes_allocated"] = part["count"] * asked, part["count"] * base["bytes_alloc"]
        part["fill"][:, 3] = part["count"]
        ledger.add(Batch(part[part["count"] > 0], 1000.0 + at, 1.0, stacked=stacked[: 0 if at else None]))
    return ledger


def built(ledger: Ledger, **how: Any) -> dict[str, Any]:
    """The data of a page, with what the rules find."""
    return page.build(ledger, judge(ledger), HOW | how)


def unpacked(text: str) -> dict[str, Any]:
    """The data in a file."""
    match = re.search(r'<script type="application/octet-stream" id="data">([^<]*)</script>', text)
    assert match
    data: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(match[1])))
    return data


class Elements(HTMLParser):
    """What a browser would make of a text: elements with their attributes, and the text outside of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.scripts: list[str] = []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep what the parser found."""
        self.found.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        """Keep what the parser found."""
        self._inside = "" if tag == self._inside else self._inside

    def handle_data(self, data: str) -> None:
        """Keep what the parser found."""
        if self._inside == "script":
            self.scripts.append(data)
        elif self._inside != "style":
            self.text += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of all elements of this name."""
        return [attributes for name, attributes in self.found if name == tag]
