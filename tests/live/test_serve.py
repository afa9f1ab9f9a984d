"""The service on the running kernel: what it may once it watches, who scrapes it, and what is left when it ends."""

import json
import pwd
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from kmwatch.schema import Kind
from kmwatch.serve.budget import STEPS
from tests.live.test_manners import programs_of
from tests.live.watching import MESSAGE, Workload, environment, program_exists
from tests.support import wait_until

SERVICE = (sys.executable, "-m", "tests.live.serving")
USUAL = ("listen=127.0.0.1:0", "interval=0.5")
ADDRESS = re.compile(r"metrics at http://127\.0\.0\.1:(\d+)/metrics")
SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")


class Served:
    """A running service."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process, self.lines, self.port = process, list[str](), 0
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

    def _listen(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            self.lines.append(line)
            if found := ADDRESS.search(line):
                self.port = int(found[1])

    def close(self) -> None:
        """End it, if it has not ended, and hear it out."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(timeout=20)
        self._listener.join()
        assert self.process.stderr
        self.process.stderr.close()

    @property
    def said(self) -> str:
        """All that it has logged."""
        return "".join(self.lines)

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def scraped(self) -> dict[str, Any]:
        """What the pipeline of tests.live.serving shows."""
        status, body = self.get("/metrics")
        assert status == 200, body
        found: dict[str, Any] = json.loads(body)
        return found

    def messages(self, size_class: int) -> int:
        """How many parts of messages of this size class were counted."""
        counts = self.scraped()["counts"]
        return sum(counts.get(f"{name}:{int(Kind.KMALLOC)}:{size_class}", 0) for name in MESSAGE)

    def during(self, act: Callable[[], object], size_class: int) -> int:
        """How many messages of this size class were counted while something was done, and read after it."""
        self.after_a_reading()
        before = self.messages(size_class)
        act()
        self.after_a_reading()
        return self.messages(size_class) - before

    def after_a_reading(self) -> dict[str, Any]:
        """What is shown when all that happened until now was read."""
        first = self.scraped()["at"]
        one = wait_until(lambda: (shown := self.scraped())["at"] > first and shown, 20, "another reading")
        # That reading may have begun before; the next one has not.
        return wait_until(lambda: (shown := self.scraped())["at"] > one["at"] and shown, 20, "one more reading")

    def statuses(self) -> list[dict[str, str]]:
        """/proc/PID/status of each thread."""
        texts = [(task / "status").read_text() for task in Path(f"/proc/{self.process.pid}/task").iterdir()]
        return [dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line) for text in texts]


@contextmanager
def service(*arguments: str) -> Iterator[Served]:
    """A service that watches, in a process of its own; nothing of it outlives the test."""
    command = [*SERVICE, *USUAL, *arguments]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **environment()
    )
    served = Served(process)
    try:
        wait_until(lambda: served.port or process.poll() is not None, 60, "the service to watch")
        assert process.poll() is None, served.said
        yield served
    finally:
        served.close()


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """One service for the tests that leave it as it was; its budget is never reached."""
    with service("max_overhead=100%") as one:
        yield one


def test_it_gives_up_all_privileges(served: Served) -> None:
    """Each thread: no capability in any set, the user as given, no group, and no way back."""
    nobody = pwd.getpwnam("nobody")
    statuses = served.statuses()

    assert len(statuses) >= 2
    for status in statuses:
        assert [int(status[name], 16) for name in SETS] == [0] * len(SETS)
        assert status["Uid"].split() == [str(nobody.pw_uid)] * 4
        assert status["Gid"].split() == [str(nobody.pw_gid)] * 4
        assert status["Groups"].strip() == ""
        assert status["NoNewPrivs"] == "1"
    assert "kmwatch: runs as nobody with no capability; attaches and starts nothing more\n" in served.said


def test_without_privileges_it_counts_on_exactly(served: Served, workload: Workload) -> None:
    for count in (10007, 101, 1009):
        assert served.during(lambda count=count: workload.run("msgsnd", count, 700), 1024) == count


def test_without_privileges_nothing_can_be_attached_again(served: Served) -> None:
    attempts = served.scraped()["attempts"]

    assert attempts["read symbols"] == ""
    assert attempts["read symbols again"] == "", "modules that are loaded later would have no names"
    for name in ("attach", "attach to a tracepoint", "load", "make a map", "measure", "be root", "start a program"):
        assert attempts[name] == "EPERM", name
    assert attempts["read slabinfo"] == "EACCES"
    assert attempts["delete what is not there"] == "ENOENT", "the table of held objects would never have room again"


def test_what_it_knows_of_itself(served: Served) -> None:
    own = served.after_a_reading()["own"]

    assert own["programs_attached"] > 5
    assert own["bpf_runs"] > 1000
    assert 0 < own["bpf_run_seconds"] < own["bpf_runs"] * 1e-4
    assert 0 < own["overhead"] < 1
    assert (own["overhead_step"], own["sample"], own["overhead_limit"]) == (0, 1.0, 1.0)
    assert own["map_entries"].keys() == own["map_max_entries"].keys() >= {"ledger", "fronts", "held"}
    assert all(0 < own["map_entries"][name] <= most for name, most in own["map_max_entries"].items())
    assert 50 << 20 < own["memory_bytes"] < 400 << 20


