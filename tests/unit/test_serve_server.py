"""The HTTP server against scrapers of every kind: each bound and each deadline is met by a client that tries it."""

import gzip
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import Any

import pytest

from kmwatch.errors import BadInputError, NotPossibleError
from kmwatch.serve import server, tls
from kmwatch.serve.config import Address, ServeConfig
from kmwatch.serve.server import Health, Pages, Server
from tests.support import wait_until

TEXT = b"# HELP kmwatch_up is\nkmwatch_up 1\n" * 10_000
ANY = Address("127.0.0.1", 0)


def render(accept: str) -> tuple[bytes, str]:
    """The same text for all, and what was asked for as its type."""
    return TEXT, f"text/plain; asked={accept.partition(';')[0] or 'nothing'}"


def pages(health: Health | None = None, observe: Callable[[float], None] = lambda _: None) -> Pages:
    good = Health(healthy=True, ready=True, words="watching")
    return Pages(render, lambda: health or good, observe)


@contextmanager
def serving(context: ssl.SSLContext | None = None, shown: Pages | None = None) -> Iterator[Server]:
    """A server that answers."""
    made = Server(ANY, context)
    made.start(shown or pages())
    try:
        yield made
    finally:
        made.stop()


def connected(at: Server) -> socket.socket:
    return socket.create_connection((at.address.host, at.address.port), timeout=10)


def get(at: Server, path: str = "/metrics", method: str = "GET", **headers: str) -> tuple[int, bytes, Any]:
    """The status, body and headers of an answer to a connection of its own."""
    connection = HTTPConnection(at.address.host, at.address.port, timeout=10)
    try:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers
    finally:
        connection.close()


def raw(at: Server, data: bytes) -> bytes:
    """What comes back for some bytes, until the server closes."""
    with connected(at) as client:
        received = b""
        try:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            while piece := client.recv(1 << 16):
                received += piece
        except ConnectionError:
            pass
        return received


def test_the_pages() -> None:
    with serving() as at:
        assert get(at)[:2] == (200, TEXT)
        assert get(at, "/metrics?name=x")[:2] == (200, TEXT)
        assert get(at, "/-/healthy")[:2] == (200, b"watching\n")
        assert get(at, "/-/ready")[0] == 200
        status, body, headers = get(at, "/")
        assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert b'href="/metrics"' in body
        assert get(at, "/favicon.ico")[0] == 404
        status, _, headers = get(at, method="POST")
        assert (status, headers["allow"]) == (405, "GET, HEAD")
        status, body, headers = get(at, method="HEAD")
        assert (status, body, headers["content-length"]) == (200, b"", str(len(TEXT)))


def test_health_has_a_status_of_its_own() -> None:
    with serving(shown=pages(Health(healthy=True, ready=False, words="starting"))) as at:
        assert get(at, "/-/healthy")[:2] == (200, b"starting\n")
        assert get(at, "/-/ready")[:2] == (503, b"starting\n")
        assert get(at)[0] == 200
    with serving(shown=pages(Health(healthy=False, ready=False, words="silent"))) as at:
        assert get(at, "/-/healthy")[:2] == (503, b"silent\n")


def test_the_format_is_the_one_asked_for() -> None:
    prometheus = (
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
        "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
    )
    with serving() as at:
        assert get(at, accept=prometheus)[2]["content-type"].endswith("asked=application/openmetrics-text")
        assert get(at, accept="text/plain")[2]["content-type"].endswith("asked=nothing")
        for number in range(100):  # whatever they write, there are two texts
            asked = get(at, accept=f"application/openmetrics-text;version=1.{number}")[2]["content-type"]
            assert asked.endswith("asked=application/openmetrics-text")


def test_a_text_is_compressed_once_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[int] = []
    compress = gzip.compress
    monkeypatch.setattr(server.gzip, "compress", lambda *given: done.append(1) or compress(*given))
    with serving() as at:
        for _ in range(5):
            _, body, headers = get(at, accept_encoding="deflate, gzip;q=0.5")
            assert headers["content-encoding"] == "gzip"
            assert gzip.decompress(body) == TEXT
        assert get(at, accept_encoding="br")[1] == TEXT
    assert len(done) == 1


