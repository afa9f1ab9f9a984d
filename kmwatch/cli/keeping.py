"""What `record` and `import` have in common: segments on their way from a recorder to a capture."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kmwatch.cli.base import say

if TYPE_CHECKING:
    from kmwatch.sources.ring import RingRecorder
    from kmwatch.sources.text import Text
    from kmwatch.sources.workload import Workload


def record_running(
    output: Path, command: tuple[str, ...], duration: float | None, kinds: str | None, options: dict[str, Any]
) -> None:
    """Record the running kernel until the time is up, the command has ended, the room is full, or Ctrl-C."""
    from kmwatch.capture.store import refuse_target
    from kmwatch.schema import Stacks
    from kmwatch.sources.probes import parse_kinds
    from kmwatch.sources.ring import RingRecorder
    from kmwatch.sources.workload import Workload

    chosen, stacks = parse_kinds(kinds), Stacks[options["stacks"].upper()]
    refuse_target(output, force=options["force"])
    with Workload(command, duration) as workload, RingRecorder(chosen, stacks, workload.finished) as recorder:
        say(recorder.notes)
        extra = {
            "kinds": sorted(kind.name.lower() for kind in chosen),
            "stacks": options["stacks"],
            "command": list(command),
            "monotonic": time.monotonic() - (time.time() - recorder.meta.start),
            "formats": recorder.formats,
        }
        _record(recorder, workload, output, extra, options)


def _record(
    recorder: "RingRecorder", workload: "Workload", output: Path, extra: dict[str, Any], options: dict[str, Any]
) -> None:
    from kmwatch.capture.writer import Writer
    from kmwatch.views.progress import Progress

    bounds = {"force": options["force"], "rotate": options["rotate"], "most": options["max_size"]}
    with Writer(output, recorder, extra, **bounds) as writer, Progress(quiet=options["quiet"]) as progress:
        workload.start()
        for segment in recorder.segments():
            writer.write(segment)
            if writer.error:
                recorder.stop()
            progress.show({**writer.so_far(), "fill": recorder.take_fill()})
        writer.finish(workload.why(), {"lost_by_kind": recorder.unrecorded})
        progress.close(writer.so_far(), str(output))
        if writer.error:
            say([str(writer.error)])


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
