"""What a capture leaves held: events paired by pointer, against a plain walk over the same events."""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kmwatch.batch import Cache, Rows
from kmwatch.capture import folding
from kmwatch.capture.choosing import Choice
from kmwatch.held import BUCKETS, Held, bucket_of
from kmwatch.ledger import ALLOCATIONS, ELSEWHERE, FREES, Ledger
from kmwatch.schema import Kind, Via
from kmwatch.sources.capture import CaptureSource
from tests.unit import rows
from tests.unit.captures import DENTRY, Event, at, write_capture
from tests.unit.folded import one_database
from tests.unit.rows import Row

LENGTH = 3  # seconds
KFREE = rows.row(Kind.KFREE, "free_msg+0x99")
MSG = rows.kmalloc("load_msg+0x41", 60)
BIG = rows.kmalloc("alloc_big+0x1", 700)
PAGES = rows.pages("probe+0x9 [wifi]", 2)
_DRAWN = (
    MSG,
    BIG,
    rows.kmalloc("load_msg+0x41", 60, failed=1),
    rows.object_of(DENTRY, "d_alloc+0x1"),
    PAGES,
    rows.pages("new_slab+0x1", via=Via.SLAB),
    rows.area("bpf_map_area_alloc+0x3", 8192),
    rows.area("gpu+0x3 [gpu]", 8192, kind=Kind.VMAP),
    rows.percpu("mm_init+0x3", 640, bytes_alloc=704),
    KFREE,
    rows.row(Kind.CACHE_FREE, "d_free+0x1", cache=DENTRY),
    rows.row(Kind.PAGE_FREE, order=2),
    rows.row(Kind.VFREE, "vfree+0x1"),
    rows.row(Kind.PERCPU_FREE),
)


@pytest.fixture(autouse=True, scope="module")
def _fast() -> Iterator[None]:
    with one_database():
        yield


def held(
    directory: Path,
    events: Sequence[Event],
    choice: Choice | None = None,
    span: tuple[float | None, ...] = (None, None),
) -> Ledger:
    """The ledger of a capture of these events, and what is held at its end."""
    segments = [[each for each in events if int(each["time"]) == second] for second in range(LENGTH)]
    write_capture(directory, segments)
    return opened(directory, choice, span)


def opened(directory: Path, choice: Choice | None = None, span: tuple[float | None, ...] = (None, None)) -> Ledger:
    """The same of a capture that is there."""
    with CaptureSource(directory, choice, outstanding=True) as source:
        source.limit(*span)
        made = Ledger(source.meta)
        for batch in source:
            made.add(batch)
    return made


def by_site(made: Ledger) -> dict[str, tuple[int, ...]]:
    """Of each symbol: held, their bytes as asked for and as taken, released, of which elsewhere, unseen."""
    assert made.held is not None
    found = made.held.grouped("site")
    names = ("objects", "bytes_requested", "bytes_allocated", "released", "elsewhere", "unseen")
    return {made.meta.sites[row["site"]].symbol: tuple(int(row[name]) for name in names) for row in found}


def only(made: Ledger) -> Any:
    """The one row that there is."""
    assert made.held is not None
    (row,) = made.held.rows
    return row


def times(histogram: Rows) -> dict[int, int]:
    """The buckets that are not empty."""
    return {int(bucket): int(histogram[bucket]) for bucket in np.flatnonzero(histogram)}


def test_what_is_not_released_is_held_with_its_age(tmp_path: Path) -> None:
    made = held(tmp_path / "a", [at(0.5, MSG, ptr=7), at(1.5, MSG, ptr=8), at(2.0, BIG, ptr=9)])

    assert by_site(made) == {"load_msg": (2, 120, 128, 0, 0, 0), "alloc_big": (1, 700, 1024, 0, 0, 0)}
    assert made.held is not None
    assert (made.held.bits, made.held.refused, made.held.before, made.held.now) == (0, 0, None, None)
    ages = {made.meta.sites[row["site"]].symbol: times(row["ages"]) for row in made.held.rows}
    old, young, last = (int(bucket_of(np.array([round(age * 1e9)]))[0]) for age in (2.5, 1.5, 1.0))
    assert ages == {"load_msg": {old: 1, young: 1}, "alloc_big": {last: 1}}


def test_a_release_tells_the_lifetime_and_whether_it_was_elsewhere(tmp_path: Path) -> None:
    made = held(
        tmp_path / "a",
        [
            at(0.5, MSG, ptr=7, cpu=0),
            at(0.5 + 300e-9, KFREE, ptr=7, cpu=0),
            at(0.6, MSG, ptr=7, cpu=0),
            at(0.7, KFREE, ptr=7, cpu=1),
        ],
    )

    assert by_site(made) == {"load_msg": (0, 0, 0, 2, 1, 0)}
    assert times(only(made)["lifetimes"]) == {1: 1, int(bucket_of(np.array([100_000_000]))[0]): 1}
    assert times(only(made)["ages"]) == {}


