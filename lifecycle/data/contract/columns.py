"""The columns of a source against those of the contract, as a difference that people can read."""

from collections.abc import Collection, Iterable

import pandas as pd

from lifecycle.data.spelling import renamed
from lifecycle.errors import ContractError
from lifecycle.project import ContractSpec

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
