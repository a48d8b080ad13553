"""Files of formats that are not read, recognised by their first bytes or their name's ending."""

from pathlib import Path

XLSX = "save it as .xlsx"
ARCHIVE = "unpack it, and name the file"
TABLE = "export it as CSV, Parquet or .xlsx"
FIRST_BYTES: tuple[tuple[bytes, str, str], ...] = (
    (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        "an Excel workbook of the old form (.xls) or one with a password",
        f"{XLSX}, without a password",
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
    ".xls": ("an Excel workbook of the old form (.xls)", XLSX),
    ".xlsb": ("a binary Excel workbook (.xlsb)", XLSX),
    ".ods": ("an OpenDocument spreadsheet (.ods)", XLSX),
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
READ = "CSV, Parquet, JSON lines and Excel's .xlsx are read"
LONGEST = 64
"""First bytes that are looked at."""


def foreign_ending(name: str) -> str | None:
    """What a file is by its name's ending, if nothing here reads it, and what to do."""
    lower = name.lower()
    suffixes = Path(lower).suffixes[-2:]
    ending = ".tar" if ".tar" in suffixes else (suffixes or [""])[-1]
    if ending not in ENDINGS:
        return None
    what, remedy = ENDINGS[ending]
    return f"it is {what}, which is not read ({READ}): {remedy}"


def foreign_text(start: bytes) -> str | None:
    """What bytes are that should be text and are none, and what to do; None if unknown.

    Args:
        start: the first bytes of the file.
    """
    for first, what, remedy in FIRST_BYTES:
        if start.startswith(first):
            return f"it is {what}, not text: {remedy}"
    if start[:LONGEST].lstrip(b"\xef\xbb\xbf \r\n\t").lower().startswith(PAGES):
        return f"it is a web page or XML, not a table of text: {TABLE}"
    return None
