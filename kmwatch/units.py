"""Numbers to words."""

_STEPS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def size(value: float) -> str:
    """Bytes as a person writes them: `640 B`, `1.5 KiB`, `-2.0 MiB`."""
    amount = float(value)
    for step in _STEPS:
        if abs(amount) < 1024 or step == _STEPS[-1]:
            return f"{amount:.0f} {step}" if step == "B" else f"{amount:.1f} {step}"
        amount /= 1024
    raise AssertionError  # the loop always returns at the last step


def short(value: float) -> str:
    """A count in at most six characters: `9999`, `12.3k`, `4.6M`, `7.8G`."""
    amount = float(value)
    for suffix in ("", "k", "M", "G", "T"):
        # What rounds up to one character more belongs to the next step.
        if abs(amount) < (999.95 if suffix else 9999.5) or suffix == "T":
            return f"{amount:.0f}" if not suffix else f"{amount:.1f}{suffix}"
        amount /= 1000
    raise AssertionError  # the loop always returns at the last step


def number(value: int) -> str:
    """A whole number with a thin grouping that no locale changes: `10 007`."""
    return f"{value:,}".replace(",", " ")


def seconds(value: float) -> str:
    """A duration in seconds, as `0.5 s`, `42 s`, `3 min 05 s`."""
    if value < 10:
        return f"{value:.1f} s"
    whole = round(value)
    return f"{whole} s" if whole < 120 else f"{whole // 60} min {whole % 60:02d} s"


def span(value: float) -> str:
    """A time of any length in at most six characters: `256 ns`, `1.0 µs`, `131 ms`, `4.2 s`, `12 min`, `3.5 h`."""
    for unit, scale in (("ns", 1e-9), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0)):
        if value < (1000 if unit != "s" else 120) * scale:
            amount = value / scale
            return f"{amount:.1f} {unit}" if amount < 9.95 and unit != "ns" else f"{amount:.0f} {unit}"
    return f"{value / 60:.0f} min" if value < 7200 else f"{value / 3600:.1f} h"


def printable(text: str) -> str:
    """Text that cannot steer a terminal: symbols, caches and hosts can hold any bytes."""
    return text if text.isprintable() else "".join(each if each.isprintable() else "�" for each in text)
