"""Commands that explain: this kernel's abilities, GFP flags, terms and rules."""

from typing import TYPE_CHECKING

import click

from kmwatch.cli.base import JSON, cli, emit, examples

if TYPE_CHECKING:
    from rich.console import Console


@cli.command(epilog=examples("kmwatch doctor", "sudo kmwatch doctor --attach"))
@click.option("--attach", is_flag=True, help="Also compile, load and attach every program, then detach it.")
@JSON
def doctor(attach: bool, as_json: bool) -> int:
    """Say what this kernel and this user allow, and how to fix what they do not.

    Leaves with 3 where the main job, watching live, cannot run.
    """
    from kmwatch.sources.doctor import examine
    from kmwatch.views import doctor as view

    data = view.build(examine(attach=attach))
    emit(data, as_json, lambda console: view.render(data, console))
    return 0 if data["can_watch"] else 3


@cli.command(
    epilog=examples("kmwatch gfp 0x820", "kmwatch gfp GFP_KERNEL __GFP_ZERO", "kmwatch gfp 'mode:0xa20(GFP_ATOMIC)'")
)
@click.argument("flags", nargs=-1, required=True, metavar="MASK|NAME…")
@JSON
def gfp(flags: tuple[str, ...], as_json: bool) -> None:
    """Decode a GFP mask, or encode flags, with this kernel's own table."""
    from kmwatch.kernel.gfp import running_table
    from kmwatch.views import explain as view

    data = view.build_gfp(flags, running_table())
    emit(data, as_json, lambda console: view.render(data, console))


@cli.command(
    epilog=examples("kmwatch explain GFP_ATOMIC", "kmwatch explain vremap", "kmwatch explain KM201", "kmwatch explain")
)
@click.argument("name", required=False)
@JSON
def explain(name: str | None, as_json: bool) -> None:
    """Explain a GFP flag, an allocator, a term or a rule; without NAME, list them all."""
    from kmwatch.kernel.gfp import running_table
    from kmwatch.kernel.slab import running_limits
    from kmwatch.views import explain as view
    from kmwatch.views import rulebook

    if name is None:
        emit({**view.names(), "rules": rulebook.codes()}, as_json, _render_all_names)
    elif not view.knows(name) and (name.upper().startswith("KM") or rulebook.knows(name)):
        page = rulebook.build(name)
        emit(page, as_json, lambda console: rulebook.render(page, console))
    else:
        data = view.build_term(name, running_table(), running_limits())
        emit(data, as_json, lambda console: view.render(data, console))


@cli.command(epilog=examples("kmwatch rules", "kmwatch rules --json"))
@JSON
def rules(as_json: bool) -> None:
    """List the rule book."""
    from kmwatch.views import rulebook

    emit(rulebook.build_all(), as_json, rulebook.render_names)


def _render_all_names(console: "Console") -> None:
    from kmwatch.views import explain, rulebook

    explain.render_names(console)
    rulebook.render_names(console)
