"""A damaged capture: it is refused in one line, or what is missing is said; never is a number wrong without a doubt."""

import hashlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from kmwatch.__main__ import main
from kmwatch.batch import Trust
from kmwatch.capture.layout import JOURNAL, META, TABLES
from kmwatch.errors import BadInputError
from kmwatch.ledger import Ledger
from tests.unit import rows
from tests.unit.captures import at, small_segments, write_capture
from tests.unit.folded import folded, one_database

SEGMENTS = tuple(f"events-{number:05}.parquet" for number in range(1, 5))
FILES = (META, JOURNAL, *TABLES, *SEGMENTS)

Contents = dict[str, bytes]
"""The files of a capture; one that is gone is not in it."""
Damage = Callable[[Contents], None]


@dataclass(frozen=True, repr=False)
class Sound:
    """A capture that is whole, and all that it tells."""

    directory: Path
    contents: Contents
    told: dict[Any, int]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sound]:
    """Several segments, one of them empty, doubt in one, and no table without rows."""
    directory = tmp_path_factory.mktemp("damage") / "a.kmw"
    more = [[], [at(4.5, rows.percpu("mm_init+0x3", 640, bytes_alloc=640, count=2), comm="sh", cgroup="/b")]]
    with one_database():
        write_capture(directory, [*small_segments(), *more], trust={1: Trust(lost=3, unknown_site=1)})
        capture, ledger = folded(directory)
        assert (capture.doubts, ledger.events()) == ([], 20)
        contents = {name: (directory / name).read_bytes() for name in FILES}
        assert len(contents) == len(list(directory.iterdir()))
        yield Sound(directory, contents, told(ledger))


def told(ledger: Ledger) -> dict[Any, int]:
    """All that a ledger tells of events, by what its numbers mean: how many, how large, and in which span."""
    meta = ledger.meta
    found: dict[Any, int] = {
        ("span", ledger.start, ledger.seconds, meta.host, meta.gfp.flags, meta.limits, meta.zones, meta.context): 1,
        ("trust", *(pair for pair in vars(ledger.trust).items() if pair[0] != "lost")): 1,
        (
            "stacks",
            *sorted((number, *(meta.sites[at].label for at in frames)) for number, frames in meta.stacks.items()),
        ): 1,
        ("tasks", *sorted((number, task.comm, task.cgroup) for number, task in meta.tasks.items())): 1,
    }
    for row in ledger.rows:
        known = {name: row[name].tolist() for name in row.dtype.names if name not in ("site", "cache", "count", "fill")}
        named = (meta.sites[row["site"]], meta.caches[row["cache"]], *known.items(), *row["fill"].tolist())
        found[named] = int(row["count"])
    return found


def put(sound: Sound, contents: Contents) -> None:
    """Bring the directory to these contents."""
    for name in FILES:
        path = sound.directory / name
        if name not in contents:
            path.unlink(missing_ok=True)
        elif not path.exists() or path.read_bytes() != contents[name]:
            path.write_bytes(contents[name])


places = st.floats(0, 1, exclude_max=True)
"""A place in a file, by how much of it is before."""
any_file = st.sampled_from(FILES)


@st.composite
def flipped(draw: st.DrawFn) -> Damage:
    """One to eight bytes are others."""
    name, changes = draw(any_file), draw(st.lists(st.tuples(places, st.integers(1, 255)), min_size=1, max_size=8))

    def damage(contents: Contents) -> None:
        data = bytearray(contents.get(name, b""))
        for place, change in changes if data else ():
            data[int(place * len(data))] ^= change
        contents[name] = bytes(data)

    return damage


@st.composite
def zeroed(draw: st.DrawFn) -> Damage:
    """A range is nothing but zeros, as after a crash of the machine."""
    name, (first, end) = draw(any_file), sorted((draw(places), draw(places)))

    def damage(contents: Contents) -> None:
        data = contents.get(name, b"")
        begin, stop = int(first * len(data)), int(end * len(data)) + 1
        contents[name] = data[:begin] + bytes(len(data[begin:stop])) + data[stop:]

    return damage


@st.composite
def cut(draw: st.DrawFn) -> Damage:
    """The end of a file is missing, or all of it."""
    name, place = draw(any_file), draw(st.one_of(places, st.just(0.0)))

    def damage(contents: Contents) -> None:
        data = contents.get(name, b"")
        contents[name] = data[: int(place * len(data))]

    return damage


@st.composite
def deleted(draw: st.DrawFn) -> Damage:
    """A file is gone."""
    name = draw(any_file)
    return lambda contents: contents.pop(name, None) and None


@st.composite
def exchanged(draw: st.DrawFn) -> Damage:
    """Two files have each other's names."""
    one, other = draw(st.one_of(*(st.tuples(names, names) for names in (st.sampled_from(SEGMENTS), any_file))))

    def damage(contents: Contents) -> None:
        found = {one: contents.get(other), other: contents.get(one)}
        for name, data in found.items():
            contents.pop(name, None)
            if data is not None:
                contents[name] = data

    return damage


