"""What a fleet's captures are: a line each, their sum, and those that cannot be read."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from kmwatch.batch import Host, Trust
from kmwatch.capture.reader import Capture
from kmwatch.cli import cli
from kmwatch.views import captured, fleet_info
from tests.unit import hostile, rows, storage
from tests.unit.captures import at, write_capture


def invoked(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [*map(str, arguments)], standalone_mode=False)


def shown(data: dict[str, Any], width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, highlight=False, record=True)
    fleet_info.render(data, console)
    return [line.rstrip() for line in console.export_text().splitlines()]


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    """Three captures of two hosts; one lost events, one was cut."""
    for host, day, count, kernel in (("a", 23, 3, "6.12.1"), ("a", 24, 40, "6.12.1"), ("b", 23, 500, "6.18.2")):
        write_capture(
            tmp_path / f"host={host}" / f"date=2026-11-{day}" / "boot",
            [[at(0.1, rows.kmalloc("f+0x1", 60, count=count))]],
            trust={0: Trust(lost=7)} if count == 3 else {},
            ended=count != 40,
            host=Host("localhost", kernel, "", 2),
        )
    return tmp_path


def test_each_is_told_as_by_itself_and_all_are_summed(fleet: Path) -> None:
    result = invoked("info", fleet, "--json")
    data = json.loads(result.stdout)

    assert (data["schema"], result.return_value, data["skipped"]) == ("kmwatch.fleet-info/1", 0, [])
    assert [each["name"] for each in data["captures"]] == [
        "host=a/date=2026-11-23/boot", "host=a/date=2026-11-24/boot", "host=b/date=2026-11-23/boot",
    ]  # fmt: skip
    for each in data["captures"]:
        alone = json.loads(invoked("info", fleet / each["name"], "--json").stdout)
        alone["host"]["hostname"] = each["name"][5]  # as the layout says
        assert each == {**alone, "name": each["name"]}
    assert {name: data["sum"][name] for name in ("captures", "hosts", "events", "lost", "seconds", "doubts")} == {
        "captures": 3, "hosts": 2, "events": 543, "lost": 7, "seconds": 3.0, "doubts": 1,
    }  # fmt: skip
    assert data["sum"]["bytes"] == sum(path.stat().st_size for path in fleet.rglob("*") if path.is_file())
    assert data["kernels"] == [{"kernel": "6.12.1", "captures": 2}, {"kernel": "6.18.2", "captures": 1}]


def test_it_fits_narrow_and_wide_terminals(fleet: Path) -> None:
    data = json.loads(invoked("info", fleet, "--json").stdout)
    data["captures"][2].update(events=123_456_789, seconds=86_400.0, bytes=5 << 30, lost=4_321)

    wide, narrow = shown(data, 120), shown(data, 80)

    assert max(map(len, wide)) <= 120
    assert max(map(len, narrow)) <= 80
    assert wide[0].split() == ["capture", "host", "kernel", "events", "lost", "time", "size", "doubts"]
    name = "host=b/date=2026-11-23/boot"
    assert " ".join(wide[4].split()) == f"{name} b 6.18.2 123 456 789 4 321 1440 min 00 s 5.0 GiB 0"
    assert " ".join(narrow[6].split()) == "host=b/date=2026-11-23/ 6.18.2 123.5M 4321 24.0 h 5.0 GiB 0"
    assert narrow[7].split() == ["boot"]
    assert [line.split(maxsplit=1) for line in wide[6:]] == [
        ["captures", "3 of 2 hosts"],
        ["kernels", "6.12.1 (2), 6.18.2 (1)"],
        ["events", "543, 7 lost"],
        ["time", "3.0 s, all added up"],
        ["disk", wide[10].split(maxsplit=1)[1]],
        ["missing", "1 doubts: `kmwatch info` of a capture names its own"],
    ]


def test_what_cannot_be_read_is_named_with_the_reason(fleet: Path) -> None:
    (fleet / "host=a" / "date=2026-11-23" / "boot" / "meta.json").write_text("{")

    result = invoked("info", fleet, "--json")
    data = json.loads(result.stdout)

    assert result.return_value == 4
    assert [each["name"] for each in data["skipped"]] == ["host=a/date=2026-11-23/boot"]
    assert "meta.json is damaged" in data["skipped"][0]["reason"]
    assert "host=a/date=2026-11-23/boot is in no number: " in result.stderr
    assert data["sum"]["captures"] == 2
    text = "\n".join(shown(data, 120))
    assert "Skipped captures" in text
    assert "2 of 2 hosts, 1 cannot be read" in text


def test_damage_counts_as_doubt(fleet: Path) -> None:
    broken = fleet / "host=b" / "date=2026-11-23" / "boot" / "events-00001.parquet"
    broken.write_bytes(broken.read_bytes()[:-1] + b"x")

    data = json.loads(invoked("info", fleet, "--json").stdout)

    assert "events-00001.parquet is damaged" in data["captures"][2]["doubts"][0]


def test_where_none_can_be_read_that_is_told_too(fleet: Path) -> None:
    for path in fleet.rglob("meta.json"):
        path.unlink()

    result = invoked("info", fleet)

    assert result.return_value == 4
    assert "0 of 0 hosts, 3 cannot be read" in result.stdout


@pytest.mark.parametrize("width", [80, 120])
def test_no_name_steers_a_terminal(tmp_path: Path, width: int) -> None:
    capture = captured.build(Capture(hostile.capture(tmp_path / "a.kmw")))
    told = [
        {**capture, "name": name, "host": {"hostname": name, "kernel": name, "cpus": 1}}
        for name in hostile.NAMES.values()
    ]
    data = fleet_info.build(told, [{"name": name, "reason": name} for name in hostile.NAMES.values()])

    lines = shown(data, width)

    assert {each for line in lines for each in line if not each.isprintable()} == set()
    assert "window.hostile=1" in "".join(lines)


def test_captures_behind_a_url_are_fetched_and_gone(
    fleet: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path_factory.mktemp("staged")
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    root = f"s3://{storage.BUCKET}/info"
    with storage.server() as address:
        storage.use(monkeypatch, address)
        invoked("upload", fleet / "host=b" / "date=2026-11-23" / "boot", "--into", root, "--name", "x")
        data = json.loads(invoked("info", root, "--json").stdout)

    name = "host=localhost/date=2023-11-14/x"
    assert [(each["name"], each["path"], each["events"]) for each in data["captures"]] == [
        (name, f"{root}/{name}", 500)
    ]
    assert list(temporary.iterdir()) == []
