"""The loop of the service, with a source and a sink that only take notes; and what it tells systemd and the journal."""

import os
import signal
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

from kmwatch.batch import Batch, Cost
from kmwatch.errors import BadInputError, NotPossibleError, UsageError
from kmwatch.schema import KINDS, Kind
from kmwatch.serve import privileges
from kmwatch.serve.config import Address, ServeConfig
from kmwatch.serve.journal import Journal
from kmwatch.serve.notify import Notifier
from kmwatch.serve.server import Pages, Server
from kmwatch.serve.service import Service
from kmwatch.serve.snapshot import Own
from kmwatch.sources.meter import Load
from tests.support import wait_until
from tests.unit import rows

CONFIG = ServeConfig(listen=Address("127.0.0.1", 0), interval=0.1)


class Source:
    """A source that has a load and takes notes."""

    def __init__(self) -> None:
        self.happened: list[str] = []
        self.notes = ["something is missing"]
        self.load, self.attached, self.fails = Load.nothing(), 15, False
        self.restrained: list[tuple[int, int]] = []
        self.measuring: list[bool] = []
        self.reads = 0

    def __enter__(self) -> Self:
        self.happened.append("entered")
        return self

    def __exit__(self, *_: object) -> None:
        self.happened.append("left")

    def read(self) -> Batch:
        """A batch without rows."""
        if self.fails:
            raise NotPossibleError("the kernel does not let kmwatch read its own map")
        self.reads += 1
        return Batch(rows.rows_of(rows.meta()), 1000.0 + self.reads, 1.0, cost=Cost(0.5, 0.1))

    def finish(self) -> Batch:
        """The last batch."""
        self.happened.append("finished")
        return self.read()

    def is_readable(self) -> bool:
        """Whether it works."""
        return True

    def restrain(self, dropped: tuple[Kind, ...], bits: int) -> None:
        """Leave out."""
        self.restrained.append((len(dropped), bits))

    def measure_on(self, needed: bool) -> None:
        """Go on measuring."""
        self.measuring.append(needed)

    def fill(self) -> dict[str, tuple[int, int]]:
        """Tables."""
        return {"ledger": (3, 16384)}


