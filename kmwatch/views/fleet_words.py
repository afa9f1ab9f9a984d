"""The words that the fleet's terminal view and its page share, made of plain data; names in them are as they came."""

from typing import Any

from kmwatch.fleet.measures import MEASURES, factor
from kmwatch.units import number, size, span

_LEAST_SHARE = 0.005


def place(each: dict[str, Any]) -> str:
    """A function and its module, as the kernel prints them."""
    return f"{each['symbol']} [{each['module']}]" if each["module"] else str(each["symbol"])


def many(count: int, one: str) -> str:
    """So many of something, `1 host` or `12 hosts`."""
    return f"{number(count)} {one}{'s' if count != 1 else ''}"


def summary(data: dict[str, Any]) -> dict[str, str]:
    """What was surveyed, by label; "" where there is nothing to say."""
    told, totals = data["captures"], data["report"]["totals"]
    share = totals["bytes_wasted"] / max(totals["bytes_allocated"], 1)
    skipped = many(len(data["skipped"]), "capture") + " could not be used" if data["skipped"] else ""
    return {
        "fleet": f"{many(told['hosts'], 'host')}, {many(told['count'], 'capture')}, "
        f"{span(told['seconds'])} watched in all",
        "kernels": ", ".join(f"{each['release']} ({many(each['hosts'], 'host')})" for each in data["kernels"]),
        "events": f"{number(told['events'])}, {number(told['lost'])} lost",
        "memory": f"{size(totals['bytes_allocated'])} allocated, {size(totals['bytes_wasted'])} of it never asked for "
        f"({share:.1%})",
        "skipped": skipped,
    }


def verdict(data: dict[str, Any]) -> str:
    """What to know if nothing else is read."""
    if not data["captures"]["hosts"]:
        return "No capture could be read, so nothing can be said."
    first = data["first"]
    if first:
        return f"Look first at {first[0]['host']}: {first[0]['reasons'][0]}."
    if data["findings"]:
        worst = data["findings"][0]
        return f"No host differs from the others; {_of(worst, data)} {worst['name']} at {place(worst)}."
    return "No host differs from the others, and no rule found anything."


def _of(finding: dict[str, Any], data: dict[str, Any]) -> str:
    total = data["captures"]["hosts"]
    return "all have" if finding["hosts"] == total else f"{number(finding['hosts'])} of {number(total)} have"


def rows_title(data: dict[str, Any]) -> str:
    """What the rows of the merged report are."""
    by = data["report"]["by"]
    return f"The whole fleet by {by}" if by else "Sites of the whole fleet"


def left_out(data: dict[str, Any], name: str, shown: int) -> int:
    """How many rows of a list are not shown, those that the data leaves out included."""
    return int(len(data[name]) - shown + data["more"].get(name, 0))


def hosts_of(finding: dict[str, Any]) -> str:
    """How many hosts have a finding, and the share of all."""
    share = f"{finding['share']:.0%}" if finding["share"] >= _LEAST_SHARE else "<1%"
    return f"{number(finding['hosts'])} ({share})"


def saving(finding: dict[str, Any]) -> str:
    """What it would save on all hosts, "" where it saves nothing."""
    value = finding["saving_bytes_per_second"]
    return f"{size(value)}/s" if value > 0 else ""


def outlier_numbers(outlier: dict[str, Any]) -> tuple[str, str, str]:
    """The value, the fleet's median, and how many times that is."""
    shown = MEASURES[outlier["measure"]].shown
    times = outlier["times"]
    return shown(outlier["value"]), shown(outlier["median"]), "" if times is None else factor(times)


def measure(each: dict[str, Any]) -> str:
    """What is compared."""
    return MEASURES[each["measure"]].words


def since(move: dict[str, Any]) -> str:
    """The release that brought a change, with the module's name where it is a module's own."""
    owner = "" if move["subject"] == "kernel" else f"{move['subject']} "
    return f"{owner}{move['after']['release']}"


def before(move: dict[str, Any]) -> str:
    """The release before it."""
    return str(move["before"]["release"])


def move_numbers(move: dict[str, Any]) -> tuple[str, str, str, str]:
    """Both medians, the change, and the hosts on both sides."""
    shown = MEASURES[move["measure"]].shown
    old, new, change = move["before"], move["after"], move["change"]
    grown = "from nothing" if change is None else f"{change:+.0%}"
    return shown(old["median"]), shown(new["median"]), grown, f"{number(old['hosts'])}, {number(new['hosts'])}"
