"""A service with a pipeline that only adds up, run as a program: what the tests need to see, and no metrics.

    python -m tests.live.serving [NAME=VALUE…]

Once the privileges are gone nothing may be imported any more: a service's own files need not be readable to its user.
"""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from kmwatch.errors import KmwatchError
from kmwatch.serve.start import reader, serve

if TYPE_CHECKING:
    from kmwatch.batch import Batch  # it needs numpy, which starts threads


class Closed:
    """A finder of modules that refuses all."""

    def find_spec(self, name: str, *_: object) -> NoReturn:
        """Refuse."""
        raise ImportError(f"{name} is imported after the privileges were dropped")


class Adding:
    """Events by symbol and kind, as JSON, with what the service knows of itself."""

    def __init__(self, source: Any) -> None:
        self._source, self._counts, self._text = source, Counter[str](), b"{}"

    def add(self, batch: "Batch") -> None:
        """Count a batch."""
        for row in batch.rows:
            name = self._source.meta.sites[row["site"]].symbol.partition(".")[0]
            self._counts[f"{name}:{row['kind']}:{row['bytes_alloc']}"] += int(row["count"])

    def publish(self, at: float, own: Any) -> None:
        """Keep it as text."""
        if not isinstance(sys.meta_path[0], Closed):
            sys.meta_path.insert(0, Closed())
        self._text = json.dumps({"at": at, "own": vars(own), "counts": self._counts}).encode()

    def render(self, _accept: str) -> tuple[bytes, str]:
        """The text."""
        return self._text, "application/json"

    def observe(self, seconds: float) -> None:
        """Of no interest."""


def main() -> int:
    """Run as the command does, with its exit codes."""
    words = dict(word.split("=", 1) for word in sys.argv[1:])
    config = words.pop("config", None)
    options: dict[str, Any] = {name: float(value) if name == "interval" else value for name, value in words.items()}
    try:
        reread = reader(Path(config) if config else None, options)
        serve(reread(), reread, Adding)
    except KmwatchError as error:
        sys.stderr.write(f"kmwatch: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
