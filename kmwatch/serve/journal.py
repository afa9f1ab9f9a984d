"""What the service says: one line on stderr for each thing, with its priority where journald reads it."""

import os
import sys
from collections.abc import Mapping

_INFO, _WARNING = 6, 4  # syslog(3); sd-daemon(3) has them in front of a line


class Journal:
    """Lines of the log; every line is one event, whatever is in its words."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._marked = "JOURNAL_STREAM" in environment

    def info(self, words: str) -> None:
        """Say something that is as it should be."""
        self._write(_INFO, words)

    def warn(self, words: str) -> None:
        """Say something that somebody should look at."""
        self._write(_WARNING, words)

    def _write(self, priority: int, words: str) -> None:
        mark = f"<{priority}>" if self._marked else ""
        sys.stderr.write(f"{mark}kmwatch: {' '.join(words.split())}\n")
        sys.stderr.flush()
