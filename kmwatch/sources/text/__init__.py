"""Texts that other tools wrote, as recorders: ftrace, perf script, trace-cmd report, and the kernel's log."""

from pathlib import Path
from typing import Protocol

from kmwatch.errors import BadInputError
from kmwatch.events import Recorder
from kmwatch.sources.text.doubts import Doubts
from kmwatch.sources.text.recorder import TextRecorder
from kmwatch.sources.text.shapes import shape_of
from kmwatch.sources.text.stream import Progress, Stream

__all__ = ["Doubts", "Text", "TextRecorder", "open_text"]


class Text(Recorder, Protocol):
    """A recorder of a text: `kind` says which tool wrote it, `doubts` what was not understood or is missing."""

    kind: str
    doubts: Doubts


def _unheard(_: int, __: int) -> None:
    """Nobody wants to know."""


def open_text(path: Path, *, kallsyms: Path | None = None, strict: bool = False, progress: Progress = _unheard) -> Text:
    """The recorder for a text, by what it says: neither its name nor its place matters.

    Args:
        path: a file, plain or gzip, or `-` for standard input; a trace can be a pipe.
        kallsyms: a copy of /proc/kallsyms of the boot that was traced, for texts whose call sites are addresses.
        strict: a line that is not understood is an error; otherwise it is skipped, and counted in `doubts`.
        progress: told the bytes read and the bytes in all, 0 where that is not known.

    Raises BadInputError where the file cannot be read or is none of these texts.
    """
    from kmwatch.sources.text import kernel_log

    stream = Stream(path, progress)
    head = stream.head
    try:
        if shape := shape_of(head):
            return TextRecorder(stream, shape, kallsyms, strict=strict)
        if kernel_log.looks_like(head):
            return kernel_log.KernelLog(stream, kallsyms, strict)
    except BadInputError:
        stream.close()
        raise
    stream.close()
    raise BadInputError(
        f"{path} is no text that is understood: give ftrace's `trace`, the output of `perf script` or"
        " `trace-cmd report`, or a kernel log"
    )
