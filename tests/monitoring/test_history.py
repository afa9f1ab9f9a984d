"""What `kmwatch export --to openmetrics` writes is what promtool makes blocks of."""

from pathlib import Path

from kmwatch.views.export import openmetrics
from tests.monitoring.test_rules import promtool
from tests.unit.exports import START, exported, findings, hostile


def test_promtool_keeps_every_sample(tmp_path: Path) -> None:
    ledger = exported()
    for name, made in (("plain", ledger), ("hostile", hostile())):
        (tmp_path / name).write_bytes(openmetrics.render(openmetrics.build(made, findings())))
        promtool("tsdb", "create-blocks-from", "openmetrics", str(tmp_path / name), str(tmp_path / f"{name}.blocks"))
    (tmp_path / "plain.blocks" / "wal").mkdir()  # dump wants one
    dumped = promtool(
        "tsdb", "dump", "--match", '{__name__="kmwatch_allocations_total"}', str(tmp_path / "plain.blocks")
    )
    samples = [line.rsplit(" ", 2)[-2:] for line in dumped.splitlines() if line.startswith("{")]
    assert sum(int(value) for value, at in samples if int(at) == (START + 3) * 1000) == ledger.totals().allocations
    assert {int(value) for value, at in samples if int(at) == START * 1000} == {0}
