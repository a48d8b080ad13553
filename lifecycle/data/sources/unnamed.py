"""Columns without a name and without a cell, as a separator at the end of each line makes them."""

from collections.abc import Iterable

import pyarrow as pa


class Unnamed:
    """Leaves them out of one file's batches; one that gets a cell later is an error."""

    def __init__(self) -> None:
        """Know nothing; the first batch tells which they are."""
        self._empty: list[int] | None = None

    def left_out(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """A batch without those columns.

        Raises:
            ValueError: one of them has a cell in this batch and had none in the first.
        """
        if self._empty is None:
            self._empty = [
                at
                for at, name in enumerate(batch.schema.names)
                if not name.strip() and batch.column(at).null_count == batch.num_rows
            ]
        if not self._empty:
            return batch
        for at in self._empty:
            if batch.column(at).null_count < batch.num_rows:
                raise ValueError(nameless([at + 1]))
        dropped = set(self._empty)
        kept = [at for at in range(batch.num_columns) if at not in dropped]
        return pa.RecordBatch.from_arrays(
            [batch.column(at) for at in kept], names=[batch.schema.names[at] for at in kept]
        )


def nameless(places: Iterable[int]) -> str:
    """What is wrong with columns that have cells and no name.

    Args:
        places: of the columns, from 1.
    """
    several = list(map(str, places))
    which = f"column {several[0]} has" if len(several) == 1 else f"{len(several)} columns have"
    return (
        f"{which} no name; if the names are in a later line, set source.skip to the lines above it"
    )
