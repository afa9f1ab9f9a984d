"""`kmwatch explain NAME` and `kmwatch gfp MASK`: what a word means, and what it is on this kernel."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from kmwatch import terms, units
from kmwatch.errors import UsageError
from kmwatch.kernel.gfp import GfpTable, logged, nearest
from kmwatch.kernel.slab import AllocatorLimits
from kmwatch.views import gfp_remarks

if TYPE_CHECKING:  # Rich takes longer to import than everything else here
    from rich.console import Console
    from rich.text import Text

TERM_SCHEMA = "kmwatch.explain/1"
GFP_SCHEMA = "kmwatch.gfp/1"

# What a page shows, in this order: key of the data, heading. Keys without a value are left out.
_ROWS = (
    ("meaning", "meaning"),
    ("may_sleep", "may sleep"),
    ("zone", "zone"),
    ("sizes", "sizes"),
    ("contiguity", "contiguity"),
    ("sleep", "may sleep"),
    ("use", "use it for"),
    ("avoid", "not for"),
    ("free", "free with"),
    ("observed", "kmwatch sees"),
    ("since", "since"),
    ("until", "removed in"),
    ("replaced_by", "replaced by"),
    ("article", "old texts"),
    ("today", "today"),
    ("this_kernel", "this kernel"),
    ("limits", "this kernel"),
    ("aliases", "also"),
    ("source", "source"),
)
_GFP_ROWS = (
    ("mask", "mask"),
    ("text", "in words"),
    ("flags", "flags"),
    ("unknown", "unknown bits"),
    ("may_sleep", "may sleep"),
    ("zone", "zone asked"),
    ("opportunistic", "opportunistic"),
    ("remarks", "remarks"),
    ("table", "flag table"),
)
_KINDS = {terms.Flag: "flag", terms.Allocator: "allocator", terms.Concept: "concept"}
_LIST = "`kmwatch explain` without a name lists all names"


def names() -> dict[str, list[str]]:
    """Everything that can be explained, by group, each group in reading order."""
    return {
        "combinations": list(terms.COMBINATIONS),
        "flags": list(terms.MODIFIERS),
        "historical": list(terms.HISTORICAL),
        "allocators": [name for name, term in terms.TERMS.items() if isinstance(term, terms.Allocator)],
        "concepts": [name for name, term in terms.TERMS.items() if isinstance(term, terms.Concept)],
    }


def knows(name: str) -> bool:
    """Whether `build_term` has a page for the name (in any case, or under another name of the same thing)."""
    return _canonical(name) is not None


def build_term(name: str, table: GfpTable, limits: AllocatorLimits) -> dict[str, Any]:
    """The page of one name as plain data, with the values and limits of this kernel (sizes in bytes).

    Raises UsageError, with the nearest names, for a name that has no page.
    """
    canonical = _canonical(name)
    if canonical is None:
        raise UsageError(f"nothing is known of {name!r:.80}{nearest(name, [*terms.TERMS, *terms.ALIASES])}")
    term = terms.TERMS[canonical]
    page: dict[str, Any] = {"schema": TERM_SCHEMA, "kind": _KINDS[type(term)]} | asdict(term)
    if isinstance(term, terms.Flag):
        page["group"] = next(group for group, members in names().items() if canonical in members)
        page["this_kernel"] = _on_this_kernel(canonical, table)
    elif canonical in ("kmalloc", "kmem_cache", "get_free_pages", "alloc_pages", "size-classes", "costly-order"):
        page["limits"] = _limits(limits)
    if "aliases" in page:
        page["aliases"] = list(page["aliases"])
    return page


def build_gfp(args: Sequence[str], table: GfpTable) -> dict[str, Any]:
    """A mask, given as names or numbers, taken apart: plain data.

    Raises UsageError for a name that this kernel does not have; a historical one is told what replaced it.
    """
    text = " ".join(args)
    try:
        mask = table.encode(text)
    except UsageError as error:
        raise UsageError(_better(text, table) or str(error)) from error
    unknown = table.unknown(mask)
    return {
        "schema": GFP_SCHEMA,
        "mask": f"{mask:#x}",
        "text": table.decode(mask),
        "flags": [
            {"name": name, "value": f"{value:#x}", "summary": _summary(name)} for name, value in table.singles(mask)
        ],
        "unknown": f"{unknown:#x}" if unknown else None,
        "may_sleep": table.may_sleep(mask),
        "zone": table.zone_asked(mask),
        "opportunistic": table.opportunistic(mask),
        "remarks": gfp_remarks.remarks(mask, _words(text), table) + _other_kernel(text, table),
        "table": table.source,
    }


def render(data: dict[str, Any], console: "Console") -> None:
    """Print what `build_term` or `build_gfp` made, wrapped to the console's width."""
    from rich.table import Table
    from rich.text import Text

    is_mask = data["schema"] == GFP_SCHEMA
    title = data["text"] if is_mask else data["name"]
    summary = _verdict(data) if is_mask else data["summary"]
    console.print(Text.assemble((title, "bold"), " - ", summary, overflow="fold"))
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(width=min(13, max(1, console.width // 3)), style="dim", overflow="fold")
    grid.add_column(ratio=1, overflow="fold")
    grid.expand = True
    for key, heading in _GFP_ROWS if is_mask else _ROWS:
        if (value := data.get(key)) not in (None, [], ""):
            grid.add_row(Text(heading), _cell(key, value))
    console.print(grid)


def render_names(console: "Console") -> None:
    """Print `names()` as a list per group, wrapped to the console's width."""
    from rich.text import Text

    for group, members in names().items():
        console.print(Text.assemble((group, "bold"), "\n", " ".join(members), overflow="fold"))
    console.print(Text("one of them: kmwatch explain NAME", overflow="fold"))


def _canonical(name: str) -> str | None:
    """The name under which a term stands; case does not matter, nor a trailing ()."""
    wanted = name.strip().removesuffix("()").lower()
    if wanted in _CANONICAL:
        return _CANONICAL[wanted]
    # `explain DMA32` can only mean the zone: flags carry their prefix.
    return _CANONICAL.get(f"zone_{wanted}")


_CANONICAL = {name.lower(): name for name in terms.TERMS} | {
    alias.lower(): name for alias, name in terms.ALIASES.items()
}


def _on_this_kernel(name: str, table: GfpTable) -> dict[str, Any]:
    """Value and single bits of a flag here, in hexadecimal; `has` is False when the table has no such flag."""
    value = table.bit(name)
    return {
        "has": bool(value),
        "value": f"{value:#x}" if value else None,
        "bits": [{"name": bit, "value": f"{number:#x}"} for bit, number in table.singles(value)],
        "table": table.source,
    }


def _limits(limits: AllocatorLimits) -> dict[str, Any]:
    """The limits of kmalloc here, in bytes."""
    return {
        "smallest": limits.smallest,
        "classes": list(limits.classes),
        "largest_slab": limits.largest_slab,
        "largest_kmalloc": limits.largest_kmalloc,
        "costly": limits.costly,
        "max_order": limits.max_order,
        "page_size": limits.page_size,
        "source": limits.source,
    }


def _summary(name: str) -> str:
    flag = terms.FLAGS.get(name)
    return flag.summary if flag else "not known to this version of kmwatch"


def _words(text: str) -> list[str]:
    return [word.upper() for word in text.replace("|", " ").replace("+", " ").replace(",", " ").split()]


def _better(text: str, table: GfpTable) -> str | None:
    """A better message for a flag that kmwatch knows and this kernel lacks."""
    for word in _words(text):
        flag = terms.FLAGS.get(_CANONICAL.get(word.lower(), ""))
        if flag is None or table.bit(flag.name):
            continue
        if flag.until:
            instead = f"use {flag.replaced_by}" if flag.replaced_by else "leave it out"
            return f"{flag.name} was removed in Linux {flag.until}: {instead}; see `kmwatch explain {flag.name}`"
        return f"{flag.name} is not configured in this kernel (its value is 0); see `kmwatch explain {flag.name}`"
    return None


def _other_kernel(text: str, table: GfpTable) -> list[str]:
    """A remark when a logged mask carries names that its number does not have here."""
    for number, written in logged(text):
        try:
            same = table.encode(written) == int(number, 16) if written else True
        except UsageError:
            same = False
        if not same:
            return [
                f"The message calls {number} {written}: it comes from a kernel with another flag table. Give the names."
            ]
    return []


def _verdict(data: dict[str, Any]) -> str:
    sleep = "may sleep" if data["may_sleep"] else "does not sleep"
    return f"{sleep}, zone {data['zone']}" + (", expected to fail at times" if data["opportunistic"] else "")


def _cell(key: str, value: Any) -> "Text":
    """One value as text; data is never read as Rich markup."""
    from rich.text import Text

    if isinstance(value, bool):
        text = "yes" if value else "no"
    elif key == "this_kernel":
        text = _kernel_words(value)
    elif key == "limits":
        text = _limit_words(value)
    elif key == "flags":
        text = "\n".join(f"{flag['value']} {flag['name']}: {flag['summary']}" for flag in value)
    elif isinstance(value, list):
        text = ("\n" if key == "remarks" else ", ").join(value)
    else:
        text = f"Linux {value}" if key in ("since", "until") else str(value)
    return Text(text, overflow="fold")


def _kernel_words(here: dict[str, Any]) -> str:
    if not here["has"]:
        return f"has no such flag ({here['table']})"
    bits = "|".join(bit["name"] for bit in here["bits"])
    return f"{here['value']} = {bits} ({here['table']})"


def _limit_words(limits: dict[str, Any]) -> str:
    classes = " ".join(str(size) for size in limits["classes"])
    return (
        f"smallest {limits['smallest']} B; classes {classes}; "
        f"largest from a slab {units.size(limits['largest_slab'])}, above it whole pages; "
        f"above {units.size(limits['costly'])} the kernel gives up early; "
        f"largest kmalloc {units.size(limits['largest_kmalloc'])} (order {limits['max_order']}). "
        f"From {limits['source']}."
    )
