"""`kmwatch whatif`: its data, its text, and its mistakes."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import jsonschema
import pytest
from click.testing import CliRunner, Result

from kmwatch import __version__
from kmwatch.batch import Batch, Cost, Trust
from kmwatch.capture.layout import SAMPLE
from kmwatch.cli import cli
from kmwatch.cli import whatif as command
from kmwatch.cli.sources import Part
from kmwatch.demand import Demand, by_eighths
from kmwatch.errors import BadInputError, UsageError
from kmwatch.views import whatif as view
from tests.unit.captures import START, at, write_capture
from tests.unit.rows import DATA, batch, kmalloc, ledger, meta

PUBLISHED = json.loads((Path(__file__).parents[2] / "docs" / "whatif.schema.json").read_text())
TEXTS = DATA / "texts"
STEERING = "evil\x1b[2J+0x1"


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds: 30 buffers of 10176 bytes, 100 objects of 640 or 65 from a hostile symbol, and 5 that fit."""
    seconds = [
        [at(0.5, kmalloc("drv_rx+0x9 [drv]", 10_176, count=30)), at(0.7, kmalloc(STEERING, 640, count=90))],
        [at(1.5, kmalloc(STEERING, 65, count=10)), at(1.6, kmalloc("f+0x1", 64, count=5))],
    ]
    return write_capture(tmp_path_factory.mktemp("whatif") / "a.kmw", seconds)


def invoked(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["whatif", *map(str, arguments)], standalone_mode=False, env={"COLUMNS": "120"})


def answer(*arguments: str | Path) -> Any:
    """Its data, which are always of the published form."""
    result = invoked(*arguments, "--json")
    assert not result.exception, result.exception
    data = json.loads(result.stdout)
    jsonschema.validate(data, PUBLISHED)
    return data


def test_the_data_are_these(capture: Path) -> None:
    data = answer(capture, "--extra", "1")

    assert (data["schema"], data["kmwatch"]) == ("kmwatch.whatif/1", __version__)
    assert data["span"] == {"start": START, "seconds": 2.0}
    asked = 30 * 10_176 + 90 * 640 + 10 * 65 + 5 * 64
    assert data["sizes"] == {"known": "exact", "requests": 135, "distinct": 4, "sites": 3, "bytes_requested": asked}
    today = 30 * 16_384 + 90 * 1024 + 10 * 4096 / 42 + 5 * 64
    assert data["today"]["bytes_taken"] == round(today)
    saved = 30 * (16_384 - 32_768 / 3)
    assert data["then"]["searched"] is True
    assert data["then"]["bytes_taken"] == round(today - saved)
    assert (data["then"]["bytes_saved"], data["then"]["bytes_saved_per_second"]) == (round(saved), round(saved / 2, 1))
    assert [each for each in data["then"]["classes"] if each["new"]] == [
        {
            "size": 10_176,
            "new": True,
            "slab": {"order": 3, "objects": 3, "bytes": 32_768, "bytes_each": 10_922.67},
            "requests": 30,
            "bytes_requested": 305_280,
            "bytes_taken_today": 30 * 16_384,
            "bytes_taken": 327_680,
        }
    ]
    assert data["then"]["classes"][-1]["size"] is None
    assert data["caches"][0] == {
        "site": "drv_rx+0x9 [drv]",
        "requests": 30,
        "min_request": 10_176,
        "max_request": 10_176,
        "object_size": 10_176,
        "align": 64,
        "hwcache_align": True,
        "room": 10_880,
        "slab": {"order": 3, "objects": 3, "bytes": 32_768, "bytes_each": 10_922.67},
        "best_slab": {"order": 3, "objects": 3, "bytes": 32_768, "bytes_each": 10_922.67},
        "bytes_saved": round(saved),
        "bytes_saved_per_second": round(saved / 2, 1),
    }
    assert [each["site"] for each in data["caches"][1:]] == [STEERING]


def test_given_classes_are_priced_and_nothing_is_searched_for(capture: Path) -> None:
    data = answer(capture, "--classes", "1024, 64,64,16384")

    assert (data["then"]["searched"], data["caches"]) == (False, [])
    assert [(each["size"], each["requests"]) for each in data["then"]["classes"]] == [
        (64, 5),
        (1024, 100),
        (16_384, 30),
        (None, 0),
    ]
    assert data["then"]["bytes_saved"] == round(10 * 4096 / 42 - 10 * 1024)


def test_a_part_of_a_capture_is_replayed(capture: Path) -> None:
    assert answer(capture, "--from", "1")["sizes"]["requests"] == 15
    assert answer(capture, "--site", r"\[drv\]$")["sizes"]["distinct"] == 1


def test_the_text_says_all_that_a_person_needs(capture: Path) -> None:
    said = " ".join(invoked(capture).stdout.split())

    assert "135 kmallocs, 355.3 KiB, of 4 sizes at 3 sites; sizes known exactly" in said
    assert re.search(r"taken with 3 more, 72, 640, 10176: saves 9\S+ KiB/s, 1\S+ KiB in all", said)
    assert "10 176 3 in 32 KiB 30 298.1 KiB 320.0 KiB 80.0 KiB 160.0 KiB" in said
    assert "drv_rx+0x9 [drv] 10 176 10 176 10 880 3 in 32 KiB 80.0 KiB 160.0 KiB" in said
    assert "1 more rows" in " ".join(invoked(capture, "--top", "1").stdout.split())


