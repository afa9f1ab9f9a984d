"""What this kernel and this user allow, looked at one by one."""

import os
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from kmwatch.errors import KmwatchError, NotPossibleError
from kmwatch.kernel import abilities, tracefs
from kmwatch.kernel.btf import Btf
from kmwatch.kernel.gfp import running_table
from kmwatch.kernel.symbols import Symbols
from kmwatch.schema import Kind, Way
from kmwatch.sources.bpf import Attachment, Programs
from kmwatch.sources.compiled import bcc_version
from kmwatch.sources.plan import Plan, make_plan

# include/uapi/linux/capability.h
_CAPABILITIES = {"CAP_SYS_ADMIN": 21, "CAP_SYSLOG": 34, "CAP_PERFMON": 38, "CAP_BPF": 39}
_DONE = "loaded and attached"
_LOCKDOWN = Path("/sys/kernel/security/lockdown")


@dataclass(frozen=True)
class Check:
    """One thing looked at: whether it is there, in words, and whether live watching needs it.

    fix: what to do where it is not ok; "" where `what` says so itself.
    """

    name: str
    ok: bool
    what: str
    needed: bool = False
    fix: str = ""


def examine(*, attach: bool) -> Iterator[Check]:
    """Every check, in the order in which they build on each other; `attach` loads and attaches each program too."""
    yield _machine()
    yield from _privileges()
    refused = abilities.programs()
    fix = "run as root, or with CAP_BPF and CAP_PERFMON; the kernel needs CONFIG_BPF_SYSCALL=y"
    yield Check("BPF", not refused, refused or "programs are accepted", needed=True, fix=fix)
    yield _tried("tracefs", lambda: _tracefs_words(tracefs.find()))
    yield _tried("symbols", lambda: f"/proc/kallsyms: {len(Symbols.running()):,} functions")
    yield _tried("BCC", lambda: f"version {bcc_version()}; kernel headers are not needed")
    yield _tried("BTF", _btf_words, needed=False)
    yield from _optional()
    try:
        plan = make_plan(frozenset(Kind), tracefs.find(), running_table(), Symbols.running())
    except KmwatchError as error:
        yield Check("probes", ok=False, what=str(error), needed=True)
        return
    yield _context(plan)
    yield _interrupts_off(plan)
    yield _free_lists(plan)
    yield from _probes(plan, attach=attach)


def _machine() -> Check:
    fix = "run kmwatch on x86-64: it knows size classes, zones and preempt_count of no other machine"
    what = f"{platform.machine()}, Linux {platform.release()}"
    return Check("machine", platform.machine() == "x86_64", what, needed=True, fix=fix)


def _privileges() -> Iterator[Check]:
    effective = int(Path("/proc/self/status").read_text().partition("CapEff:")[2].split()[0], 16)
    held = [name for name, bit in _CAPABILITIES.items() if effective >> bit & 1]
    enough = "CAP_SYS_ADMIN" in held or {"CAP_BPF", "CAP_PERFMON", "CAP_SYSLOG"} <= set(held)
    what = ", ".join(held) or "none of the capabilities that tracing takes"
    yield Check("privileges", enough, what, needed=True, fix="run kmwatch with sudo")
    if os.access(_LOCKDOWN, os.R_OK) and "[confidentiality]" in _LOCKDOWN.read_text():
        fix = "boot without lockdown=confidentiality: it forbids BPF programs to read kernel memory"
        yield Check("lockdown", ok=False, what="confidentiality", needed=True, fix=fix)


def _tried(name: str, look: Callable[[], str], *, needed: bool = True) -> Check:
    try:
        return Check(name, ok=True, what=look(), needed=needed)
    except KmwatchError as error:
        return Check(name, ok=False, what=str(error), needed=needed)


def _tracefs_words(found: tracefs.Tracefs) -> str:
    return f"{'mounted just now' if found.mounted else 'mounted'} at {found.path}"


def _btf_words() -> str:
    Btf().close()
    return "/sys/kernel/btf/vmlinux"


def _optional() -> Iterator[Check]:
    """What kmwatch does without: said so that nobody has to wonder."""
    without = abilities.kprobe()
    yield Check("kprobes", not without, without or "available, used at functions that tell more than a tracepoint")
    try:
        btf = Btf()
    except KmwatchError:
        yield Check("fentry", ok=False, what="needs BTF")
        return
    refused = abilities.fentry(btf)
    btf.close()
    used = "used where there are no kprobes" if without else "not used: a kprobe sees interrupts off, and it does not"
    yield Check("fentry", not refused, f"refused ({refused})" if refused else f"available, {used}")


def _context(plan: Plan) -> Check:
    if not plan.context:
        fix = "use a kernel with CONFIG_DEBUG_INFO_BTF=y or CONFIG_KALLSYMS_ALL=y; until then the context is unknown"
        return Check("context", ok=False, what="preempt_count cannot be found", fix=fix)
    return Check("context", ok=True, what=f"preempt_count through {plan.context}")


def _interrupts_off(plan: Plan) -> Check:
    """A tracepoint program cannot see the flags of the processor."""
    seen = [each.probe.event for each in plan.attachments if each.way == Way.KPROBE and len(each.programs) > 1]
    what = f"seen at {' and '.join(seen)} only, by kprobes" if seen else "not seen: only a kprobe shows the flags"
    return Check("interrupts off", bool(seen), what)


def _free_lists(plan: Plan) -> Check:
    if "ZONE_SIZE" not in plan.defines:
        fix = "use a kernel with CONFIG_DEBUG_INFO_BTF=y and CONFIG_MEMCG=y; until then failures are only counted"
        return Check("free lists", ok=False, what="the zones cannot be found", fix=fix)
    what = "read by the programs at a failure; the zones are found through BTF and the memory cgroup"
    return Check("free lists", ok=True, what=what)


def _probes(plan: Plan, *, attach: bool) -> Iterator[Check]:
    attached = {each.name: each for each in plan.attachments}
    together = attach and _can_attach(plan, plan.attachments)
    for name, how in plan.status.items():
        if name not in attached:
            yield Check(name, ok=False, what=how)
        elif attach and not together:
            yield _tried(name, partial(_attach, plan, (attached[name],), how))
        else:
            yield Check(name, ok=True, what=f"{how}: {_DONE}" if together else how, needed=True)


def _can_attach(plan: Plan, attachments: tuple[Attachment, ...]) -> bool:
    """Whether all can be had at once. To tell which fails takes a compilation for each, and that takes long."""
    try:
        _attach(plan, attachments, "")
    except NotPossibleError:
        return False
    return True


def _attach(plan: Plan, attachments: tuple[Attachment, ...], how: str) -> str:
    programs = Programs("ledger.c", attachments, plan.defines)
    try:
        programs.attach()
    finally:
        programs.close()
    return f"{how}: {_DONE}"
