"""What `kmwatch serve` makes of its batches."""

import time

from kmwatch.cli.exposing import Exposed
from kmwatch.serve.config import ServeConfig
from kmwatch.serve.snapshot import Own
from kmwatch.thresholds import DEFAULTS, Thresholds
from tests.unit.rows import batch, kmalloc, meta

FOUND = 'kmwatch_findings{rule="KM102",name="kmalloc-just-above-a-size-class",severity="warning"}'


def test_other_thresholds_judge_from_now_on() -> None:
    known = meta()
    exposed = Exposed(known, ServeConfig(window=10.0), DEFAULTS)

    def found() -> list[str]:
        exposed.add(batch(known, kmalloc("f+0x1", 33, count=1000), seconds=1.0))
        exposed.publish(time.time(), Own())
        return [line for line in exposed.render("")[0].decode().splitlines() if line.startswith(FOUND)]

    assert found() == [f"{FOUND} 1"]
    exposed.judge_by(DEFAULTS)
    assert found() == [f"{FOUND} 1"]
    exposed.judge_by(Thresholds(waste_rate=1e9))
    assert found() == [f"{FOUND} 0"]
