"""Words that a user typed, held against those that there are."""

import difflib
from collections.abc import Collection, Iterable

from kmwatch.errors import KmwatchError


def meant(word: str, known: Iterable[str]) -> str:
    """The middle of an error message: `; did you mean X?` where a known word is near, else `;`."""
    by_fold = {each.casefold(): each for each in known}
    near = difflib.get_close_matches(word[:80].casefold(), by_fold, n=2, cutoff=0.6)
    return f"; did you mean {' or '.join(by_fold[each] for each in near)}?" if near else ";"


def refuse_unknown(given: Iterable[str], known: Collection[str], where: str, error: type[KmwatchError]) -> None:
    """Raise the error for the first word that is not known, with the nearest one and the list."""
    for word in given:
        if word not in known:
            there = ", ".join(known)
            raise error(f"{where}: there is no {word!r:.80}{meant(word, known)} choose from {there}")
