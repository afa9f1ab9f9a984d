"""Folded stacks, speedscope and pprof: each as its own readers understand it, with the ledger's sums to the unit."""

import gzip
import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from kmwatch.ledger import MEASURES, Ledger
from kmwatch.profile import Frame
from kmwatch.schema import Kind
from kmwatch.views.export import folded, pprof, speedscope
from kmwatch.views.export.measures import WORDS
from kmwatch.views.export.ways import MEASURED, label, word
from tests.unit import rows
from tests.unit.exports import HOSTILE, START, exported, hostile
from tests.unit.test_export_times import unknown_fields
from tests.unit.test_profile import made as split

DATA = Path(__file__).parents[1] / "data" / "exports"
SCHEMA = json.loads((DATA / "speedscope-1.25.0.json").read_text())
LEDGERS = pytest.mark.parametrize("made", [exported, hostile])
# What flamegraph.pl and inferno take for a line: the last blank is before the value.
LINE = re.compile(r"^(.*)\s+?(\d+(?:\.\d*)?)$")


def sums(ledger: Ledger) -> dict[str, int]:
    """What the ledger has of each measure, by its word."""
    totals = vars(ledger.totals()) | {"count": ledger.totals().allocations}
    return {each: totals[MEASURES[MEASURED[each].at]] for each in WORDS}


def told(text: bytes) -> dict[tuple[str, ...], int]:
    """Folded stacks as their readers split them."""
    found: Counter[tuple[str, ...]] = Counter()
    for line in text.decode().removesuffix("\n").split("\n"):
        match = LINE.match(line)
        assert match, line
        found[tuple(match[1].split(";"))] += int(match[2])
    return dict(found)


def profile_of(data: bytes) -> Any:
    """A Profile, read by the library with pprof's own description."""
    pool = descriptor_pool.DescriptorPool()
    pool.Add(descriptor_pb2.FileDescriptorProto.FromString((DATA / "pprof-profile.binpb").read_bytes()))
    kind = message_factory.GetMessageClass(pool.FindMessageTypeByName("perftools.profiles.Profile"))
    return kind.FromString(gzip.decompress(data))


def test_there_is_a_word_for_each_measure() -> None:
    assert [MEASURED[each].at for each in WORDS] == [4, 3, 5, 0, 1, 2]
    assert {MEASURES[each.at]: each.unit for each in MEASURED.values()} == {
        name: "bytes" if "bytes" in name else "count" for name in MEASURES
    }


def test_a_line_has_the_way_from_outside_with_modules_and_the_kind() -> None:
    lines = told(folded.render(folded.build(exported(), "count")))
    ways = ("entry_SYSCALL_64", "do_syscall_64")
    assert lines == {
        (*ways, "open", "f_[nvme]", "[kmalloc]"): 204,
        (*ways, "read", "f_[nvme]", "[kmalloc]"): 102,
        ("[no_stack_taken]", "d_alloc", "[cache_alloc_dentry]"): 33,
        ("[no_stack_taken]", "do_anonymous_page", "[page_alloc]"): 24,
    }


@LEDGERS
@pytest.mark.parametrize("measure", WORDS)
def test_folded_lines_add_up_to_the_ledger(made: Callable[[], Ledger], measure: str) -> None:
    ledger = made()
    lines = folded.render(folded.build(ledger, measure))
    assert sum(told(lines).values() if lines else ()) == sums(ledger)[measure]


def test_hostile_names_end_no_frame_and_no_line() -> None:
    text = folded.render(folded.build(hostile(), "count")).decode()
    lines = told(text.encode())
    assert {len(way) for way in lines} == {3, 5}
    assert all(each.isprintable() and each.count(" ") == 1 for each in text.splitlines())
    assert word('a"b;c d\\') == 'a"b:c_d\\'
    assert word(" \x85 ;") == ":"
    assert (label(Frame("")), label(Frame("f", "m"))) == ("unknown", "f_[m]")


@LEDGERS
def test_speedscope_takes_its_file(made: Callable[[], Ledger]) -> None:
    ledger = made()
    text = speedscope.render(speedscope.build(ledger))
    data = json.loads(text)
    jsonschema.Draft7Validator(SCHEMA).validate(data)
    assert text.isascii()
    frames = data["shared"]["frames"]
    for each in data["profiles"]:
        total = sums(ledger)[each["name"].replace(" ", "_")]
        assert (sum(each["weights"]), each["endValue"]) == (total, total)
        assert len(each["weights"]) == len(each["samples"])
        assert all(0 <= at < len(frames) for path in each["samples"] for at in path)