def test_handed_out_again_without_a_release_is_released_unseen(tmp_path: Path) -> None:
    made = held(
        tmp_path / "a", [at(0.1, MSG, ptr=7), at(0.2, BIG, ptr=7), at(0.3, KFREE, ptr=7), at(0.4, KFREE, ptr=7)]
    )

    assert by_site(made) == {"load_msg": (0, 0, 0, 0, 0, 1), "alloc_big": (0, 0, 0, 1, 0, 0)}


def test_releases_of_older_objects_and_failures_are_nothing(tmp_path: Path) -> None:
    failed = rows.kmalloc("load_msg+0x41", 60, failed=1)
    made = held(tmp_path / "a", [at(0.1, KFREE, ptr=7), at(0.2, failed, ptr=0), at(0.3, KFREE, ptr=0)])

    assert by_site(made) == {}
    assert made.events() == 3


def test_where_the_pointer_is_unknown_nothing_is_followed(tmp_path: Path) -> None:
    made = held(tmp_path / "a", [at(0.1, MSG, ptr=0), at(0.2, MSG, ptr=0), at(0.3, KFREE, ptr=0)])

    assert by_site(made) == {}


def test_a_page_frame_is_no_address(tmp_path: Path) -> None:
    """One number in both spaces is two objects; pages that a slab took are the slab's."""
    slab = rows.pages("new_slab+0x1", via=Via.SLAB)
    events = [at(0.1, PAGES, ptr=7), at(0.2, MSG, ptr=7), at(0.3, slab, ptr=8), at(0.4, KFREE, ptr=7)]

    assert by_site(held(tmp_path / "a", events)) == {
        "load_msg": (0, 0, 0, 1, 0, 0),
        "probe": (1, 16384, 16384, 0, 0, 0),
    }
    released = [*events, at(0.5, rows.row(Kind.PAGE_FREE, order=2), ptr=7)]
    assert by_site(held(tmp_path / "b", released))["probe"] == (0, 0, 0, 1, 0, 0)


def test_at_one_time_what_is_handed_out_was_released_before(tmp_path: Path) -> None:
    made = held(tmp_path / "a", [at(0.1, MSG, ptr=7), at(0.5, BIG, ptr=7, cpu=0), at(0.5, KFREE, ptr=7, cpu=1)])

    assert by_site(made) == {"load_msg": (0, 0, 0, 1, 1, 0), "alloc_big": (1, 700, 1024, 0, 0, 0)}


def test_a_span_knows_what_happened_in_it(tmp_path: Path) -> None:
    """What was allocated before is older, what is released after is held; ages end with the span."""
    directory = tmp_path / "a"
    events = [at(0.5, MSG, ptr=7), at(1.2, BIG, ptr=8), at(1.3, KFREE, ptr=7), at(2.5, KFREE, ptr=8)]
    made = held(directory, events, span=(1.0, 2.0))

    assert by_site(made) == {"alloc_big": (1, 700, 1024, 0, 0, 0)}
    assert times(only(made)["ages"]) == {int(bucket_of(np.array([800_000_000]))[0]): 1}
    assert by_site(opened(directory))["alloc_big"] == (0, 0, 0, 1, 0, 0)
    assert made.seconds == 1.0


def test_a_choice_is_of_allocations_whoever_releases(tmp_path: Path) -> None:
    events = [
        at(0.1, MSG, ptr=7, comm="cat"),
        at(0.2, BIG, ptr=8, comm="dd"),
        at(0.3, KFREE, ptr=7, comm="dd"),
        at(0.4, MSG, ptr=9, comm="cat"),
        at(0.5, BIG, ptr=9, comm="dd"),
    ]
    directory = tmp_path / "a"
    expected = {"load_msg": (0, 0, 0, 1, 0, 1)}

    assert by_site(held(directory, events, Choice(sites=lambda site: site.symbol == "load_msg"))) == expected
    assert by_site(opened(directory, Choice(tasks=lambda task: task.comm == "cat"))) == expected
    assert by_site(opened(directory, Choice(kinds=frozenset({Kind.VMALLOC})))) == {}
    assert len(by_site(opened(directory, Choice(kinds=frozenset({Kind.KMALLOC}))))) == 2


def test_nobody_looks_unasked_and_nothing_holds_nothing(tmp_path: Path) -> None:
    directory = write_capture(tmp_path / "a", [])
    with CaptureSource(directory) as source:
        assert [batch.held for batch in source] == []
    assert opened(directory).held is not None
    assert by_site(opened(directory)) == {}


