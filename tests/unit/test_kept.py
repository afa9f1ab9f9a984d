"""Files that stay open."""

from pathlib import Path

import pytest

from kmwatch.errors import NotPossibleError
from kmwatch.kernel import kept
from kmwatch.kernel.kept import Kept


def test_it_is_read_anew_each_time_and_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "_PIECE", 3)
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    with Kept(path) as file:
        assert file.read() == b"0123456789"
        path.write_bytes(b"01")
        assert file.read() == b"01"


def test_it_stays_readable_when_its_path_is_not(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"here")
    with Kept(path) as file:
        file.read()
        path.unlink()
        assert file.read() == b"here"
    with pytest.raises(NotPossibleError, match=r"cannot read .*file \(No such file or directory\): run as root"):
        file.read()
