"""The live screen, `kmwatch top`: who allocates what, how, and from which context, refreshed all the time."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from kmwatch.batch import Source
from kmwatch.errors import KmwatchError, UsageError
from kmwatch.thresholds import DEFAULTS, Thresholds

if TYPE_CHECKING:
    from kmwatch.views.top.app import TopApp

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PATIENCE = 5.0  # seconds after a signal until the process goes, whatever hangs; the kernel then detaches the programs


def run(
    source: Source,
    opened: Callable[[], None] = lambda: None,
    thresholds: Thresholds = DEFAULTS,
    view: str = "sites",
) -> None:
    """Show a source until it ends or the user leaves; it is closed when this returns or raises.

    Raises UsageError where there is no terminal or too small a one, what the source raised, and SystemExit after a
    signal other than SIGINT.

    Args:
        source: not yet entered.
        opened: called, in another thread, when the source is open.
        thresholds: what the rules hold it to.
        view: the name of the view to begin with.
    """
    refuse_terminal()
    from kmwatch.views.top.app import TopApp
    from kmwatch.views.top.feed import Feed

    feed = Feed(source, opened, thresholds, view)
    app = TopApp(feed)
    with _leaving_on_signals(app) as caught:
        try:
            with _own_output():
                app.run()
        finally:
            feed.close()
    if feed.error:
        raise feed.error
    if app.return_code:
        raise KmwatchError("the live screen failed, see above; `kmwatch top --once` does without it")
    if caught and caught[0] != signal.SIGINT:
        raise SystemExit(128 + caught[0])


def refuse_terminal() -> None:
    """Raise UsageError unless there is a terminal to read from and to draw on, and large enough."""
    from kmwatch.views.top.app import SMALLEST

    instead = "`kmwatch top --once` or `--json` need none"
    streams = {"input": sys.__stdin__, "output": sys.__stdout__, "error output": sys.__stderr__}
    for name, stream in streams.items():
        if stream is None or stream.closed or not stream.isatty():
            raise UsageError(f"kmwatch top needs a terminal, and its {name} is not one: {instead}")
    if os.environ.get("TERM", "dumb") == "dumb":
        raise UsageError(f"this terminal cannot place text (TERM is dumb or unset): {instead}")
    columns, lines = os.get_terminal_size(1)
    if columns < SMALLEST[0] or lines < SMALLEST[1]:
        size, least = f"{columns}x{lines}", f"{SMALLEST[0]}x{SMALLEST[1]}"
        raise UsageError(
            f"the terminal is {size}; kmwatch top needs at least {least}: enlarge it, or use `kmwatch top --once`"
        )


@contextmanager
def _own_output() -> Iterator[None]:
    """Textual draws on sys.__stderr__: give it a descriptor of its own.

    While a source compiles, descriptor 2 may be turned away to catch what the compiler says; what was drawn meanwhile
    would be lost, and with it the restoring of the terminal.
    """
    before, own = sys.__stderr__, os.fdopen(os.dup(2), "w", encoding="utf-8", errors="replace")
    sys.__stderr__ = own  # type: ignore[misc]  # final for type checkers only
    try:
        yield
    finally:
        sys.__stderr__ = before  # type: ignore[misc]
        with suppress(OSError):  # the terminal may be gone
            own.close()


@contextmanager
def _leaving_on_signals(app: "TopApp") -> Iterator[list[int]]:
    """SIGINT, SIGTERM and SIGHUP make the app leave in order; gives the list of those that came."""
    caught: list[int] = []

    def leave(number: int, _frame: Any) -> None:
        caught.append(number)
        watchdog = threading.Timer(_PATIENCE, os._exit, [128 + number])
        watchdog.daemon = True
        watchdog.start()
        app.leave()

    before = {number: signal.signal(number, leave) for number in _SIGNALS}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
