"""Real exporters: `kmwatch serve` on this kernel, and its pipeline fed with what a guest recorded as it misbehaved."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http import HTTPStatus
from http.client import HTTPConnection

from kmwatch.batch import Batch, Meta
from kmwatch.cli.exposing import Exposed
from kmwatch.failures import Failure
from kmwatch.schema import Kind
from kmwatch.serve.config import Address, ServeConfig
from kmwatch.serve.server import Health, Pages, Server
from kmwatch.serve.snapshot import Own
from kmwatch.sources.capture import CaptureSource
from kmwatch.thresholds import DEFAULTS
from scripts.prometheus import ROOT, free_port
from tests.guest.golden import GOLDEN
from tests.support import wait_until

FAULTS = {
    "sleeping in atomic context": "KM201-fires",
    "failures": "KM202-fires",
    "large allocations": "KM302-fires",
}
"""Fault -> the golden capture of it. The names are those of EMPTY_WHEN_HEALTHY."""

COMMAND = "modprobe"
"""Who runs in what fails there."""

_INTERVAL = 0.5  # seconds
# Something to do for the kernel, in every zone of a query: processes, files, messages.
_LOAD = ["sh", "-c", "while :; do find /usr/include -type f | head -2000 | xargs -n 500 cat > /dev/null; done"]


@contextmanager
def healthy() -> Iterator[str]:
    """The service, as a user runs it, on this kernel with some load; gives host:port."""
    address = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "kmwatch", "serve", "--listen", address, "-i", str(_INTERVAL)]
    with subprocess.Popen([*command, "--max-overhead", "100%"], cwd=ROOT) as service, subprocess.Popen(_LOAD) as load:
        try:
            wait_until(lambda: _answers(address), 60, "kmwatch serve to answer")
            yield address
        finally:
            load.terminate()
            service.terminate()


def _answers(address: str) -> bool:
    connection = HTTPConnection(address, timeout=10)
    try:
        connection.request("GET", "/-/ready")
        return connection.getresponse().status == HTTPStatus.OK
    except (ConnectionError, TimeoutError):  # it listens before it has compiled anything
        return False
    finally:
        connection.close()


@contextmanager
def faulty(fault: str) -> Iterator[str]:
    """What `kmwatch serve` would export on the guest, were it to do the same over and over; gives host:port."""
    with CaptureSource(GOLDEN / f"{FAULTS[fault]}.kmw") as source:
        batches = list(source)
    source.meta.start = time.time()
    exposed = Exposed(source.meta, ServeConfig(window=1.0), DEFAULTS)
    server, stop = Server(Address("127.0.0.1", 0)), threading.Event()
    thread = threading.Thread(target=_feed, args=(exposed, source.meta, batches, stop))
    thread.start()
    server.start(Pages(exposed.render, lambda: Health(healthy=True, ready=True, words="as told"), exposed.observe))
    try:
        yield str(server.address)
    finally:
        stop.set()
        thread.join()
        server.stop()


def _failures(meta: Meta, batch: Batch) -> list[Failure]:
    """What a program would have seen now of the large kmallocs that fail in a batch."""
    failed = batch.rows[(batch.rows["failed"] != 0) & (batch.rows["kind"] == Kind.KMALLOC)]
    return [
        Failure(
            kind="page",
            order=meta.limits.order_for(int(row["bytes_alloc"])),
            gfp=int(row["gfp"]),
            context=int(row["context"]),
            comm=COMMAND,
            seconds=time.time() - meta.start,
            site=meta.sites[row["site"]].label,
            taken="program",
            event="kmalloc",
        )
        for row in failed
    ]


def _feed(exposed: Exposed, meta: Meta, batches: list[Batch], stop: threading.Event) -> None:
    while not stop.wait(_INTERVAL):
        for batch in batches:
            meta.failures[:] = _failures(meta, batch) or meta.failures
            exposed.add(replace(batch, rows=batch.rows.copy(), start=time.time(), seconds=_INTERVAL, fresh=False))
        exposed.publish(time.time(), Own(programs_attached=1))
