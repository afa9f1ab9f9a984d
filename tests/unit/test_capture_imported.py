"""What a capture of another tool's text tells of that text."""

from pathlib import Path
from typing import Any

import pytest

from kmwatch.capture.reader import _imported
from kmwatch.views import captured
from tests.unit.folded import folded


def kept(directory: Path, text: str) -> None:
    """Import a text as the command line does."""
    from kmwatch.cli.keeping import import_text
    from kmwatch.sources.text import open_text

    file = directory.with_suffix(".txt")
    file.write_text(text)
    import_text(open_text(file), directory, force=False, quiet=True)


LINE = "  cat-7  [000] .....  1.00000{}: kmalloc: call_site=f+0x1/0x9 ptr=00000000dde575cf bytes_req=60 bytes_alloc=64 \
gfp_flags=GFP_KERNEL node=-1 accounted=false\n"


def test_lines_that_were_not_understood_are_a_doubt_of_every_report(tmp_path: Path) -> None:
    kept(tmp_path / "odd.kmw", LINE.format(1) + "what is this?\n" + LINE.format(2))
    kept(tmp_path / "good.kmw", LINE.format(1) + LINE.format(2))
    odd, ledger = folded(tmp_path / "odd.kmw")
    good, _ = folded(tmp_path / "good.kmw")

    assert ledger.events() == 2
    assert ledger.meta.doubts == ["lines of the ftrace text that were not understood: 1"]
    assert good.doubts == []
    assert captured.build(odd)["imported"]["skipped"] == 1


@pytest.mark.parametrize("told", [None, 3, "x", [], ["skipped"]])
def test_what_is_no_account_of_a_text_is_none(told: Any) -> None:
    assert _imported(told) == {}


def test_of_an_account_only_what_has_the_right_form_is_taken() -> None:
    told = {"kind": 5, "lines": "x", "events": -1, "skipped": True, "lost": 1 << 70, "notes": {"a": 1}}
    assert _imported(told) == {"kind": "5", "notes": []}
    assert _imported({"kind": "ftrace", "lines": 4, "notes": [1, "b"]}) == {
        "kind": "ftrace",
        "lines": 4,
        "notes": ["1", "b"],
    }
