"""What several tests share: the tiers and what each needs, and waiting without sleeping."""

import importlib.util
import os
import platform
import shutil
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

Value = TypeVar("Value")

# CAP_SYS_ADMIN, or CAP_BPF with CAP_PERFMON: what the kernel asks of a program that attaches to tracepoints.
_CAP_SYS_ADMIN, _CAP_PERFMON, _CAP_BPF = 1 << 21, 1 << 38, 1 << 39


def why_not_live() -> str:
    """Why the live tests cannot run here, or an empty string."""
    if os.geteuid() != 0:
        return "not root: run `sudo make test`"
    capabilities = _effective_capabilities()
    if not capabilities & _CAP_SYS_ADMIN and not (capabilities & _CAP_BPF and capabilities & _CAP_PERFMON):
        return "root without CAP_BPF and CAP_PERFMON: run outside of this container"
    if not Path("/sys/kernel/btf/vmlinux").exists():
        return "this kernel has no BTF: it needs CONFIG_DEBUG_INFO_BTF"
    if importlib.util.find_spec("bcc") is None:
        return "no bcc module: run `make setup`"
    return ""


# What boots a guest, fetches its kernel, and compiles a module for it, by the Debian package that has it.
_GUEST_PROGRAMS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "busybox": "busybox-static",
    "setpriv": "util-linux",
    "apt-get": "apt",
    "depmod": "kmod",
    "make": "make",
    "gcc": "gcc",
    "ld": "binutils",
}
_DEBIAN_KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def why_not_guest() -> str:
    """Why other kernels cannot be booted here, or an empty string. Whether they can be fetched shows later."""
    if platform.machine() != "x86_64":
        return "the guests' kernels and the module in them are for x86-64"
    if missing := sorted({package for program, package in _GUEST_PROGRAMS.items() if not shutil.which(program)}):
        return f"not installed: {', '.join(missing)}; run `make setup-tests`"
    if _wants_a_loader(Path(str(shutil.which("busybox")))):
        return "busybox is not the static one: apt install busybox-static"
    if not _DEBIAN_KEYS.exists():
        return "no debian-archive-keyring: Debian's kernels could not be verified"
    return ""


def _wants_a_loader(program: Path) -> bool:
    """Whether it is linked dynamically: a 64-bit ELF file with a program header of the type PT_INTERP."""
    head = program.read_bytes()[:4096]
    (start,), (size, count) = struct.unpack_from("<Q", head, 32), struct.unpack_from("<2H", head, 54)
    return any(struct.unpack_from("<I", head, start + at * size) == (3,) for at in range(count))


def _effective_capabilities() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("CapEff:")[2].split()[0], 16)


def why_not_monitoring() -> str:
    """Why no Prometheus can be run here, or an empty string."""
    from scripts.prometheus import program  # not in guests, where every import takes its time

    if missing := [name for name in ("prometheus", "promtool") if not program(name)]:
        return f"no {' and '.join(missing)}: run `make setup-tests`, or scripts/get_prometheus.sh by itself"
    return ""


def chromium() -> str | None:
    """The distribution's Chromium, under the name that it has there."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


def why_not_browser() -> str:
    """Why no page can be opened in a browser here, or an empty string."""
    if not chromium():
        return "no chromium: run `make setup-tests`, or install the package by hand"
    if missing := [name for name in ("playwright", "axe_playwright_python") if not importlib.util.find_spec(name)]:
        return f"no {' and '.join(missing)}: run `make setup-tests`"
    return ""


def why_not_spark() -> str:
    """Why Apache Spark cannot run here, or an empty string."""
    if not shutil.which("java"):
        return "no java: run `make setup-tests`, or install a JRE of version 17 by hand"
    if missing := [name for name in ("pyspark", "pyarrow", "sqlglot") if not importlib.util.find_spec(name)]:
        return f"no {' and '.join(missing)}: run `make setup-tests`"
    return ""


# Marker of a tier -> why it cannot run here. What no entry is needed for is the unit tier.
TIERS: dict[str, Callable[[], str]] = {
    "live": why_not_live,
    "guest": why_not_guest,
    "monitoring": why_not_monitoring,
    "browser": why_not_browser,
    "spark": why_not_spark,
}


def required_tiers(value: str) -> frozenset[str]:
    """Read KMWATCH_REQUIRE, a comma-separated list of tiers; a tier that does not exist is an error."""
    names = frozenset(name.strip() for name in value.split(",") if name.strip())
    if unknown := sorted(names - TIERS.keys()):
        raise pytest.UsageError(f"KMWATCH_REQUIRE: no tier is called {', '.join(unknown)}; there is {', '.join(TIERS)}")
    return names


def hold_tier(tier: str, why_not: str, required: frozenset[str]) -> None:
    """Skip a test of a tier that cannot run, or fail it where the tier is required."""
    if not why_not:
        return
    if tier in required:
        pytest.fail(f"KMWATCH_REQUIRE wants the {tier} tests, and they cannot run: {why_not}", pytrace=False)
    pytest.skip(f"{tier}: {why_not}")


def wait_until(condition: Callable[[], Value], deadline_seconds: float, what: str) -> Value:
    """Ask until the condition holds and return its answer; fail after the deadline, in seconds, naming `what`."""
    end = time.monotonic() + deadline_seconds
    pause = threading.Event()
    while not (answer := condition()):
        if time.monotonic() >= end:
            pytest.fail(f"waited {deadline_seconds} s in vain for {what}")
        pause.wait(0.01)
    return answer