@pytest.mark.parametrize(
    ("named", "missing"),
    [
        (["kmalloc", "page_alloc", "page_free"], "kmalloc"),
        (["kmalloc", "kfree", "page_alloc", "vfree", 7], "page_alloc"),
        (["kmalloc", "page_alloc"], "kmalloc, page_alloc"),
        ("kmalloc", ""),
        (["kmalloc", "kfree", "page_alloc", "page_free"], ""),
    ],
)
def test_where_no_releases_were_recorded_it_is_not_known(tmp_path: Path, named: Any, missing: str) -> None:
    events = [at(0.1, MSG, ptr=7), at(0.2, PAGES, ptr=7)]
    directory = write_capture(tmp_path / "a", [events], about={"kinds": named})

    symbols = {"load_msg": "kmalloc", "probe": "page_alloc"}
    assert set(by_site(opened(directory))) == {each for each, kind in symbols.items() if kind not in missing}
    notes = [f"no releases of {missing} were recorded: what is held of them is not known"] if missing else []
    assert CaptureSource(directory, outstanding=True).notes == notes
    assert CaptureSource(directory).notes == []


def test_of_a_text_those_are_known_whose_releases_it_has(tmp_path: Path) -> None:
    events = [at(0.1, MSG, ptr=7), at(0.2, KFREE, ptr=7), at(0.3, PAGES, ptr=7)]
    directory = write_capture(tmp_path / "a", [events], about={"imported": {"kind": "ftrace"}})

    assert set(by_site(opened(directory))) == {"load_msg"}


def any_events(seed: int) -> list[Event]:
    """Events of all sorts about a few objects, in the order of time; two are at one time now and then."""
    draw, found, time = random.Random(seed), [], 0.001  # noqa: S311  # for a test
    for _ in range(600):
        row: Row = draw.choice(_DRAWN)
        ptr = 0 if row.get("failed") else draw.randint(0, 40)
        found.append(at(time, row, ptr=ptr, cpu=draw.randint(0, 1)))
        time += draw.choice([0.004, 0.001, 1e-6, 3e-7])
    assert time < LENGTH
    return found


def walked(events: Sequence[Event]) -> dict[str, tuple[int, ...]]:
    """What the table in the kernel would tell: held, released, elsewhere, unseen by symbol; lifetimes of all."""
    table: dict[tuple[bool, int], Event] = {}
    sums: dict[str, list[int]] = {}
    for event in events:
        kind, paged = event["kind"], event["kind"] in (Kind.PAGE_ALLOC, Kind.PAGE_FREE)
        known = table.get((paged, event["ptr"]))
        if kind in FREES and known:
            del table[paged, event["ptr"]]
            sums[_symbol(known)][1] += 1
            sums[_symbol(known)][2] += known["cpu"] != event["cpu"]
        elif kind in ALLOCATIONS and event["ptr"] and not event.get("via", 0) & ELSEWHERE:
            if known:
                sums[_symbol(known)][3] += 1
            table[paged, event["ptr"]] = event
            sums.setdefault(_symbol(event), [0, 0, 0, 0])
    for event in table.values():
        sums[_symbol(event)][0] += 1
    return {symbol: tuple(counts) for symbol, counts in sums.items()}


def _symbol(event: Event) -> str:
    return str(event["site"]).partition("+")[0]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("at_once", [1 << 23, 100])
def test_any_events_are_paired_as_a_walk_pairs_them(
    tmp_path: Path, seed: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many queries it takes."""
    monkeypatch.setattr(folding, "_PAIRED", at_once)
    events = any_events(seed)
    made = held(tmp_path / "a", events)

    found = {symbol: (row[0], *row[3:]) for symbol, row in by_site(made).items()}
    assert found == walked(events)
    assert all(sum(column) > 5 for column in zip(*found.values(), strict=True))
    assert made.held is not None
    for total, histogram in (("objects", "ages"), ("released", "lifetimes")):
        assert (made.held.rows[histogram].sum(axis=1) == made.held.rows[total]).all()


def test_buckets_of_sql_are_those_of_numpy(tmp_path: Path) -> None:
    """At both sides of each border that a capture of seconds can have."""
    lives = [each for bits in range(8, 31) for each in ((1 << bits) - 1, 1 << bits)] + [1, 127, 128]
    events = [
        event for ptr, life in enumerate(lives, 1) for event in (at(0.0, MSG, ptr=ptr), at(life / 1e9, KFREE, ptr=ptr))
    ]
    made = held(tmp_path / "a", events)

    expected = np.bincount(bucket_of(np.array(lives)), minlength=BUCKETS)
    assert only(made)["lifetimes"].tolist() == expected.tolist()


def test_two_caches_are_two_rows(tmp_path: Path) -> None:
    other = Cache("filp", 232, 256)
    events = [at(0.1, rows.object_of(cache, "d_alloc+0x1"), ptr=at_) for at_, cache in ((1, DENTRY), (2, other))]
    made = held(tmp_path / "a", events)

    assert isinstance(made.held, Held)
    assert sorted(made.held.rows["bytes_allocated"].tolist()) == [192, 256]
