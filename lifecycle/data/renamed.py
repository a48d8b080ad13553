"""Columns that probably only changed their name."""

import difflib
from collections.abc import Sequence


def renamed(missing: Sequence[str], extra: Sequence[str], cutoff: float = 0.6) -> dict[str, str]:
    """For columns that are missing, the one of those there are besides that each probably became.

    Equal but for case, spaces and signs comes first, then the nearest spelling.

    Args:
        cutoff: how alike spellings must be at least, from 0 to 1 (`difflib`'s ratio).
    """
    left = list(extra)
    found: dict[str, str] = {}
    for same in (True, False):
        for name in missing:
            if name in found:
                continue
            if same:
                close = [other for other in left if _bare(other) and _bare(other) == _bare(name)]
            else:
                close = difflib.get_close_matches(name, left, n=1, cutoff=cutoff)
            if close:
                found[name] = close[0]
                left.remove(close[0])
    return found


def _bare(name: str) -> str:
    return "".join(sign for sign in name.casefold() if sign.isalnum())
