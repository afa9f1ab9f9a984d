"""docs/kernels.md, from what the runs of every kernel of the matrix left: `make test-guest-all` writes it."""

import datetime as dt
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tests.guest.kernels import CACHE, MATRIX
from tests.guest.rows import PAGES, ROWS, Row

PAGE = Path(__file__).resolve().parents[2] / "docs" / "kernels.md"
_RESULTS = CACHE.parent / "results"
_ABSENT = "\N{EN DASH}"
_MARKS = {"ok": "✓", "refused": "refused"}

_HEAD = """\
# Kernels

<!-- Written by tests/guest/table.py from test results: `make test-guest-all` writes it anew. -->

What kmwatch was held to, on stock Debian kernels under QEMU. Written on {date} from what the last run on each left;
`make test-guest-all` runs them all, `make test` two of them. What each row asks for stands in `tests/guest/rows.py`,
what must come of it in `tests/guest/expected.py`."""
_WATCHED = """\
## How each is watched

Where the context is seen by interrupts only, the kernel counts neither spinlocks nor RCU sections. On 5.10 a
function with two kretprobes hides its caller from one of them: while another kmwatch runs there, the call site of a
vmalloc may be `kretprobe_trampoline`."""
_HELD = """\
## What it is held to

A module allocates on request. ✓: kmwatch told exactly how often, how many bytes were asked for and taken, with which
flags, in which context, by which function, and found the rule KM201 broken where it was and nowhere else. *refused*:
PREEMPT_RT cannot allocate there, and the module does not try. \N{EN DASH}: not tried.

Where interrupts are merely off (irqsoff) only a kprobe shows it, at vmalloc and ioremap: elsewhere kmwatch must call
such a context a process."""


class IncompleteError(Exception):
    """Results that no page can be written from; the message says which."""


def page(results: dict[str, dict[str, Any]], date: dt.date) -> str:
    """The page. Raises IncompleteError where a row differed from what it must be: a page has no place for that."""
    failed = [
        f"{kernel}: {name}: {'; '.join(verdict['differs'])}"
        for kernel, told in results.items()
        for name, verdict in told["rows"].items()
        if verdict["state"] not in _MARKS
    ]
    if failed:
        raise IncompleteError("\n".join(failed))
    watched = _table(("", *results), _watched(list(results.values())))
    held = _table(("operation", "size", "context", "flags", "times", *results), [_held(row, results) for row in ROWS])
    return "\n\n".join([_HEAD.format(date=date.isoformat()), _WATCHED, watched, _HELD, held]) + "\n"


def _watched(results: Sequence[dict[str, Any]]) -> Iterable[tuple[str, ...]]:
    yield "release", *(told["kernel"] for told in results)
    yield "PREEMPT_RT", *("yes" if told["preempt_rt"] else "no" for told in results)
    yield "context from", *(told["context"] or "not seen" for told in results)
    probes = dict.fromkeys(probe for told in results for probe in told["probes"])
    for probe in probes:
        yield f"`{probe}`", *(told["probes"].get(probe, _ABSENT) for told in results)


def _held(row: Row, results: dict[str, dict[str, Any]]) -> tuple[str, ...]:
    size = f"order {row.order}" if row.op in PAGES else str(row.size)
    size += f", aligned to {row.align}" * bool(row.align) + ", constructor" * row.ctor
    states = [told["rows"].get(row.name, {}).get("state", "") for told in results.values()]
    return row.op, size, row.ctx, f"`{row.gfp}`", str(row.count), *(_MARKS.get(state, _ABSENT) for state in states)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def read(directory: Path) -> dict[str, dict[str, Any]]:
    """The results of every kernel of the matrix; IncompleteError where one has none."""
    missing = [name for name in MATRIX if not (directory / name / "rows.json").exists()]
    if missing:
        raise IncompleteError(f"no results of {', '.join(missing)}: run `make test-guest-all`")
    return {name: json.loads((directory / name / "rows.json").read_text()) for name in MATRIX}


def main() -> None:
    """Write the page."""
    try:
        text = page(read(_RESULTS), dt.datetime.now(dt.UTC).date())
    except IncompleteError as error:
        sys.exit(f"docs/kernels.md is left as it is: {error}")
    PAGE.write_text(text)
    sys.stdout.write("docs/kernels.md written\n")


if __name__ == "__main__":
    main()
