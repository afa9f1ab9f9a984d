"""Putting the service together: what must happen while there are privileges, in the order in which it must happen."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from kmwatch.errors import NotPossibleError
from kmwatch.serve import confine, privileges, tls
from kmwatch.serve.config import ServeConfig

_MEASURED = 60.0  # seconds for which the kernel measures what the programs cost, at least


class Pipeline(Protocol):
    """What becomes of batches, from their source to the text that is scraped: a Sink that can be rendered."""

    def add(self, batch: Any) -> None:
        """Count a batch."""

    def publish(self, at: float, own: Any) -> None:
        """Show everything as of `at`, in seconds since the epoch, from now on."""

    def render(self, accept: str) -> tuple[bytes, str]:
        """The metrics as text and its Content-Type, for an Accept header; from another thread."""

    def observe(self, seconds: float) -> None:
        """Take note of how long a scrape took; from another thread."""


def serve(config: ServeConfig, reread: Callable[[], ServeConfig], pipeline: Callable[[Any], Pipeline]) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        config: what holds.
        reread: reads it again, at SIGHUP.
        pipeline: makes what becomes of the batches of a source.
    """
    user = privileges.find_user(config.user)
    privileges.renounce_more()
    # Libraries that start threads come now.
    from kmwatch.serve.server import Pages, Server
    from kmwatch.serve.service import Service
    from kmwatch.sources.held import Hold
    from kmwatch.sources.maps import LiveSource
    from kmwatch.sources.probes import parse_kinds
    from kmwatch.sources.running import Again

    context = tls.context(config)
    hold = Hold() if config.held else None
    kinds = parse_kinds(config.kinds)
    source = LiveSource(kinds, restrained=_MEASURED, again=Again.ALL, hold=hold)
    sink = pipeline(source)
    # An address that is taken is known before anything is attached.
    server = Server(config.listen, context)
    service = Service(source, sink, server, config, reread=reread, drop=lambda works: _give_up(user, works))
    service.run(Pages(sink.render, service.health, sink.observe))


def _give_up(user: privileges.User, works: Callable[[], bool]) -> str:
    """Give up all that is not needed any more, and say so in words."""
    words = privileges.drop(user, works)
    try:
        confine.confine()
    except NotPossibleError as error:
        return f"{words}; {error}"
    if not works():
        raise NotPossibleError("the filter of system calls keeps kmwatch from reading its own maps")
    return f"{words}; attaches and starts nothing more"


def reader(path: Path | None, options: dict[str, Any]) -> Callable[[], ServeConfig]:
    """What reads the configuration: of a file, where there is one, with the options of the command line before it.

    The file is found once, at the start, and held to be there from then on.
    """
    from kmwatch import settings
    from kmwatch.serve.config import parse

    found = settings.find(path)
    file = found.resolve() if found else None
    return lambda: parse(settings.read(file) if file else {}, str(file or settings.CONFIG), options)
