"""HTTP for scrapers: parsed by h11, in one thread, with a bound and a deadline for everything that a client decides.

prometheus-client's own server takes a thread for each connection, without limit and without time-out: two hundred slow
clients are two hundred threads for ever. Here a connection is a coroutine. Where there are too many, the one goes that
has let us wait the longest, so that slow clients displace each other and a scraper always gets in.
"""

import asyncio
import gzip
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

import h11

from kmwatch import __version__
from kmwatch.errors import NotPossibleError
from kmwatch.serve.config import Address

MOST_CONNECTIONS = 256
MOST_HEADER_BYTES = 16 << 10
REQUEST_SECONDS, IDLE_SECONDS, ANSWER_SECONDS, HANDSHAKE_SECONDS = 10.0, 180.0, 30.0, 5.0
"""How long a client may take to send a request, to begin the next one, to read an answer, and to agree on TLS."""

_PIECE = 64 << 10
_BACKLOG = 128
_PAUSE = 0.1  # seconds to wait where the kernel has no descriptor for a new connection
_TEXT = "text/plain; charset=utf-8"
_PAGE = f"""<!doctype html>
<html lang="en"><title>kmwatch</title>
<h1>kmwatch {__version__}</h1>
<p>Watches the kernel of this machine allocate memory.</p>
<ul><li><a href="/metrics">Metrics</a> for Prometheus</li><li><a href="/-/healthy">Health</a></li>
<li><a href="/-/ready">Readiness</a></li></ul></html>
"""


@dataclass(frozen=True)
class Answer:
    """An answer before it is sent."""

    status: int
    body: bytes
    content_type: str = _TEXT
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Health:
    """How the service is: `healthy` where it does its work, `ready` where it has something to show, and why not."""

    healthy: bool
    ready: bool
    words: str


