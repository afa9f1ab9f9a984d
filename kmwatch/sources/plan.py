"""What to load on this kernel: which probes, how each is attached, and the constants that the C sources need."""

from dataclasses import dataclass

from kmwatch.errors import NotPossibleError
from kmwatch.kernel import abilities
from kmwatch.kernel.btf import Btf
from kmwatch.kernel.gfp import GfpTable
from kmwatch.kernel.symbols import Symbols
from kmwatch.kernel.tracefs import Tracefs
from kmwatch.schema import Kind, Way
from kmwatch.sources import freelists, offsets
from kmwatch.sources.bpf import RETURN, Attachment
from kmwatch.sources.probes import FUNCTIONS, PROBES, Function, Probe, wanted, wanted_functions


@dataclass(frozen=True)
class Plan:
    """Everything that compiling takes.

    copies: second programs for events that the first miss (bpf/again.h), which not every C file has.
    calibrators: probes that are needed at the start only.
    status: every probe wanted, with how it is attached, or the reason why it is not.
    context: how the context is seen, "" where it is not.
    per_cpu_offset: address of the kernel's __per_cpu_offset table, 0 where it is not needed.
    doubts: one line for each thing that this kernel keeps from being seen, with what would help.
    """

    attachments: tuple[Attachment, ...]
    copies: tuple[Attachment, ...]
    calibrators: tuple[Attachment, ...]
    status: dict[str, str]
    defines: dict[str, int]
    context: str
    per_cpu_offset: int
    doubts: tuple[str, ...]


def make_plan(
    kinds: frozenset[Kind], tracefs: Tracefs, gfp: GfpTable, symbols: Symbols, *, pointers: bool = False
) -> Plan:
    """Look at the running kernel and decide; with `pointers`, for probes that tell which object an event is about."""
    try:
        btf, without_btf = Btf(), ""
    except NotPossibleError as error:
        btf, without_btf = None, str(error)
    try:
        found = {probe: _how(probe, tracefs, btf, pointers=pointers) for probe in wanted(kinds)}
        found = {probe: how for probe, how in found.items() if how in _WAYS or not probe.old}
        at_functions = _functions(wanted_functions(kinds), tracefs, btf, symbols)
        calibrators = _calibrators(tracefs, btf, at_functions, symbols)
        copied = [probe for probe in found if probe.busy and _how(probe, tracefs, btf) == "raw tracepoint"]
        context, per_cpu_offset, seen = offsets.context(btf, symbols)
        defines = seen | offsets.caches(btf) | offsets.sizes(gfp) | offsets.drift(tracefs)
        defines |= offsets.objects(btf, symbols) | freelists.layout(btf)
    finally:
        if btf:
            btf.close()
    counted = context != "" and "TASK_RCU_NESTING" in defines
    doubts = _doubts(context, without_btf, counted=counted)
    attachments = (*(Attachment(probe, _WAYS[how]) for probe, how in found.items() if how in _WAYS), *at_functions)
    if not attachments:
        raise NotPossibleError("this kernel has none of the tracepoints wanted; `kmwatch doctor` tells why")
    status = {f"{probe.category}:{probe.event}": how for probe, how in found.items()}
    status |= {each.name: _words(each) for each in at_functions}
    extra = tuple(each for each in calibrators if each not in attachments)
    # Without preempt_count it does not show whether a tracepoint can be preempted.
    copies = tuple(Attachment(probe, Way.AGAIN) for probe in copied) if "PREEMPT_COUNT" in defines else ()
    context += "" if counted or not context else _INTERRUPTS_ONLY
    return Plan(attachments, copies, extra, status, defines, context, per_cpu_offset, doubts)


_INTERRUPTS_ONLY = ", interrupts only"
_WAYS = {"raw tracepoint": Way.RAW, "tracepoint": Way.TRACEPOINT}


