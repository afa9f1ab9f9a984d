"""Manners: kmwatch leaves nothing behind however it ends, says in one line what is wrong, and does not count itself."""

import ctypes
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kmwatch.rules import judge
from kmwatch.schema import Kind
from kmwatch.sources import running
from kmwatch.sources.maps import LiveSource
from tests.live.watching import (
    KMWATCH,
    MESSAGE,
    Watch,
    Workload,
    environment,
    kmwatch,
    only,
    program_exists,
    sites,
    split_report,
)
from tests.support import wait_until

NOBODY = 65534
AS_NOBODY = """
import os, sys
# Now: nobody may not read the checkout.
import kmwatch.__main__, kmwatch.sources.doctor, kmwatch.sources.maps, kmwatch.sources.workload, kmwatch.views.doctor
os.setgroups([]); os.setgid(65534); os.setuid(65534)
sys.argv = ["kmwatch", *sys.argv[1:]]
kmwatch.__main__.main()
"""

NOTHING_KEPT = {"CACHE_DIRECTORY": "/dev/null"}  # so that every start compiles
INTERRUPTED_BY = """
import os, runpy, signal, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            os.kill(os.getpid(), signal.SIGINT)
module = sys.argv.pop(1)
sys.meta_path.insert(0, Finder())
runpy.run_module("kmwatch", run_name="__main__", alter_sys=True)
"""


def programs_of(pid: int) -> set[int]:
    """The ids of the BPF programs that a process has open."""
    found = set()
    try:
        for file in Path(f"/proc/{pid}/fdinfo").iterdir():
            fields = dict(line.split(":", 1) for line in file.read_text().splitlines() if ":" in line)
            if "prog_id" in fields:
                found.add(int(fields["prog_id"]))
    except (FileNotFoundError, ProcessLookupError):
        pass  # a descriptor, or the process, is gone
    return found


def maps_library(pid: int, name: str) -> bool:
    """Whether a process has loaded a library."""
    try:
        return name in Path(f"/proc/{pid}/maps").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@contextmanager
def started(*arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """Kmwatch in a process group of its own, with nothing compiled before; nothing of it outlives the test."""
    process = subprocess.Popen(
        [*KMWATCH, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=environment()["env"] | NOTHING_KEPT,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def ended(process: "subprocess.Popen[str]") -> tuple[str, str]:
    """What a process said until it ended."""
    return process.communicate(timeout=20)


def is_compiling(process: "subprocess.Popen[str]") -> bool:
    return maps_library(process.pid, "libbcc")


def is_loading(process: "subprocess.Popen[str]") -> bool:
    return bool(programs_of(process.pid))


def is_watching(process: "subprocess.Popen[str]") -> bool:
    assert process.stdout
    return '"what": "locks"' in process.stdout.readline()  # the command runs, and waits for the end of stdin


MOMENTS: list[Callable[["subprocess.Popen[str]"], bool]] = [is_compiling, is_loading, is_watching]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", MOMENTS)
def test_an_interrupted_run_still_reports_and_leaves_nothing(
    workload: Workload, moment: Callable[["subprocess.Popen[str]"], bool], number: signal.Signals
) -> None:
    """Ctrl-C and SIGTERM end the watching, not the reporting; the programs go with the process."""
    with started("report", "live", "--json", "--", *workload.command("locks", 11)) as process:
        wait_until(lambda: moment(process), 20, f"{moment.__name__} of kmwatch")
        programs = programs_of(process.pid)
        process.send_signal(number)
        out, err = ended(process)

    assert process.returncode == 0, f"{process.returncode}: {err}"
    _, report = split_report(out)
    assert report["schema"] == "kmwatch.report/1"
    assert "Traceback" not in err
    assert moment != is_watching or len(programs) > 5, "there were no programs to leave behind"
    wait_until(lambda: not any(map(program_exists, programs)), 10, f"the programs {programs} to be unloaded")


def test_killed_it_leaves_nothing_either(workload: Workload) -> None:
    """Programs live as long as the descriptors of the process: even SIGKILL unloads them."""
    with started("report", "live", "--json", "--", *workload.command("locks", 11)) as process:
        wait_until(lambda: is_watching(process), 20, "kmwatch to watch")
        programs = programs_of(process.pid)
        assert all(map(program_exists, programs)), programs
        process.kill()
        process.wait(timeout=20)

    assert len(programs) > 5, "there were no programs to leave behind"
    wait_until(lambda: not any(map(program_exists, programs)), 10, f"the programs {programs} to be unloaded")


@pytest.mark.parametrize("module", ["click", "kmwatch.cli", "kmwatch.sources.workload", "numpy", "bcc"])
def test_interrupted_while_importing(module: str) -> None:
    """Ctrl-C while a module is being loaded: the report of nothing, or the exit code of SIGINT, and no traceback."""
    env = environment()["env"] | NOTHING_KEPT
    command = [sys.executable, "-c", INTERRUPTED_BY, module, "report", "live", "--json", "-d", "20"]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=env)

    assert run.stderr.strip() == "", run.stderr  # click ends the line that ^C began
    assert run.returncode in (0, 130, -signal.SIGINT), run
    assert (run.returncode == 0) == bool(run.stdout), run


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--kinds", "kmaloc"], 2, "unknown kind 'kmaloc'; choose from kmalloc, kfree,"),
        (["--kinds", ","], 2, "no kind given"),
        (["--nosuch"], 2, "No such option"),
        (["--duration", "-1"], 2, "duration"),
        (["--", "/nonexistent"], 2, "cannot run '/nonexistent': No such file or directory"),
    ],
)
def test_bad_arguments_get_one_line(arguments: list[str], code: int, words: str) -> None:
    run = kmwatch("report", "live", *arguments)

    assert (run.returncode, run.stdout) == (code, "")
    assert words in run.stderr
    assert run.stderr.startswith("kmwatch: ")
    assert run.stderr.count("\n") == 1, run.stderr