def test_hostile_scrapers_do_not_keep_it_from_answering(served: Served, workload: Workload) -> None:
    """200 clients that send a byte now and then, garbage, and headers of 10 MB: scrapes are answered all the while."""
    before = served.scraped()["own"]["memory_bytes"]
    ended = threading.Event()

    def drip(clients: list[socket.socket]) -> None:
        at = 0
        while not ended.wait(0.01):
            at += 1
            try:
                clients[at % len(clients)].sendall(b"G" if at < len(clients) else b"x")
            except OSError:
                continue

    def shout() -> None:
        for data in (b"\0" * 1000, b"GET /" + b"x" * (10 << 20), b"GET /metrics HTTP/1.1\r\na: " + b"x" * (10 << 20)):
            try:
                with socket.create_connection(("127.0.0.1", served.port), timeout=20) as client:
                    client.sendall(data)
                    client.recv(1 << 16)
            except OSError:
                continue

    with ExitStack() as held:
        slow = [held.enter_context(socket.create_connection(("127.0.0.1", served.port), timeout=5)) for _ in range(200)]
        threads = [threading.Thread(target=drip, args=(slow,)), *(threading.Thread(target=shout) for _ in range(8))]
        for thread in threads:
            thread.start()
        try:
            took = [_seconds(served.scraped) for _ in range(100)]
            counted = served.during(lambda: workload.run("msgsnd", 1009, 700), 1024)
        finally:
            ended.set()
            for thread in threads:
                thread.join()

    assert counted == 1009
    assert sorted(took)[98] < 2, sorted(took)[-5:]  # the machine is busy with the hostile ones, too
    assert served.get("/-/ready")[0] == 200
    assert served.after_a_reading()["own"]["memory_bytes"] < before + (64 << 20)
    assert "Traceback" not in served.said


def _seconds(act: Callable[[], object]) -> float:
    began = time.monotonic()
    act()
    return time.monotonic() - began


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_cleanly_and_its_programs_are_gone(number: signal.Signals) -> None:
    with service() as one:
        programs = programs_of(one.process.pid)
        assert len(programs) > 5
        assert all(map(program_exists, programs))
        one.process.send_signal(number)
        assert one.process.wait(timeout=20) == 0

        wait_until(lambda: not any(map(program_exists, programs)), 10, f"the programs {programs} to be unloaded")
        wait_until(lambda: f"{number.name}: the programs are detached" in one.said, 20, "the last line")
    assert "Traceback" not in one.said
    assert all(line.startswith("kmwatch: ") for line in one.lines), one.said


def test_over_its_budget_it_leaves_out_and_estimates(workload: Workload) -> None:
    """The limit is one that every machine passes; what messages there were is known from those that were looked at."""
    with service("max_overhead=0.000001") as one:
        wait_until(lambda: one.scraped()["own"]["overhead_step"] == len(STEPS) - 1, 60, "the last step")
        own = one.scraped()["own"]
        assert own["sample"] == 1 / 256
        assert own["overhead"] > own["overhead_limit"] == 0.000001
        wait_until(lambda: "0.00% is allowed: one allocation of" in one.said, 10, "the line that says so")

        counted = one.during(lambda: workload.run("msgsnd", 200_003, 700), 1024)
        assert 0.8 < counted / 200_003 < 1.2, counted
        assert one.process.poll() is None


def test_the_configuration_is_read_again(tmp_path: Path) -> None:
    config = tmp_path / "kmwatch.toml"
    config.write_text("[serve]\nmax_overhead = '50%'\n")
    for path in (tmp_path, *tmp_path.parents):
        if path.stat().st_uid == 0 and not path.stat().st_mode & 1:
            path.chmod(path.stat().st_mode | 0o111)  # who it is by then must find it
    with service(f"config={config}") as one:
        assert one.scraped()["own"]["overhead_limit"] == 0.5
        config.write_text("[serve]\nmax_overhead = '40%'\ntop = 7\n")
        one.process.send_signal(signal.SIGHUP)
        wait_until(lambda: one.scraped()["own"]["overhead_limit"] == 0.4, 20, "the new limit")
        assert "was read again; top: only a restart changes that" in one.said

        config.write_text("[serve]\nmax_overheads = 1\n")
        one.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "did you mean max_overhead" in one.said, 20, "the complaint")
        assert one.scraped()["own"]["overhead_limit"] == 0.4


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["user=no-such-user"], 2, "there is no user 'no-such-user'"),
        (["kinds=kmaloc"], 2, "unknown kind 'kmaloc'"),
        (["max_overhead=200%"], 2, "is no share of CPU time"),
        (["config=/nonexistent/kmwatch.toml"], 4, "cannot be read: No such file"),
        (["listen=192.0.2.1:9436"], 3, "cannot listen on 192.0.2.1:9436"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(arguments: list[str], code: int, words: str) -> None:
    run = subprocess.run(
        [*SERVICE, *arguments], capture_output=True, text=True, timeout=60, check=False, **environment()
    )

    assert (run.returncode, run.stdout) == (code, ""), run.stderr
    assert words in run.stderr
    assert run.stderr.count("\n") == 1, run.stderr
