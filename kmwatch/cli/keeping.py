"""What `record` and `import` have in common: segments on their way from a recorder to a capture."""

import time
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kmwatch.cli.base import say

if TYPE_CHECKING:
    from kmwatch.capture.writer import Writer
    from kmwatch.cli.targets import Target
    from kmwatch.sources.ring import RingRecorder
    from kmwatch.sources.text import Text
    from kmwatch.sources.workload import Workload
    from kmwatch.views.progress import Progress

_NO_REALTIME = "reading has to wait for its turn: where all CPUs are busy, events may be lost"


def record_running(
    target: "Target", command: tuple[str, ...], duration: float | None, kinds: str | None, options: dict[str, Any]
) -> None:
    """Record the running kernel until the time is up, the command has ended, the room is full, or Ctrl-C."""
    from kmwatch.schema import Stacks
    from kmwatch.sources.probes import parse_kinds
    from kmwatch.sources.realtime import realtime
    from kmwatch.sources.ring import RingRecorder
    from kmwatch.sources.workload import Workload
    from kmwatch.views.progress import Progress

    chosen, stacks = parse_kinds(kinds), Stacks[options["stacks"].upper()]
    target.check()
    progress = Progress(quiet=options["quiet"])
    with Workload(command, duration) as workload:
        recorder = RingRecorder(chosen, stacks, workload.finished)
        # Not while events come in: a server may take its time.
        destination = target.place(replace(recorder.meta, start=time.time()))
        with destination, recorder:
            say(recorder.notes)
            extra = {
                "kinds": sorted(kind.name.lower() for kind in chosen),
                "stacks": options["stacks"],
                "command": list(command),
                "monotonic": time.monotonic() - (time.time() - recorder.meta.start),
                "formats": recorder.formats,
            }
            writer = _writer(destination.directory, recorder, extra, options)
            with realtime() if options["realtime"] else nullcontext("") as obstacle:
                say([f"{_NO_REALTIME} ({obstacle})"] if obstacle else [])
                _record(recorder, workload, writer, progress)
    destination.deliver()
    progress.close(writer.so_far(), destination.where)
    if writer.error:
        say([str(writer.error)])


def _writer(directory: Path, recorder: "RingRecorder", extra: dict[str, Any], options: dict[str, Any]) -> "Writer":
    from kmwatch.capture.writer import Writer

    bounds = {"force": options["force"], "rotate": options["rotate"], "most": options["max_size"]}
    return Writer(directory, recorder, extra, **bounds)


def _record(recorder: "RingRecorder", workload: "Workload", writer: "Writer", progress: "Progress") -> None:
    with writer, progress:
        workload.start()
        for segment in recorder.segments():
            writer.write(segment)
            if writer.error:
                recorder.stop()
            progress.show({**writer.so_far(), "fill": recorder.take_fill()})
        writer.finish(workload.why(), {"lost_by_kind": recorder.unrecorded})


def import_text(text: "Text", output: Path, *, force: bool, quiet: bool) -> None:
    """Keep what a text tells as a capture, and say what of it is in doubt."""
    from kmwatch.capture.writer import Writer
    from kmwatch.views.progress import Progress

    extra = {"imported": {"kind": text.kind}}
    with Writer(output, text, extra, force=force) as writer, Progress(quiet=quiet) as progress:
        for segment in text.segments():
            writer.write(segment)
            progress.show(writer.so_far())
        doubts = asdict(text.doubts)
        extra["imported"].update({name: doubts[name] for name in ("lines", "events", "skipped", "lost", "notes")})
        writer.finish(f"the {text.kind} text ended", {})
        progress.close(writer.so_far(), str(output))
    if not quiet:
        say(_in_words(text))


def _in_words(text: "Text") -> list[str]:
    doubts, words = text.doubts, []
    if doubts.skipped:
        words.append(f"{doubts.skipped:,} of {doubts.lines:,} lines are not understood (--strict refuses them):")
        words += [f"  line {number}: {line}" for number, line in doubts.first]
    return words + doubts.notes