class Pages:
    """What is shown at which path.

    Args:
        render: the metrics as text and its Content-Type, for an Accept header.
        health: how the service is.
        observe: told the seconds that each scrape took to answer, without what the network took.
    """

    def __init__(
        self,
        render: Callable[[str], tuple[bytes, str]],
        health: Callable[[], Health],
        observe: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._render, self._health, self._observe = render, health, observe
        self._zipped: dict[str, tuple[bytes, bytes]] = {}

    def answer(self, method: str, target: str, headers: dict[str, str]) -> Answer:
        """The answer to a request; names of headers are in lower case."""
        path = target.partition("?")[0]
        if method not in ("GET", "HEAD"):
            return Answer(405, b"use GET\n", headers=(("allow", "GET, HEAD"),))
        if path == "/metrics":
            return self._metrics(headers)
        if path in ("/-/healthy", "/-/ready"):
            health = self._health()
            good = health.healthy if path == "/-/healthy" else health.ready
            return Answer(200 if good else 503, f"{health.words}\n".encode())
        if path == "/":
            return Answer(200, _PAGE.encode(), "text/html; charset=utf-8")
        return Answer(404, b"there is /metrics, /-/healthy and /-/ready\n")

    def _metrics(self, headers: dict[str, str]) -> Answer:
        began = time.perf_counter()
        text, content_type = self._render(_accepted(headers.get("accept", "")))
        encodings = [word.partition(";")[0].strip() for word in headers.get("accept-encoding", "").lower().split(",")]
        more: tuple[tuple[str, str], ...] = (("vary", "accept, accept-encoding"),)
        if "gzip" in encodings:
            text, more = self._zip(text, content_type), (*more, ("content-encoding", "gzip"))
        self._observe(time.perf_counter() - began)
        return Answer(200, text, content_type, more)

    def _zip(self, text: bytes, content_type: str) -> bytes:
        """Compressed once for all who scrape the same text."""
        known = self._zipped.get(content_type)
        if known is None or known[0] is not text:
            known = self._zipped[content_type] = text, gzip.compress(text, 5)
        return known[1]


def _accepted(header: str) -> str:
    """One of two headers: what clients write in theirs must not make the same text in ever new forms."""
    wants = any(word.partition(";")[0].strip() == "application/openmetrics-text" for word in header.lower().split(","))
    return "application/openmetrics-text; version=1.0.0" if wants else ""


@dataclass
class _Connection:
    """A connection: since when we wait for its client, in seconds, and whether it waits for the rest of an answer."""

    since: float
    answering: bool = False


class Server:
    """Listens from its construction on, so that an address which is taken is known at once; start() begins to answer.

    Args:
        address: where; NotPossibleError where that is not to be had. Port 0 is any.
        tls: with it, TLS only; it may be replaced while the server runs.
    """

    def __init__(self, address: Address, tls: ssl.SSLContext | None = None) -> None:
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        try:
            self._socket = socket.create_server((address.host, address.port), family=family, backlog=_BACKLOG)
        except (OSError, UnicodeError) as error:
            words = getattr(error, "strerror", None) or str(error)
            raise NotPossibleError(f"cannot listen on {address}: {words}; choose another --listen") from error
        self._socket.setblocking(False)
        self.address = Address(*self._socket.getsockname()[:2])
        self.tls = tls
        self._pages: Pages | None = None
        self._loop = asyncio.new_event_loop()
        # What strangers send is no news: a handshake that fails, a connection that is cut.
        self._loop.set_exception_handler(lambda *_: None)
        self._open: dict[asyncio.Task[None], _Connection] = {}
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)

    def start(self, pages: Pages) -> None:
        """Answer with these pages from now on, in a thread."""
        self._pages = pages
        self._thread.start()

    def stop(self) -> None:
        """Close everything; a second call does no harm."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        if not self._loop.is_closed():
            self._loop.close()
        self._socket.close()

    def is_alive(self) -> bool:
        """Whether it answers."""
        return self._thread.is_alive()

    def _run(self) -> None:
        accepting = self._loop.create_task(self._accept())
        self._loop.run_forever()
        tasks = [accepting, *self._open]
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))

    async def _accept(self) -> None:
        while True:
            try:
                client, _ = await self._loop.sock_accept(self._socket)
            except OSError:
                await asyncio.sleep(_PAUSE)
                continue
            if len(self._open) >= MOST_CONNECTIONS:
                self._displace()
            task = self._loop.create_task(self._talk(client))
            self._open[task] = _Connection(self._loop.time())
            task.add_done_callback(self._forget)

    def _displace(self) -> None:
        """Close the connection that has let us wait the longest, one that is not yet being answered if there is one."""
        task = min(self._open, key=lambda each: (self._open[each].answering, self._open[each].since))
        del self._open[task]
        task.cancel()

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._open.pop(task, None)
        if not task.cancelled():
            task.exception()  # looked at, so that nobody prints it

    async def _talk(self, client: socket.socket) -> None:
        reader = asyncio.StreamReader(limit=_PIECE, loop=self._loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=self._loop)
        handshake = {"ssl_handshake_timeout": HANDSHAKE_SECONDS} if self.tls else {}
        transport, _ = await self._loop.connect_accepted_socket(lambda: protocol, client, ssl=self.tls, **handshake)
        writer = asyncio.StreamWriter(transport, protocol, reader, self._loop)
        try:
            await self._converse(reader, writer)
            writer.close()
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                await writer.wait_closed()
        except (OSError, TimeoutError, h11.LocalProtocolError):
            pass
        finally:
            transport.abort()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request after another, until either side has enough."""
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MOST_HEADER_BYTES)
        patience = REQUEST_SECONDS
        while True:
            try:
                answer, head = await self._answer(connection, reader, patience)
            except h11.RemoteProtocolError as error:
                # None where the answer to an earlier request is not finished: nothing more can be said.
                if connection.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
                    return
                answer, head = Answer(error.error_status_hint, b"this is no request that is understood\n"), False
            if answer is None:
                return
            await self._send(connection, writer, answer, head=head)
            if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                return
            connection.start_next_cycle()
            patience = IDLE_SECONDS

    async def _answer(
        self, connection: h11.Connection, reader: asyncio.StreamReader, patience: float
    ) -> tuple[Answer | None, bool]:
        """The answer to the next request, and whether only its head is wanted; None where the client has gone."""
        request = None
        begun = bool(connection.trailing_data[0])
        deadline = self._loop.time() + (REQUEST_SECONDS if begun else patience)
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                async with asyncio.timeout_at(deadline):
                    data = await reader.read(_PIECE)
                if not begun:  # the rest of a request must not take as long as its beginning could
                    begun, deadline = True, min(deadline, self._loop.time() + REQUEST_SECONDS)
                connection.receive_data(data)
            elif isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.EndOfMessage) and request and self._pages:
                headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers}
                method, target = request.method.decode("latin-1"), request.target.decode("latin-1")
                return self._pages.answer(method, target, headers), method == "HEAD"
            elif isinstance(event, h11.Data):
                return Answer(413, b"a request here has no body\n"), False
            else:
                return None, False

    async def _send(
        self, connection: h11.Connection, writer: asyncio.StreamWriter, answer: Answer, *, head: bool
    ) -> None:
        mine = self._open.get(asyncio.current_task(self._loop))  # type: ignore[arg-type]
        if mine:
            mine.answering, mine.since = True, self._loop.time()
        headers = [
            ("content-type", answer.content_type),
            ("content-length", str(len(answer.body))),
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
            *answer.headers,
        ]
        if connection.their_state is not h11.DONE:
            headers.append(("connection", "close"))
        async with asyncio.timeout(ANSWER_SECONDS):
            writer.write(
                connection.send(
                    h11.Response(status_code=answer.status, headers=headers, reason=HTTPStatus(answer.status).phrase)
                )
                or b""
            )
            # In pieces: what waits for a slow client is one of them, and not a copy of everything.
            for at in range(0, 0 if head else len(answer.body), _PIECE):
                writer.write(connection.send(h11.Data(data=answer.body[at : at + _PIECE])) or b"")
                await writer.drain()
            writer.write(connection.send(h11.EndOfMessage()) or b"")
            await writer.drain()
        if mine:
            mine.answering, mine.since = False, self._loop.time()
