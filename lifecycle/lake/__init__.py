"""The lake: versioned Delta tables; a version is written whole, in one commit, or not at all.

`table` knows what versions there are, `manifest` the bytes of their files, `read` opens exactly one
of them, `write` makes the next, `whole` from a frame in memory. `inventory` has the files of a
table that many append to.
"""

from lifecycle.lake.manifest import is_intact
from lifecycle.lake.read import (
    is_nullable,
    open_rows,
    open_version,
    read_table,
    read_version,
)
from lifecycle.lake.table import (
    ERASED,
    ROW,
    create_table,
    erased_rows,
    find_version,
    history,
    missing,
    noted_version,
    relocated,
    table_uri,
)
from lifecycle.lake.write import VersionWriter, write_batches, write_rows, write_version

__all__ = [
    "ERASED",
    "ROW",
    "VersionWriter",
    "create_table",
    "erased_rows",
    "find_version",
    "history",
    "is_intact",
    "is_nullable",
    "missing",
    "noted_version",
    "open_rows",
    "open_version",
    "read_table",
    "read_version",
    "relocated",
    "table_uri",
    "write_batches",
    "write_rows",
    "write_version",
]
