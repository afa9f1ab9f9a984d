"""How fast what was recorded is read, and in how much memory, beside perf on the same events.

perf records every kmalloc and kfree; its text is imported, so that both have the same events. A short recording is for
what reads texts: some of it takes minutes. What a long capture takes is measured on one that is made up
(benchmarks/make_capture.py): it needs no machine that is busy for minutes.
"""

import tempfile
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from benchmarks.commands import KMWATCH, make, record, run, samples
from benchmarks.harness import Found, Missing, Options, Result, Spread, Target, in_turn, main, ratios
from kmwatch.capture.reader import Capture

_LONG = 100_000_000  # events
_LONG_REPORT, _REPORT, _IMPORT, _PEER = "kmwatch report, long", "kmwatch report", "kmwatch import", "perf kmem stat"
_HELD_TO = (_PEER, _REPORT, _LONG_REPORT)
"""What targets compare round by round; the rest has fewer rounds, for each takes long."""
_SHARE = 4  # one round of the rest for so many of these
_SECONDS, _SECONDS_OF_TEXT = 60, 10  # of the two recordings; fewer in a short run
_SHORTER = 5
_FIXED = "Start and end, half a second or less, are the same for any number of events."
_SCRIPT = ("perf", "script", "--ns", "--header", "--show-lost-events")
_BY_SITE = "select site, count(*), sum(requested) from events group by site"


@dataclass(frozen=True)
class _Way:
    """A command that reads so many events."""

    events: int
    run: Callable[[], Mapping[str, float]]


def _way(events: int, *command: str | Path) -> _Way:
    return _Way(events, lambda: run(command))


def _text_of(data: Path) -> Path:
    """What perf script makes of a recording, beside it."""
    text = data.with_suffix(".txt")
    run((*_SCRIPT, "-i", data), text)
    return text


def _recorded(directory: Path, seconds: float) -> dict[str, _Way]:
    """What reads the same events: perf those of its own file, kmwatch those of the capture of its text."""
    directory.mkdir()
    data, capture = record(directory, seconds), directory / "perf.kmw"
    text = _text_of(data)
    run((*KMWATCH, "import", text, "-o", capture, "-q"))
    text.unlink()
    written, kept = samples(data), Capture(capture).events
    if not kept:
        raise Missing("perf recorded nothing")
    return {
        _PEER: _way(written, "perf", "kmem", "-i", data, "stat"),
        _REPORT: _way(kept, *KMWATCH, "report", capture),
        "kmwatch report --html": _way(kept, *KMWATCH, "report", capture, "--html", directory / "page.html"),
        "kmwatch sql, by site": _way(kept, *KMWATCH, "sql", capture, _BY_SITE),
    }


def _as_text(directory: Path, seconds: float) -> dict[str, _Way]:
    """What writes a text of events, and what reads it."""
    directory.mkdir()
    data = record(directory, seconds)
    text, events, capture = _text_of(data), samples(data), directory / "again.kmw"
    return {
        "perf script": _way(events, *_SCRIPT, "-i", data),
        _IMPORT: _way(events, *KMWATCH, "import", text, "-o", capture, "--force", "-q"),
    }


def _made(directory: Path, events: int) -> dict[str, _Way]:
    """The same of a long capture."""
    capture = make(directory / "long.kmw", events)
    page = directory / "long.html"
    asked: dict[str, tuple[str | Path, ...]] = {
        _LONG_REPORT: ("report", capture),
        "kmwatch report --by cgroup, long": ("report", capture, "--by", "cgroup"),
        "kmwatch report --html, long": ("report", capture, "--html", page),
        "kmwatch sql, by site, long": ("sql", capture, _BY_SITE),
    }
    return {name: _way(events, *KMWATCH, *words) for name, words in asked.items()}


def _table(ways: dict[str, _Way], found: Found) -> list[tuple[str, int, Spread | None, float | None, Spread | None]]:
    rows = []
    for name, measured in found.items():
        seconds = Spread.of(measured["seconds"])
        rate = ways[name].events / seconds.median / 1e6 if seconds else None
        rows.append((name, ways[name].events, seconds, rate, Spread.of(measured["memory"])))
    return rows


def _rates(ways: dict[str, _Way], found: Found, name: str) -> list[float]:
    """Events a second, round by round."""
    return [ways[name].events / seconds for seconds in found.get(name, {}).get("seconds", [])]


def _times(found: Found, slower: str, faster: str) -> Spread | None:
    """How often one fits into the time of another, round by round."""
    return Spread.of(ratios(*(found.get(name, {}).get("seconds", []) for name in (slower, faster))))


def measure(options: Options) -> Result:
    """Compare them in turn."""
    missing: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        ways = _made(directory, _LONG if options.full else _LONG // 10)
        try:
            shorter = 1 if options.full else _SHORTER
            ways |= _recorded(directory / "long", _SECONDS / shorter)
            ways |= _as_text(directory / "text", _SECONDS_OF_TEXT / shorter)
        except Missing as error:
            missing["perf, and what reads its events"] = str(error)
        found: Found = {}
        for rounds, names in (
            (options.rounds, [name for name in ways if name in _HELD_TO]),
            (max(options.rounds // _SHARE, 1), [name for name in ways if name not in _HELD_TO]),
        ):
            found |= in_turn(dict.fromkeys(names, nullcontext), lambda name: dict(ways[name].run()), rounds, missing)
    rates = {name: _rates(ways, found, name) for name in ways}
    perf, long = rates.get(_PEER, []), found[_LONG_REPORT]
    return Result(
        title="Reading what was recorded",
        about="perf recorded every kmalloc and kfree under `stress-ng --msg` twice, and its texts were imported. `perf "
        "kmem stat` reads the longer recording, `perf script` and the import what perf wrote of the shorter one; the "
        "rest of kmwatch reads the capture made of the longer one, which is without the frees of NULL. A rate is of "
        "the events that each one reads, start of the program included. The long capture is made up: "
        f"{ways[_LONG_REPORT].events:,} events, 3000 keys, 1500 call sites.",
        columns=("command", "events", "seconds", "M events/s", "memory, MB"),
        rows=_table(ways, found),
        targets=[
            Target(
                "report of a long capture, in the rate of perf kmem stat",
                Spread.of(ratios(rates[_LONG_REPORT], perf)),
                20,
                at_least=True,
                reason="Decoding keys and sizes and counting them is half of the time; digests are a tenth, start and "
                "end a fifth.",
            ),
            Target(
                "report of the same recording: in the time of one perf kmem stat so many",
                _times(found, _PEER, _REPORT),
                20,
                at_least=True,
                reason=_FIXED,
            ),
            Target(
                "report of the same recording, in the rate of perf kmem stat",
                Spread.of(ratios(rates.get(_REPORT, []), perf)),
                20,
                at_least=True,
                reason=f"A third of perf's events are frees of NULL, which it counts. {_FIXED}",
            ),
            Target(
                f"{_LONG / 1e6:.0f} M events reported, with --full",
                Spread.of(long["seconds"]) if options.full else None,
                10,
                "s",
            ),
            Target("memory of that", Spread.of(long["memory"]), 600, "MB"),
            Target(
                "lines imported",
                Spread.of(rate / 1e6 for rate in rates.get(_IMPORT, [])),
                0.5,
                "M/s",
                at_least=True,
                reason="One CPU takes the text apart, the other only encodes what it found.",
            ),
        ],
        notes=[f"{name} is left out: {reason}" for name, reason in missing.items()],
    )


if __name__ == "__main__":
    main("offline", measure)