def test_an_unknown_source_gets_one_line() -> None:
    run = kmwatch("report", "/nonexistent/capture")

    assert (run.returncode, run.stderr.count("\n")) == (2, 1), run.stderr
    assert "there is no /nonexistent/capture" in run.stderr


def as_nobody(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run kmwatch as a user without any rights."""
    command = [sys.executable, "-c", AS_NOBODY, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, **environment())


def test_without_root_the_next_step_is_told() -> None:
    run = as_nobody("report", "live", "-d", "1")

    assert (run.returncode, run.stdout) == (3, ""), run.stderr
    assert run.stderr.startswith("kmwatch: ")
    assert run.stderr.count("\n") == 1, run.stderr
    assert "sudo" in run.stderr


def test_the_doctor_looks_at_all_it_may_without_root() -> None:
    run = as_nobody("doctor", "--json")

    assert (run.returncode, run.stderr) == (3, "")
    checks = {check["name"]: check for check in json.loads(run.stdout)["checks"]}
    assert not checks["privileges"]["ok"]
    assert not checks["BPF"]["ok"]
    assert "sudo" in checks["privileges"]["fix"]
    assert checks["machine"]["ok"]


def in_own_mounts(change: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run kmwatch where mounts were changed for it alone."""
    if not shutil.which("unshare"):
        pytest.skip("unshare is not installed")
    script = f'{change} && exec "$@"'
    return subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", *KMWATCH, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        **environment(),
    )


def message_rows(report: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for row in report["sites"] if row["symbol"] in MESSAGE]


def test_without_btf_it_counts_and_says_what_is_missing(workload: Workload) -> None:
    """Names of caches and the context come from BTF; the rest does not need it."""
    command = workload.command("msgsnd", 1009, 5000)
    run = in_own_mounts("mount --bind /dev/null /sys/kernel/btf/vmlinux", "report", "live", "--json", "--", *command)

    assert run.returncode == 0, run.stderr
    lines = run.stderr.splitlines()
    assert all(line.startswith("kmwatch: ") for line in lines), run.stderr
    assert "BTF" in lines[0], run.stderr
    _, report = split_report(run.stdout)
    rows = message_rows(report)
    assert sum(row["count"] for row in rows) >= 2 * 1009, rows
    context = report["trust"]["coverage"]["context"]
    assert context in ("unknown", "kallsyms"), context
    if context == "unknown":
        assert {row["context"] for row in report["sites"]} == {"unknown"}
        assert any("context" in line for line in lines), run.stderr


def test_an_unmounted_tracefs_is_mounted(workload: Workload) -> None:
    """It is on a fresh machine; kmwatch says so and goes on."""
    command = workload.command("msgsnd", 1009, 5000)
    unmount = "umount --lazy --all --types tracefs,debugfs; ! [ -d /sys/kernel/tracing/events ]"
    run = in_own_mounts(unmount, "report", "live", "--json", "--", *command)

    assert run.returncode == 0, run.stderr
    assert run.stderr == "kmwatch: mounted tracefs at /sys/kernel/tracing\n"
    assert sum(row["count"] for row in message_rows(split_report(run.stdout)[1])) >= 2 * 1009


def test_it_does_not_count_itself(watch: Watch, workload: Workload) -> None:
    """Messages that kmwatch's own process sends are left out; those of a child are not."""
    libc = ctypes.CDLL(None, use_errno=True)
    queue = libc.msgget(0, 0o1600)  # IPC_PRIVATE
    assert queue >= 0, os.strerror(ctypes.get_errno())
    message = ctypes.create_string_buffer(b"\1" + b"\0" * 6000)

    def own_and_others() -> None:
        for _ in range(1009):
            assert libc.msgsnd(queue, message, 5500, 0) == 0, os.strerror(ctypes.get_errno())
            assert libc.msgrcv(queue, message, 5500, 0, 0) == 5500, os.strerror(ctypes.get_errno())
        workload.run("msgsnd", 101, 5500)

    try:
        ledger = watch.during(own_and_others)
    finally:
        libc.msgctl(queue, 0, None)  # IPC_RMID

    assert only(ledger, MESSAGE, Kind.KMALLOC, 4096).events(Kind.KMALLOC) == 101


def test_a_full_ledger_is_never_silent(monkeypatch: pytest.MonkeyPatch, workload: Workload) -> None:
    """Events that found no room are counted, and a finding says that the report is incomplete."""
    real = running.make_plan

    def cramped(*arguments: Any, **options: Any) -> Any:
        plan = real(*arguments, **options)
        return dataclasses.replace(plan, defines=plan.defines | {"LEDGER_ROWS": 16})

    monkeypatch.setattr(running, "make_plan", cramped)
    with LiveSource(frozenset(Kind)) as source:
        # Processes that start and end take pages at dozens of sites, and pages have no front.
        ledger = Watch(source).during(lambda: (workload.run("spawn", 101), workload.run("msgsnd", 10007, 5000)))

    assert ledger.trust.map_full > 0, ledger.trust
    messages = sites(only(ledger, MESSAGE, Kind.KMALLOC))
    counted = sum(site["count"] for site in messages)
    assert counted + ledger.trust.map_full >= 2 * 10007, (counted, ledger.trust)
    assert any(found.rule.code.startswith("KM9") for found in judge(ledger)), "no finding doubts the data"
