"""Columns that probably only changed their name."""

import difflib
from collections.abc import Collection, Sequence


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


def left_out(names: Collection[str], missing: Sequence[str], extra: Sequence[str]) -> set[str]:
    """Those of some columns that are missing, and that no other column looks like.

    Args:
        names: columns that need not be there, such as the target where labels have not come.
    """
    return {name for name in missing if name in names} - set(renamed(missing, extra))


def _bare(name: str) -> str:
    return "".join(sign for sign in name.casefold() if sign.isalnum())
