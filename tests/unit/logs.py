"""Kernel logs for tests: what is read from one."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kmwatch.batch import ROW, Batch
from kmwatch.events import Segment
from kmwatch.failures import Failure
from kmwatch.ledger import Ledger
from kmwatch.sources.text.kernel_log import KernelLog
from kmwatch.verdicts import Verdict, judge

LOGS = Path(__file__).parent.parent / "data" / "logs"


@dataclass(frozen=True)
class Read:
    """A log that was read to its end."""

    log: KernelLog
    segments: list[Segment]

    @property
    def failures(self) -> list[Failure]:
        """All that it tells of."""
        return self.log.meta.failures

    @property
    def only(self) -> Failure:
        """The one failure."""
        (failure,) = self.failures
        return failure

    def names(self, failure: Failure) -> str:
        """The flags of its mask."""
        return self.log.meta.gfp.decode(failure.gfp)

    def verdict(self, failure: Failure) -> Verdict:
        """Why it happened."""
        return judge(failure, self.log.meta.gfp, self.log.meta.limits)

    def events(self) -> Iterator[dict[str, int]]:
        """Each event with the fields of its key."""
        keys = self.log.keys
        for segment in self.segments:
            for at in range(len(segment)):
                event = {name: int(column[at]) for name, column in segment.columns.items()}
                yield event | {name: int(keys[name][event["key"]]) for name in keys.dtype.names or ()}

    def ledger(self) -> Ledger:
        """The events, grouped."""
        made = Ledger(self.log.meta)
        for segment in self.segments:
            keys = self.log.keys[segment.columns["key"]]
            rows = np.zeros(len(keys), ROW)
            for name in keys.dtype.names or ():
                rows[name] = keys[name]
            rows["count"] = 1
            made.add(Batch(rows, segment.start, max(segment.seconds, 1.0), segment.trust))
        return made


def read(path: Path, *, strict: bool = False) -> Read:
    log = KernelLog(path, None, strict)
    return Read(log, list(log.segments()))


def sample(name: str) -> Read:
    """One of the logs in tests/data/logs."""
    return read(LOGS / f"linux-{name}.txt")


def written(directory: Path, text: str | bytes, *, strict: bool = False) -> Read:
    """A log made of these lines."""
    path = directory / "log.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read(path, strict=strict)
