"""Sources: a CSV or Parquet file becomes a frame, or one clear message."""

import importlib.util
import re
from collections.abc import Collection
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from lifecycle.data.arrow import to_frame
from lifecycle.errors import SourceError
from lifecycle.identity import file_digest
from lifecycle.project import Project
from lifecycle.specs import SourceSpec

PACKAGE_SCHEME = "package://"
TEXT_TYPES = ("string", "category")
"""Contract types read as text, so that `007` and `1` stay what they are."""
UNNAMED = re.compile(r"__index_level_\d+__")
"""What pandas calls a frame's index in Parquet if it has no name."""


def source_file(project: Project) -> Path:
    """The file that `source.path` means; `package://name/inside` is found without an import.

    Raises:
        SourceError: the package is not installed, or there is no such file.
    """
    path = project.source.path
    if path.startswith(PACKAGE_SCHEME):
        return _packaged(path)
    file = project.folder / Path(path).expanduser()
    if file.is_dir():
        raise SourceError(f"source.path: {file} is a folder; name one file in it")
    if not file.is_file():
        raise SourceError(
            f"source.path: no file {file}; correct source.path (relative paths start at the "
            "project file's folder) or name another file with --source"
        )
    return file


def source_digest(project: Project) -> str:
    """SHA-256 of the source file's bytes.

    Raises:
        SourceError: the file is missing or cannot be read.
    """
    file = source_file(project)
    try:
        return file_digest(file)
    except OSError as error:
        raise _unreadable(file, error.strerror or str(error)) from None


def read_source(project: Project) -> pd.DataFrame:
    """The source's columns as they are; index 0..n-1 is the row's place in the file.

    Contract columns of type string and category are text, the others have the type all their cells
    agree on (text if they don't). Only an empty cell is missing here: what `NA` means is the
    contract's to say. Whole numbers stay whole numbers where some are missing. The frame is to be
    read only: columns share memory with what the file was read into.

    Raises:
        SourceError: the file is missing, unreadable, ragged, not text in its encoding, or empty.
    """
    columns = project.contract.columns
    text = [name for name, column in columns.items() if column.type in TEXT_TYPES]
    return to_frame(
        read_table(source_file(project), project.source, text),
        lambda _, column: column.null_count > 0,
        split_blocks=True,
    )


def read_table(file: Path, spec: SourceSpec, text: Collection[str]) -> pa.Table:
    """One file as an Arrow table, the columns of `text` read as text.

    Raises:
        SourceError: the file is unreadable, ragged, not text in its encoding, or empty.
    """
    try:
        table = _parquet(file) if spec.format == "parquet" else _csv(file, spec, text)
    except OSError as error:
        raise _unreadable(file, error.strerror or str(error)) from None
    except (pa.ArrowException, ValueError, LookupError) as error:
        raise _unreadable(file, str(error)) from None
    twice = {name for name in table.column_names if table.column_names.count(name) > 1}
    if twice:
        names = ", ".join(map(repr, sorted(twice)))
        raise SourceError(f"{file}: column names must differ, but there is more than one {names}")
    if not table.num_rows:
        raise SourceError(f"{file}: the file has a header but no rows")
    return table


def header(file: Path, spec: SourceSpec) -> list[str]:
    """Column names of a CSV file, from its first block.

    Raises:
        SourceError: the file is unreadable, not text, or empty.
    """
    try:
        with file.open("rb") as stream:
            start = stream.read(1 << 16)
        if not start.strip():
            raise _unreadable(file, "it is empty")
        if b"\0" in start and spec.encoding.lower().replace("-", "").startswith("utf8"):
            raise _unreadable(file, "it is binary, not text")
        line = start.split(b"\n", 1)[0]
        options = pa.csv.ReadOptions(encoding=spec.encoding)
        parse = pa.csv.ParseOptions(delimiter=spec.separator)
        table = pa.csv.read_csv(pa.BufferReader(line + b"\n"), options, parse)
    except OSError as error:
        raise _unreadable(file, error.strerror or str(error)) from None
    except (pa.ArrowException, ValueError, LookupError) as error:
        raise _unreadable(file, str(error)) from None
    return list(table.column_names)


def _parquet(file: Path) -> pa.Table:
    # without a buffer beside the columns, which would hold the whole file once more
    table = pa.parquet.read_table(file, pre_buffer=False)
    return table.drop_columns([name for name in table.column_names if UNNAMED.fullmatch(name)])


def _csv(file: Path, spec: SourceSpec, text: Collection[str]) -> pa.Table:
    header(file, spec)  # says what is wrong with a binary or empty file in plainer words
    table = pa.csv.read_csv(
        file,
        pa.csv.ReadOptions(encoding=spec.encoding),
        pa.csv.ParseOptions(delimiter=spec.separator, newlines_in_values=True),
        pa.csv.ConvertOptions(
            column_types=dict.fromkeys(text, pa.string()),
            null_values=[""],
            strings_can_be_null=True,
        ),
    )
    for field in table.schema:
        if pa.types.is_binary(field.type):  # what Arrow makes of bytes that are no text
            raise _unreadable(file, f"column {field.name!r} has bytes that are not {spec.encoding}")
    return table


def _packaged(path: str) -> Path:
    package, _, inside = path.removeprefix(PACKAGE_SCHEME).partition("/")
    found = importlib.util.find_spec(package) if package.isidentifier() else None
    if found is None or not found.submodule_search_locations:
        raise SourceError(
            f"source.path: {path}: package {package!r} is not installed; "
            "install it or name a file by its path"
        )
    for root in found.submodule_search_locations:
        if (file := Path(root) / inside).is_file():
            return file
    raise SourceError(f"source.path: {path}: package {package!r} has no file {inside!r}")


def _unreadable(file: Path, why: str) -> SourceError:
    reason = " ".join(why.split())
    return SourceError(
        f"{file}: cannot read it: {reason[:300].rstrip('.')}. Correct the file, or set "
        "source.format, source.separator or source.encoding to what it is"
    )
