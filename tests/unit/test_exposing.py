"""What `kmwatch serve` makes of its batches."""

import time
from collections.abc import Iterator

import pytest

from kmwatch.cli.exposing import Exposed
from kmwatch.findings import RULES, Finding, Rule
from kmwatch.ledger import Ledger
from kmwatch.serve.config import ServeConfig
from kmwatch.serve.snapshot import Own
from kmwatch.thresholds import DEFAULTS, Thresholds
from tests.unit.rows import batch, kmalloc, meta

FOUND = 'kmwatch_findings{rule="KM102",name="kmalloc-just-above-a-size-class",severity="warning"}'


def test_other_thresholds_judge_from_now_on() -> None:
    known = meta()
    exposed = Exposed(known, ServeConfig(window=10.0), DEFAULTS)

    def found() -> list[str]:
        exposed.add(batch(known, kmalloc("f+0x1", 33, count=1000), seconds=1.0))
        exposed.publish(time.time(), Own())
        return [line for line in exposed.render("")[0].decode().splitlines() if line.startswith(FOUND)]

    assert found() == [f"{FOUND} 1"]
    exposed.judge_by(DEFAULTS)
    assert found() == [f"{FOUND} 1"]
    exposed.judge_by(Thresholds(waste_rate=1e9))
    assert found() == [f"{FOUND} 0"]


def test_a_rule_that_cannot_judge_is_said_where_the_journal_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(_: Ledger) -> Iterator[Finding]:
        raise KeyError("x")

    monkeypatch.setitem(RULES, "KM102", Rule("KM102", "breaks", "warning", "0.2", check))
    known, notes = meta(), list[str]()
    exposed = Exposed(known, ServeConfig(window=10.0), DEFAULTS, notes)

    exposed.add(batch(known, kmalloc("f+0x1", 33, count=1000)))

    assert notes == ["rule KM102 breaks cannot judge and counts as 0 then: KeyError: 'x'"]
