"""A version of a table as a file that other programs read: CSV or Parquet."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from lifecycle.errors import DataError, first_line
from lifecycle.lake.read import open_version, stored_schema
from lifecycle.records import DatasetVersion
from lifecycle.runtime.files import replacing

Writer = Callable[[BinaryIO, pa.Schema], AbstractContextManager[Any]]
WRITERS: dict[str, Writer] = {
    ".csv": pyarrow.csv.CSVWriter,
    ".parquet": pyarrow.parquet.ParquetWriter,
}
"""Ending of a file → what writes it."""


def export(version: DatasetVersion, path: Path) -> None:
    """Write the rows of a version into a file, in their order, a batch in memory at a time.

    A missing value is an empty cell of CSV.

    Args:
        path: a file that ends in `.csv` or `.parquet`; the one there is replaced when all rows
            are written.

    Raises:
        DataError: the ending is another, the file cannot be written, or a column holds what its
            kind of file cannot.
        BackendError: the version is not there, or is damaged.
    """
    writer = writer_of(path)
    schema = stored_schema(version)
    try:
        with (
            replacing(path) as temporary,
            temporary.open("wb") as sink,
            writer(sink, schema) as file,
        ):
            for batch in open_version(version):
                file.write_batch(batch.cast(schema))
    except OSError as error:
        raise DataError(f"{path}: cannot write it ({error.strerror or error})") from None
    except pa.ArrowException as error:
        raise DataError(f"{path}: cannot write it ({first_line(error)})") from None


def writer_of(path: Path) -> Writer:
    """Return the writer of files with this ending.

    Raises:
        DataError: nothing does.
    """
    writer = WRITERS.get(path.suffix.lower())
    if writer is None:
        raise DataError(f"{path}: name a file that ends in {' or '.join(WRITERS)}")
    return writer