def test_scrapes_are_timed_and_nothing_else() -> None:
    took: list[float] = []
    with serving(shown=pages(observe=took.append)) as at:
        get(at)
        get(at, "/-/healthy")
        get(at)

    assert len(took) == 2
    assert all(0 <= each < 5 for each in took)


def test_a_connection_is_used_again() -> None:
    with serving() as at:
        connection = HTTPConnection(at.address.host, at.address.port, timeout=10)
        for _ in range(50):
            connection.request("GET", "/metrics")
            assert connection.getresponse().read() == TEXT
        assert len(at._open) == 1
        connection.close()
        wait_until(lambda: not at._open, 20, "the connection to be forgotten")


GARBAGE = [
    b"\x00" * 5000,
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),  # TLS, where there is none
    b"GET\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",  # without a host
    b"GET / HTTP/9.9\r\nhost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: x\r\nbad header\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"\r\n" * 20_000,
]


@pytest.mark.parametrize("data", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_gets_an_error_and_the_door(data: bytes) -> None:
    with serving() as at:
        received = raw(at, data)
        assert received == b"" or received.startswith((b"HTTP/1.1 4", b"HTTP/1.1 200")), received[:80]
        assert get(at)[0] == 200


def test_headers_have_an_end() -> None:
    with serving() as at:
        megabytes = b"GET /metrics HTTP/1.1\r\nhost: x\r\n" + b"a: " + b"x" * (10 << 20) + b"\r\n\r\n"
        assert TEXT not in raw(at, megabytes)
        lines = b"GET /metrics HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * 1_000_000 + b"\r\n"
        assert TEXT not in raw(at, lines)
        assert TEXT not in raw(at, b"GET /" + b"x" * (10 << 20) + b" HTTP/1.1\r\nhost: x\r\n\r\n")
        assert get(at)[0] == 200


def test_a_request_has_no_body() -> None:
    with serving() as at:
        head = b"GET /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 10000000\r\n\r\n"
        assert raw(at, head + b"x" * 1000).startswith(b"HTTP/1.1 413 ")


def test_pipelined_requests_are_answered_in_turn() -> None:
    with serving() as at:
        one = b"GET /-/ready HTTP/1.1\r\nhost: x\r\n\r\n"
        last = b"GET /-/ready HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        assert raw(at, one * 20 + last).count(b"watching\n") == 21


def test_who_does_not_finish_a_request_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then does not help: the deadline is for the whole request."""
    monkeypatch.setattr(server, "REQUEST_SECONDS", 0.5)
    with serving() as at, connected(at) as client:
        began = time.monotonic()
        client.settimeout(0.05)
        sent = 0
        while time.monotonic() - began < 10:
            try:
                client.sendall(b"G" if not sent else b"x")
                sent += 1
                if client.recv(10) == b"":
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        assert 0.4 < time.monotonic() - began < 5
        assert sent > 3


def test_who_says_nothing_between_requests_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "IDLE_SECONDS", 0.3)
    with serving() as at, connected(at) as client:
        client.sendall(b"GET /-/ready HTTP/1.1\r\nhost: x\r\n\r\n")
        received = b""
        while piece := client.recv(1000):
            received += piece
        assert received.startswith(b"HTTP/1.1 200 OK\r\n")
        assert received.endswith(b"\r\n\r\nwatching\n")


def test_who_does_not_read_an_answer_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "ANSWER_SECONDS", 0.3)
    endless = Pages(lambda _: (b"x" * (64 << 20), "text/plain"), lambda: Health(healthy=True, ready=True, words=""))
    with serving(shown=endless) as at, connected(at) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n")
        wait_until(lambda: at._open, 20, "the connection")
        wait_until(lambda: not at._open, 20, "the connection to be closed")
        assert get(at, "/-/ready")[0] == 200


def test_slow_clients_displace_each_other_and_never_a_scraper() -> None:
    with serving() as at, ExitStack() as held:
        slow = [held.enter_context(connected(at)) for _ in range(server.MOST_CONNECTIONS + 50)]
        for client in slow:
            try:
                client.sendall(b"GET /metrics HT")
            except ConnectionError:
                continue
        for _ in range(20):
            assert get(at)[:2] == (200, TEXT)
        assert len(at._open) <= server.MOST_CONNECTIONS
        with suppress(ConnectionResetError):
            assert slow[0].recv(1) == b""


def test_two_hundred_who_do_not_read_leave_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has an answer of megabytes on the way, of which one piece is kept for it."""
    monkeypatch.setattr(server, "ANSWER_SECONDS", 60.0)
    text = b"x" * (16 << 20)
    large = Pages(lambda _: (text, "text/plain"), lambda: Health(healthy=True, ready=True, words="well"))
    with serving(shown=large) as at, ExitStack() as held:
        before = _resident()
        for _ in range(200):
            client = held.enter_context(connected(at))
            client.sendall(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n")
        wait_until(lambda: sum(each.answering for each in at._open.values()) == 200, 20, "all to be answered")
        assert get(at, "/-/ready")[:2] == (200, b"well\n")
        assert _resident() - before < 200 << 20


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_an_address_that_is_taken_is_said() -> None:
    with serving() as at, pytest.raises(NotPossibleError, match=r"cannot listen on 127\.0\.0\.1:\d+: Address already"):
        Server(at.address)
    with pytest.raises(NotPossibleError, match=r"cannot listen on nowhere\.invalid:1"):
        Server(Address("nowhere.invalid", 1))


def test_ending_closes_what_is_open() -> None:
    with serving() as at:
        silent, speaking = connected(at), connected(at)
        speaking.sendall(b"GET /")
        wait_until(lambda: len(at._open) == 2, 20, "the connections")
    with closing(silent), closing(speaking):
        assert silent.recv(1) == b""
        with suppress(ConnectionResetError):  # the kernel's word for the end where something was not read yet
            assert speaking.recv(1) == b""
    at.stop()
    with pytest.raises(OSError, match="refused"):
        connected(at)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, and a server's and a client's certificate of it, by openssl."""
    directory = tmp_path_factory.mktemp("certificates")

    def openssl(*arguments: str) -> None:
        done = subprocess.run(["openssl", *arguments], cwd=directory, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=authority")
    for name in ("server", "client"):
        extension = directory / f"{name}.ext"
        extension.write_text("subjectAltName = IP:127.0.0.1\n")
        openssl("req", "-new", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", extension.name)
        openssl("x509", "-req", "-in", f"{name}.csr", *signed, "-out", f"{name}.pem")
    return directory


def configured(certificates: Path, **more: Path) -> ServeConfig:
    return ServeConfig(tls_certificate=certificates / "server.pem", tls_key=certificates / "server.key", **more)


def secure(at: Server, certificates: Path, name: str | None = None) -> tuple[int, bytes]:
    context = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
    if name:
        context.load_cert_chain(certificates / f"{name}.pem", certificates / f"{name}.key")
    connection = HTTPSConnection(at.address.host, at.address.port, timeout=10, context=context)
    try:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_tls(certificates: Path) -> None:
    with serving(tls.context(configured(certificates))) as at:
        assert secure(at, certificates) == (200, TEXT)
        assert raw(at, b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n") == b""
        assert secure(at, certificates) == (200, TEXT)


def test_clients_must_show_a_certificate_where_an_authority_is_named(certificates: Path) -> None:
    with serving(tls.context(configured(certificates, tls_client_ca=certificates / "ca.pem"))) as at:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            secure(at, certificates)
        assert secure(at, certificates, "client") == (200, TEXT)


def test_a_hung_handshake_is_displaced_too(certificates: Path) -> None:
    with serving(tls.context(configured(certificates))) as at, ExitStack() as held:
        for _ in range(server.MOST_CONNECTIONS + 20):
            held.enter_context(connected(at))
        assert secure(at, certificates) == (200, TEXT)
        assert len(at._open) <= server.MOST_CONNECTIONS


def test_bad_certificates_are_refused_with_their_names(certificates: Path, tmp_path: Path) -> None:
    assert tls.context(ServeConfig()) is None
    (tmp_path / "no.pem").write_text("no certificate\n")
    bad = tmp_path / "no.pem"
    for config in (
        ServeConfig(tls_certificate=bad, tls_key=bad),
        ServeConfig(tls_certificate=tmp_path / "missing", tls_key=bad),
        ServeConfig(tls_certificate=certificates / "server.pem", tls_key=certificates / "client.key"),
        configured(certificates, tls_client_ca=bad),
    ):
        with pytest.raises(BadInputError, match="for TLS: "):
            tls.context(config)
