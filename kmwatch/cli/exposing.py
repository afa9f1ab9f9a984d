"""What becomes of the batches of a service: counters, what is held, findings, and the text that is scraped."""

import time
from dataclasses import replace

from kmwatch.batch import Batch, Meta
from kmwatch.serve.assembly import assemble
from kmwatch.serve.config import ServeConfig
from kmwatch.serve.counters import Counters, Limits
from kmwatch.serve.holding import Holding
from kmwatch.serve.snapshot import Histogram, Own
from kmwatch.serve.window import Window
from kmwatch.sources.probes import parse_kinds
from kmwatch.thresholds import Thresholds
from kmwatch.views.prometheus import Exposition


class Exposed:
    """The pipeline of `kmwatch serve`; render() and observe() are called from the server's thread.

    notes: where the journal reads what somebody should look at.
    """

    def __init__(self, meta: Meta, config: ServeConfig, thresholds: Thresholds, notes: list[str] | None = None) -> None:
        self._meta, self._exposition, self._scrapes = meta, Exposition(), Histogram()
        limits = Limits(config.top, config.idle)
        self._counters = Counters(meta, time.time(), limits, parse_kinds(config.kinds))
        self._holding = Holding(meta, config.top)
        self._thresholds, self._window = thresholds, Window(meta, config.window, thresholds, notes=notes)

    def add(self, batch: Batch) -> None:
        """Count a batch, and judge it when it is time to."""
        self._holding.add(batch)
        # Each of their ledgers would follow how it grows.
        batch = replace(batch, held=None)
        self._counters.add(batch)
        self._window.add(batch)

    def publish(self, at: float, own: Own) -> None:
        """Show everything as of `at`, in seconds since the epoch, from now on."""
        known = replace(own, scrapes=self._scrapes)
        self._exposition.publish(assemble(at, self._meta, self._counters, self._holding, self._window, known))

    def judge_by(self, thresholds: Thresholds) -> None:
        """Judge by these thresholds from now on; where they are others, what is in the window is forgotten."""
        if thresholds != self._thresholds:
            self._thresholds = thresholds
            self._window.follow(self._meta, thresholds)

    def render(self, accept: str) -> tuple[bytes, str]:
        """The metrics as text and its Content-Type, for an Accept header."""
        return self._exposition.render(accept)

    def observe(self, seconds: float) -> None:
        """Take note of how long a scrape took."""
        self._scrapes = self._scrapes.plus(seconds)
