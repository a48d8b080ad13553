"""A source made of files: one, or many with the same columns, here or on a server."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa

from lifecycle.data.sources.archives import File, Zipped, is_zip
from lifecycle.data.sources.base import At, Part
from lifecycle.data.sources.columns import TEXT_TYPES, declared, left_out, renamed, sliced
from lifecycle.data.sources.content import byte_stream, foreign_ending, nameless, read_parquet
from lifecycle.data.sources.credentials import Credentials
from lifecycle.data.sources.delimited import START, read_csv
from lifecycle.data.sources.excel import other_sheets, read_excel, sheet_heads
from lifecycle.data.sources.jsonlines import read_jsonl
from lifecycle.data.sources.local import PACKAGE_SCHEME, local_files
from lifecycle.data.sources.notation import Notation
from lifecycle.data.sources.remote import remote_files
from lifecycle.errors import SourceError
from lifecycle.project import ColumnSpec, SourceSpec
from lifecycle.project.data import format_of, without_secrets

# Files of one source have the same columns; where one has not, the difference is told.


def alike(
    batch: pa.RecordBatch,
    place: str,
    first_place: str,
    first: Sequence[str],
    columns: Mapping[str, ColumnSpec],
    gaps: bool,
    unlabelled: Collection[str] = (),
) -> pa.RecordBatch:
    """A batch with the first file's columns, in its order.

    Args:
        place: the file it is of.
        first: columns of the first file, which is `first_place`.
        gaps: whether it is of JSON lines: an object may leave a key out there, and so may a file;
            one the contract calls nullable is missing then.
        unlabelled: target and leakage: a file whose labels have not come need not have them, unless
            one of its columns looks like them under another name.

    Raises:
        SourceError: two columns have one name, or the files have different columns.
    """
    names = batch.schema.names
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if "" in repeated:
        places = [at for at, name in enumerate(names, 1) if not name]
        raise SourceError(f"{place}: {nameless(places)}")
    if repeated:
        several = ", ".join(map(repr, repeated))
        raise SourceError(
            f"{place}: column names must differ, but there is more than one {several}"
        )
    if names == list(first):
        return batch
    have, wanted_names = set(names), set(first)
    missing = [name for name in first if name not in have]
    more = [name for name in names if name not in wanted_names]
    columns_in_order = list(first)
    absent = left_out(unlabelled, missing, more)
    if gaps:
        absent |= {name for name in missing if name not in columns or columns[name].nullable}
    for name in sorted(absent):
        batch = batch.append_column(name, pa.nulls(batch.num_rows, pa.string()))
    missing = [name for name in missing if name not in absent]
    if gaps:
        columns_in_order += more
        more = more if missing else []
    if missing or more:
        raise SourceError(_difference(place, first_place, len(first), missing, more))
    return batch.select(columns_in_order)


def _difference(
    place: str, first_place: str, count: int, missing: Sequence[str], more: Sequence[str]
) -> str:
    close = renamed(missing, more)
    if len(missing) == count and not close:
        # what stands there may be a row with personal data, not a header: it is not repeated
        return (
            f"{place}: it has none of the {count} columns of {first_place}, and {len(more)} "
            "others; see that its first line names the columns, or take it as a source of its own"
        )
    differences = [f"it has no {', '.join(map(repr, missing))}"] if missing else []
    differences += [f"it has {', '.join(map(repr, more))} besides"] if more else []
    lines = [f"  ~ {name} → {other}, perhaps" for name, other in close.items()]
    message = (
        f"{place}: its columns differ from those of {first_place}: {' and '.join(differences)}"
    )
    if not lines:
        return f"{message}; make them alike, or take the files as sources of their own"
    last = "Make them alike, or take the files as sources of their own"
    return "\n".join([f"{message}.", *lines, last])


HINTS = {
    "csv": "source.format, source.separator or source.encoding",
    "jsonl": "source.format or source.encoding",
}
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
"""What Hive writes for a partition without a value."""


class Files:
    """CSV, Parquet, JSON lines or Excel files; a `Source`."""

    def __init__(self, spec: SourceSpec, folder: Path, unlabelled: Collection[str] = ()) -> None:
        """Remember where the files are; nothing is opened.

        Args:
            folder: where relative paths start.
            unlabelled: columns that a file whose labels have not come need not have.

        Raises:
            SourceError: the credentials are not there.
        """
        self._spec, self._folder, self._unlabelled = spec, folder, unlabelled
        self._notation = Notation(spec)
        self._credentials = Credentials(spec)
        self._stamps: dict[str, tuple[object, ...]] = {}
        self._file_cache: dict[str, File] | None = None
        self._starts: list[tuple[int, str]] = []
        """Of the files read so far: rows before each, and its name."""
        keys = HINTS.get(spec.format, "source.format")
        self._hint = f". Correct the file, or set {keys} to what it is"
        self.remote = "://" in spec.path and not spec.path.startswith(PACKAGE_SCHEME)
        """Whether the files are on a server, not on this machine."""
        here = str(folder / Path(spec.path).expanduser())
        self.place = without_secrets(spec.path) if "://" in spec.path else here

    def parts(self) -> tuple[Part, ...]:
        """One a file."""
        parts = []
        for file in self._files().values():
            with self._credentials.guard(file.place):
                self._unchanged(file)
                parts.append(Part(file.name, file.digest()))
                self._unchanged(file)
        return tuple(parts)

    def at(self, number: int) -> At:
        """Return the place of a row: its file, and its number in that file."""
        files = self._files()
        before = bisect_left(self._starts, number, key=lambda start: start[0]) - 1
        if before < 0:
            return At(self.place, "", number)
        start, name = self._starts[before]
        return At(files[name].place, name if len(files) > 1 else "", number - start)

    def batches(
        self,
        columns: Mapping[str, ColumnSpec],
        only: Collection[str] | None = None,
        after: object | None = None,
        subset: Collection[str] | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """The files' rows, one file after the other."""
        pieces = (
            (name, piece) for name in self.names(only) for piece in self.read(name, columns, subset)
        )
        yield from self.joined(pieces, columns, is_complete=only is None)

    def names(self, only: Collection[str] | None = None) -> list[str]:
        """The files, in the order they are read."""
        return [name for name in self._files() if only is None or name in only]

    def read(
        self, name: str, columns: Mapping[str, ColumnSpec], subset: Collection[str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """One file's rows by themselves, in the contract's types; `joined` makes them the source's.

        Args:
            subset: as `batches` has it.

        Raises:
            SourceError: it cannot be read, or changed meanwhile.
            BackendError: the server does not answer.
        """
        file = self._files()[name]
        with self._credentials.guard(file.place, self._hint):
            self._unchanged(file)
            for raw in self._read(file, columns, subset):
                yield declared(self._with_partitions(raw, file, columns), columns, self._notation)
            self._unchanged(file)

    def joined(
        self,
        pieces: Iterable[tuple[str, pa.RecordBatch]],
        columns: Mapping[str, ColumnSpec],
        *,
        is_complete: bool,
    ) -> Iterator[pa.RecordBatch]:
        """Join the pieces of the files, each with its file's name, to batches of one source.

        Args:
            is_complete: whether all files of the source were read.

        Raises:
            SourceError: there are no rows, two columns have one name, or files differ in theirs.
        """
        files = self._files()
        rows = 0
        first: tuple[str, list[str]] | None = None
        self._starts = []
        for name, piece in pieces:
            place = files[name].place
            if not self._starts or self._starts[-1][1] != name:
                self._starts.append((rows, name))
            first = first or (place, piece.schema.names)
            gaps = self._spec.format == "jsonl"
            batch = alike(piece, place, *first, columns, gaps, self._unlabelled)
            rows += batch.num_rows
            yield from sliced(batch)
        if not rows and is_complete:
            subject = "the file has" if len(files) == 1 else "its files have"
            raise SourceError(f"{self.place}: {subject} a header but no rows{self._others()}")

    def start(self) -> bytes:
        """The first megabyte of the first file, unpacked, in its own encoding.

        Raises:
            SourceError: it is missing or cannot be read.
            BackendError: its server does not answer.
        """
        return next(self.blocks(START), b"")

    def blocks(self, size: int) -> Iterator[bytes]:
        """The bytes of the first file, unpacked, in its own encoding.

        Args:
            size: bytes of a block.

        Raises:
            SourceError: it is missing or cannot be read.
            BackendError: its server does not answer.
        """
        file = next(iter(self._files().values()))
        with self._credentials.guard(file.place, self._hint), file.open() as raw:
            stream = byte_stream(raw, self._spec, file.place)
            while block := stream.read(size):
                yield block

    def on_disk(self) -> AbstractContextManager[Path]:
        """A path of the first file for readers that jump about.

        Raises:
            SourceError: it is missing.
            BackendError: its server does not answer.
        """
        return next(iter(self._files().values())).on_disk()

    def _files(self) -> dict[str, File]:
        """Return the files by name, in the order in which they are read."""
        if self._file_cache is None:
            with self._credentials.guard(self.place):
                if self.remote:
                    files: Sequence[File] = remote_files(self._spec, self._credentials)
                else:
                    files = local_files(self._spec, self._folder)
            for file in files:
                if (problem := foreign_ending(file.name)) is not None:
                    raise SourceError(f"{file.place}: cannot read it: {problem}")
                file_format = format_of(file.name)
                if file_format not in (None, self._spec.format):
                    raise SourceError(
                        f"source.format: it is {self._spec.format}, but {file.place} ends as "
                        f"{file_format} does; set source.format to {file_format}, or rename the "
                        "file"
                    )
            self._file_cache = {
                file.name: Zipped(file) if is_zip(self._spec, file.name) else file for file in files
            }
        return self._file_cache

    def _others(self) -> str:
        """Name the other sheets of a single workbook, for the message about one without rows."""
        files = list(self._files().values())
        if self._spec.format != "excel" or len(files) > 1:
            return ""
        with files[0].on_disk() as path:
            return other_sheets(self._spec.sheet, list(sheet_heads(path, files[0].place, 0)))

    def _unchanged(self, file: File) -> None:
        """See that a file is what it was when this object first looked at it."""
        stamp = file.stamp()
        if self._stamps.setdefault(file.name, stamp) != stamp:
            raise SourceError(f"{file.place}: it changed while it was read; run again")

    def _read(
        self, file: File, columns: Mapping[str, ColumnSpec], subset: Collection[str] | None
    ) -> Iterator[pa.RecordBatch]:
        spec = self._spec
        if spec.format in ("parquet", "excel"):
            with file.on_disk() as path:
                yield from (
                    read_parquet(path, subset)
                    if spec.format == "parquet"
                    else read_excel(path, spec, file.place)
                )
            return
        with file.open() as raw:
            if spec.format == "csv":
                yield from read_csv(raw, spec, file.place, subset)
            else:
                text = [name for name, column in columns.items() if column.type in TEXT_TYPES]
                yield from read_jsonl(raw, spec, file.place, text)

    def _with_partitions(
        self, batch: pa.RecordBatch, file: File, columns: Collection[str]
    ) -> pa.RecordBatch:
        partitions = _partitions(file.name)
        if not self._spec.partitions:
            for name in partitions:
                if name in columns and name not in batch.schema.names:
                    raise SourceError(
                        f"{file.place}: the file has no column {name!r}, but its folder's name "
                        "has: set source.partitions to true"
                    )
            return batch
        for name, value in partitions.items():
            if name in batch.schema.names:
                raise SourceError(
                    f"{file.place}: {name!r} is a column of the file and of its folder's name; "
                    "rename one, or set source.partitions to false"
                )
            values = pa.repeat(pa.scalar(value, pa.string()), batch.num_rows)
            batch = batch.append_column(name, values)
        return batch


def _partitions(name: str) -> dict[str, str | None]:
    """Columns in the names of the folders a file is in, as Hive writes them."""
    partitions = {}
    for folder in name.split("/")[:-1]:
        column, sign, value = folder.partition("=")
        if sign:
            partitions[unquote(column)] = None if value == NO_VALUE else unquote(value)
    return partitions
