"""The loop: the kernel is read each interval, what it says is published, and signals are answered in between."""

import os
import resource
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from kmwatch.batch import Batch
from kmwatch.errors import KmwatchError
from kmwatch.serve import tls
from kmwatch.serve.budget import Budget
from kmwatch.serve.config import ServeConfig
from kmwatch.serve.journal import Journal
from kmwatch.serve.notify import Notifier
from kmwatch.serve.server import Health, Pages, Server
from kmwatch.serve.snapshot import Own

_LATE = 3.0  # intervals without a reading after which the service is not healthy
_LEAST_LATE = 30.0  # seconds; a short interval may be missed now and then
_ENOUGH = 1000  # events in an interval, of which some must have been measured
_STATM = Path("/proc/self/statm")


class Sink(Protocol):
    """Where batches go."""

    def add(self, batch: Batch) -> None:
        """Count a batch."""

    def publish(self, at: float, own: Own) -> None:
        """Show everything as of `at`, in seconds since the epoch, from now on."""


class Service:
    """One source, served.

    Args:
        source: a LiveSource that can be restrained, not yet entered.
        sink: what becomes of its batches.
        server: listening already.
        config: what holds until it is read again.
        reread: reads the configuration; KmwatchError where it is wrong.
        drop: gives privileges up, told whether the source works; says in words what came of it.
    """

    def __init__(  # its parts, put together in one place
        self,
        source: Any,
        sink: Sink,
        server: Server,
        config: ServeConfig,
        *,
        reread: Callable[[], ServeConfig],
        drop: Callable[[Callable[[], bool]], str],
    ) -> None:
        self._source, self._sink, self._server, self._config = source, sink, server, config
        self._reread, self._drop = reread, drop
        self._journal, self._notifier = Journal(), Notifier()
        self._budget = Budget(config.max_overhead, os.cpu_count() or 1)
        self._awake, self._ending, self._hung_up = threading.Event(), "", False
        self._read_at: float | None = None
        self._runs, self._run_seconds, self._unmeasured = 0, 0.0, True

    def run(self, pages: Pages) -> None:
        """Serve these pages until SIGTERM or SIGINT; the programs are gone when this returns."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._signalled)
        try:
            with self._source:
                self._begin(pages)
                self._serve()
                self._notifier.stopping()
                self._source.finish()
        finally:
            self._server.stop()
            self._notifier.close()
        self._journal.info(f"{self._ending}: the programs are detached, this is the end")

    def health(self) -> Health:
        """How the service is; from any thread."""
        if self._read_at is None:
            return Health(healthy=True, ready=False, words="starting: nothing was read yet")
        silent = time.monotonic() - self._read_at
        if silent > max(_LATE * self._config.interval, _LEAST_LATE):
            return Health(healthy=False, ready=False, words=f"the kernel was not read for {silent:.0f} s")
        return Health(healthy=True, ready=not self._ending, words=self._ending or "watching")

    def _begin(self, pages: Pages) -> None:
        """Give the privileges up, then let scrapers in."""
        self._journal.info(self._drop(self._source.is_readable))
        self._read()
        self._server.start(pages)
        self._tell_notes()
        config, address = self._config, self._server.address
        scheme = "https" if self._server.tls else "http"
        self._journal.info(f"{self._source.attached} programs watch; metrics at {scheme}://{address}/metrics")
        if not address.is_loopback and not self._server.tls:
            self._journal.warn(f"{address} is beyond this machine, and without TLS: anybody there can read call sites")
        elif not address.is_loopback and not config.tls_client_ca:
            self._journal.warn(f"{address} is beyond this machine: tls_client_ca would say who may scrape")
        self._notifier.ready()

    def _serve(self) -> None:
        due = time.monotonic() + self._config.interval
        while not self._ending:
            self._awake.wait(max(0.0, min(due - time.monotonic(), self._patience())))
            self._awake.clear()
            if self._hung_up:
                self._hung_up = False
                self._read_again()
                due = min(due, time.monotonic() + self._config.interval)
            if time.monotonic() >= due and not self._ending:
                self._read()
                # A machine that slept, or was too busy, is not caught up with.
                due = max(due + self._config.interval, time.monotonic())
            self._notifier.alive(self._budget.chosen.words)

    def _patience(self) -> float:
        """Seconds to wait at most: systemd wants to hear from the service twice before it takes it for dead."""
        return self._notifier.watchdog / 2 or self._config.interval

    def _read(self) -> None:
        batch = self._source.read()
        self._sink.add(batch)
        self._hold_budget()
        self._tell_notes()
        self._runs += int(self._source.load.kept.sum() + self._source.load.left_out.sum())
        self._run_seconds += batch.cost.kernel
        self._sink.publish(batch.start + batch.seconds, self._own())
        self._read_at = time.monotonic()

    def _hold_budget(self) -> None:
        source, budget = self._source, self._budget
        before = budget.step
        changed = budget.decide(source.load, time.monotonic())
        source.measure_on(budget.is_near)
        if changed:
            source.restrain(budget.chosen.dropped, budget.chosen.bits)
            share = f"{budget.ratio:.2%} of CPU time went to the programs, {budget.limit:.2%} is allowed"
            say = self._journal.warn if budget.step > before else self._journal.info
            say(f"{share}: {budget.chosen.words} (step {budget.step})")
        if self._unmeasured and source.load.kept.sum() > _ENOUGH:
            if not source.load.each.any():
                self._journal.warn("the kernel does not say what programs cost: --max-overhead needs CAP_SYS_ADMIN")
            self._unmeasured = False

    def _own(self) -> Own:
        fill, budget, used = self._source.fill(), self._budget, resource.getrusage(resource.RUSAGE_SELF)
        return Own(
            programs_attached=self._source.attached,
            bpf_runs=self._runs,
            bpf_run_seconds=self._run_seconds,
            map_entries={name: entries for name, (entries, _) in fill.items()},
            map_max_entries={name: most for name, (_, most) in fill.items()},
            overhead=budget.ratio,
            overhead_limit=budget.limit,
            overhead_step=budget.step,
            sample=budget.chosen.sample_ratio,
            memory_bytes=int(_STATM.read_text().split()[1]) * resource.getpagesize(),
            cpu_seconds=used.ru_utime + used.ru_stime,
        )

    def _read_again(self) -> None:
        """SIGHUP: take over what can change while it runs, and say what cannot."""
        self._notifier.reloading()
        try:
            config, fixed = self._config.reread(self._reread())
            self._server.tls = tls.context(config)
        except KmwatchError as error:
            self._journal.warn(f"the configuration stays as it was: {error}")
        else:
            self._config, self._budget.limit = config, config.max_overhead
            needs = f"; {', '.join(fixed)}: only a restart changes that" if fixed else ""
            self._journal.info(f"the configuration was read again{needs}")
        self._notifier.ready()

    def _tell_notes(self) -> None:
        while self._source.notes:
            self._journal.warn(self._source.notes.pop(0))

    def _signalled(self, number: int, _frame: object) -> None:
        if number == signal.SIGHUP:
            self._hung_up = True
        else:
            self._ending = signal.Signals(number).name
        self._awake.set()
