"""Points in time as people type them: seconds since a start, or what a clock showed."""

import re
from datetime import datetime, time, timedelta

from kmwatch.errors import UsageError

_SPAN = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?")
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}(?:\.\d+)?))?")


def parse(text: str | None, start: float, option: str) -> float | None:
    """Seconds since `start` (itself seconds since the epoch) of a point in time; None for None.

    12.5, 90s, 1m30, 2h: since the start. 14:03, 14:03:07: the first time after the start that a clock here showed it.
    2026-11-22T14:03: a date. Raises UsageError, naming the option, for anything else, and for a clock's time where the
    start is not known (0.0).
    """
    if text is None:
        return None
    span = duration(text)
    if span is not None:
        return span
    point = _point(text, start)
    if point is None:
        raise UsageError(f"{option} {text!r:.40} is no point in time: 12.5, 1m30s, 14:03:07 or 2026-11-22T14:03")
    if not start:
        raise UsageError(f"{option} {text!r:.40}: when this capture began is not known; give seconds since its start")
    return point - start


def duration(text: str) -> float | None:
    """The seconds of 12.5, 90s, 1m30 or 2h; None for anything else."""
    span = _SPAN.fullmatch(text) if text and text.isascii() else None
    if not span:
        return None
    hours, minutes, seconds = (float(part or 0) for part in span.groups())
    return hours * 3600 + minutes * 60 + seconds


def _point(text: str, start: float) -> float | None:
    try:
        if clock := _CLOCK.fullmatch(text):
            seconds = float(clock[3] or 0)
            shown = time(int(clock[1]), int(clock[2]), int(seconds), min(round(seconds % 1 * 1e6), 999_999))
            day = datetime.fromtimestamp(start).astimezone().date()
            # A day can have 23 or 25 hours; in the second of two equal hours, `fold` is 1.
            moments = (
                datetime.combine(day + timedelta(days), shown.replace(fold=fold)).timestamp()
                for days in range(2)
                for fold in range(2)
            )
            # To the second: a clock shows no fraction, and what it showed at the start is the start.
            return next(moment for moment in moments if moment >= int(start))
        return datetime.fromisoformat(text).astimezone().timestamp()
    except (ValueError, OverflowError, OSError):
        return None
