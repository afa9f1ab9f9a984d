"""Equal keys side by side: the group-by of columns."""

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


def runs(keys: list[Array], length: int) -> tuple[Array, Array]:
    """An order that brings equal keys together, and where in it each run of equals starts.

    Args:
        keys: columns of this length; none makes one run of all.
        length: of each.
    """
    if not length:
        return np.zeros(0, np.intp), np.zeros(0, np.intp)
    order = np.lexsort([np.zeros(length, "u1"), *keys[::-1]])
    changed = np.zeros(length, bool)
    changed[0] = True
    for key in keys:
        sorted_key = key[order]
        changed[1:] |= sorted_key[1:] != sorted_key[:-1]
    return order, np.flatnonzero(changed)
