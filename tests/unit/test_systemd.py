"""The unit of systemd: understood by systemd, hardened as documented, and with what the service needs left in it."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

UNIT = Path(__file__).parents[2] / "deploy" / "kmwatch.service"
DESIGN = Path(__file__).parents[2] / "docs" / "design.md"
# Seen by strace, from the start to the end.
NEEDED = """
accept4 access arch_prctl bind bpf brk capset chdir clone3 close connect dup2 epoll_create1 epoll_ctl epoll_wait execve
exit_group fcntl fstat futex getcwd getdents64 geteuid getpeername getpid getrandom getrusage getsockname gettid ioctl
listen lseek madvise mbind mkdir mmap mprotect mremap munmap newfstatat openat perf_event_open pipe2 prctl pread64
prlimit64 read readlink recvfrom renameat rseq rt_sigaction rt_sigprocmask rt_sigreturn sched_getaffinity seccomp sendto
set_robust_list set_tid_address setgroups setresgid setresuid setsockopt socket socketpair sysinfo tgkill uname unlink
unlinkat utimensat write
"""
OPTIONAL = {"mbind"}  # a hint of the memory of NUMA nodes
analyze = shutil.which("systemd-analyze")
needs_systemd = pytest.mark.skipif(analyze is None, reason="systemd-analyze is not installed")


def settings(name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", UNIT.read_text(), re.MULTILINE)


def systemd(*arguments: str) -> str:
    assert analyze
    done = subprocess.run([analyze, *arguments], check=False, capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


@needs_systemd
def test_systemd_understands_it(tmp_path: Path) -> None:
    """But for the program, which is where it was installed."""
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace(settings("ExecStart")[0].split()[0], "/bin/true"))

    assert [line for line in systemd("verify", str(copy)).splitlines() if UNIT.name in line] == []


@needs_systemd
def test_its_exposure_is_the_one_that_is_documented() -> None:
    """The score changes a little between versions of systemd."""
    found = re.search(
        r"Overall exposure level for kmwatch\.service: ([\d.]+)", systemd("security", "--offline=true", str(UNIT))
    )
    documented = re.search(r"`systemd-analyze security` gives it ([\d.]+)", DESIGN.read_text())

    assert found
    assert documented
    assert float(found[1]) == pytest.approx(float(documented[1]), abs=0.5)


def calls(name: str) -> set[str]:
    """A group of system calls, with the groups in it."""
    if not name.startswith("@"):
        return {name}
    words = (line.strip() for line in systemd("syscall-filter", name).splitlines()[1:])
    return {call for word in words if word and not word.startswith("#") for call in calls(word)}


@needs_systemd
def test_the_calls_that_it_needs_are_allowed() -> None:
    allowed: set[str] = set()
    for line in settings("SystemCallFilter"):
        denied = line.startswith("~")
        group = {call for word in line.removeprefix("~").split() for call in calls(word)}
        allowed = allowed - group if denied else allowed | group

    assert set(NEEDED.split()) - OPTIONAL - allowed == set()
    assert {"mount", "init_module", "reboot", "ptrace", "swapon", "settimeofday"} & allowed == set()


def test_it_gives_what_dropping_privileges_needs() -> None:
    (capabilities,) = settings("CapabilityBoundingSet")

    assert set(capabilities.split()) == {
        "CAP_BPF",
        "CAP_PERFMON",
        "CAP_SYS_ADMIN",
        "CAP_SYSLOG",
        "CAP_SETUID",
        "CAP_SETGID",
        "CAP_SETPCAP",
    }
    assert settings("User") == []
    assert settings("NoNewPrivileges") == ["yes"]
    assert (settings("CacheDirectory"), settings("CacheDirectoryMode")) == (["kmwatch"], ["0700"])  # see kept_code.py
    assert settings("Type") == ["notify"]
    assert settings("ExecReload") == ["kill -HUP $MAINPID"]
    assert "2 3 4" in settings("RestartPreventExitStatus")
