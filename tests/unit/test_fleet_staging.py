"""Captures on their way to storage and back: whole or not at all, within bounds, and with nothing left behind."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from kmwatch.capture.layout import JOURNAL
from kmwatch.capture.reader import Capture
from kmwatch.cli import cli
from kmwatch.cli.targets import Destination, Target
from kmwatch.errors import BadInputError, KmwatchError, NotPossibleError, UsageError
from kmwatch.fleet import layout, remote, staging
from kmwatch.fleet.layout import Place, find
from kmwatch.fleet.staging import check_upload, staged, upload
from tests.unit import rows, storage
from tests.unit.captures import small_capture

pytest.importorskip("s3fs")

PLACE = "host=box/date=2023-11-14/boot"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with storage.server() as running:
        yield running


@pytest.fixture(params=["s3", "memory"])
def root(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, address: str) -> str:
    """The root of a fleet behind a URL, where nothing is yet."""
    name = os.urandom(4).hex()
    if request.param == "memory":
        return f"memory://{name}"
    storage.use(monkeypatch, address)
    return f"s3://{storage.BUCKET}/{name}"


@pytest.fixture
def aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go meanwhile."""
    directory = tmp_path / "aside"
    directory.mkdir()
    monkeypatch.setenv("TMPDIR", str(directory))
    monkeypatch.setattr("tempfile.tempdir", None)
    return directory


class Tapped:
    """Storage that does some things otherwise; instances of fsspec's classes have methods of their own."""

    def __init__(self, real: Any, **otherwise: Any) -> None:
        vars(self).update(otherwise)
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def tap(monkeypatch: pytest.MonkeyPatch, **otherwise: Any) -> None:
    """Let all storage do so."""

    def opened(url: str) -> tuple[Any, str]:
        storage, path = remote.opened(url)
        return Tapped(storage, **otherwise), path

    monkeypatch.setattr(staging, "opened", opened)
    monkeypatch.setattr(layout, "opened", opened)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def place_of(root: str) -> Place:
    (place,) = find(root)
    return place


def test_a_capture_goes_and_comes_back_whole(tmp_path: Path, root: str, aside: Path) -> None:
    capture = small_capture(tmp_path / "a.kmw")
    upload(capture, f"{root}/{PLACE}")
    with staged(place_of(root)) as directory:
        assert contents(directory) == contents(capture)
        opened = Capture(directory)
        opened.check()
        assert (opened.doubts, opened.events) == ([], Capture(capture).events)
        assert directory.parent == aside

    assert list(aside.iterdir()) == []


def test_a_local_capture_is_itself(tmp_path: Path, aside: Path) -> None:
    capture = small_capture(tmp_path / "root" / "a.kmw")
    with staged(place_of(str(tmp_path / "root"))) as directory:
        assert directory == capture
        assert list(aside.iterdir()) == []
    assert contents(capture)


def test_the_journal_goes_last(tmp_path: Path, root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[str, str]] = []
    tap(monkeypatch, put_file=lambda file, path: sent.append((Path(file).name, path)))
    upload(small_capture(tmp_path / "a.kmw"), f"{root}/{PLACE}")

    assert len(sent) == 9
    assert [name for name, _ in sent].index(JOURNAL) == 8
    assert all(path.endswith(f"{PLACE}/{name}") for name, path in sent)


def test_one_that_is_there_is_replaced_only_by_force(tmp_path: Path, root: str) -> None:
    one, other = small_capture(tmp_path / "a.kmw"), small_capture(tmp_path / "b.kmw", start=1_700_000_100.0)
    (other / "events-00003.parquet").unlink()
    upload(one, f"{root}/{PLACE}")
    with pytest.raises(UsageError, match=r"^\w+://.* has a capture: --force replaces it$"):
        upload(other, f"{root}/{PLACE}")
    with staged(place_of(root)) as directory:
        assert contents(directory) == contents(one)
    upload(other, f"{root}/{PLACE}", force=True)

    with staged(place_of(root)) as directory:
        assert contents(directory) == contents(other)


