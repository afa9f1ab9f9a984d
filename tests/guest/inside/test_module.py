"""A module that allocates on request, in every context: kmwatch says exactly what it did, and which of it is a bug.

Each row of tests/guest/rows.py is done once; what was observed meanwhile is held to tests/guest/expected.py, first the
sums and then the findings.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kmwatch.ledger import FREES, Ledger
from kmwatch.rules import judge
from kmwatch.sources.bpf import possible_cpus
from tests.guest import expected
from tests.guest.compare import differs, findings_differ, sums_differ
from tests.guest.inside.lab import Lab, percpu_event_is_full, request
from tests.guest.rows import ROWS, Row
from tests.live.watching import Watch, only, sites

each_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name.replace(" ", "-"))


@dataclass(frozen=True)
class Outcome:
    """What came of a row: what the module says of it, and what kmwatch said otherwise than it must."""

    did: dict[str, Any]
    refused: bool
    sums: list[str]
    findings: list[str]

    @property
    def verdict(self) -> dict[str, Any]:
        """The outcome as results hold it."""
        differs = self.sums + self.findings
        return {"state": "failed" if differs else "refused" if self.refused else "ok", "differs": differs}


class Table:
    """The rows, each done when it is first asked for."""

    def __init__(self, lab: Lab, watch: Watch) -> None:
        self.lab, self.watch = lab, watch
        self.machine = expected.Machine(possible_cpus(), percpu_event_is_full())
        self.outcomes: dict[Row, Outcome] = {}
        self.seconds = 0.0

    def outcome(self, row: Row) -> Outcome:
        """What came of a row. Nobody but the rows calls the module's functions: what is read belongs to this one."""
        if row not in self.outcomes:
            begun = time.monotonic()
            self.outcomes[row] = self._do(row)
            self.seconds += time.monotonic() - begun
        return self.outcomes[row]

    def _do(self, row: Row) -> Outcome:
        did = self.lab.ask(request(row, expected.mask(row, self.lab.result())))
        ledger = self.watch.so_far(Ledger(self.watch.source.meta))
        if did["error"] == -expected.EOPNOTSUPP and expected.refused(row, did):
            return Outcome(did, refused=True, sums=[], findings=[])
        if did["error"]:
            return Outcome(did, refused=False, sums=[f"the module: error {did['error']}"], findings=[])
        return Outcome(did, False, list(self._sums(row, did, ledger)), list(findings_differ(row, did, judge(ledger))))

    def _sums(self, row: Row, did: dict[str, Any], ledger: Ledger) -> Iterator[str]:
        if did["failed"] and row.op != "percpu":
            yield f"the module: {did['failed']} failures"
        if not expected.context(row, did).startswith(expected.ordinary(row, did)):
            yield f"the module: preempt_count {did['preempt_count_min']:#x} in {row.ctx}"
        for wanted in expected.sums(row, did, self.machine):
            yield from sums_differ(wanted, sites(only(ledger, {wanted.symbol}, wanted.kind)), row, did)
        if row.op in expected.FREED:
            symbol, kind = expected.FREED[row.op]
            freed = only(ledger, {symbol}, kind).events(*FREES)
            yield from differs(f"{kind.name.lower()} at {symbol}", freed, did["done"])


@pytest.fixture(scope="module")
def table(lab: Lab, watch: Watch, results: Path) -> Iterator[Table]:
    """The rows, done on this kernel while it is watched; afterwards the host is told what came of them."""
    watch.source.read()  # what other tests did is not the rows'
    table = Table(lab, watch)
    yield table
    meta = watch.source.meta
    told = {
        "kernel": meta.host.kernel,
        "context": meta.context,
        "probes": meta.probes,
        "preempt_counted": lab.result()["preempt_counted"],
        "preempt_rt": lab.result()["preempt_rt"],
        "seconds": round(table.seconds, 1),
        "rows": {row.name: table.outcomes[row].verdict for row in ROWS if row in table.outcomes},
    }
    (results / "rows.json").write_text(json.dumps(told, indent=1) + "\n")


@each_row
def test_what_the_module_did_is_what_kmwatch_says(table: Table, row: Row) -> None:
    outcome = table.outcome(row)

    assert outcome.sums == [], outcome.did


@each_row
def test_a_bug_is_found_where_there_is_one_and_nowhere_else(table: Table, row: Row) -> None:
    """One that may sleep, where sleeping is a bug."""
    outcome = table.outcome(row)

    assert outcome.findings == [], outcome.did


def test_flags_have_the_numbers_that_the_module_tells(table: Table) -> None:
    """A kernel lacks some; its table may lack names of composites that it seldom uses."""
    told = {name: int(value, 0) for name, value in table.lab.result().items() if name.startswith(("gfp_", "__gfp_"))}
    known = {name.lower(): value for name, value in table.watch.source.meta.gfp.flags}

    assert {name: hex(known[name]) for name in told.keys() & known.keys() if known[name] != told[name]} == {}
    assert len(told.keys() & known.keys()) > 25
