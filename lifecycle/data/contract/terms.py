"""The terms a stage holds a source to: which columns may lack values there, and until when."""

from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple, get_args

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from lifecycle.data.sources.columns import left_out, renamed
from lifecycle.errors import ContractError
from lifecycle.lake.column_types import is_text
from lifecycle.project import ContractSpec, Project

# Comparison of a source's columns with those of the contract, for people.


MAX_TERM_LENGTH = 40


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
            f"contract.columns: {place} has none of the contract's columns, "
            f"but {len(have)} others; check that it is the right source, and for a CSV file that "
            "its first line names the columns and source.separator is right"
        )
    close = renamed(missing, extra)
    if missing:
        listing = (
            f"{name!r}" + (f" (did you mean {close[name]!r}?)" if name in close else "")
            for name in missing
        )
        message = f"contract.columns: {place} has no column {', '.join(listing)}"
    else:
        message = (
            f"contract.extra_columns: {place} has columns the contract does not name: "
            f"{', '.join(extra)}"
        )
    lines = [
        f"  ~ {name} → {close[name]}, perhaps" if name in close else f"  − {name}"
        for name in missing
    ]
    lines += [f"  + {name}" for name in extra if name not in close.values()]
    if len(lines) > MAX_TERM_LENGTH:
        lines = [*lines[:MAX_TERM_LENGTH], f"  and {len(lines) - MAX_TERM_LENGTH} more"]
    todo = (
        "Correct the source, or change contract.columns and raise contract.version"
        if missing
        else "Add them to contract.columns or set extra_columns: drop"
    )
    raise ContractError(
        f"{message}. From the contract to the source:\n" + "\n".join([*lines, todo])
    )


Table = Literal["accepted", "current"]
"""Rows for training, and rows that arrive later, which are scored and monitored."""
TABLES: tuple[Table, ...] = get_args(Table)
ZONES = timedelta(days=1)
"""How far ahead of UTC a clock may be, whatever its zone."""


class Terms(NamedTuple):
    """A project's contract as one stage reads it."""

    contract: ContractSpec
    """Target and leakage may be missing in a row: a label that has not come yet breaks nothing."""
    unlabelled: tuple[str, ...]
    """Columns that may be empty: the target and its consequences."""
    optional: tuple[str, ...]
    """Those of them that the source need not have at all."""
    time: str | None
    """The time column."""
    latest: datetime | None
    """Times after it are mistakes, naive UTC; None if they are not."""

    def complete(
        self, batch: pa.RecordBatch, place: str, *, continued: bool = False
    ) -> pa.RecordBatch:
        """A raw batch with every column of the contract.

        Optional columns that the source lacks are there, empty; where a row may lack a value, a
        blank text is none.

        Args:
            place: the file, table or answer it is of, for messages.
            continued: rows are added to those of runs before, which had the columns; files whose
                labels have not come need not, unless one of their columns looks like the target
                under another name.

        Raises:
            ContractError: a column is missing, or there is one that the contract refuses.
        """
        names, columns = list(batch.schema.names), list(batch.columns)
        optional = self.optional
        if continued and not optional:
            extra = [name for name in names if name not in self.contract.columns]
            missing = [name for name in self.unlabelled if name not in names]
            optional = tuple(left_out(self.unlabelled, missing, extra))
        check_columns(names, self.contract, place, optional)
        for at, name in enumerate(names):
            if name in self.unlabelled and is_text(columns[at].type):
                blank = pc.equal(pc.utf8_trim_whitespace(columns[at]), "")
                columns[at] = pc.if_else(blank, pa.scalar(None, pa.string()), columns[at])
        for name in optional:
            if name not in names:
                names.append(name)
                columns.append(pa.nulls(batch.num_rows, pa.string()))
        return pa.RecordBatch.from_arrays(columns, names=names)


def stage_terms(project: Project, table: Table) -> Terms:
    """The terms of the stage that writes a table.

    Learning needs the target's column, though not in every row: the split leaves rows without a
    target out. What is only scored needs neither target nor leakage; what the contract expects of
    those columns as a whole is judged where they are learned from.
    """
    contract = project.contract
    names = tuple(name for name in (project.target, *project.leakage) if name not in contract.key)
    columns = dict(contract.columns)
    for name in names:
        update: dict[str, object] = {"nullable": True}
        if table == "current":
            update["expect"] = None
        columns[name] = columns[name].model_copy(update=update)
    return Terms(
        contract=contract.model_copy(update={"columns": columns}),
        unlabelled=names,
        optional=names if table == "current" else (),
        time=project.time.column if project.time else None,
        latest=latest_time(project),
    )


def latest_time(project: Project) -> datetime | None:
    """The latest time a row may have, naive UTC: now, and a day for clocks of other zones.

    None without a datetime column of time, or where the project has rows of times to come.
    """
    if project.time is None or project.time.future == "allow":
        return None
    if project.contract.columns[project.time.column].type != "datetime":
        return None
    return datetime.now(UTC).replace(tzinfo=None) + ZONES