def test_speedscope_has_a_profile_for_what_there_is() -> None:
    data = speedscope.build(exported())
    shown = {each["name"]: each["unit"] for each in data["profiles"]}
    assert shown == dict.fromkeys(("allocated", "requested", "wasted"), "bytes") | dict.fromkeys(
        ("count", "failures"), "none"
    )
    assert data["profiles"][data["activeProfileIndex"]]["name"] == WORDS[0]
    assert {"name": "f", "file": "nvme"} in data["shared"]["frames"]


def test_what_shares_a_way_stands_side_by_side() -> None:
    ways = [(("f+0x1", "open+0x2"), 1), (("f+0x1", "read+0x3"), 1)]
    ledger = split(
        rows.kmalloc("f+0x1", 60, count=2), rows.kmalloc("g+0x1", 8), stacks={0: ways, 1: [(("g+0x1", "open+0x2"), 1)]}
    )
    data = speedscope.build(ledger)
    names = [each["name"] for each in data["shared"]["frames"]]
    assert [names[path[0]] for path in data["profiles"][0]["samples"]] == ["open", "open", "read"]


def test_an_empty_ledger_is_an_empty_file_of_each_form() -> None:
    empty = Ledger(exported().meta)
    assert folded.render(folded.build(empty, "count")) == b""
    data = speedscope.build(empty)
    jsonschema.Draft7Validator(SCHEMA).validate(data)
    assert [each["samples"] for each in data["profiles"]] == [[]]
    assert not profile_of(pprof.render(pprof.build(empty))).sample


@LEDGERS
def test_pprof_reads_its_profile(made: Callable[[], Ledger]) -> None:
    """What CheckValid() of pprof's own reader holds, and the sums."""
    ledger = made()
    read = profile_of(pprof.render(pprof.build(ledger)))
    assert unknown_fields(read) == []
    texts = read.string_table
    assert (texts[0], len(set(texts))) == ("", len(texts))
    assert [(texts[each.type], texts[each.unit]) for each in read.sample_type] == [
        (name, MEASURED[name].unit) for name in WORDS
    ]
    totals = [sum(each.value[at] for each in read.sample) for at in range(len(WORDS))]
    assert dict(zip(WORDS, totals, strict=True)) == sums(ledger)
    tables = {"mapping": read.mapping, "location": read.location, "function": read.function}
    ids = {name: {each.id for each in table} for name, table in tables.items()}
    assert all(0 not in found and len(found) == len(tables[name]) for name, found in ids.items())
    assert all(each.location_id and set(each.location_id) <= ids["location"] for each in read.sample)
    assert all(each.mapping_id in ids["mapping"] for each in read.location)
    assert all(line.function_id in ids["function"] for each in read.location for line in each.line)


def test_pprof_tells_how_it_was_asked_for_and_when() -> None:
    ledger = exported()
    read = profile_of(pprof.render(pprof.build(ledger)))
    texts, functions = read.string_table, {each.id: each.name for each in read.function}
    asked: dict[tuple[str, ...], dict[str, str]] = {}
    for each in read.sample:
        lines = [read.location[at - 1].line[0] for at in each.location_id]
        labels = {texts[label.key]: texts[label.str] for label in each.label}
        asked[*(texts[functions[line.function_id]] for line in lines), labels["gfp"]] = labels
    entry = ("do_syscall_64", "entry_SYSCALL_64")
    plain = {"kind": "kmalloc", "gfp": "GFP_KERNEL", "context": "process"}
    assert asked == {
        ("f", "open", *entry, "GFP_KERNEL"): plain,
        ("f", "read", *entry, "GFP_KERNEL"): plain,
        ("f", "[no stack taken]", "GFP_ATOMIC"): plain | {"gfp": "GFP_ATOMIC", "context": "softirq"},
        ("d_alloc", "[no stack taken]", "GFP_KERNEL"): plain | {"kind": "cache_alloc", "cache": "dentry"},
        ("do_anonymous_page", "[no stack taken]", "GFP_KERNEL"): plain | {"kind": "page_alloc"},
    }
    assert [texts[each.filename] for each in read.mapping] == [pprof.KERNEL, "[nvme]"]
    assert all(each.has_functions for each in read.mapping)
    assert (read.time_nanos, read.duration_nanos) == (START * 1e9, 3e9)
    assert texts[read.default_sample_type] == WORDS[0]
    comments = [texts[at] for at in read.comment]
    assert "Linux 6.18.0" in comments[0]
    assert "lost: 5 events" in comments


def test_the_same_ledger_makes_the_same_bytes() -> None:
    data = pprof.render(pprof.build(exported()))
    assert data == pprof.render(pprof.build(exported()))
    assert data[4:8] == bytes(4)  # no time of writing


def test_what_cannot_be_shown_is_nowhere() -> None:
    read = profile_of(pprof.render(pprof.build(hostile())))
    assert all(each.isprintable() for each in read.string_table)
    assert HOSTILE[0] in read.string_table
    assert Kind.CACHE_ALLOC.name.lower() in read.string_table
