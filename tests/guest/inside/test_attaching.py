"""Probes at functions: doctor tells how each is attached, and fentry serves where there are no kprobes."""

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from kmwatch.kernel import abilities
from kmwatch.schema import Kind
from kmwatch.sources.maps import LiveSource
from tests.guest.inside.lab import Lab
from tests.live.watching import Watch, only, sites

pytestmark = pytest.mark.live


def test_doctor_says_how_each_probe_is_attached() -> None:
    command = [sys.executable, "-m", "kmwatch", "doctor", "--attach", "--json"]
    told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    words = {check["name"]: check["what"] for check in told["checks"] if check["ok"]}

    assert told["can_watch"]
    assert words["function:ioremap"] == "kprobe and kretprobe at __ioremap_caller(): loaded and attached"
    assert words["function:iounmap"] == "kprobe at iounmap(): loaded and attached"
    assert words["interrupts off"].startswith("seen at ")
    assert {"function:vfree", "vmalloc:free_vmap_area_noflush"} & words.keys()


@pytest.fixture
def without_kprobes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    """What releases memory and what maps it, watched as if the kernel had no kprobes."""
    monkeypatch.setattr(abilities, "kprobe", lambda *_: "not in this kernel")
    with LiveSource(frozenset({Kind.VMALLOC, Kind.VFREE, Kind.IOREMAP, Kind.IOUNMAP})) as source:
        yield Watch(source)


def test_fentry_serves_where_there_are_no_kprobes(lab: Lab, without_kprobes: Watch) -> None:
    ledger = without_kprobes.during(lambda: (lab.ask("op=ioremap n=31 size=5000"), lab.ask("op=vmalloc n=37")))
    probes = without_kprobes.source.meta.probes

    assert probes["function:ioremap"] == "fexit at __ioremap_caller()"
    assert probes["function:iounmap"] == "fentry at iounmap()"
    (site,) = sites(only(ledger, {"lab_ioremap"}, Kind.IOREMAP))
    assert (site["count"], site["bytes_requested"]) == (31, 31 * 5000)
    assert only(ledger, {"lab_iounmap"}, Kind.IOUNMAP).events(Kind.IOUNMAP) == 31
    assert only(ledger, {"lab_vfree"}, Kind.VFREE).events(Kind.VFREE) == 37
    if probes.get("function:vmalloc", "").startswith("fexit"):  # nine arguments: since Linux 6.6
        (site,) = sites(only(ledger, {"lab_vmalloc"}, Kind.VMALLOC))
        assert (site["count"], site["bytes_requested"], site["gfp"]) == (37, 37 * 64, "GFP_KERNEL")
