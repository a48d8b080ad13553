"""Tables of results: plain Delta tables whose rows are replaced by key, for SQL and notebooks.

Unlike a dataset version nothing refers to a state of theirs, so they keep no history.
"""

import random
import time
from collections.abc import Mapping, Sequence
from typing import Literal

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from lifecycle.errors import BackendError, first_line
from lifecycle.lake.table import create_table

ATTEMPTS = 20
MAX_PAUSE_S = 0.2
"""Between two attempts to commit, at most."""
TIDY_EVERY = 100
"""Commits between two tidyings: small files are put together, and replaced ones deleted."""


def replace_rows(uri: str, rows: pa.Table, key: Mapping[str, str | int]) -> None:
    """Put rows in the place of those with the same key, in one commit.

    A table that lacks some of their columns gets these, empty in the rows that were there.
    Done twice, or killed and done again, it leaves the rows once. No rows: those with the key go.

    Args:
        rows: all of them have the key's values.

    Raises:
        BackendError: the table cannot be written, or others keep writing it.
    """
    condition = " AND ".join(f"{name} = {_literal(value)}" for name, value in key.items())
    try:
        former = {field.name for field in create_table(uri, rows.schema).schema().fields}
        is_wider = not former.issuperset(rows.column_names)
        schema_mode: Literal["merge"] | None = "merge" if is_wider else None
        for attempt in range(ATTEMPTS):
            try:
                write_deltalake(
                    uri, rows, mode="overwrite", predicate=condition, schema_mode=schema_mode
                )
                break
            except CommitFailedError:  # another process wrote meanwhile
                if attempt == ATTEMPTS - 1:
                    raise
                time.sleep(random.uniform(0, MAX_PAUSE_S))  # noqa: S311 - no secret
        table = DeltaTable(uri)
        if table.version() % TIDY_EVERY == 0:
            table.optimize.compact()
            table.vacuum(dry_run=False)
    except (DeltaError, OSError) as error:
        raise BackendError(f"{uri}: cannot write the table: {first_line(error)}") from None


def read_rows(uri: str, columns: Sequence[str] | None = None) -> pa.Table | None:
    """Read the rows of a table of results; None if there is no table yet.

    Args:
        columns: by default all.

    Raises:
        BackendError: the table cannot be read.
    """
    try:
        return DeltaTable(uri).to_pyarrow_table(columns=list(columns) if columns else None)
    except TableNotFoundError:
        return None
    except (DeltaError, OSError, pa.ArrowException) as error:
        raise BackendError(f"{uri}: cannot read the table: {first_line(error)}") from None


def _literal(value: str | int) -> str:
    return str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"
