"""What the rules find in the last minutes: a ledger that forgets."""

import time
from collections import deque
from collections.abc import Callable

import kmwatch.rules  # noqa: F401  # enters the rules
from kmwatch.batch import Batch, Meta
from kmwatch.findings import RULES, Found, Rule
from kmwatch.ledger import Ledger
from kmwatch.serve.snapshot import Family
from kmwatch.thresholds import DEFAULTS, Thresholds
from kmwatch.units import printable

_PARTS = 10
_SHARE = 0.01  # of the time, at most, goes to judging: where a judgement takes long, they get rare


class Window:
    """The batches of the last `seconds`, and how much is found in them.

    They are kept as ten ledgers of a tenth each, and judged when one is full. Its rows are bounded by the kernel's own
    table, and findings are counted, not kept.

    clock: tells the seconds that a judgement takes.
    notes: where it is said, once, that a rule cannot judge; somebody reads and empties it.
    """

    def __init__(
        self,
        meta: Meta,
        seconds: float,
        thresholds: Thresholds = DEFAULTS,
        clock: Callable[[], float] = time.process_time,
        notes: list[str] | None = None,
    ) -> None:
        self._part, self._clock, self._now, self._due = seconds / _PARTS, clock, 0.0, 0.0
        self._full: deque[Ledger] = deque(maxlen=_PARTS)
        self._notes: list[str] = [] if notes is None else notes
        self._broken: set[str] = set()
        self.follow(meta, thresholds)

    def follow(self, meta: Meta, thresholds: Thresholds) -> None:
        """Another source, or other thresholds, from now on: what the batches before told is forgotten."""
        self._meta, self._thresholds = meta, thresholds
        self._full.clear()
        self._open = self._empty()
        self._counts: dict[tuple[str, str, str], int] = {}

    def add(self, batch: Batch) -> bool:
        """Add a batch; True where the rules judged anew."""
        self._now += batch.seconds
        self._open.add(batch)
        if self._open.seconds < self._part:
            return False
        self._full.append(self._open)
        self._open = self._empty()
        if self._now < self._due:
            return False
        began = self._clock()
        self._judge()
        self._due = self._now + (self._clock() - began) / _SHARE
        return True

    def ledger(self) -> Ledger:
        """All that the window holds."""
        whole = self._empty()
        for part in (*self._full, self._open):
            if part.seconds:
                whole.add(Batch(part.rows, part.start, part.seconds, part.trust, part.cost))
        return whole

    def family(self) -> Family:
        """The number of findings of each rule, 0 included: an alert that ends is seen to end."""
        counts = {(rule.code, rule.name, rule.severity): 0 for rule in RULES.values()} | self._counts
        return Family(tuple(counts), tuple(counts.values()))

    def _judge(self) -> None:
        ledger, self._counts = self.ledger(), {}
        for rule in RULES.values():
            for severity in self._severities(rule, ledger):
                labels = (rule.code, rule.name, severity)
                self._counts[labels] = self._counts.get(labels, 0) + 1

    def _severities(self, rule: Rule, ledger: Ledger) -> list[str]:
        """Of all that a rule finds; a rule that raises finds nothing: the others judge, and the service goes on."""
        try:
            return [Found(rule, finding).severity for finding in rule.check(ledger)]
        except Exception as error:  # noqa: BLE001  # whatever it is, it is said
            if rule.code not in self._broken:
                self._broken.add(rule.code)
                said = printable(f"{type(error).__name__}: {error}")
                self._notes.append(f"rule {rule.code} {rule.name} cannot judge and counts as 0 then: {said}")
            return []

    def _empty(self) -> Ledger:
        return Ledger(self._meta, self._thresholds)