def test_given_classes_as_text(capture: Path) -> None:
    said = " ".join(invoked(capture, "--classes", "64,1024").stdout.split())

    assert re.search(r"taken with the given classes: costs \S+ KiB/s, 9\.0 KiB in all", said)
    assert "whole pages 30 298.1 KiB 480.0 KiB 0 B 0 B" in said
    assert "kmem_cache" not in said


def test_a_symbol_cannot_steer_the_terminal(capture: Path) -> None:
    said = invoked(capture).stdout

    assert "evil�[2J+0x1" in said
    assert "\x1b" not in said


def test_nothing_asked_for_is_said_so(tmp_path: Path) -> None:
    directory = write_capture(tmp_path / "a.kmw", [[]])

    assert invoked(directory).stdout.endswith("\nno kmalloc was seen\n")
    assert answer(directory)["then"]["bytes_saved"] == 0
    assert "saves" not in invoked(directory, "--classes", "8").stdout.partition("no kmalloc")[2]


def test_a_ledger_is_known_to_eighths_and_the_text_says_so() -> None:
    made = ledger(kmalloc("f+0x1", 600, count=10), kmalloc("f+0x1", 900, count=10), seconds=2.0)
    demand = Demand(False, by_eighths(made.rows), made.start, made.seconds)
    data = view.build(demand, made.meta, None, 4)

    assert data["sizes"]["known"] == "eighths"
    assert [each["size"] for each in data["then"]["classes"] if each["new"]] == [640, 904]


class FakeLive:
    """A live source of two intervals."""

    def __init__(self) -> None:
        self.meta, self.notes = meta(), list[str]()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __iter__(self) -> Iterator[Batch]:
        for start, asked in ((1000.0, 600), (1001.0, 640)):
            trust, cost = Trust(lost=1), Cost(0.25, 0.5)
            yield batch(self.meta, kmalloc("f+0x1", asked, count=10), start=start, trust=trust, cost=cost)


def test_live_is_watched_for_kmalloc_and_known_to_eighths(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = []

    def opened(source: str, part: Part, *_: object) -> FakeLive:
        wanted.append((source, part))
        return FakeLive()

    monkeypatch.setattr(command, "open_source", opened)
    data, said = answer("live", "-d", "2"), " ".join(invoked("-d", "2").stdout.split())

    assert wanted == [("live", Part("kmalloc"))] * 2
    assert (data["sizes"]["known"], data["sizes"]["requests"], data["sizes"]["distinct"]) == ("eighths", 20, 1)
    assert (data["span"]["seconds"], data["trust"]["lost"]) == (2.0, 2)
    assert [(each["size"], each["requests"]) for each in data["then"]["classes"] if each["new"]] == [(640, 20)]
    assert "sizes known to an eighth of their class, each taken for the largest that it can be" in said
    assert "0.50 s of CPU time in the kernel, 1.00 s in kmwatch" in said


def test_a_text_of_another_tool_is_replayed() -> None:
    data = answer(TEXTS / "ftrace-6.18.txt")

    assert (data["sizes"]["known"], data["sizes"]["requests"]) == ("exact", 5)
    assert data["host"]["kernel"] == "unknown"


def test_a_kernel_with_other_classes_is_in_doubt(tmp_path: Path) -> None:
    directory = write_capture(tmp_path / "a.kmw", [[at(0.5, kmalloc("f+0x1", 100, bytes_alloc=104))]])

    assert answer(directory)["trust"]["of_other_classes"] == 1
    assert "1 were given another size than these classes have" in " ".join(invoked(directory).stdout.split())


def test_the_schema_is_strict_and_describes_everything(capture: Path) -> None:
    for data in (answer(capture), answer(capture, "--classes", "64")):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**data, "more": 1}, PUBLISHED)
    assert list(undescribed(PUBLISHED)) == []


def undescribed(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    """Properties without a word on what they are."""
    for name, each in {**schema.get("properties", {}), **schema.get("$defs", {})}.items():
        if not each.get("description"):
            yield f"{path}/{name}"
        yield from undescribed(each, f"{path}/{name}")


def test_the_bundled_capture_has_an_answer() -> None:
    data = answer(SAMPLE)

    assert data["trust"]["of_other_classes"] == 0
    assert len([each for each in data["then"]["classes"] if each["new"]]) == 4
    assert 0 < data["then"]["bytes_saved"] < data["today"]["bytes_taken"] - data["sizes"]["bytes_requested"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--classes", "7"], "'7' is not a size class: give bytes, multiples of 8"),
        (["--classes", ""], "'' is not a size class"),
        (["--classes", "8,-8"], "'-8' is not a size class"),
        (["--classes", "٨"], "is not a size class"),
        (["--classes", ",".join(["8"] * 1001)], "these are 1001 classes: 1000 at most"),
        (["--classes", "65536"], "65536 bytes: SLUB has no class above 32768, only pages"),
        (["--classes", "8", "--extra", "2"], "--classes and --extra exclude each other"),
        (["--extra", "0"], "'--extra'"),
        (["-d", "3"], "--duration goes with `live`"),
        (["--", "true"], "a command goes with `live`"),
    ],
)
def test_a_mistake_is_refused(capture: Path, arguments: list[str], says: str) -> None:
    result = invoked(capture, *arguments)

    assert isinstance(result.exception, UsageError)
    assert says in str(result.exception)


def test_what_is_no_source_is_refused(tmp_path: Path) -> None:
    assert isinstance(invoked(tmp_path / "none").exception, UsageError)
    assert isinstance(invoked(tmp_path).exception, BadInputError)
