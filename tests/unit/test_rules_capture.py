"""KM902: what is missing from a capture is said once, by the rule and by the summary."""

from pathlib import Path

import pytest

from kmwatch.findings import RULES
from kmwatch.rules import judge
from kmwatch.views.report import build
from tests.unit.captures import small_capture
from tests.unit.folded import folded
from tests.unit.rows import found, kmalloc, ledger, meta, only
from tests.unit.test_text import printed, words

CUT = "the recording was cut: it goes to 3.0 s and has no end"
GONE = "events-00002.parquet is missing: its 4 events are in no number"


def test_all_doubts_are_one_finding() -> None:
    finding = only("KM902", ledger(kmalloc("f+0x1", 64), known=meta(doubts=[CUT, GONE])))

    assert finding.message == f"the capture is not complete: {CUT}; {GONE}"
    assert finding.evidence == {"doubts": [CUT, GONE]}
    assert finding.site == "kmwatch"
    assert "copy it again" in finding.advice
    assert (RULES["KM902"].name, RULES["KM902"].severity) == ("capture-incomplete", "warning")


def test_without_doubt_there_is_no_finding() -> None:
    assert found("KM902", ledger(kmalloc("f+0x1", 64))) == []


def test_its_evidence_stays_as_it_was() -> None:
    made = ledger(kmalloc("f+0x1", 64), known=meta(doubts=[CUT]))
    finding = only("KM902", made)
    made.meta.doubts.append(GONE)

    assert finding.evidence == {"doubts": [CUT]}


@pytest.mark.parametrize("ended", [True, False])
def test_a_damaged_capture_says_so_in_the_summary_and_the_findings(tmp_path: Path, ended: bool) -> None:
    directory = small_capture(tmp_path / "a.kmw", ended=ended)
    (directory / "events-00002.parquet").unlink()
    _, made = folded(directory)
    data = build(made, judge(made))
    text = words(printed(data, 200))

    doubts = [GONE] if ended else [CUT, GONE]
    assert data["trust"]["doubts"] == doubts
    assert f"missing {'; '.join(doubts)}" in text
    assert f"warning KM902 capture-incomplete kmwatch the capture is not complete: {'; '.join(doubts)}" in text
    assert data["trust"]["lost"] == 4


def test_a_whole_one_says_nothing_of_it(tmp_path: Path) -> None:
    _, made = folded(small_capture(tmp_path / "a.kmw"))
    text = printed(build(made, judge(made)), 200)

    assert "missing" not in text
    assert "KM902" not in text