def _doubts(context: str, without_btf: str, *, counted: bool) -> tuple[str, ...]:
    """What this kernel keeps from being seen; `counted`: spinlocks and RCU sections are."""
    if without_btf:
        return (f"{'cache names are' if context else 'cache names and the context are'} unknown: {without_btf}",)
    if not context:
        return ("the context is unknown: neither BTF nor kallsyms shows preempt_count; see `kmwatch doctor`",)
    if not counted:
        # Without CONFIG_PREEMPT_RCU the task has no such member, and without CONFIG_PREEMPT_COUNT locks leave no trace.
        return ("this kernel, not preemptible, counts neither spinlocks nor RCU sections: only interrupts show",)
    return ()


_WRAPPER = 128  # bytes; a vmalloc() that only calls another function is shorter


def _functions(
    functions: tuple[Function, ...], tracefs: Tracefs, btf: Btf | None, symbols: Symbols
) -> tuple[Attachment, ...]:
    """Probes at those functions that tell more than a tracepoint, or have none; none where the kernel allows none."""
    inlined = max(symbols.length("vmalloc"), symbols.length("vmalloc_noprof")) > _WRAPPER
    found = []
    for function in functions:
        needed = function.better or not tracefs.has_event(*function.tracepoint.split(":"))
        if btf and needed and function.inlined in (None, inlined):
            found += [each for name in function.names if (each := _at_function(function, name, btf))][:1]
    stand_ins = [function for function in functions if function.inlined]
    complete = inlined and all(any(each.probe is function for each in found) for function in stand_ins)
    return tuple(each for each in found if complete or each.probe not in stand_ins)


def _at_function(function: Function, name: str, btf: Btf) -> Attachment | None:
    """A probe at a function whose arguments are those that bpf/functions.h knows; None where there can be none."""
    if (btf.parameters(name) or ())[: len(function.takes)] != function.takes:
        return None
    if not abilities.kprobe(name):
        return Attachment(function, Way.KPROBE, at=name)
    if function.fentry and not abilities.fentry(btf, name, returns=function.returns):
        return Attachment(function, Way.FENTRY, at=name)
    return None


def _words(at_function: Attachment) -> str:
    if at_function.way == Way.KPROBE:
        kinds = ("kretprobe" if program.endswith(RETURN) else "kprobe" for program in at_function.programs)
        ways = " and ".join(kinds)
    else:
        ways = "fexit" if at_function.exits else "fentry"
    return f"{ways} at {at_function.at}()"


def _calibrators(
    tracefs: Tracefs, btf: Btf | None, at_functions: tuple[Attachment, ...], symbols: Symbols
) -> tuple[Attachment, ...]:
    """Probes by which each way of attaching can be calibrated: system calls of ours make their events at will."""
    hows = {probe: _how(probe, tracefs, btf) for probe in PROBES if probe.event in ("kmalloc", "mm_page_alloc")}
    vmalloc = tuple(each for each in FUNCTIONS if Kind.VMALLOC in each.kinds) if at_functions else ()
    found = [Attachment(probe, _WAYS[how]) for probe, how in hows.items() if how in _WAYS]
    return (*found, *_functions(vmalloc, tracefs, btf, symbols))


def _how(probe: Probe, tracefs: Tracefs, btf: Btf | None, *, pointers: bool = False) -> str:
    if not tracefs.has_event(probe.category, probe.event):
        return probe.note or "this kernel does not have it"
    raw_does = probe.raw_pointer or not pointers
    if probe.raw and raw_does and btf and _guarded(btf) and btf.prototype(probe.event) == probe.raw:
        return "raw tracepoint"
    return "tracepoint"


def _guarded(btf: Btf) -> bool:
    """Whether the kernel keeps a raw tracepoint program from running inside itself; the ledger's plain sums need that.

    It does since "bpf: Prevent bpf program recursion for raw tracepoint probes" (in v6.1), the release that gave
    kmalloc its prototype of today. Ordinary tracepoint programs never nest on one CPU.
    """
    return any(btf.prototype(probe.event) == probe.raw for probe in PROBES if probe.event == "kmalloc")
