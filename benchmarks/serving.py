"""What `kmwatch serve` takes, at rest and under load, and what a scrape takes with many series.

The service runs with its own defaults; load is `stress-ng --msg`. How scrapes grow is measured on made-up rows that go
through the service's own pipeline and its own server.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from benchmarks import made
from benchmarks.harness import Missing, Options, Result, Spread, Target, in_turn, main
from benchmarks.soak import get, sample, serving
from kmwatch.cli.exposing import Exposed
from kmwatch.serve.config import Address, ServeConfig
from kmwatch.serve.server import Health, Pages, Server
from kmwatch.serve.snapshot import Own
from kmwatch.thresholds import DEFAULTS
from scripts.prometheus import free_port

SITES = (10, 100, 1000, 10_000)
_SPAN = 10.0  # seconds in each round
_MOST_SCRAPE = 100.0  # milliseconds, as kmwatch/serve/snapshot.py wants it


@contextmanager
def _load() -> Iterator[None]:
    """Messages as fast as they go."""
    if not shutil.which("stress-ng"):
        raise Missing("stress-ng is missing: apt install stress-ng (dnf install stress-ng)")
    command = ["stress-ng", "--msg", str(os.cpu_count() or 1), "--quiet"]
    with subprocess.Popen(command) as load:
        try:
            yield
        finally:
            load.terminate()


def _looked_at(address: str, pid: int) -> dict[str, float]:
    """What the service took in some seconds, of which the middle one has a scrape."""
    began = time.monotonic()
    before = sample(pid, address, began)
    time.sleep(_SPAN)
    after = sample(pid, address, began)
    share = (after.cpu - before.cpu) / (after.at - before.at)
    page = get(address, "/metrics")[1]
    return {"cpu": 100 * share, "memory": after.memory / 1e6, "scrape": 1e3 * after.scrape, "series": _series(page)}


def _series(page: str) -> int:
    return sum(line[:1] not in ("", "#") for line in page.splitlines())


@contextmanager
def exposed(sites: int) -> Iterator[tuple[Exposed, str]]:
    """A pipeline with so many call sites, each with series of its own, behind a server at an address."""
    known = made.meta(sites)
    pipeline = Exposed(known, ServeConfig(top=max(sites, 10)), DEFAULTS)
    pipeline.add(made.batch(known, sites))
    good = Health(healthy=True, ready=True, words="watching")
    server = Server(Address("127.0.0.1", 0), None)
    server.start(Pages(pipeline.render, lambda: good))
    try:
        yield pipeline, str(server.address)
    finally:
        server.stop()


def scraped(pipeline: Exposed, address: str) -> dict[str, float]:
    """Milliseconds of making a snapshot, of the first scrape of it, and of the next; series of it, and its kB."""
    began = time.perf_counter()
    pipeline.publish(1000.0, Own())
    published, page = time.perf_counter(), get(address, "/metrics")[1]
    first = time.perf_counter()
    get(address, "/metrics")
    again = time.perf_counter()
    spans = {"publish": published - began, "first": first - published, "scrape": again - first}
    return {name: 1e3 * span for name, span in spans.items()} | {"series": _series(page), "kB": len(page) / 1e3}


def _scraping(pipeline: Exposed, address: str) -> Callable[[str], dict[str, float]]:
    return lambda _: scraped(pipeline, address)


def measure(options: Options) -> Result:
    """The service itself, then the pipeline."""
    missing: dict[str, str] = {}
    address = f"127.0.0.1:{free_port()}"
    with serving(address) as pid:
        ways: dict[str, type[AbstractContextManager[None]]] = {"at rest": nullcontext, "under load": _load}
        found = in_turn(ways, lambda _: _looked_at(address, pid), max(options.rounds // 2, 1), missing)
    rows = [
        (
            f"kmwatch serve, {name}",
            round(each["series"][-1]),
            Spread.of(each["cpu"]),
            Spread.of(each["memory"]),
            None,
            Spread.of(each["scrape"]),
        )
        for name, each in found.items()
    ]
    longest = Spread.of([value for each in found.values() for value in each["scrape"]])
    for sites in SITES:
        with exposed(sites) as (pipeline, at):
            each = in_turn({"": nullcontext}, _scraping(pipeline, at), options.rounds)[""]
        first, again = Spread.of(each["first"]), Spread.of(each["scrape"])
        rows.append((f"{sites:,} call sites", round(each["series"][-1]), None, None, first, again))
    return Result(
        title="Serving",
        about=f"`kmwatch serve` with its defaults, over {_SPAN:g} s at rest and under `stress-ng --msg`, two scrapes "
        "in each; at rest it sees what else the machine does. Below it: made-up rows of more and more call sites, "
        "each with series of its own (the default is 50), through the same pipeline and server. The first scrape of a "
        "snapshot writes its text, the next ones send it again.",
        columns=("", "series", "CPU, % of one", "memory, MB", "first scrape, ms", "scrape, ms"),
        rows=rows,
        targets=[Target("a scrape of the running service", longest, _MOST_SCRAPE, "ms")],
        notes=[f"{name} is left out: {reason}" for name, reason in missing.items()],
    )


if __name__ == "__main__":
    main("serving", measure)