@pytest.mark.parametrize("error", [PermissionError("Access Denied"), OSError("the line\nbroke"), KeyboardInterrupt()])
def test_an_upload_that_ends_early_leaves_nothing(
    tmp_path: Path, root: str, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    store, path = remote.opened(root)
    sent = []

    def put_file(file: str, target: str) -> None:
        sent.append(target)
        store.put_file(file, target)
        if len(sent) == 4:
            raise error

    tap(monkeypatch, put_file=put_file)
    capture = small_capture(tmp_path / "a.kmw")
    with pytest.raises((NotPossibleError, KeyboardInterrupt)) as told:
        upload(capture, f"{root}/{PLACE}")

    assert isinstance(told.value, type(error)) or re.fullmatch(r"cannot upload to .*", str(told.value))
    assert len(sent) == 4
    assert store.find(path) == []


def test_only_files_of_a_capture_are_fetched(tmp_path: Path, root: str, aside: Path) -> None:
    """Whatever else a listing has: another file, a directory, a name that leads out."""
    capture = small_capture(tmp_path / "a.kmw")
    upload(capture, f"{root}/{PLACE}")
    store, path = remote.opened(f"{root}/{PLACE}")
    for name in ("notes.txt", ".bashrc", "deeper/meta.json", "events-1.parquet"):
        store.pipe(f"{path}/{name}", b"x")
    with staged(place_of(root)) as directory:
        assert contents(directory) == contents(capture)
    assert list(aside.iterdir()) == []


def test_without_events_there_are_names_of_their_files(tmp_path: Path, root: str, aside: Path) -> None:
    capture = small_capture(tmp_path / "a.kmw")
    upload(capture, f"{root}/{PLACE}")
    with staged(place_of(root), events=False) as directory:
        copied = contents(directory)
    wanted = {name: b"" if name.startswith("events-") else data for name, data in contents(capture).items()}

    assert copied == wanted
    assert list(aside.iterdir()) == []


def test_what_is_wrong_is_told_of_the_place_and_not_of_a_copy(tmp_path: Path, root: str) -> None:
    capture = small_capture(tmp_path / "a.kmw")
    (capture / "keys.parquet").write_bytes(b"x")
    upload(capture, f"{root}/{PLACE}")

    for command in (["info"], ["sql", "select 1"], ["report"]):
        ran = CliRunner().invoke(cli, [command[0], root, *command[1:]])
        said = f"{ran.exception}{ran.output}"
        assert f"{root}/{PLACE}/keys.parquet is damaged" in said


def test_names_of_a_listing_lead_nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, aside: Path) -> None:
    store, path = remote.opened("memory://liar/a")
    upload(small_capture(tmp_path / "a.kmw"), "memory://liar/a")
    listing = store.ls(path, detail=True)
    lies = [{**each, "name": f"{path}/../../{Path(each['name']).name}"} for each in listing]
    lies += [{"name": "/etc/passwd", "size": 1, "type": "file"}, {"name": "..", "size": 1, "type": "file"}]
    tap(monkeypatch, ls=lambda *_, **__: lies)
    with staged(Place("memory://liar/a", "a", "", "")) as directory:
        assert contents(directory) == contents(tmp_path / "a.kmw")
        assert [path.name for path in aside.iterdir()] == [directory.name]


def test_what_is_too_large_is_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, aside: Path) -> None:
    upload(small_capture(tmp_path / "a.kmw"), "memory://large/a")
    place = place_of("memory://large")
    monkeypatch.setattr(staging, "LARGEST", 1000)
    with (
        pytest.raises(BadInputError, match=r"^memory://large/a has .* KiB, at most 1000 B are fetched: "),
        staged(place),
    ):
        pass
    monkeypatch.setattr(staging, "LARGEST", 1 << 40)
    monkeypatch.setattr(staging.shutil, "disk_usage", lambda _: staging.shutil._ntuple_diskusage(9, 9, 5))
    with pytest.raises(NotPossibleError, match=r"has .* KiB, .* has room for 5 B: set TMPDIR$"), staged(place):
        pass

    assert list(aside.iterdir()) == []


@pytest.mark.parametrize("change", [-1, 1])
def test_a_file_that_is_not_as_long_as_listed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, aside: Path, change: int
) -> None:
    """A server that tells one byte and sends gigabytes fills no disk."""
    upload(small_capture(tmp_path / "a.kmw"), f"memory://longer{change}/a")
    store, path = remote.opened(f"memory://longer{change}/a")
    listing = [{**each, "size": each["size"] + change} for each in store.ls(path, detail=True)]
    tap(monkeypatch, ls=lambda *_, **__: listing)
    with (
        pytest.raises(NotPossibleError, match=r"changes while it is read"),
        staged(Place(f"memory://longer{change}/a", "", "", "")),
    ):
        pass
    assert list(aside.iterdir()) == []


