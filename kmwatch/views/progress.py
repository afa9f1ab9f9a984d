"""How a recording or an import is getting on: one line that is written anew, on a terminal only."""

from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.text import Text

from kmwatch.units import number, seconds, short, size


class Progress:
    """A context manager; `show` may be called as often as there is news."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = Console(stderr=True, highlight=False, quiet=quiet)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._shown = self._console.is_terminal and not quiet

    def __enter__(self) -> Self:
        if self._shown:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, data: dict[str, Any]) -> None:
        """Write the line anew; see `line`."""
        if self._shown:
            self._live.update(Text(line(data)), refresh=True)

    def close(self, data: dict[str, Any], where: str) -> None:
        """The last line, also where there is no terminal: what was kept, and how to look at it."""
        self._live.stop()
        self._console.print(Text(f"{line(data)}: kmwatch report {where}"), soft_wrap=True)


class Bar:
    """A context manager: a bar of how much of a known time has passed, on a terminal only.

    Args:
        words: what is being done.
        whole: the time that it takes, in seconds.
    """

    def __init__(self, words: str, whole: float) -> None:
        self._console = Console(stderr=True, highlight=False)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[news]}"),
            TimeRemainingColumn(),
        )
        self._progress = Bars(*columns, console=self._console, transient=True, disable=not self._console.is_terminal)
        self._task = self._progress.add_task(words, total=whole, news="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, passed: float, news: str) -> None:
        """So many seconds have passed, and what there is to be told."""
        self._progress.update(self._task, completed=passed, news=news)


def line(data: dict[str, Any]) -> str:
    """A recording in one line.

    Args:
        data: seconds, events, lost (events); bytes (on the disk) and fill (of the fullest ring, 0 to 1) if there are.
    """
    rate = data["events"] / max(data["seconds"], 1e-9)
    words = [seconds(data["seconds"]), f"{number(data['events'])} events", f"{short(rate)}/s"]
    if "bytes" in data:
        words.append(size(data["bytes"]))
    words.append(f"{number(data['lost'])} lost")
    if "fill" in data:
        words.append(f"ring {data['fill']:.0%}")
    return ", ".join(words)
