"""How fast what was recorded is read, and in how much memory, beside perf on the same events.

perf records every kmalloc and kfree, for a shorter and a longer time; its texts are imported, so that both have the
same events. perf takes twice as long over what it recorded with rings so large that they lose nothing: its own size is
taken, and each length is compared by itself. What a long capture takes is measured on one that is made up
(benchmarks/make_capture.py): it needs no machine that is busy for minutes.
"""

import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from benchmarks.commands import KMWATCH, make, record, run, samples
from benchmarks.harness import Found, Missing, Options, Result, Spread, Target, in_turn, main, ratios
from kmwatch.capture.reader import Capture

_LONG = 100_000_000  # events
_LONG_REPORT, _IMPORT = "kmwatch report, long", "kmwatch import"
_REPORT, _PEER = "kmwatch report, {:g} s", "perf kmem stat, {:g} s"
_SHARE = 4  # one round of the rest for so many of what targets compare, for each takes long
_SECONDS = 10, 30, 60  # of recordings; fewer in a short run
_SHORTER = 5
_RINGS = 4096  # pages: with so large ones perf loses next to nothing here
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
    kept = Capture(capture).events
    if not kept:
        raise Missing("perf recorded nothing")
    return {
        _PEER.format(seconds): _way(samples(data), "perf", "kmem", "-i", data, "stat"),
        _REPORT.format(seconds): _way(kept, *KMWATCH, "report", capture),
    }


def _further(directory: Path, seconds: float) -> dict[str, _Way]:
    """What writes a text of events, what reads it, and perf on what it recorded with large rings."""
    directory.mkdir()
    data, capture = record(directory, seconds, _RINGS), directory / "again.kmw"
    text, events = _text_of(data), samples(data)
    return {
        f"perf kmem stat, {seconds:g} s in large rings": _way(events, "perf", "kmem", "-i", data, "stat"),
        "perf script": _way(events, *_SCRIPT, "-i", data),
        _IMPORT: _way(events, *KMWATCH, "import", text, "-o", capture, "--force", "-q"),
    }


def _made(directory: Path, events: int) -> dict[str, _Way]:
    """The same of a long capture."""
    capture = make(directory / "long.kmw", events)
    page = directory / "long.html"
    asked: dict[str, tuple[str | Path, ...]] = {
        _LONG_REPORT: ("report", capture),
        "kmwatch report --from 0.001, long": ("report", capture, "--from", "0.001"),
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


def _beside_perf(ways: dict[str, _Way], found: Found, seconds: float) -> list[Target]:
    """One recording, read by both."""
    peer, report = _PEER.format(seconds), _REPORT.format(seconds)
    rates = [_rates(ways, found, name) for name in (report, peer)]
    return [
        Target(
            f"report of the same {seconds:g} s, in the rate of perf kmem stat",
            Spread.of(ratios(*rates)),
            20,
            at_least=True,
            reason="The start takes a third of a second whatever there is to read, nearly all of the time: half of it "
            "is the import of numpy, DuckDB and Rich. A third of perf's events, frees of NULL, no capture has.",
        ),
        Target(
            f"report of the same {seconds:g} s, in the time of one perf kmem stat so many",
            _times(found, peer, report),
            20,
            at_least=True,
            reason="As above.",
        ),
    ]


def measure(options: Options) -> Result:
    """Compare them in turn."""
    missing: dict[str, str] = {}
    lengths = [each if options.full else each / _SHORTER for each in _SECONDS]
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        ways = _made(directory, _LONG if options.full else _LONG // 10)
        rest, held_to = ways.keys() - {_LONG_REPORT}, [_LONG_REPORT]
        try:
            for seconds in lengths:
                ways |= (both := _recorded(directory / f"{seconds:g}", seconds))
                held_to += both
            ways |= (more := _further(directory / "further", lengths[0]))
            rest |= more.keys()
        except Missing as error:
            missing["perf, and what reads its events"] = str(error)
        os.sync()  # what was written shall not be on its way while others read
        found: Found = {}
        for rounds, names in (
            (options.rounds, held_to),
            (max(options.rounds // _SHARE, 1), [name for name in ways if name in rest]),
        ):
            found |= in_turn(dict.fromkeys(names, nullcontext), lambda name: dict(ways[name].run()), rounds, missing)
    long = found[_LONG_REPORT]
    peers = _rates(ways, found, _PEER.format(lengths[-1]))
    return Result(
        title="Reading what was recorded",
        about="perf recorded every kmalloc and kfree under `stress-ng --msg`, three times with the rings that it takes "
        "by itself, and its texts were imported: `perf kmem stat` reads its recording, `kmwatch report` the capture, "
        "which is without the frees of NULL. A rate is of the events that each one reads, start of the program "
        "included; all files are in the page cache. With rings that lose nothing perf takes longer to read as many: "
        f"that is the row *in large rings*, and `perf script` and the import read the same {lengths[0]:g} s. The long "
        f"capture is made up: {ways[_LONG_REPORT].events:,} events, 3000 keys, 1500 call sites. Reports on a whole "
        "capture are made of the counts that its segments carry; of a part of its time (`--from`), by cgroup, as a "
        "page or by SQL each event is read.",
        columns=("command", "events", "seconds", "M events/s", "memory, MB"),
        rows=_table(ways, found),
        targets=[
            Target(
                f"report of a long capture, in the rate of perf kmem stat on its {lengths[-1]:g} s",
                Spread.of(ratios(_rates(ways, found, _LONG_REPORT), peers)) if peers else None,
                20,
                at_least=True,
            ),
            *(target for seconds in reversed(lengths) for target in _beside_perf(ways, found, seconds)),
            Target(
                f"{_LONG / 1e6:.0f} M events reported, with --full",
                Spread.of(long["seconds"]) if options.full else None,
                10,
                "s",
            ),
            Target("memory of that", Spread.of(long["memory"]), 600, "MB"),
            Target(
                "lines imported",
                Spread.of(rate / 1e6 for rate in _rates(ways, found, _IMPORT)),
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