class Sink:
    """What was published."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.published: list[tuple[float, Own]] = []

    def add(self, batch: Batch) -> None:
        """Count it."""
        self.batches.append(batch)

    def publish(self, at: float, own: Own) -> None:
        """Show it."""
        self.published.append((at, own))


class Running:
    """A service in the thread of the test: `then` runs beside it, and at its end the service is told to end."""

    def __init__(self, config: ServeConfig = CONFIG) -> None:
        self.source, self.sink, self.config = Source(), Sink(), config
        self.server = Server(config.listen)
        self.service = Service(self.source, self.sink, self.server, config, reread=lambda: self.config, drop=self._drop)
        self._failed: list[BaseException] = []

    def _drop(self, works: Any) -> str:
        self.source.happened.append(f"dropped, {works()}")
        return "runs as nobody"

    def run(self, then: Any, number: signal.Signals = signal.SIGTERM) -> None:
        """Run it."""

        def beside() -> None:
            try:
                then()
            except BaseException as error:  # noqa: BLE001  # raised again below
                self._failed.append(error)
            os.kill(os.getpid(), number)

        thread = threading.Thread(target=beside)
        thread.start()
        try:
            self.service.run(Pages(lambda _: (b"", ""), self.service.health))
        finally:
            thread.join()
        if self._failed:
            raise self._failed[0]


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_reads_publishes_and_ends_in_order(number: signal.Signals, capfd: pytest.CaptureFixture[str]) -> None:
    running = Running()
    running.run(lambda: wait_until(lambda: len(running.sink.published) >= 4, 10, "some readings"), number)

    assert running.source.happened == ["entered", "dropped, True", "finished", "left"]
    assert len(running.sink.batches) == len(running.sink.published)
    at, own = running.sink.published[1]
    assert at == 1003.0
    assert (own.programs_attached, own.bpf_run_seconds, own.map_entries, own.map_max_entries) == (
        15,
        1.0,
        {"ledger": 3},
        {"ledger": 16384},
    )
    assert own.memory_bytes > 1 << 20
    assert own.cpu_seconds > 0
    lines = capfd.readouterr().err.splitlines()
    assert lines == [
        "kmwatch: runs as nobody",
        "kmwatch: something is missing",
        f"kmwatch: 15 programs watch; metrics at http://{running.server.address}/metrics",
        f"kmwatch: {number.name}: the programs are detached, this is the end",
    ]


def test_health_follows_the_readings(monkeypatch: pytest.MonkeyPatch) -> None:
    running = Running()
    before = running.service.health()
    assert (before.healthy, before.ready) == (True, False)

    def watch() -> None:
        wait_until(lambda: running.service.health().ready, 10, "it to be ready")

    running.run(watch)
    after = running.service.health()
    assert (after.healthy, after.ready, after.words) == (True, False, "SIGTERM")

    monkeypatch.setattr("kmwatch.serve.service.time.monotonic", lambda: 1e9)
    late = running.service.health()
    assert (late.healthy, late.ready) == (False, False)
    assert "was not read for" in late.words


def test_a_kernel_that_refuses_ends_it_and_leaves_nothing() -> None:
    running = Running()

    def refuse() -> None:
        wait_until(lambda: running.sink.published, 10, "a reading")
        running.source.fails = True

    with pytest.raises(NotPossibleError, match="read its own map"):
        running.run(refuse)
    assert running.source.happened[-1] == "left"
    assert not running.server.is_alive()


def test_over_the_budget_it_leaves_out_and_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    running = Running()
    counts = np.zeros(KINDS, np.int64)
    counts[Kind.KMALLOC] = 10_000
    # Each reading tells of ten seconds: two and the limit is passed for long enough.
    running.source.load = Load(10.0, counts, counts * 0, np.full(KINDS, 1e-3), np.zeros(KINDS))
    running.run(lambda: wait_until(lambda: running.source.restrained, 10, "something to be left out"))

    assert running.source.restrained[0][1] > 0
    assert True in running.source.measuring
    own = running.sink.published[-1][1]
    assert own.overhead_step > 0
    assert own.sample < 1
    assert own.overhead > own.overhead_limit == 0.01
    assert "1.00% is allowed: one allocation of" in capfd.readouterr().err


def test_a_kernel_that_does_not_measure_is_said_once(capfd: pytest.CaptureFixture[str]) -> None:
    running = Running()
    running.source.load = replace(Load.nothing(), seconds=1.0, kept=np.full(KINDS, 1000))
    running.run(lambda: wait_until(lambda: running.source.reads > 3, 10, "some readings"))

    assert capfd.readouterr().err.count("--max-overhead needs CAP_SYS_ADMIN") == 1


def test_sighup_reads_the_configuration_again(capfd: pytest.CaptureFixture[str]) -> None:
    running = Running()

    def change() -> None:
        wait_until(lambda: running.sink.published, 10, "a reading")
        running.config = replace(CONFIG, max_overhead=0.5, top=7)
        os.kill(os.getpid(), signal.SIGHUP)
        wait_until(lambda: running.sink.published[-1][1].overhead_limit == 0.5, 10, "the new limit")

    running.run(change)
    assert "the configuration was read again; top: only a restart changes that" in capfd.readouterr().err


def test_a_bad_configuration_changes_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    running = Running()

    def refuse() -> ServeConfig:
        raise BadInputError("kmwatch.toml is not TOML")

    def change() -> None:
        wait_until(lambda: running.sink.published, 10, "a reading")
        running.service._reread = refuse
        os.kill(os.getpid(), signal.SIGHUP)
        seen = running.source.reads
        wait_until(lambda: running.source.reads > seen + 1, 10, "it to go on")

    running.run(change)
    assert "the configuration stays as it was: kmwatch.toml is not TOML" in capfd.readouterr().err


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket of systemd."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(5)
        yield listening


def told(systemd: socket.socket) -> str:
    return systemd.recv(4096).decode()


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told(tmp_path: Path, systemd: socket.socket, *, abstract: bool) -> None:
    address = str(tmp_path / "notify")
    if abstract:
        systemd.close()
        address = f"@kmwatch-test-{os.getpid()}"
        systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        systemd.bind("\0" + address[1:])
        systemd.settimeout(5)
    notifier = Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())})

    notifier.ready()
    assert told(systemd) == "READY=1"
    notifier.reloading()
    assert told(systemd).startswith("RELOADING=1\nMONOTONIC_USEC=")
    notifier.alive("a\nb")
    assert told(systemd) == "WATCHDOG=1\nSTATUS=a b"
    notifier.stopping()
    assert told(systemd) == "STOPPING=1"
    assert notifier.watchdog == 30.0
    notifier.close()
    notifier.ready()
    systemd.close()


def test_without_systemd_nobody_is_told(tmp_path: Path) -> None:
    for environment in ({}, {"NOTIFY_SOCKET": "relative"}, {"NOTIFY_SOCKET": str(tmp_path / "none")}):
        notifier = Notifier(environment)
        notifier.ready()
        notifier.alive("well")
        assert notifier.watchdog == 0
    other = {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}
    assert Notifier(other).watchdog == 0
    assert Notifier({"WATCHDOG_USEC": "soon"}).watchdog == 0


def test_the_watchdog_is_fed_between_readings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, systemd: Any) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "200000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    running = Running(replace(CONFIG, interval=3600.0))
    heard: list[str] = []

    def listen() -> None:
        while len(heard) < 4:
            heard.append(told(systemd).partition("\n")[0])

    running.run(listen)
    assert heard == ["READY=1", *["WATCHDOG=1"] * 3]
    assert running.source.reads == 2  # the first, and the last


def test_a_line_of_the_log_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    Journal({}).info("two\nlines\r\nof  it")
    Journal({"JOURNAL_STREAM": "8:1"}).warn("careful")

    assert capfd.readouterr().err == "kmwatch: two lines of it\n<4>kmwatch: careful\n"


def test_a_user_must_exist() -> None:
    assert privileges.find_user("nobody").uid == privileges.find_user(str(privileges.find_user("nobody").uid)).uid
    for name in ("no-such-user", "4000000000", "", "9" * 30, "a\0b"):
        with pytest.raises(UsageError, match="there is no user"):
            privileges.find_user(name)
