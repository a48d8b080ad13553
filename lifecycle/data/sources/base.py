"""Guarantees that every source gives."""

import hashlib
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple, Protocol

import pyarrow as pa

from lifecycle.lake.content import digest_of
from lifecycle.project import ColumnSpec
from lifecycle.runtime.files import scratch_file

BATCH = 1 << 16
"""Most rows of a batch."""
MEMBERS_SHOWN = 10
"""Names of files or sheets that a message has."""


class Part(NamedTuple):
    """A piece of a source that is read whole: a file, the answer to a query, a table's version."""

    name: str
    """Unique within the source, without credentials."""
    digest: str
    """Equal for equal content: the SHA-256 of a file's bytes or of an answer's values; of a remote
    object what its server says identifies it; a table's version; the hash in a `.dvc` file."""


class At(NamedTuple):
    """The place of a row in a source."""

    place: str
    """The file, table or response that has the row, for messages."""
    file: str
    """The name of the file in a source of several files; otherwise empty."""
    row: int
    """The number of the row there; the first is 1, a header does not count."""

    def __str__(self) -> str:
        return f"row {self.row} of {self.file}" if self.file else f"row {self.row}"


class Source(Protocol):
    """Raw rows of one place, in batches.

    Every source keeps, and one conformance suite (`tests/lifecycle/data/sources`) holds it to:

    - No more than a few batches are in memory, however large the source is.
    - Columns that the contract calls string or category are text: `007` stays `007`. Its other
      columns have the Arrow type it asks for (`int64`, `float64`, `bool`, `timestamp[us]` in UTC
      without a zone) in each batch where every cell allows it, and are text in the others. Only an
      empty cell is missing; what `NA` means is the contract's to say.
    - Columns the contract does not name are there as well, for it to refuse or drop.
    - `parts` and `batches` of one object tell of the same content: what changes in between, or
      while it is read, is an error or is not seen.
    - No message, log line or `repr` holds a credential.
    """

    place: str
    """Where the rows are, for messages."""

    def parts(self) -> tuple[Part, ...]:
        """The pieces, in the order they are read.

        Raises:
            SourceError: there is nothing, or it cannot be read.
            BackendError: the server does not answer; trying again may help.
        """

    def at(self, number: int) -> At:
        """Return the place of a row of the last call of `batches`.

        Args:
            number: the number of the row, from 1.
        """

    def batches(
        self,
        columns: Mapping[str, ColumnSpec],
        only: Collection[str] | None = None,
        after: object | None = None,
        subset: Collection[str] | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """Rows in order, at most 65,536 in a batch.

        Args:
            columns: the contract's.
            only: names of the parts to read; by default all.
            after: SQL and Delta answer only rows whose watermark is greater; files are read whole,
                and so is what a function returns.
            subset: columns to read; by default all. CSV, Parquet and Delta leave the others out if
                there is one of these, other sources give them as well.

        Raises:
            SourceError: it cannot be read, has no rows (if all of it was asked for), two columns of
                one name, or files with different columns; or it changed meanwhile.
            BackendError: the server does not answer; trying again may help.
        """


# An answer that cannot be asked for twice, kept in a temporary file while it is needed.


class SpooledBatches:
    """Batches on disk, and what identifies their content."""

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        """Take all batches; one at a time is in memory.

        Args:
            batches: plain columns (`columns.plain`); their types may differ between batches.
        """
        self._file = scratch_file(self)
        digest = hashlib.sha256()
        self._count = 0
        with pa.OSFile(str(self._file), "wb") as file:
            for batch in batches:
                digest.update(digest_of(pa.Table.from_batches([batch])).encode())
                with pa.ipc.new_stream(file, batch.schema) as stream:  # each with its own types
                    stream.write_batch(batch)
                self._count += 1
        self.digest = digest.hexdigest()

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the stored batches."""
        with pa.OSFile(str(self._file)) as file:
            for _ in range(self._count):
                yield from pa.ipc.open_stream(file)
