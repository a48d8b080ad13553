"""Files as bytes, text or Parquet batches; and formats that are not read, by their first bytes.

Which format a file has is `files.Files`'s to say.
"""

import codecs
import lzma
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from lifecycle.data.sources.base import BATCH
from lifecycle.project import SourceSpec
from lifecycle.project.data import compression_of

UTF8 = ("utf-8", "ascii")


def text_stream(raw: pa.NativeFile, spec: SourceSpec, place: str) -> pa.NativeFile:
    """A file's text in UTF-8, from the first to the last byte.

    Args:
        place: the file's path or URL, whose ending may name a compression.

    Raises:
        LookupError: the encoding is unknown.
    """
    raw = byte_stream(raw, spec, place)
    encoding = codecs.lookup(spec.encoding).name
    return raw if encoding in UTF8 else pa.transcoding_input_stream(raw, encoding, "utf8")


def byte_stream(raw: pa.NativeFile, spec: SourceSpec, place: str) -> pa.NativeFile:
    """A file's bytes once they are decompressed; what a zip archive holds comes unpacked."""
    compression = compression_of(place) if spec.compression == "infer" else spec.compression
    if compression in ("none", "zip"):
        return raw
    if compression == "xz":  # Arrow has no reader of it
        return pa.PythonFile(lzma.LZMAFile(raw), mode="r")
    return pa.CompressedInputStream(raw, compression)


# Parquet: batch by batch, never a whole row group.

BUFFER = 1 << 20
"""Bytes of a column that are read at a time; without it a row group's columns are read whole."""
UNNAMED = re.compile(r"__index_level_\d+__")
"""What pandas calls a frame's index in Parquet if it has no name."""


def read_parquet(
    file: Path | pa.NativeFile, only: Collection[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """Batches with the file's own types.

    Args:
        only: columns to read; all if the file has none of them.
    """
    with pa.parquet.ParquetFile(file, pre_buffer=False, buffer_size=BUFFER) as parquet:
        names = parquet.schema_arrow.names
        present = [name for name in names if only and name in only] or None
        names = present or names
        columns = [name for name in names if not UNNAMED.fullmatch(name)]
        places = [place for place, name in enumerate(names) if not UNNAMED.fullmatch(name)]
        for batch in parquet.iter_batches(BATCH, columns=present):
            yield pa.RecordBatch.from_arrays([batch.column(at) for at in places], names=columns)


# Columns without a name and without a cell, as a separator at the end of each line makes them.


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
        positions = [at for at in range(batch.num_columns) if at not in dropped]
        return pa.RecordBatch.from_arrays(
            [batch.column(at) for at in positions],
            names=[batch.schema.names[at] for at in positions],
        )


def nameless(places: Iterable[int]) -> str:
    """Describe columns that have cells but no name.

    Args:
        places: of the columns, from 1.
    """
    several = list(map(str, places))
    which = f"column {several[0]} has" if len(several) == 1 else f"{len(several)} columns have"
    return (
        f"{which} no name; if the names are in a later line, set source.skip to the lines above it"
    )


# Files of formats that are not read, recognised by their first bytes or their name's ending.

XLSX = "save it as .xlsx"
OLD_WORKBOOK = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
"""How an .xls file begins, and a workbook with a password."""
ARCHIVE = "unpack it, and name the file"
TABLE = "export it as CSV, Parquet or .xlsx"
FIRST_BYTES: tuple[tuple[bytes, str, str], ...] = (
    (
        OLD_WORKBOOK,
        "an Excel workbook of the old form (.xls) or one with a password",
        "set source.format to excel, and save it without a password",
    ),
    (
        b"PK\x03\x04",
        "a zip archive, as an Excel workbook is",
        "name it .xlsx or .zip as what it is",
    ),
    (b"PAR1", "a Parquet file", "set source.format to parquet, or name it .parquet"),
    (b"\x1f\x8b", "compressed by gzip", "name it .gz, or set source.compression to gzip"),
    (b"BZh", "compressed by bzip2", "name it .bz2, or set source.compression to bz2"),
    (b"\xfd7zXZ\x00", "compressed by xz", "name it .xz, or set source.compression to xz"),
    (b"\x28\xb5\x2f\xfd", "compressed by Zstandard", "name it .zst, or set source.compression"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", ARCHIVE),
    (b"Rar!", "a RAR archive", ARCHIVE),
    (b"SQLite format 3\x00", "an SQLite database", "see source.format: sql"),
    (b"%PDF", "a PDF document", TABLE),
    (b"ARROW1", "an Arrow (Feather) file", "save it as Parquet"),
    (b"$FL2", "an SPSS file", TABLE),
    (b"<stata_dta>", "a Stata file", TABLE),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", TABLE),
)
ENDINGS: dict[str, tuple[str, str]] = {
    ".xlsb": ("a binary Excel workbook (.xlsb)", XLSX),
    ".numbers": ("a Numbers spreadsheet", XLSX),
    ".tar": ("a tar archive", ARCHIVE),
    ".tgz": ("a tar archive", ARCHIVE),
    ".7z": ("a 7-Zip archive", ARCHIVE),
    ".rar": ("a RAR archive", ARCHIVE),
    ".feather": ("an Arrow (Feather) file", "save it as Parquet"),
    ".arrow": ("an Arrow file", "save it as Parquet"),
    ".sav": ("an SPSS file", TABLE),
    ".dta": ("a Stata file", TABLE),
    ".sas7bdat": ("a SAS file", TABLE),
    ".rds": ("an R file", TABLE),
    ".rdata": ("an R file", TABLE),
    ".pkl": ("a Python pickle, which may run code", TABLE),
    ".pickle": ("a Python pickle, which may run code", TABLE),
    ".pdf": ("a PDF document", TABLE),
    ".xml": ("an XML document", TABLE),
    ".html": ("a web page", TABLE),
    ".htm": ("a web page", TABLE),
}
PAGES = (b"<!doctype html", b"<html", b"<table", b"<?xml")
READ = "CSV, Parquet, JSON lines and spreadsheets (.xlsx, .xls, .ods) are read"
LONGEST = 64
"""First bytes that are looked at."""


def foreign_ending(name: str) -> str | None:
    """Describe a file that cannot be read, by the ending of its name, and the remedy."""
    lower = name.lower()
    suffixes = Path(lower).suffixes[-2:]
    ending = ".tar" if ".tar" in suffixes else (suffixes or [""])[-1]
    if ending not in ENDINGS:
        return None
    kind, remedy = ENDINGS[ending]
    return f"it is {kind}, which is not read ({READ}): {remedy}"


def foreign_text(start: bytes) -> str | None:
    """Describe bytes that should be text but are not, and the remedy; None if unknown.

    Args:
        start: the first bytes of the file.
    """
    for first, kind, remedy in FIRST_BYTES:
        if start.startswith(first):
            return f"it is {kind}, not text: {remedy}"
    if start[:LONGEST].lstrip(b"\xef\xbb\xbf \r\n\t").lower().startswith(PAGES):
        return f"it is a web page or XML, not a table of text: {TABLE}"
    return None
