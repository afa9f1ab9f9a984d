"""[serve] of kmwatch.toml: what it may say, what wins, and what a wrong word gets for an answer."""

from pathlib import Path
from typing import Any

import pytest

from kmwatch import settings
from kmwatch.errors import BadInputError, KmwatchError, UsageError
from kmwatch.serve.config import Address, ServeConfig, parse, parse_address, parse_share, table

EXAMPLE = Path(__file__).parents[2] / "deploy" / "kmwatch.toml"


def parsed(text: str, tmp_path: Path, **options: Any) -> ServeConfig:
    path = tmp_path / "kmwatch.toml"
    path.write_text(text)
    return parse(settings.read(path), str(path), options)


def test_without_anything_the_defaults_hold() -> None:
    config = parse({}, "kmwatch.toml", {})

    assert config == ServeConfig()
    assert str(config.listen) == "127.0.0.1:9436"
    assert config.listen.is_loopback


def test_a_file_changes_what_it_names(tmp_path: Path) -> None:
    config = parsed(
        """
        [serve]
        listen = "[::1]:9000"
        top = 10
        interval = 2
        max_overhead = "0.5%"
        kinds = ["kmalloc", "page_alloc"]
        tls_certificate = "cert.pem"
        tls_key = "key.pem"
        """,
        tmp_path,
    )

    assert config.listen == Address("::1", 9000)
    assert (config.top, config.interval, config.max_overhead) == (10, 2.0, 0.005)
    assert config.kinds == "kmalloc,page_alloc"
    assert (config.tls_certificate, config.user) == (Path("cert.pem"), "nobody")


def test_the_command_line_wins(tmp_path: Path) -> None:
    config = parsed("[serve]\ntop = 10\nuser = 'daemon'\n", tmp_path, top=7, listen=":9436")

    assert (config.top, config.user, str(config.listen)) == (7, "daemon", "0.0.0.0:9436")
    assert not config.listen.is_loopback


def test_thresholds_may_stand_beside_it(tmp_path: Path) -> None:
    assert parsed("[thresholds]\nwaste_share = 0.5\n[serve]\ntop = 10\n", tmp_path).top == 10


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[serve]\nlisten_on = 'x'\n", "[serve]: there is no 'listen_on'; did you mean listen"),
        ("[server]\n", "there is no 'server'; did you mean serve"),
        ("serve = 3\n", "`serve` must be a table"),
        ("[serve]\nlisten = 9436\n", "listen: 9436 is no text"),
        ("[serve]\nlisten = 'here'\n", "listen: 'here' is no address: write HOST:PORT"),
        ("[serve]\nlisten = '127.0.0.1:65536'\n", "is no address"),
        ("[serve]\ntop = 0\n", "top: 0 is no whole number from 1 to 10000"),
        ("[serve]\ntop = true\n", "top: True is no whole number"),
        ("[serve]\ntop = 1.5\n", "top: 1.5 is no whole number"),
        ("[serve]\ninterval = 0\n", "interval: 0 is not between 0.1 and 3600 seconds"),
        ("[serve]\ninterval = 'soon'\n", "interval: 'soon' is not between"),
        ("[serve]\nidle = nan\n", "idle: nan is not between"),
        ("[serve]\nmax_overhead = 2\n", "max_overhead: 2 is no share of CPU time"),
        ("[serve]\nmax_overhead = '0%'\n", "is no share of CPU time"),
        ("[serve]\nmax_overhead = true\n", "is no share of CPU time"),
        ("[serve]\nheld = 1\n", "held: 1 is neither true nor false"),
        ("[serve]\nkinds = [1]\n", "kinds: 1 is no text"),
        ("[serve]\ntls_key = 'key.pem'\n", "tls_certificate and tls_key go together"),
        ("[serve]\ntls_client_ca = 'ca.pem'\n", "tls_client_ca needs tls_certificate"),
    ],
)
def test_what_is_wrong_in_a_file_is_said_with_its_name(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(BadInputError) as refused:
        parsed(text, tmp_path)

    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_is_wrong_on_the_command_line_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--max-overhead: '5' is no share of CPU time.*; see `kmwatch serve --help`"):
        parsed("", tmp_path, max_overhead="5")


@pytest.mark.parametrize(
    ("text", "address", "loopback"),
    [
        ("127.0.0.1:1", Address("127.0.0.1", 1), True),
        ("127.9.9.9:0", Address("127.9.9.9", 0), True),
        ("localhost:9436", Address("localhost", 9436), True),
        ("[::1]:9436", Address("::1", 9436), True),
        (":9436", Address("0.0.0.0", 9436), False),  # noqa: S104  # nothing listens
        ("[::]:9436", Address("::", 9436), False),
        ("metrics.example:80", Address("metrics.example", 80), False),
    ],
)
def test_addresses(text: str, address: Address, *, loopback: bool) -> None:
    assert parse_address(text) == address
    assert address.is_loopback == loopback


def test_an_address_is_written_as_it_is_read() -> None:
    for text in ("127.0.0.1:1", "[::1]:9436", "localhost:9436"):
        assert str(parse_address(text)) == text


@pytest.mark.parametrize("text", ["::1:9436", "x y:1", "[::1]", "a:b", "", ":", "127.0.0.1:99999999"])
def test_no_addresses(text: str) -> None:
    with pytest.raises(ValueError, match="is no address"):
        parse_address(text)


@pytest.mark.parametrize(("text", "share"), [("1%", 0.01), (0.01, 0.01), ("0.5", 0.5), ("100%", 1.0), (" 2 %", 0.02)])
def test_shares(text: object, share: float) -> None:
    assert parse_share(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["", "%", "-1%", "101%", "nan", "inf", None, "1%%"])
def test_no_shares(text: object) -> None:
    with pytest.raises(ValueError, match="is no share"):
        parse_share(text)


def test_reading_again_takes_what_can_change(tmp_path: Path) -> None:
    before = ServeConfig()
    after = parsed("[serve]\ninterval = 1\nmax_overhead = 0.5\ntop = 7\nlisten = ':1'\n", tmp_path)

    taken, fixed = before.reread(after)

    assert fixed == ["listen", "top"]
    assert (taken.interval, taken.max_overhead) == (1.0, 0.5)
    assert (taken.top, taken.listen) == (before.top, before.listen)


def test_the_table_has_every_setting_and_says_what_it_is() -> None:
    rows = {each.name: each for each in table()}

    assert list(rows) == list(ServeConfig.__dataclass_fields__)
    assert all(len(each.doc) > 15 for each in rows.values())
    assert (rows["listen"].default, rows["kinds"].default) == ("127.0.0.1:9436", "")


def test_the_example_is_accepted_and_shows_every_setting_with_its_default() -> None:
    text = EXAMPLE.read_text()
    assert parse(settings.read(EXAMPLE), str(EXAMPLE), {}) == ServeConfig()

    shown = {line.removeprefix("# ").partition(" = ")[0] for line in text.splitlines() if " = " in line}
    assert {each.name for each in table()} <= shown


def test_the_example_is_accepted_as_a_whole(tmp_path: Path) -> None:
    """Every line that is commented out, taken in: names and forms of values are right."""
    lines = [line.removeprefix("# ") if " = " in line else line for line in EXAMPLE.read_text().splitlines()]
    try:
        config = parsed("\n".join(lines), tmp_path)
    except KmwatchError as error:
        pytest.fail(str(error))

    assert config.tls_client_ca is not None
    assert config.kinds
