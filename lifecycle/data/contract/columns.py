"""The columns of a source against those of the contract, as a difference that people can read."""

import difflib
from collections.abc import Collection, Iterable, Sequence

import pandas as pd

from lifecycle.errors import ContractError
from lifecycle.project import ContractSpec

# Columns that probably only changed their name.


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


SHOWN = 40


def check_columns(
    names: Iterable[str] | pd.DataFrame,
    contract: ContractSpec,
    place: str = "the source",
    optional: Collection[str] = (),
) -> None:
    """See that a source has the contract's columns.

    Args:
        names: the source's columns, or a frame that has them.
        place: the file, table or answer that has them, for messages.
        optional: columns of the contract that it need not have.

    Raises:
        ContractError: a column is missing, or there is one more and the contract refuses extras;
            the message has one line a column: `−` missing, `+` not in the contract, `~` probably
            renamed.
    """
    have = [str(name) for name in (names.columns if isinstance(names, pd.DataFrame) else names)]
    required = [name for name in contract.columns if name not in optional]
    present = set(have)
    missing = [name for name in required if name not in present]
    extra = [name for name in have if name not in contract.columns]
    if not missing and not (extra and contract.extra_columns == "refuse"):
        return
    if len(missing) == len(required) and not renamed(missing, extra, cutoff=0.8):
        # what stands there may be a row with personal data, not a header: it is not repeated
        raise ContractError(
            f"contract.columns: {place} has no column of the {len(missing)}, and "
            f"{len(have)} others; see that it is the right one, and of a CSV file that its first "
            "line names the columns and source.separator is right"
        )
    close = renamed(missing, extra)
    if missing:
        told = (
            f"{name!r}" + (f" (did you mean {close[name]!r}?)" if name in close else "")
            for name in missing
        )
        said = f"contract.columns: {place} has no column {', '.join(told)}"
    else:
        said = (
            f"contract.extra_columns: {place} has columns the contract does not name: "
            f"{', '.join(extra)}"
        )
    lines = [
        f"  ~ {name} → {close[name]}, perhaps" if name in close else f"  − {name}"
        for name in missing
    ]
    lines += [f"  + {name}" for name in extra if name not in close.values()]
    if len(lines) > SHOWN:
        lines = [*lines[:SHOWN], f"  and {len(lines) - SHOWN} more"]
    todo = (
        "Correct the source, or change contract.columns and raise contract.version"
        if missing
        else "Add them to contract.columns or set extra_columns: drop"
    )
    raise ContractError(f"{said}. From the contract to the source:\n" + "\n".join([*lines, todo]))
