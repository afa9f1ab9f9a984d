"""The journal of a capture: what was written whole is read again, and what was not is told apart."""

import errno
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kmwatch.capture import journal
from kmwatch.capture.journal import Journal
from kmwatch.capture.layout import JOURNAL
from kmwatch.errors import BadInputError

ENTRIES: list[dict[str, Any]] = [{"file": "meta.json", "sha256": "ab"}, {"n": 1, "text": "Ω\n"}, {"end": {}}]


@pytest.fixture
def written(tmp_path: Path) -> Iterator[Journal]:
    """A journal with ENTRIES."""
    made = Journal(tmp_path)
    for entry in ENTRIES:
        made.append(entry)
    yield made
    made.close()


def raw(directory: Path) -> bytes:
    return (directory / JOURNAL).read_bytes()


def test_what_is_appended_is_read(tmp_path: Path, written: Journal) -> None:
    assert written
    assert journal.read(tmp_path) == journal.Read(tuple(ENTRIES), (), cut=False)


def test_a_line_is_its_checksum_and_json(tmp_path: Path, written: Journal) -> None:
    assert written
    for line, entry in zip(raw(tmp_path).splitlines(), ENTRIES, strict=True):
        checksum, _, text = line.partition(b" ")
        assert int(checksum, 16) == zlib.crc32(text)
        assert json.loads(text) == entry


def test_who_may_read_other_files_may_read_it_before_and_after_it_is_replaced(tmp_path: Path, written: Journal) -> None:
    (tmp_path / "other").write_text("")
    may_read = (tmp_path / "other").stat().st_mode & 0o444

    assert (tmp_path / JOURNAL).stat().st_mode & 0o777 == may_read | 0o200
    written.replace([])
    assert (tmp_path / JOURNAL).stat().st_mode & 0o777 == may_read | 0o200


def test_a_journal_is_never_written_over(tmp_path: Path, written: Journal) -> None:
    assert written
    with pytest.raises(FileExistsError):
        Journal(tmp_path)


def test_a_line_is_on_the_disk_when_append_returns(
    tmp_path: Path, written: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bytes] = []
    monkeypatch.setattr(os, "fsync", lambda _: synced.append(raw(tmp_path)))

    written.append({"n": 2})

    assert synced == [raw(tmp_path)]


@pytest.mark.parametrize("taken", [0, 1, 10])
def test_a_line_that_found_half_the_room_is_taken_away(
    tmp_path: Path, written: Journal, monkeypatch: pytest.MonkeyPatch, taken: int
) -> None:
    before, write = raw(tmp_path), os.write
    monkeypatch.setattr(os, "write", lambda to, data: write(to, data[:taken]))

    with pytest.raises(OSError, match="No space left") as caught:
        written.append({"n": 2})
    assert caught.value.errno == errno.ENOSPC
    assert raw(tmp_path) == before

    monkeypatch.undo()
    written.append({"n": 3})
    assert journal.read(tmp_path).entries[-1] == {"n": 3}


def failing(*_: Any) -> int:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.parametrize("step", ["write", "fsync"])
def test_a_line_that_could_not_be_written_is_taken_away(
    tmp_path: Path, written: Journal, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    before = raw(tmp_path)
    monkeypatch.setattr(os, step, failing)

    with pytest.raises(OSError, match="Input/output error"):
        written.append({"n": 2})
    assert raw(tmp_path) == before


def test_a_journal_is_replaced_in_one_step_and_goes_on(tmp_path: Path, written: Journal) -> None:
    written.replace([{"dropped_events": 5}])
    written.append({"n": 2})

    assert journal.read(tmp_path) == journal.Read(({"dropped_events": 5}, {"n": 2}), (), cut=False)
    assert os.listdir(tmp_path) == [JOURNAL]  # noqa: PTH208


@pytest.mark.parametrize("step", ["write", "fsync", "half", "replace"])
def test_a_journal_that_cannot_be_replaced_stays_as_it_was(
    tmp_path: Path, written: Journal, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    before, write, descriptors = raw(tmp_path), os.write, len(list(Path("/proc/self/fd").iterdir()))
    if step == "half":
        monkeypatch.setattr(os, "write", lambda to, data: write(to, data[: len(data) // 2]))
    else:
        monkeypatch.setattr(Path if step == "replace" else os, step, failing)

    with pytest.raises(OSError, match=r"Input/output|No space"):
        written.replace([{"n": 7}])
    monkeypatch.undo()

    assert raw(tmp_path) == before
    assert os.listdir(tmp_path) == [JOURNAL]  # noqa: PTH208
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors
    written.append({"n": 2})
    assert journal.read(tmp_path).entries == (*ENTRIES, {"n": 2})


def test_bad_lines_are_numbered_and_left_out(tmp_path: Path, written: Journal) -> None:
    assert written
    lines = raw(tmp_path).splitlines(keepends=True)
    (tmp_path / JOURNAL).write_bytes(lines[0] + lines[1].replace(b'"n":1', b'"n":2') + b"\n" + lines[2])

    assert journal.read(tmp_path) == journal.Read((ENTRIES[0], ENTRIES[2]), (2, 3), cut=False)


def test_a_line_without_its_end_is_no_line(tmp_path: Path, written: Journal) -> None:
    assert written
    (tmp_path / JOURNAL).write_bytes(raw(tmp_path)[:-1])

    assert journal.read(tmp_path) == journal.Read(tuple(ENTRIES[:2]), (), cut=True)


def line(text: bytes) -> bytes:
    return b"%08x %s\n" % (zlib.crc32(text), text)


@pytest.mark.parametrize(
    "text",
    [
        b"[]",
        b"7",
        b"{",
        b"",
        b'"x"',
        b"\xff{}",
        b"[" * 60_000,
        b'{"a":' * 12_000,
        b"9" * 5000,
        b'{"x":"%s"}' % (b"y" * 70_000),
    ],
)
def test_a_line_with_the_right_checksum_but_no_object_is_bad(tmp_path: Path, text: bytes) -> None:
    (tmp_path / JOURNAL).write_bytes(line(b'{"a":1}') + line(text) + line(b'{"a":2}'))

    assert journal.read(tmp_path) == journal.Read(({"a": 1}, {"a": 2}), (2,), cut=False)


def test_without_a_journal_there_is_no_capture(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"is not a capture: cannot read journal\.jsonl \(No such file"):
        journal.read(tmp_path)


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    """A pipe would never end, nor would a link to /dev/zero."""
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe" / JOURNAL)
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / JOURNAL).symlink_to("/dev/zero")

    for name in ("pipe", "link"):
        with pytest.raises(BadInputError, match="is not a file"):
            journal.read(tmp_path / name)


def test_a_journal_of_a_gigabyte_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / JOURNAL).open("wb") as file:
        file.truncate((1 << 30) + 1)

    with pytest.raises(BadInputError, match="is over 1024 MiB"):
        journal.read(tmp_path)


def test_digests_are_of_entries_that_have_both() -> None:
    entries: tuple[dict[str, Any], ...] = (
        {"file": "a", "sha256": "1"},
        {"file": "b"},
        {"file": 1, "sha256": "2"},
        {"sha256": "3"},
    )

    assert list(journal.digests(entries)) == [("a", "1")]
