#!/usr/bin/env python3
"""kmwatch's exporter and a real Prometheus on loopback, with our alerts: what the dashboards ask, and what they get.

    scripts/monitoring_demo.py                      `kmwatch serve` on this machine (root), until Ctrl-C
    scripts/monitoring_demo.py --target HOST:PORT   an exporter that runs already
    scripts/monitoring_demo.py --once               print the list once and end

It prints each expression of the Overview dashboard with its value and where a browser shows it. Nothing is installed,
and nothing stays: Prometheus' data is in a temporary directory.
"""

import argparse
import math
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from urllib.parse import urlencode

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:  # run as a script, from anywhere
    sys.path.insert(0, str(ROOT))

from dashboards.queries import Expression, expressions  # noqa: E402
from scripts.prometheus import Prometheus, free_port, running  # noqa: E402

_INTERVAL_SECONDS = 2
_WINDOW = "15s"  # of rates: some scrapes
_DEADLINE_SECONDS = 60
_BOARD = "kmwatch: Overview"


def main() -> int:
    """Run both; exit codes as kmwatch's."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--target", metavar="HOST:PORT", help="an exporter that runs already")
    parser.add_argument("--once", action="store_true", help="print the list once and end")
    options = parser.parse_args()
    try:
        with nullcontext((options.target, None)) if options.target else _serving() as (target, process):
            return _show(target, process, once=options.once)
    except KeyboardInterrupt:
        return 0
    except (FileNotFoundError, RuntimeError, TimeoutError) as problem:
        sys.stderr.write(f"monitoring-demo: {problem}\n")
        return 3


@contextmanager
def _serving() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """`kmwatch serve` on a free port of loopback: its address and process."""
    target = f"127.0.0.1:{free_port()}"
    process = subprocess.Popen([sys.executable, "-m", "kmwatch", "serve", "--listen", target], cwd=ROOT)
    try:
        yield target, process
    finally:
        process.terminate()
        process.wait()


def _show(target: str, process: subprocess.Popen[bytes] | None, *, once: bool) -> int:
    with running(target, _INTERVAL_SECONDS) as server:
        _wait_for_data(server, target, process)
        sys.stdout.write(f"exporter    http://{target}/metrics\nprometheus  {server.address}\n\n")
        for each in expressions(_WINDOW, span="5m"):
            if each.board == _BOARD and not each.panel.startswith("$"):
                sys.stdout.write(_entry(server, each))
        sys.stdout.flush()
        while not once:  # until Ctrl-C
            time.sleep(_DEADLINE_SECONDS)
    return 0


def _wait_for_data(server: Prometheus, target: str, process: subprocess.Popen[bytes] | None) -> None:
    """Until rates can be had; TimeoutError where the exporter does not answer, RuntimeError where it has ended."""
    end = time.monotonic() + _DEADLINE_SECONDS
    while not (server.is_ready() and server.query(f"count_over_time(kmwatch_build_info[{_WINDOW}]) >= 3")):
        if process and process.poll() is not None:
            raise RuntimeError("kmwatch serve has ended: it says above why; `kmwatch doctor` tells more")
        if time.monotonic() > end:
            raise TimeoutError(f"nothing that is kmwatch's at http://{target}/metrics for {_DEADLINE_SECONDS} s")
        time.sleep(0.2)


def _entry(server: Prometheus, each: Expression) -> str:
    """A query: its panel, its first values, and the link that opens it."""
    found = server.query(each.expr)
    shown = [f"{_labels(series['metric'])} {_short(series['value'][1])}".strip() for series in found[:3]]
    more = f" … {len(found) - 3} more" if len(found) > 3 else ""
    link = f"{server.address}/graph?{urlencode({'g0.expr': each.expr, 'g0.tab': 0})}"
    return f"{each.panel}\n  {'; '.join(shown) or 'no data, which is good news here'}{more}\n  {link}\n\n"


def _labels(metric: dict[str, str]) -> str:
    return " ".join(value for name, value in sorted(metric.items()) if not name.startswith("__") and name != "instance")


def _short(number: str) -> str:
    value = float(number)
    return f"{value:,.4g}" if abs(value) < 1e4 or math.isinf(value) else f"{value:,.0f}"


if __name__ == "__main__":
    sys.exit(main())
