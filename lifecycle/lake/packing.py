"""Packing: the small files of a growing table become few, with the same rows and the same digest.

An increment leaves a file, however few its rows are, so reading gets slower with each. Packing
makes one more version of the newest, in which neighbouring files are put together as a carry goes
through the digits of a number to the base `FAN_IN`: each row that is written once more is in a file
of a higher level then. So a row is written once per level at most, and fewer than `FAN_IN` files of
each level are left. A version that was made before keeps its own files, which go when it expires.
"""

import logging
from collections.abc import Sequence
from itertools import chain

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError
from pyarrow.parquet import read_schema

from lifecycle.errors import BackendError, first_line
from lifecycle.lake.manifest import VersionFile, files_of, verified
from lifecycle.lake.read import open_file
from lifecycle.lake.table import ROW, Noted
from lifecycle.lake.write import VersionWriter
from lifecycle.records import DatasetVersion

logger = logging.getLogger(__name__)

FAN_IN = 8
FULL_LEVEL = 6
"""Level of a file that stays as it is: 8**6 rows, 262,144, or more."""

Group = list[VersionFile]
"""Neighbouring files that become one."""


def groups_of(files: Sequence[VersionFile]) -> list[Group]:
    """The files to put together; often none.

    Args:
        files: of a version, in the order of their rows.
    """
    groups: list[Group] = []
    for file in files:
        groups.append([file])
        while (count := _carried(groups)) > 1:
            groups[-count:] = [[*chain.from_iterable(groups[-count:])]]
    return [group for group in groups if len(group) > 1]


def packable_files(version: DatasetVersion) -> int:
    """Number of the files of a version that `pack` puts together.

    Raises:
        BackendError: its list cannot be read.
    """
    return sum(map(len, groups_of(files_of(version) or ())))


def pack(noted: Noted) -> DatasetVersion | None:
    """Write the newest version of a table once more, with its small files put together.

    Returns:
        The new version; None where there is nothing to put together, the version's commit lists no
        files, or another writer was faster.

    Raises:
        BackendError: the table cannot be read or written, or a file is damaged.
    """
    version = noted.version
    try:
        number = DeltaTable(version.uri).version()
        groups = groups_of(files_of(version) or ())
        if not groups:
            return None
        with VersionWriter(_schema(version, groups[0][0]), version.uri, version) as writer:
            for group in groups:
                writer.join(group, chain.from_iterable(open_file(version, file) for file in group))
            return writer.commit_packed(noted.note, number)
    except CommitFailedError:
        logger.info("%s: another writer was faster; packed another time", version.uri)
        return None
    except (DeltaError, OSError) as error:
        raise BackendError(f"{version.uri}: cannot be packed: {first_line(error)}") from None


def _carried(groups: Sequence[Group]) -> int:
    """Number of the last groups that have rows enough for a file of a higher level than theirs."""
    levels = [_level(_rows(group)) for group in groups]
    for level in range(FULL_LEVEL):
        count, rows = 0, 0
        while count < len(groups) and levels[-count - 1] <= level:
            count += 1
            rows += _rows(groups[-count])
        if rows >= FAN_IN ** (level + 1):
            return count
    return 0


def _rows(group: Group) -> int:
    """Most rows that the files can have."""
    return sum(file.end - file.first for file in group)


def _level(rows: int) -> int:
    """Digits of a number to the base `FAN_IN`, less one."""
    level = 0
    while rows >= FAN_IN ** (level + 1):
        level += 1
    return level


def _schema(version: DatasetVersion, file: VersionFile) -> pa.Schema:
    """A version's own columns: of a part, those with row numbers."""
    with verified(version.uri, file) as stream:
        schema = read_schema(stream)
    return schema.remove(schema.get_field_index(ROW))
