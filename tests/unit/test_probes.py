"""The table of probes against the C that implements it, and the list of kinds that a user may write."""

import re

import pytest

from kmwatch.errors import UsageError
from kmwatch.schema import BPF_DIR, Kind, Way
from kmwatch.sources import plan
from kmwatch.sources.bpf import Attachment
from kmwatch.sources.probes import FUNCTIONS, PROBES, Function, Probe, parse_kinds, wanted, wanted_functions

COMPAT = (BPF_DIR / "compat.h").read_text()
# `#if PROBE_X == WAY` or `#elif`, and the entry point that it guards: name, and type of its argument.
GUARDED = re.compile(r"^#(?:el)?if (PROBE_\w+) == (RAW|TRACEPOINT)\nint (\w+)\(([^)]*) \*?\w+\)", re.MULTILINE)
ENTRIES = {(define, way): (name, argument.rstrip(" *")) for define, way, name, argument in GUARDED.findall(COMPAT)}


def test_every_entry_point_of_the_c_is_read_here() -> None:
    """Otherwise the tests below would hold only what the pattern happens to match."""
    assert len(ENTRIES) == len(re.findall(r"^int \w+\(", COMPAT, re.MULTILINE)) == COMPAT.count("if PROBE_")


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.event)
def test_a_probe_has_an_entry_point_for_each_way_it_is_attached(probe: Probe) -> None:
    event = f"struct tracepoint__{probe.category}__{probe.event}"
    assert ENTRIES[probe.define, "TRACEPOINT"] == (probe.event, event)
    assert ENTRIES.get((probe.define, "RAW")) == ((probe.event, "raw_args") if probe.raw else None)


def test_every_entry_point_has_its_probe() -> None:
    assert {define for define, _ in ENTRIES} == {probe.define for probe in PROBES}


# The same of functions.h.
FUNCTION_TEXT = (BPF_DIR / "functions.h").read_text()
BLOCK = re.compile(r"^#(?:el)?if (PROBE_\w+) == (KPROBE|FENTRY)\n(.*?)(?=^#e)", re.MULTILINE | re.DOTALL)
PROGRAMS = {
    (define, way): tuple(re.findall(r"^int (\w+)\(", body, re.MULTILINE))
    for define, way, body in BLOCK.findall(FUNCTION_TEXT)
}


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.event)
def test_a_function_has_its_programs_for_each_way_it_is_probed(function: Function) -> None:
    by_kprobe = Attachment(function, Way.KPROBE, at=function.names[0]).programs
    by_fentry = Attachment(function, Way.FENTRY, at=function.names[0]).programs

    assert PROGRAMS[function.define, "KPROBE"] == by_kprobe
    assert PROGRAMS.get((function.define, "FENTRY")) == (by_fentry if function.fentry else None)


def test_every_program_at_a_function_has_its_probe() -> None:
    assert {define for define, _ in PROGRAMS} == {function.define for function in FUNCTIONS}
    assert {f"{probe.category}:{probe.event}" for probe in PROBES} >= {each.tracepoint for each in FUNCTIONS}
    assert [each.event for each in wanted_functions(frozenset({Kind.IOREMAP, Kind.KFREE}))] == ["ioremap"]


@pytest.mark.parametrize("probe", [probe for probe in PROBES if probe.raw], ids=lambda probe: probe.event)
def test_a_raw_entry_point_uses_no_argument_that_its_prototype_lacks(probe: Probe) -> None:
    body = COMPAT.partition(f"#if {probe.define} == RAW\n")[2].partition("#elif")[0]
    used = {int(number) for number in re.findall(r"ctx->args\[(\d+)\]", body)}
    assert used
    assert max(used) < len(probe.raw or ())


def test_every_kind_is_observed_and_only_as_what_the_c_makes_of_it() -> None:
    assert {kind for probe in PROBES for kind in probe.kinds} == set(Kind)
    assert len({(probe.category, probe.event) for probe in PROBES}) == len(PROBES)


def test_no_kind_is_every_kind() -> None:
    assert parse_kinds(None) == frozenset(Kind)


