"""Storage behind a URL, by fsspec. Who may use it is the ordinary environment's affair: no URL here has a password."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from kmwatch.errors import KmwatchError, NotPossibleError, UsageError
from kmwatch.units import printable

_URL = re.compile(r"([a-z][a-z0-9+.-]*)://")
_PASSWORD = re.compile(r"[a-z][a-z0-9+.-]*://[^/@]*:[^/]*@")
_LONGEST = 200  # characters of what a server says


def is_url(source: str) -> bool:
    """Whether a source is a URL, and no path."""
    return _URL.match(source) is not None


def opened(url: str) -> tuple[Any, str]:
    """The file system of fsspec behind a URL, and the URL's path in it.

    Raises UsageError for a protocol that nobody knows or a URL with a password, NotPossibleError where a package is
    missing.
    """
    protocol, _, rest = url.partition("://")
    if not rest.strip("/"):
        raise UsageError(f"{url:.80} names no place: {protocol}://BUCKET/DIRECTORY does")
    if _PASSWORD.match(url):
        raise UsageError(f"a password does not belong into a {protocol}:// URL: set it in the environment")
    try:
        # What was listed before is not there for ever.
        storage, path = import_module("fsspec.core").url_to_fs(url, use_listings_cache=False)
    except ImportError as error:
        raise NotPossibleError(f"{protocol}:// needs a package: {_package(protocol, error)}") from error
    except ValueError as error:
        raise UsageError(f"{printable(url):.200} cannot be used: {_said(error)}; try s3://BUCKET/DIRECTORY") from error
    return storage, str(path).rstrip("/")


def _package(protocol: str, error: ImportError) -> str:
    missing = (error.name or "").partition(".")[0]
    if protocol in ("s3", "s3a") or missing == "fsspec":
        return "pip install 'kmwatch[s3]'"
    known = import_module("fsspec.registry").known_implementations[protocol]["class"]
    return f"pip install {missing or str(known).partition('.')[0]}"


@contextmanager
def asking(url: str, what: str) -> Iterator[None]:
    """Errors of a server in one line: `what` was not possible at a URL. Raises NotPossibleError."""
    try:
        yield
    except KmwatchError:
        raise
    except FileNotFoundError as error:
        raise NotPossibleError(f"cannot {what} {printable(url):.200}: there is none; check the name") from error
    except PermissionError as error:
        told = f"refused ({_said(error)}); check the credentials in the environment"
        raise NotPossibleError(f"cannot {what} {printable(url):.200}: {told}") from error
    except Exception as error:  # each protocol has errors of its own, with no class in common
        told = f"{_said(error)}; check the URL, the credentials and the network"
        raise NotPossibleError(f"cannot {what} {printable(url):.200}: {told}") from error


def _said(error: Exception) -> str:
    """The first line of what an error says, its kind where it says nothing."""
    first = str(error).strip().partition("\n")[0] or type(error).__name__
    return printable(first)[:_LONGEST].rstrip(".")