@st.composite
def lengthened(draw: st.DrawFn) -> Damage:
    """Something follows that was never written."""
    name, garbage = draw(any_file), draw(st.binary(min_size=1, max_size=64))

    def damage(contents: Contents) -> None:
        contents[name] = contents.get(name, b"") + garbage

    return damage


@st.composite
def lines_moved(draw: st.DrawFn) -> Damage:
    """A sector of the journal is another's: some of it stands where something else stood."""
    first, end, to = draw(places), draw(places), draw(places)

    def damage(contents: Contents) -> None:
        data = contents.get(JOURNAL, b"")
        piece = data[int(first * len(data)) : int(end * len(data))]
        begin = int(to * len(data))
        contents[JOURNAL] = data[:begin] + piece + data[begin + len(piece) :]

    return damage


damages = st.lists(
    st.one_of(flipped(), zeroed(), cut(), deleted(), exchanged(), lengthened(), lines_moved()), min_size=1, max_size=2
)
often = settings(max_examples=600, derandomize=True, deadline=None, database=None)
sometimes = settings(often, max_examples=120)


@often
@given(damages)
def test_damage_is_refused_or_told_and_no_number_is_wrong(sound: Sound, done: list[Damage]) -> None:
    contents = dict(sound.contents)
    for damage in done:
        damage(contents)
    put(sound, contents)
    try:
        capture, ledger = folded(sound.directory)
    except BadInputError as error:
        event("refused")
        refused = str(error)
        assert (contents != sound.contents, "\n" in refused, len(refused) < 600) == (True, False, True)
        return
    found = told(ledger)
    if contents == sound.contents:
        event("not damaged at all")
        assert (found, capture.doubts) == (sound.told, [])
        return
    event("told")
    assert capture.doubts
    assert ledger.meta.doubts == capture.doubts
    # Nothing is made up: what is still told is part of what was told before.
    invented = [key for key, count in found.items() if isinstance(key[0], tuple) and count > sound.told.get(key, 0)]
    assert invented == []
    missing = 20 - ledger.events()
    assert missing >= 0
    if capture.end is not None and not any(JOURNAL in doubt for doubt in capture.doubts):
        assert ledger.trust.lost == 3 + missing


@sometimes
@given(damages)
def test_the_command_line_says_it_in_one_line_or_warns(sound: Sound, done: list[Damage]) -> None:
    contents = dict(sound.contents)
    for damage in done:
        damage(contents)
    put(sound, contents)
    code, out, err = run("report", str(sound.directory))

    if contents == sound.contents:
        assert (code, err, "KM902" in out) == (0, "", False)
    elif code == 0:
        event("reported")
        assert "KM902 capture-incomplete" in out
        assert err == ""
    else:
        event("refused")
        assert (code, out) == (4, "")
        assert err.startswith("kmwatch: ")
        assert err.count("\n") == 1


def run(*arguments: str) -> tuple[int, str, str]:
    """The whole program in this process: its exit code, and what it prints."""
    import io
    from contextlib import redirect_stderr, redirect_stdout

    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["kmwatch", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
    return int(end.value.code or 0), out.getvalue(), err.getvalue()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["gone", "empty", "shorter", "longer"])
def test_each_file_is_missed(sound: Sound, name: str, kind: str) -> None:
    contents = dict(sound.contents)
    data = contents.pop(name)
    if kind != "gone":
        contents[name] = {"empty": b"", "shorter": data[:-1], "longer": data + b"x"}[kind]
    put(sound, contents)

    if name in SEGMENTS:
        capture, ledger = folded(sound.directory)
        (doubt,) = capture.doubts
        events = capture.segments[3 + 1 if name == SEGMENTS[3] else SEGMENTS.index(name)].events
        assert doubt == f"{name} is {'missing' if kind == 'gone' else 'damaged'}: its {events} events are in no number"
        assert (ledger.events(), ledger.trust.lost) == (20 - events, 3 + events)
    elif name == JOURNAL and kind in ("shorter", "longer"):
        capture, ledger = folded(sound.directory)
        assert (ledger.events(), len(capture.doubts)) == (20, 1)
    else:
        with pytest.raises(BadInputError, match=name):
            folded(sound.directory)


def test_the_sound_one_is_told_exactly(sound: Sound) -> None:
    """After all that was done to it."""
    put(sound, sound.contents)
    digests = {name: hashlib.sha256((sound.directory / name).read_bytes()).digest() for name in FILES}

    assert digests == {name: hashlib.sha256(data).digest() for name, data in sound.contents.items()}
    assert told(folded(sound.directory)[1]) == sound.told
    assert sum(count for key, count in sound.told.items() if not isinstance(key[0], str)) == 20