@pytest.mark.parametrize(
    "text", ["kmalloc,page_alloc", " page_alloc , kmalloc", "kmalloc,,page_alloc,", "kmalloc,kmalloc,page_alloc"]
)
def test_kinds_are_read(text: str) -> None:
    assert parse_kinds(text) == {Kind.KMALLOC, Kind.PAGE_ALLOC}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no kind given; choose from kmalloc, kfree, "),
        (" , ", "no kind given; choose from "),
        ("kmaloc", "unknown kind 'kmaloc'; choose from kmalloc, "),
        ("kmalloc,vremap,x y", "unknown kind 'vremap, x y'; choose from "),
        ("KMALLOC", "unknown kind 'KMALLOC'; choose from "),
        ("1", "unknown kind '1'; choose from "),
    ],
)
def test_what_is_no_kind_is_refused_with_those_that_are(text: str, says: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_kinds(text)
    assert str(raised.value).startswith(says)
    assert "oom_victim" in str(raised.value)


@pytest.mark.parametrize(
    ("kinds", "events"),
    [
        ({Kind.KMALLOC}, ["kmalloc", "kmalloc_node"]),
        ({Kind.VMAP}, ["alloc_vmap_area"]),
        ({Kind.PERCPU_ALLOC, Kind.OOM_VICTIM}, ["percpu_alloc_percpu", "percpu_alloc_percpu_fail", "mark_victim"]),
        (set(), []),
        (set(Kind), [probe.event for probe in PROBES]),
    ],
)
def test_only_the_probes_of_the_chosen_kinds_are_wanted(kinds: set[Kind], events: list[str]) -> None:
    assert [probe.event for probe in wanted(frozenset(kinds))] == events


class OldOrNew:
    """The BTF and the tracefs of a kernel that has every event, and kmalloc with a prototype of its own."""

    def __init__(self, kmalloc: tuple[str, ...]) -> None:
        self.known = {probe.event: probe.raw for probe in PROBES} | {"kmalloc": kmalloc}

    def prototype(self, event: str) -> tuple[str, ...] | None:
        """As Btf has it."""
        return self.known[event]

    def has_event(self, _category: str, _event: str) -> bool:
        """As Tracefs has it."""
        return True


class Named:
    """Symbols and BTF of a kernel that has every function, with a vmalloc() as long as given."""

    def __init__(self, length: int) -> None:
        self.known = {name: each.takes for each in FUNCTIONS for name in each.names[-1:]}
        self._length = length

    def parameters(self, name: str) -> tuple[str, ...] | None:
        """As Btf has it."""
        return self.known.get(name)

    def length(self, name: str) -> int:
        """As Symbols has it."""
        return self._length if name == "vmalloc" else 0

    def has_event(self, *_: str) -> bool:
        """As Tracefs has it."""
        return False


@pytest.mark.parametrize(
    ("length", "kprobe", "fentry", "events"),
    [
        (64, "", "", {"vmalloc": Way.KPROBE, "vfree": Way.KPROBE, "ioremap": Way.KPROBE, "iounmap": Way.KPROBE}),
        (224, "", "", dict.fromkeys(("vmalloc_area", "vmalloc_pages", "vfree", "ioremap", "iounmap"), Way.KPROBE)),
        (64, "no", "", {"vmalloc": Way.FENTRY, "vfree": Way.FENTRY, "ioremap": Way.FENTRY, "iounmap": Way.FENTRY}),
        (224, "no", "", {"vfree": Way.FENTRY, "ioremap": Way.FENTRY, "iounmap": Way.FENTRY}),
        (64, "no", "no", {}),
    ],
)
def test_functions_are_probed_as_the_kernel_allows(
    monkeypatch: pytest.MonkeyPatch, length: int, kprobe: str, fentry: str, events: dict[str, Way]
) -> None:
    monkeypatch.setattr(plan.abilities, "kprobe", lambda _: kprobe)
    monkeypatch.setattr(plan.abilities, "fentry", lambda *_, **_how: fentry)
    kernel = Named(length)

    found = plan._functions(FUNCTIONS, kernel, kernel, kernel)  # type: ignore[arg-type]

    assert {each.probe.event: each.way for each in found} == events


def test_a_function_with_other_arguments_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan.abilities, "kprobe", lambda _: "")
    kernel = Named(64)
    kernel.known["__ioremap_caller"] = ("long unsigned int", "resource_size_t")

    found = plan._functions(FUNCTIONS, kernel, kernel, kernel)  # type: ignore[arg-type]

    assert [each.probe.event for each in found] == ["vmalloc", "vfree", "iounmap"]


def test_of_the_two_functions_that_stand_in_for_vmalloc_one_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry that is never seen to end would be taken for a loss."""
    monkeypatch.setattr(plan.abilities, "kprobe", lambda _: "")
    kernel = Named(224)
    del kernel.known["__vmalloc_area_node"]

    found = plan._functions(FUNCTIONS, kernel, kernel, kernel)  # type: ignore[arg-type]

    assert [each.probe.event for each in found] == ["vfree", "ioremap", "iounmap"]


def test_where_raw_programs_may_nest_none_is_raw() -> None:
    """Before 6.1, as kmalloc's prototype tells, an interrupt could run kfree's raw program inside itself."""
    (kmalloc,) = (probe for probe in PROBES if probe.event == "kmalloc")
    assert kmalloc.raw
    new, old = OldOrNew(kmalloc.raw), OldOrNew(kmalloc.raw[:-1])

    assert {plan._how(probe, new, new) for probe in PROBES if probe.raw} == {"raw tracepoint"}  # type: ignore[arg-type]
    assert {plan._how(probe, old, old) for probe in PROBES} == {"tracepoint"}  # type: ignore[arg-type]
