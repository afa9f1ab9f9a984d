"""A directory of captures as one source: the sum of all; what cannot be read is named and left out."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from kmwatch.batch import Host
from kmwatch.cli import cli
from kmwatch.cli.sources import Detail, Part, open_fleet, open_source, whole_ledger
from kmwatch.errors import BadInputError, UsageError
from kmwatch.ledger import Ledger
from kmwatch.sources.held import Hold
from tests.unit import rows
from tests.unit.captures import START, at, small_capture, tell, write_capture

HOSTS = 5


def capture(root: Path, number: int, **meta: Any) -> Path:
    """A capture of the fleet: what a host allocates depends on its number."""
    events = [
        at(0.1, rows.kmalloc(f"alloc_buffer+{number:#x}", 60, count=10 + number), comm="nginx", ptr=number + 1),
        at(0.2, rows.kmalloc("drv_xmit+0x8 [drv]", 1500, count=number + 1), comm=f"task-{number}"),
        at(0.3, rows.pages("probe+0x9 [drv]", 2, gfp="GFP_ATOMIC", count=number))
        if number
        else at(0.3, rows.pages("probe+0x9", 0)),
    ]
    host = Host("localhost", f"6.{12 + number % 2}.0", "", 2)
    return write_capture(root / f"host=web-{number}" / "date=2026-11-23" / "boot", [events], host=host, **meta)


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    """Captures of some hosts, which all call themselves localhost."""
    for number in range(HOSTS):
        capture(tmp_path, number)
    return tmp_path


def ledger(root: Path, **part: Any) -> Ledger:
    return whole_ledger(open_source(str(root), Part(**part)))


def invoked(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [*map(str, arguments)], standalone_mode=False)


def by_name(found: Ledger) -> dict[str, int]:
    return {found.meta.sites[group["site"]].label: int(group["count"]) for group in found.groups("site")}


def test_a_fleet_is_the_sum_of_its_captures(fleet: Path) -> None:
    singles = [whole_ledger(open_source(str(path.parent), Part())) for path in fleet.rglob("journal.jsonl")]
    whole = ledger(fleet)

    assert whole.events() == sum(each.events() for each in singles)
    assert whole.seconds == sum(each.seconds for each in singles)
    for name in ("bytes_requested", "bytes_allocated", "allocations", "failures"):
        assert getattr(whole.totals(), name) == sum(getattr(each.totals(), name) for each in singles)
    assert by_name(whole)["alloc_buffer"] == sum(10 + number for number in range(HOSTS))
    assert by_name(whole)["drv_xmit [drv]"] == sum(range(HOSTS + 1))


def test_hosts_are_named_as_the_layout_does_and_can_be_told_apart(fleet: Path) -> None:
    result = invoked("report", fleet, "--by", "host", "--json")

    groups = {each["name"]: each["count"] for each in json.loads(result.stdout)["report"]["groups"]}
    assert groups == {f"web-{number}": 11 + 3 * number + (not number) for number in range(HOSTS)}
    kernels = json.loads(invoked("report", fleet, "--by", "kernel", "--json").stdout)["report"]["groups"]
    assert {each["name"] for each in kernels} == {"6.12.0", "6.13.0"}


def test_a_part_is_taken_of_each_capture(fleet: Path) -> None:
    assert by_name(ledger(fleet, site="drv")) == {"drv_xmit [drv]": 15, "probe [drv]": 10}
    assert ledger(fleet, comm="^task-3$").events() == 4
    assert ledger(fleet, kinds="page_alloc").events() == 11


def test_captures_outside_of_a_span_are_left_out_not_refused(fleet: Path) -> None:
    late = write_capture(fleet / "late", [[], [], [at(2.5, rows.kmalloc("late+0x1", 60, count=3))]])

    source = open_source(str(fleet), Part(begin="2"))
    found = whole_ledger(source)

    assert by_name(found) == {"late": 3}
    assert source.skipped == []
    assert late.exists()
    with pytest.raises(BadInputError, match="none of 6 captures has anything that was asked for"):
        ledger(fleet, begin="100")


def test_one_that_is_corrupt_is_named_and_the_rest_counted(fleet: Path) -> None:
    whole = ledger(fleet)
    broken = fleet / "host=web-2" / "date=2026-11-23" / "boot"
    (broken / "meta.json").write_text("{")

    result = invoked("report", fleet, "--json")
    data = json.loads(result.stdout)

    assert result.return_value == 4
    assert [each["name"] for each in data["skipped"]] == ["host=web-2/date=2026-11-23/boot"]
    assert "meta.json is damaged" in data["skipped"][0]["reason"]
    assert "host=web-2/date=2026-11-23/boot is in no number: " in result.stderr
    assert data["report"]["trust"]["events"] == whole.events() - 17
    assert data["captures"]["count"] == HOSTS - 1


def test_events_of_a_damaged_file_are_lost_and_its_capture_named(fleet: Path) -> None:
    broken = fleet / "host=web-2" / "date=2026-11-23" / "boot" / "events-00001.parquet"
    broken.write_bytes(broken.read_bytes()[:-1] + b"x")

    found = ledger(fleet)

    assert found.trust.lost == 17
    assert any(doubt.startswith("host=web-2/") and "damaged" in doubt for doubt in found.meta.doubts)


def test_a_check_that_could_not_read_everything_does_not_pass(fleet: Path) -> None:
    assert invoked("check", fleet, "--select", "KM1").return_value == 0
    (fleet / "host=web-0" / "date=2026-11-23" / "boot" / "keys.parquet").unlink()

    result = invoked("check", fleet, "--select", "KM1")

    assert result.return_value == 4
    assert "host=web-0/date=2026-11-23/boot is in no number" in result.stderr


def test_where_no_capture_can_be_read_that_is_an_error(fleet: Path) -> None:
    for path in fleet.rglob("meta.json"):
        path.unlink()

    result = invoked("report", fleet)

    assert isinstance(result.exception, BadInputError)
    assert "none of 5 captures" in str(result.exception)


def test_what_all_hold_is_added_up(tmp_path: Path) -> None:
    for host in ("a", "b"):
        write_capture(tmp_path / f"host={host}" / "x", [[at(0.1, rows.kmalloc("leak+0x1", 60), ptr=5)]])

    found = whole_ledger(open_source(str(tmp_path), Part(), detail=Detail(Hold(0))))

    assert found.held is not None
    assert found.held.rows["objects"].sum() == 2


def test_other_commands_take_a_fleet(fleet: Path) -> None:
    assert "alloc_buffer" in invoked("export", fleet, "--to", "folded").stdout
    assert json.loads(invoked("whatif", fleet, "--json").stdout)["sizes"]["requests"] == 75
    compared = invoked("diff", fleet, fleet, "--json")
    assert compared.return_value == 0
    assert json.loads(invoked("top", fleet, "--once", "--json").stdout)["trust"]["events"] == ledger(fleet).events()


def test_what_needs_one_time_line_is_refused_in_words(fleet: Path) -> None:
    for command in (("export", fleet, "--to", "perfetto", "-o", fleet / "x"), ("top", fleet)):
        result = invoked(*command)
        assert isinstance(result.exception, UsageError)
        assert "no time line in common: name one of them" in str(result.exception)


def test_engines_go_with_fleets(fleet: Path, tmp_path: Path) -> None:
    one = small_capture(tmp_path / "one.kmw")
    for arguments, words in (
        ((one, "--engine", "duckdb"), "--engine goes with a directory of captures"),
        ((fleet, "--master", "local[2]"), "--master goes with --engine spark"),
        ((fleet, "--engine", "spark", "--outstanding"), "--outstanding follows single objects"),
        (("memory://x/y", "--engine", "spark"), "there is no capture in memory://x/y"),
    ):
        assert words in str(invoked("report", *arguments).exception)


def test_the_order_of_numbers_in_captures_makes_no_difference(tmp_path: Path) -> None:
    first = [at(0.1, rows.kmalloc("f+0x1", 60, count=3)), at(0.2, rows.kmalloc("g+0x1", 100, count=2))]
    for name, events in (("a", first), ("b", first[::-1])):
        write_capture(tmp_path / name, [events])
    found = ledger(tmp_path)

    assert by_name(found) == {"f": 6, "g": 4}
    assert len(found.rows) == 2
    assert found.start == START


def test_a_format_of_tomorrow_is_named_among_those_of_today(fleet: Path) -> None:
    shutil.copytree(fleet / "host=web-1", fleet / "host=new")
    path = fleet / "host=new" / "date=2026-11-23" / "boot"
    _rewrite(path, version=2)
    old = fleet / "host=web-3" / "date=2026-11-23" / "boot"
    _rewrite(old, without=("memory", "modules"))  # as of kmwatch 0.1

    source = open_fleet(str(fleet), Part())
    found = whole_ledger(source)

    assert [each.place.host for each in source.skipped] == ["new"]
    assert "version 2" in source.skipped[0].reason
    assert found.events() == sum(11 + 3 * number + (not number) for number in range(HOSTS))
    assert np.unique(found.rows["kind"]).size == 2


def _rewrite(path: Path, *, without: tuple[str, ...] = (), **changed: Any) -> None:
    """Change what meta.json says, as if it had been written so."""
    meta = path / "meta.json"
    kept = {name: value for name, value in json.loads(meta.read_text()).items() if name not in without}
    meta.write_text(json.dumps(kept | changed))
    tell(path, "meta.json")
