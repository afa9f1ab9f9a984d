"""docs/held.md says what kmwatch.coverage holds grades to, and how large the table is."""

import re

from kmwatch import coverage
from kmwatch.schema import BPF_DIR
from kmwatch.sources import held

PAGE = (BPF_DIR.parent / "docs" / "held.md").read_text()
_ROW = re.compile(r"^\| ([A-D]) \| (?:up to 1 in (\d+))?.*?\|(?: up to (\d+) %)?.*\|$", re.MULTILINE)


def test_the_page_has_the_limits_of_each_grade() -> None:
    rows = _ROW.findall(PAGE)

    assert "".join(grade for grade, _, _ in rows) == coverage.GRADES
    assert [1 / int(share) for _, share, _ in rows[:-1]] == list(coverage._UNSEEN)
    assert [int(percent) / 100 for _, _, percent in rows[:-1]] == list(coverage._EXCESS)


def test_the_page_has_the_room_of_the_table() -> None:
    least, most = (f"{held.rows(memory):,}".replace(",", " ") for memory in (1 << 20, 1 << 50))

    assert f"({least} to {most} objects" in PAGE
