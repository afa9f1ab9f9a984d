"""What a synthetic fleet has in it, as text."""

from typing import Any

from rich.console import Console
from rich.text import Text

from kmwatch.units import number, printable


def render(data: dict[str, Any], where: str, console: Console) -> None:
    """Print what kmwatch.fleet.synth.make gives; the fleet is at `where`."""
    counts = f"{number(data['hosts'])} hosts, {number(data['events'])} events, seed {data['seed']}"
    console.print(Text(f"{counts}: {printable(where)}"), soft_wrap=True)
    console.print(Text("planted:"))
    for each in data["planted"]:
        which = each.get("host", "")
        place = f"{each['function']} [{each['module']}]" if each["module"] else each["function"]
        console.print(Text(f"  {f'{which}: ' if which else ''}{place} {each['says']}"), soft_wrap=True)
