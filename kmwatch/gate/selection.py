"""Which rules count: codes and beginnings of codes, as `--select KM2,KM301`."""

from collections.abc import Collection

from kmwatch.errors import UsageError
from kmwatch.words import meant


def choose(select: str | None, ignore: str | None, codes: Collection[str]) -> frozenset[str]:
    """The codes that are selected, all where `select` is None, less those that are ignored.

    Raises UsageError for a word that no code begins with, and where nothing is left.
    """
    chosen = _matching(select, codes, "--select") if select is not None else set(codes)
    chosen -= _matching(ignore, codes, "--ignore") if ignore is not None else set()
    if not chosen:
        raise UsageError("--select and --ignore leave no rule: `kmwatch rules` lists them")
    return frozenset(chosen)


def refuse_no_rule(word: str, codes: Collection[str], where: str, error: type[Exception] = UsageError) -> None:
    """Raise the error where no code begins with the word."""
    if not any(code.startswith(word.upper()) for code in codes) or not word:
        raise error(f"{where}: no rule begins with {word!r:.80}{meant(word, codes)} `kmwatch rules` lists them")


def _matching(text: str, codes: Collection[str], option: str) -> set[str]:
    found: set[str] = set()
    for word in (part.strip() for part in text.split(",")):
        refuse_no_rule(word, codes, option)
        found |= {code for code in codes if code.startswith(word.upper())}
    return found
