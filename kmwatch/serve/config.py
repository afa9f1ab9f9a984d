"""[serve] of kmwatch.toml: what the service does. Options of the command line win over the file."""

import ipaddress
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from kmwatch import settings
from kmwatch.errors import BadInputError, UsageError

DEFAULT_PORT = 9436

_TABLE = "serve"
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.%\w]+\]|[^\[\]:/\s]*):(\d{1,5})")


@dataclass(frozen=True)
class Address:
    """Where to listen."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def parse_address(text: str) -> Address:
    """`HOST:PORT`, `[IPV6]:PORT`, or `:PORT` for every address of the machine; ValueError for anything else."""
    match = _ADDRESS.fullmatch(text.strip())
    if not match or int(match[2]) >= 1 << 16:
        raise ValueError(f"{text!r:.80} is no address: write HOST:PORT, such as 127.0.0.1:{DEFAULT_PORT}")
    return Address(match[1].strip("[]") or "0.0.0.0", int(match[2]))  # noqa: S104  # who writes :PORT says it


def parse_share(text: object) -> float:
    """A share of this machine's CPU time, `1%` or 0.01, above 0 and up to 1; ValueError for anything else."""
    word = str(text).strip()
    try:
        share = float(word.removesuffix("%")) / (100 if word.endswith("%") else 1)
    except ValueError:
        share = math.nan
    if isinstance(text, bool) or not 0 < share <= 1:
        raise ValueError(f"{text!r:.40} is no share of CPU time: write 1% or 0.01")
    return share


def _seconds(least: float, most: float) -> Any:
    def convert(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise ValueError(f"{value!r:.40} is not between {least:g} and {most:g} seconds")
        return float(value)

    return convert


def _top(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST_SITES:
        raise ValueError(f"{value!r:.40} is no whole number from 1 to {_MOST_SITES}")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r:.40} is no text")  # noqa: TRY004  # one error for every value that does not do
    return value


def _kinds(value: object) -> str:
    words = value if isinstance(value, list) else [value]
    return ",".join(_text(word) for word in words)


def _switch(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{value!r:.40} is neither true nor false")  # noqa: TRY004  # as _text
    return value


def _file(value: object) -> Path:
    return Path(_text(value))


_MOST_SITES = 10_000


def _setting(default: Any, convert: Any, doc: str, *, fixed: bool = True) -> Any:
    return field(default=default, metadata={"convert": convert, "doc": doc, "fixed": fixed})


def _file_setting(doc: str) -> Any:
    return _setting(None, _file, f"PEM file: {doc}", fixed=False)


@dataclass(frozen=True)
class ServeConfig:
    """Every setting of the service. Those that are not `fixed` change at SIGHUP, the others at a restart.

    A path is relative to the directory that the service started in.
    """

    listen: Address = _setting(  # noqa: RUF009  # it is a field()
        Address("127.0.0.1", DEFAULT_PORT),
        lambda value: parse_address(_text(value)),
        "Address and port; this machine only, unless another address is written",
    )
    top: int = _setting(50, _top, "call sites with a series of their own, by each measure; the rest is `other`")
    interval: float = _setting(5.0, _seconds(0.1, 3600), "seconds between two readings of the kernel", fixed=False)
    idle: float = _setting(3600.0, _seconds(1, 1e9), "seconds after which an idle site goes back to `other`")
    window: float = _setting(300.0, _seconds(1, 86400), "seconds that findings are judged over")
    max_overhead: float = _setting(0.01, parse_share, "share of all CPU time that programs may take", fixed=False)
    kinds: str | None = _setting(None, _kinds, "what to observe, everything by default")
    held: bool = _setting(True, _switch, "whether what is held is looked at, too")
    user: str = _setting("nobody", _text, "who the service is once it watches")
    tls_certificate: Path | None = _file_setting("certificate and its chain")  # noqa: RUF009
    tls_key: Path | None = _file_setting("its key")  # noqa: RUF009
    tls_client_ca: Path | None = _file_setting("who signs scrapers' certificates")  # noqa: RUF009

    def __post_init__(self) -> None:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise BadInputError("tls_certificate and tls_key go together: name both, or none")
        if self.tls_client_ca and not self.tls_certificate:
            raise BadInputError("tls_client_ca needs tls_certificate and tls_key: certificates are shown in TLS only")

    def reread(self, new: "ServeConfig") -> tuple["ServeConfig", list[str]]:
        """What holds after the file said `new`, and the names of what it changed that only a restart can change."""
        changed = {each.name for each in fields(self) if getattr(self, each.name) != getattr(new, each.name)}
        fixed = {each.name for each in fields(self) if each.metadata["fixed"]}
        taken = {name: getattr(new, name) for name in changed - fixed}
        return replace(self, **taken), sorted(changed & fixed)


@dataclass(frozen=True)
class Setting:
    """One line of the table of settings."""

    name: str
    default: str
    doc: str
    fixed: bool


def table() -> list[Setting]:
    """Every setting with its default, what it is, and whether only a restart changes it."""
    found = []
    for each in fields(ServeConfig):
        default = "" if each.default is None else str(each.default)
        found.append(Setting(each.name, default, each.metadata["doc"], each.metadata["fixed"]))
    return found


def parse(data: Mapping[str, Any], where: str, options: Mapping[str, Any]) -> ServeConfig:
    """The settings of a file that was read from `where`, with those of the command line in their place.

    `options` holds what was given there, by the same names. BadInputError or UsageError says which of the two is wrong.
    """
    converters = {each.name: each.metadata["convert"] for each in fields(ServeConfig)}
    given = settings.table(dict(data), _TABLE, list(converters), where)
    values: dict[str, Any] = {}
    for name, value in given.items():
        try:
            values[name] = converters[name](value)
        except ValueError as error:
            raise BadInputError(f"{where}: {name}: {error}") from error
    for name, value in options.items():
        try:
            values[name] = converters[name](value)
        except ValueError as error:
            raise UsageError(f"--{name.replace('_', '-')}: {error}; see `kmwatch serve --help`") from error
    return ServeConfig(**values)
