"""The demo prints what Prometheus has, and ends by itself when it is told to."""

import subprocess
import sys

import pytest

from scripts import monitoring_demo
from scripts.prometheus import ROOT, free_port
from tests.monitoring.conftest import Exporter

DEMO = ROOT / "scripts" / "monitoring_demo.py"


def test_the_demo_prints_every_expression_with_its_value(exporter: Exporter) -> None:
    command = [sys.executable, str(DEMO), "--once", "--target", exporter.address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    assert done.returncode == 0, done.stderr
    assert "Hosts that report\n  1\n" in done.stdout
    assert done.stdout.count("/graph?g0.expr=") == done.stdout.count("\n\n") - 1
    if exporter.fault:
        assert "Findings\n  no data" not in done.stdout


def test_the_demo_says_where_nothing_answers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target = f"127.0.0.1:{free_port()}"
    monkeypatch.setattr(monitoring_demo, "_DEADLINE_SECONDS", 3)
    monkeypatch.setattr(sys, "argv", [DEMO.name, "--once", "--target", target])

    assert monitoring_demo.main() == 3
    assert f"nothing that is kmwatch's at http://{target}/metrics for 3 s" in capsys.readouterr().err
