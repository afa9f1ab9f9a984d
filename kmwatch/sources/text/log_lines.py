"""Lines of a kernel log, whoever printed it: dmesg, journalctl, syslog, a serial console. Stamps come off, times go on.

A line can have several prefixes: `Nov 22 03:14:07 host kernel: [12345.678901][ T1234] text`, `<4>[   12.345678] text`,
`[Sun Nov 22 03:14:07 2026] text`, `2026-11-22T03:14:07,123456+00:00 text`, or none at all.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

from kmwatch.sources.text.doubts import Doubts
from kmwatch.sources.text.stream import LONGEST_LINE, Stream

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH = f"({'|'.join(_MONTHS)})"
_OF_DAY = r"(\d\d):(\d\d):(\d\d)"
_BOOT = re.compile(r"\[\s{0,12}(\d{1,9})\.(\d{1,9})\](?:\[\s{0,12}([TC]\d{1,10})\])?\s?")
_ISO = re.compile(rf"(\d{{4}})-(\d\d)-(\d\d)[T ]{_OF_DAY}(?:[.,](\d{{1,9}}))?(Z|[+-]\d\d:?\d\d)?\s", re.ASCII)
_DATED = re.compile(rf"\[?(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)\s{_MONTH}\s{{1,2}}(\d{{1,2}})\s{_OF_DAY}\s(\d{{4}})\]?\s")
_SYSLOG = re.compile(rf"{_MONTH}\s{{1,2}}(\d{{1,2}})\s{_OF_DAY}(?:[.,](\d{{1,9}}))?\s")
_TAG = re.compile(r"(?:[\w.:-]{1,255}\s){0,2}kernel(?:\[\d{1,10}\])?:\s?")
_PRIORITY = re.compile(r"<\d{1,3}>")
_COLOUR = re.compile(r"\x1b\[[0-9;]{0,16}[mK]")
_RESTART = 10.0  # seconds; CPUs print out of order by less
_LONGEST = 4e9  # seconds; more than a century, and in nanoseconds still a number of 64 bits
_NO_YEAR = 2000  # a leap year


@dataclass(frozen=True)
class Line:
    """A line without its prefixes.

    seconds: since the first line with a time; stamp: that time as the log has it; caller: who printed, `T1234` or `C1`,
    "" where the kernel does not say.
    """

    text: str
    seconds: float = 0.0
    stamp: str = ""
    caller: str = ""


@dataclass
class Clock:
    """Takes prefixes off and turns the times of all kinds into seconds since the first.

    A time that goes back is a restart of the machine: the times after it follow on.
    """

    doubts: Doubts
    _kind: str = ""
    _shift: float = 0.0
    _last: float = 0.0
    _stamp: str = ""
    _year: int = _NO_YEAR
    _month: int = 0

    def line(self, raw: str) -> Line:
        """A line of the log."""
        text = _COLOUR.sub("", raw) if "\x1b" in raw else raw
        found: dict[str, tuple[float, str]] = {}
        caller = ""
        for _ in range(5):
            text, more, who = self._prefix(text, found)
            caller = who or caller
            if not more:
                break
        if found:
            self._advance(found)
        return Line(text.rstrip(), self._last, self._stamp, caller)

    def _prefix(self, text: str, found: dict[str, tuple[float, str]]) -> tuple[str, bool, str]:
        """The text without its first prefix, whether there was one, and the caller that it names."""
        if match := _BOOT.match(text):
            found["boot"] = float(f"{match[1]}.{match[2]}"), f"{match[1]}.{match[2]}"
            return text[match.end() :], True, match[3] or ""
        for pattern in (_ISO, _DATED, _SYSLOG):
            if "wall" not in found and (match := pattern.match(text)):
                if time := self._wall(pattern, match):
                    found["wall"] = time, match[0].strip(" []")
                return text[match.end() :], True, ""
        for pattern in (_PRIORITY, _TAG):
            if match := pattern.match(text):
                return text[match.end() :], True, ""
        return text, False, ""

    def _advance(self, found: dict[str, tuple[float, str]]) -> None:
        """Move on to the time of a line: that since boot where it has one, for it is the finer."""
        kind = "boot" if "boot" in found else "wall"
        if kind == "wall" and self._kind == "boot":
            return
        value, self._stamp = found[kind]
        if not self._kind:
            self._shift = -value
        elif kind != self._kind:
            self._shift = self._last - value
        elif value + self._shift < self._last - _RESTART:
            self._shift = self._last - value
            self.doubts.note("the log spans a restart of the machine: later times follow on without the pause")
        self._kind, self._last = kind, min(max(self._last, value + self._shift), _LONGEST)

    def _wall(self, pattern: re.Pattern[str], match: re.Match[str]) -> float:
        """Seconds since the epoch; syslog has no year, so one is counted up where the months begin again."""
        if pattern is _ISO:
            date, rest = (int(match[1]), int(match[2]), int(match[3])), match.groups()[3:]
            return _epoch(date, rest[:3], rest[3], rest[4])
        month = _MONTHS.index(match[1]) + 1
        if pattern is _DATED:
            return _epoch((int(match[6]), month, int(match[2])), match.groups()[2:5])
        if month < self._month - 6:
            self._year += 1
        self._month = month
        day = 28 if match[2] == "29" and month == 2 and self._year % 4 else int(match[2])
        return _epoch((self._year, month, day), match.groups()[2:5], match[6])


def lines(stream: Stream) -> Iterator[tuple[int, str]]:
    """The lines of a text with their numbers; those that are too long are skipped and counted."""
    doubts = stream.doubts
    for chunk in stream.chunks(len):
        for line in chunk.removesuffix("\n").split("\n"):
            doubts.lines += 1
            if len(line) > LONGEST_LINE:
                doubts.skip(doubts.lines, "a line of more than 64 KiB")
            else:
                yield doubts.lines, line


def has_prefix(line: str) -> bool:
    """Whether a line begins as the kernel log's lines do, with a time that no trace has."""
    line = _PRIORITY.sub("", line, count=1)
    if _BOOT.match(line):
        return True
    match = _ISO.match(line) or _DATED.match(line) or _SYSLOG.match(line)
    rest = line[match.end() :] if match else line
    return bool(_TAG.match(rest)) or bool(match and (_BOOT.match(rest) or line.startswith("[")))


def _epoch(
    date: tuple[int, int, int], of_day: tuple[str | None, ...], fraction: str | None = None, zone: str | None = None
) -> float:
    """Seconds since the epoch; 0.0 for a date that does not exist. Without a zone the time is taken for UTC."""
    hour, minute, second = (int(each or 0) for each in of_day)
    offset: timezone = UTC
    if zone and zone != "Z":
        digits = zone[1:].replace(":", "")
        offset = timezone(
            (1 if zone[0] == "+" else -1) * timedelta(hours=int(digits[:2]) % 24, minutes=int(digits[2:]) % 60)
        )
    try:
        moment = datetime(*date, hour, minute, min(second, 59), tzinfo=offset)
    except ValueError:
        return 0.0
    return moment.timestamp() + float(f"0.{fraction or 0}")
