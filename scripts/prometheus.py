#!/usr/bin/env python3
"""A real Prometheus on loopback that scrapes one exporter, for the demo and for the tests. Nothing of it stays."""

import http.client
import json
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import Any
from urllib.parse import urlencode

ROOT = Path(__file__).resolve().parent.parent
RULES = tuple(ROOT / "dashboards" / f"{name}.yml" for name in ("recording", "alerts", "fleet"))
_UNPACKED = ROOT / ".cache" / "prometheus" / "package" / "usr"  # as get_prometheus.sh leaves it
_PATIENCE_SECONDS = 10


def program(name: str) -> str | None:
    """Where `prometheus` or `promtool` is, if it is here."""
    return which(name) or which(name, path=str(_UNPACKED / "bin"))


@dataclass(frozen=True)
class Prometheus:
    """One that runs. port: on 127.0.0.1. log: the file that it writes to."""

    port: int
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def address(self) -> str:
        """Where a browser finds it."""
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str, **parameters: str) -> tuple[int, bytes]:
        """Status and body of a request; status 0 where it does not listen yet."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_PATIENCE_SECONDS)
        try:
            connection.request("GET", f"{path}?{urlencode(parameters)}")
            answer = connection.getresponse()
            return answer.status, answer.read()
        except ConnectionError:
            return 0, b""
        finally:
            connection.close()

    def query(self, expr: str) -> list[dict[str, Any]]:
        """The series that an expression has now; ValueError with Prometheus' own words where it takes it for wrong."""
        _, body = self.get("/api/v1/query", query=expr)
        answer = json.loads(body)
        if answer["status"] != "success":
            raise ValueError(f"{answer['error']}: {expr}")
        found = answer["data"]["result"]
        return found if isinstance(found, list) else [found]

    def exemplars(self, expr: str, start: float, end: float) -> list[dict[str, Any]]:
        """The series of an expression that had exemplars between two times in seconds since the epoch, with these."""
        _, body = self.get("/api/v1/query_exemplars", query=expr, start=str(start), end=str(end))
        found: list[dict[str, Any]] = json.loads(body)["data"]
        return found

    def is_ready(self) -> bool:
        """Whether it answers queries; RuntimeError with the end of its log where it has ended."""
        if self.process.poll() is not None:
            raise RuntimeError(f"prometheus ended with {self.process.returncode}: {self.log.read_text()[-2000:]}")
        return self.get("/-/ready")[0] == http.HTTPStatus.OK


@contextmanager
def running(target: str, interval_seconds: float = 5, rules: tuple[Path, ...] = RULES) -> Iterator[Prometheus]:
    """A Prometheus that scrapes `target` (host:port) as the job `kmwatch` and evaluates the rules, at that interval."""
    scrapes = {"job_name": "kmwatch", "static_configs": [{"targets": [target]}]}
    with configured({"scrape_configs": [scrapes]}, interval_seconds, rules) as prometheus:
        yield prometheus


@contextmanager
def configured(
    settings: Mapping[str, Any], interval_seconds: float, rules: tuple[Path, ...], *options: str
) -> Iterator[Prometheus]:
    """A Prometheus with these settings and options, whatever intervals and rules they tell of."""
    found = program("prometheus")
    if found is None:
        raise FileNotFoundError("no prometheus here: scripts/get_prometheus.sh gets it")
    with tempfile.TemporaryDirectory(prefix="kmwatch-prometheus-") as name:
        place, port = Path(name), free_port()
        (place / "prometheus.yml").write_text(_configuration(settings, interval_seconds, rules))
        command = [found, f"--config.file={place}/prometheus.yml", f"--storage.tsdb.path={place}/data", *options]
        command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
        command.append("--enable-feature=exemplar-storage")
        if Path(found).is_relative_to(_UNPACKED):  # its pages are not where it looks for them
            command.append(f"--web.local-assets={_UNPACKED}/share/prometheus/web/")
        with (place / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
            try:
                yield Prometheus(port, process, place / "log")
            finally:
                process.terminate()
                process.wait(_PATIENCE_SECONDS)


def _configuration(settings: Mapping[str, Any], interval_seconds: float, rules: tuple[Path, ...]) -> str:
    """JSON, which is YAML too."""
    every = f"{round(interval_seconds * 1000)}ms"
    times = {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every}
    common = {**settings.get("global", {}), **times}
    return json.dumps({**settings, "global": common, "rule_files": [str(path) for path in rules]})


def free_port() -> int:
    """A port on loopback that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
