"""What a capture is: whose memory, when, how much of it, and what is missing."""

import shlex
from datetime import UTC, datetime
from typing import Any

from rich.console import Console

from kmwatch.capture.reader import Capture
from kmwatch.units import number, seconds, short, size
from kmwatch.views.text import show_lines


def build(capture: Capture) -> dict[str, Any]:
    """The capture as plain data; bytes and counts, seconds."""
    meta, manifest, files = capture.meta, capture.manifest, [each for each in capture.segments if each.path]
    lost = sum(segment.trust.lost for segment in capture.segments)
    return {
        "path": str(capture.directory),
        "version": manifest["version"],
        "kmwatch": str(manifest.get("kmwatch")),
        "host": {"hostname": meta.host.hostname, "kernel": meta.host.kernel, "cpus": meta.host.cpus},
        "boot_id": meta.host.boot_id,
        "start": meta.start,
        "seconds": round(sum(segment.seconds for segment in capture.segments), 6),
        "ended": str(capture.end["reason"]) if capture.end and "reason" in capture.end else None,
        "events": capture.events,
        "lost": lost,
        "lost_by_kind": capture.end.get("lost_by_kind", {}) if capture.end else {},
        "dropped_events": capture.dropped_events,
        "segments": len(files),
        "bytes": sum(path.stat().st_size for path in capture.directory.iterdir() if path.is_file()),
        "keys": len(capture.keys),
        "sites": len(meta.sites) - 1,
        "stacks": len(meta.stacks),
        "tasks": len(meta.tasks) - 1,
        "kinds": manifest.get("kinds"),
        "stacks_taken": manifest.get("stacks"),
        "command": manifest.get("command"),
        "imported": capture.imported or None,
        "context": meta.context or None,
        "failures": len(meta.failures),
        "doubts": capture.doubts,
    }


def _clock(start: float) -> str:
    if not start:
        return "at an unknown time"
    return datetime.fromtimestamp(start, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def _imported(text: dict[str, Any]) -> str:
    if not text:
        return ""
    said = ", ".join(f"{number(text[name])} {name}" for name in ("lines", "events", "skipped", "lost") if name in text)
    return f"{text.get('kind')}: {said}" + "".join(f"; {note}" for note in text.get("notes", ()))


def render(data: dict[str, Any], console: Console) -> None:
    """Print it."""
    host, events = data["host"], max(data["events"], 1)
    rate, each = data["events"] / max(data["seconds"], 1e-9), data["bytes"] / events
    dropped = f", {number(data['dropped_events'])} dropped" if data["dropped_events"] else ""
    lines = {
        "capture": f"{data['path']}: version {data['version']}, written by kmwatch {data['kmwatch']}",
        "kernel": f"{host['hostname']}, Linux {host['kernel']}, {host['cpus']} CPUs",
        "when": f"{_clock(data['start'])}, {seconds(data['seconds'])}: {data['ended'] or 'cut, without an end'}",
        "command": " ".join(shlex.join(map(str, data["command"] or ())).split()),
        "imported": _imported(data["imported"] or {}),
        "events": f"{number(data['events'])} ({short(rate)}/s), {number(data['lost'])} lost{dropped}",
        "disk": f"{size(data['bytes'])}, {number(data['segments'])} segments, {each:.1f} bytes an event",
        "tables": f"{number(data['keys'])} keys, {number(data['sites'])} sites, {number(data['stacks'])} stacks, "
        f"{number(data['tasks'])} tasks",
        "context": data["context"] or "unknown",
        "missing": "; ".join(data["doubts"]),
    }
    show_lines(lines, console)
