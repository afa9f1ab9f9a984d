"""What the doctor says: its published form, its verdict, and lines that a narrow terminal can show."""

import io
import json

import pytest
from rich.cells import cell_len
from rich.console import Console

from kmwatch.sources.doctor import Check
from kmwatch.views import doctor

GOOD = Check("machine", ok=True, what="x86_64, Linux 6.18.0", needed=True, fix="run kmwatch on x86-64")
OPTIONAL = Check("kprobes", ok=False, what="not in this kernel")
MISSING = Check("privileges", ok=False, what="none of the capabilities", needed=True, fix="run kmwatch with sudo")


def printed(*checks: Check, width: int = 80) -> str:
    out = io.StringIO()
    doctor.render(doctor.build(checks), Console(file=out, width=width, color_system=None, highlight=False))
    return out.getvalue()


def test_the_form_is_exactly_this() -> None:
    data = doctor.build(iter([GOOD, OPTIONAL]))

    assert json.loads(json.dumps(data)) == {
        "schema": "kmwatch.doctor/1",
        "can_watch": True,
        "checks": [
            {
                "name": "machine",
                "ok": True,
                "needed": True,
                "what": "x86_64, Linux 6.18.0",
                "fix": "run kmwatch on x86-64",
            },
            {"name": "kprobes", "ok": False, "needed": False, "what": "not in this kernel", "fix": ""},
        ],
    }


@pytest.mark.parametrize(
    ("checks", "can"),
    [
        ((GOOD,), True),
        ((GOOD, OPTIONAL), True),
        ((GOOD, MISSING), False),
        ((MISSING, GOOD), False),
        ((MISSING, OPTIONAL), False),
        ((), True),
    ],
)
def test_watching_needs_all_that_is_needed_and_nothing_else(checks: tuple[Check, ...], can: bool) -> None:
    assert doctor.build(checks)["can_watch"] is can
    assert ("kmwatch can watch this kernel" in printed(*checks)) is can
    assert ("kmwatch cannot watch here" in printed(*checks)) is not can


def test_a_miss_is_followed_by_its_fix_and_what_works_by_none() -> None:
    lines = [" ".join(line.split()) for line in printed(GOOD, OPTIONAL, MISSING).splitlines()]

    assert lines == [
        "ok machine x86_64, Linux 6.18.0",
        "no kprobes not in this kernel",
        "MISSING privileges none of the capabilities",
        "→ run kmwatch with sudo",
        "kmwatch cannot watch here",
    ]


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_line_is_wider_than_the_console_and_markup_is_only_text(width: int) -> None:
    evil = Check("[red]x[/red]", ok=False, what="[/nothing] " + "word " * 60, needed=True, fix="[bold]y[/bold]")
    text = printed(GOOD, evil, width=width)

    assert [line for line in text.splitlines() if cell_len(line.rstrip()) > width] == []
    for part in ("[red]x[/red]", "[/nothing]", "[bold]y[/bold]"):
        assert part in text
