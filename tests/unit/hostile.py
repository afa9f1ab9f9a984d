"""Names that a kernel, a capture or another tool's text can bring; each is a way out of some format.

Whatever they break, the page that they are on sets `window.hostile`, the terminal gets a character that steers it, and
the file cannot be parsed.
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from kmwatch.batch import Batch, Cache, Cost, Host, Meta, Task
from kmwatch.capture.writer import Writer
from kmwatch.kernel.symbols import Site
from kmwatch.ledger import Ledger
from kmwatch.schema import Context
from tests.unit import rows
from tests.unit.captures import START, Event, FakeRecorder, at
from tests.unit.holding import held, of

NAMES = {
    "script": "</script><script>window.hostile=1</script>",
    "attribute": '"><img src=x onerror="window.hostile=1">',
    "apostrophe": "' onmouseover='window.hostile=1' x='",
    "comment": "<!--<script>",
    "cdata": "]]>&lt;&#0;&amp;",
    "url": "javascript:window.hostile=1",
    "template": "{{7*7}}${7*7}{b}%s%n",
    "quotes": '\'"`\\" \\n',
    "emoji": "🧠💥",
    "right to left": "\u202eevil\u2066",
    "escape": "\x1b[2J\x1b]0;title\x07\x9b31m",
    "bell": "\x07[2J\x07]0;title\x07\x9b31m",  # differs from the last one only in what is not printable
    "lines": "a\nb\r\nc\td\x00",
    "separators": "\u2028x\u2029y\x85z",
    "console markup": "[red]x[/red][/]",
    "spreadsheet": "=cmd|'/C calc'!A0",
    "sql": "'; DROP TABLE events; --",
    "label": '"} 1\nkmwatch_build_info{x="',
    "stack": "a;b;c 7",
    "link": "[click](https://example.com/)",
    "prototype": "__proto__",
    "spaces": " ",
    "long": "x" * 4096,
}
"""By what they are; no name begins another one."""

COUNT = 40  # kmallocs of a name in a second: enough for rules to speak
SECONDS = 3
HOST = Host("".join(each for each in NAMES.values() if len(each) < 100), NAMES["attribute"], NAMES["script"], 4)


def site(name: str) -> Site:
    """The call site, of the function and the module of that name."""
    return Site(f"{name}+0x1", name, name)


def capture(directory: Path, count: int = COUNT, names: Iterable[str] = NAMES.values()) -> Path:
    """Write a capture and return its directory: each name is a function, a module, a cache, a command and a cgroup.

    In each of three seconds each function asks in a soft interrupt, by a flag that lets it sleep, `count` times for 33
    bytes, for an object, and for pages that it does not get.
    """
    given = list(names)
    numbers = range(len(given))
    seconds = [
        [each for number in numbers for each in _events(number, (number + 1) % len(given), second, count)]
        for second in range(SECONDS)
    ]
    recorder = FakeRecorder(seconds, {}, rows.meta(start=START, host=HOST))
    segments = list(recorder.segments())
    _rename(recorder.meta, given)
    with Writer(directory, recorder, {}) as writer:
        for segment in segments:
            writer.write(segment)
        writer.finish(NAMES["escape"], {})
    return directory


def _events(number: int, caller: int, second: int, count: int) -> list[Event]:
    """What a name does in a second; names are numbers until all is written, since rows are made from text."""
    name, called_by = f"name_{number}", f"name_{caller}+0x1 [name_{caller}]"
    where = f"{name}+0x1 [{name}]"
    who = {"comm": name, "cgroup": f"/{name}", "stack": (where, called_by), "context": Context.SOFTIRQ}
    return [
        at(second + 0.1, rows.kmalloc(where, 33, count=count), **who),
        at(second + 0.2, rows.object_of(Cache(name, 100, 128), where), **who),
        at(second + 0.3, rows.pages(where, 3, failed=1), **who),
    ]


def _rename(meta: Meta, names: list[str]) -> None:
    real = {f"name_{number}": name for number, name in enumerate(names)}
    meta.sites[:] = [site(real[each.symbol]) if each.symbol in real else each for each in meta.sites]
    meta.caches[:] = [replace(each, name=real.get(each.name, each.name)) for each in meta.caches]
    for number, task in meta.tasks.items():
        meta.tasks[number] = Task(real[task.comm], f"/{real[task.comm]}") if task.comm in real else task


def growing() -> Ledger:
    """Ten looks a second apart, at each of which every function holds a hundred objects of its cache more."""
    known, numbers = rows.meta(host=HOST), range(len(NAMES))
    given = [rows.object_of(Cache(f"name_{each}", 900, 1024), f"name_{each}+0x1 [name_{each}]") for each in numbers]
    made = Ledger(known)
    for look in range(1, 11):
        what = held(known, *(of(row, held=100 * look, released=1) for row in given))
        made.add(Batch(rows.rows_of(known, *given), START + look, 1.0, cost=Cost(), held=what))
    _rename(known, list(NAMES.values()))
    return made