def test_what_a_server_refuses_is_one_line_without_keys(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    storage.use(monkeypatch, address)
    for action in (find, lambda url: check_upload(f"{url}/a", force=False)):
        with pytest.raises(
            NotPossibleError, match=r"^cannot (look into|write to) s3://elsewhere/x.*there is none; check"
        ):
            action("s3://elsewhere/x")

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError("The AWS Access Key Id you provided does not exist in our records.")

    tap(monkeypatch, find=refuse, ls=refuse)
    with pytest.raises(NotPossibleError) as told:
        find("s3://captures/x")
    assert str(told.value) == (
        "cannot look into s3://captures/x: refused (The AWS Access Key Id you provided does not exist in our records); "
        "check the credentials in the environment"
    )
    check_upload("s3://captures/x/a", force=False)  # who may only write does not see whether it works


def test_without_keys_it_says_so(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    storage.use(monkeypatch, address)
    for name in storage.environment(""):
        if name.startswith("AWS_") and "KEY" in name:
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", "/nonexistent")
    type(remote.opened("s3://captures")[0]).clear_instance_cache()
    with pytest.raises(NotPossibleError, match=r"^cannot look into s3://captures: Unable to locate credentials; check"):
        find("s3://captures")


def target(root: str, name: str = "boot", *, force: bool = False) -> Target:
    return Target(None, root, name, force)


def test_a_recording_for_a_url_is_kept_here_until_it_is_there(root: str, aside: Path) -> None:
    chosen = target(root)
    chosen.check()
    with chosen.place(rows.meta(start=1_700_000_000.0)) as destination:
        assert destination.directory.parent == aside
        small_capture(destination.directory)
    assert (destination.where, place_of_nothing(root)) == (f"{root}/{PLACE}", True)
    destination.deliver()

    assert (place_of(root).name, list(aside.iterdir())) == (PLACE, [])
    with pytest.raises(UsageError, match=r"has a capture: --force replaces it$"):
        chosen.place(rows.meta(start=1_700_000_000.0))
    assert list(aside.iterdir()) == []


def place_of_nothing(root: str) -> bool:
    with pytest.raises(KmwatchError):
        find(root)
    return True


@pytest.mark.usefixtures("aside")
@pytest.mark.parametrize("error", [OSError("no route"), KeyboardInterrupt()])
def test_what_could_not_be_sent_is_kept_and_said_how_to_send(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
) -> None:
    """And what is said does it."""
    root = f"memory://kept {os.urandom(4).hex()}"
    with target(root).place(rows.meta(start=1_700_000_000.0)) as destination:
        small_capture(destination.directory)

    def put_file(*_: Any, **__: Any) -> None:
        raise error

    with monkeypatch.context() as broken:
        tap(broken, put_file=put_file)
        with pytest.raises((NotPossibleError, KeyboardInterrupt)) as told:
            destination.deliver()
    said = capsys.readouterr().err or f"kmwatch: {told.value}"
    command = f"kmwatch upload {destination.directory} --into '{root}' --name boot"
    assert f"the capture is kept in {destination.directory}: `{command}` sends it" in said
    assert getattr(told.value, "exit_code", 3) == 3

    result = CliRunner().invoke(cli, ["upload", str(destination.directory), "--into", root, "--name", "boot"])
    assert result.output == f"{root}/{PLACE}\n"
    assert place_of(root).name == PLACE


def test_what_broke_while_recording_is_kept_and_not_sent(
    root: str, aside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RuntimeError), target(root).place(rows.meta(start=1.0)):
        raise RuntimeError
    assert list(aside.iterdir()) == []
    destination = target(root).place(rows.meta(start=1.0))
    small_capture(destination.directory, ended=False)
    with pytest.raises(RuntimeError), destination:
        raise RuntimeError
    assert f"what was recorded until then is kept in {destination.directory}" in capsys.readouterr().err
    assert place_of_nothing(root)


def test_a_local_root_is_written_in_place(tmp_path: Path) -> None:
    destination = target(str(tmp_path)).place(rows.meta(start=1_700_000_000.0))

    assert destination == Destination(tmp_path / PLACE)
    small_capture(destination.directory)
    destination.deliver()
    assert place_of(str(tmp_path)).name == PLACE
    with pytest.raises(UsageError, match="--force replaces it"):
        target(str(tmp_path)).place(rows.meta(start=1_700_000_000.0))
    assert target(str(tmp_path), force=True).place(rows.meta(start=1_700_000_000.0)) == destination


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "one of -o DIR and --into ROOT says where the capture goes"),
        (["-o", "a.kmw", "--into", "fleet"], "one of -o DIR and --into ROOT says where the capture goes"),
        (["-o", "a.kmw", "--name", "boot"], "--name goes with --into"),
        (["--into", "fleet", "--name", "../boot"], "'../boot' is no name"),
        (["--into", "nonsense://x/y"], "nonsense://x/y cannot be used"),
    ],
)
def test_where_a_recording_goes_is_said_once(arguments: list[str], says: str) -> None:
    result = CliRunner().invoke(cli, ["record", *arguments])

    assert isinstance(result.exception, UsageError)
    assert str(result.exception).startswith(says)


def test_a_capture_is_added_to_a_local_fleet(tmp_path: Path) -> None:
    capture = small_capture(tmp_path / "a.kmw")
    arguments = ["upload", str(capture), "--into", str(tmp_path / "fleet")]
    for more, failed in (([], False), ([], True), (["--force"], False)):
        result = CliRunner().invoke(cli, [*arguments, *more])
        assert isinstance(result.exception, UsageError) == failed
    place = place_of(str(tmp_path / "fleet"))

    assert place.name == "host=box/date=2023-11-14/221320"
    assert contents(Path(place.url)) == contents(capture)
    assert [path.name for path in Path(place.url).parent.iterdir()] == ["221320"]
    result = CliRunner().invoke(cli, ["upload", str(capture)])
    assert str(result.exception).startswith("--into ROOT says where to")


def test_a_local_copy_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def copyfile(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(staging.shutil, "copyfile", copyfile)
    with pytest.raises(NotPossibleError, match=r"^cannot write to .*/boot: No space left on device$"):
        upload(small_capture(tmp_path / "a.kmw"), str(tmp_path / "fleet" / PLACE))

    assert list((tmp_path / "fleet" / PLACE).parent.iterdir()) == []
