"""Reading the prediction log: rows as a frame, and what each version did in a stretch of time."""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import reduce
from operator import and_

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import DeltaTable, Schema
from deltalake.exceptions import DeltaError, TableNotFoundError
from pyarrow.parquet import read_schema

from lifecycle.errors import BackendError, DataError, first_line
from lifecycle.lake.column_types import to_frame
from lifecycle.lake.inventory import (
    BEGIN_ANEW,
    DataFile,
    inventory,
    open_file,
    partition_of,
)
from lifecycle.lake.prediction_log import DAY, INTERNAL_KEY, SCHEMA, TABLE
from lifecycle.lake.read import is_nullable
from lifecycle.lake.table import table_uri
from lifecycle.project import Project
from lifecycle.records import Observed
from lifecycle.settings import Settings

MAX_POINTS = 10_000
"""Predictions that `observe` hands over of each version, at most."""
OPEN_FILES = 64
"""Files that are open at once, at most."""
OPEN_BYTES = 64 * 2**20
"""Their bytes, at most, unless a single file has more."""
OPENERS = 8
"""Threads that fetch and hash them."""
KEY = "key"
FIRST = "-0"
"""What the id of a request's first row ends with: one a request."""
OBSERVED = ["id", "time", "version", "role", "status", "latency_ms", "prediction", "predicted"]


def read_log(
    settings: Settings,
    project_name: str,
    since: float,
    until: float | None = None,
    columns: Sequence[str] | None = None,
    version: int | None = None,
) -> pd.DataFrame:
    """Logged rows of `since <= time < until` (Unix seconds), ordered by time and id.

    Inputs are `input_<name>`; whole numbers are pandas' `Int64`, times of the contract as in a
    dataset version. A log that is not there yet has no rows. Rows of the smoke test are left out.

    Args:
        columns: which ones; by default those that every log has, and those of the rows' files.
        version: of this model version only.

    Raises:
        BackendError: the log cannot be read, or is damaged.
        DataError: the log has no such column.
    """
    names = None if columns is None else list(dict.fromkeys([*columns, "id", "time"]))
    table = _read(settings, project_name, since, until, names, version)
    ordered = table.sort_by([("time", "ascending"), ("id", "ascending")])
    return to_frame(ordered.select(columns) if columns is not None else ordered, is_nullable)


def observe(
    settings: Settings, project: Project, since: float, until: float | None = None
) -> dict[tuple[int, str], Observed]:
    """(version, role) → what it did in `since <= time < until`, Unix seconds.

    Raises:
        BackendError: the log cannot be read, or is damaged.
    """
    table = _read(settings, project.name, since, until, OBSERVED, None)
    first = pc.ends_with(table["id"], FIRST)
    observations = {}
    for pair in table.group_by(["version", "role"]).aggregate([]).to_pylist():
        of_pair = pc.and_(
            pc.equal(table["version"], pair["version"]), pc.equal(table["role"], pair["role"])
        )
        requests = table.filter(pc.and_(of_pair, first))
        observations[pair["version"], pair["role"]] = _observed(
            pair["version"], requests, table.filter(of_pair), project
        )
    return observations


def _observed(version: int, requests: pa.Table, rows: pa.Table, project: Project) -> Observed:
    """Of rows ordered by time an even choice is handed over: the same rows give the same choice."""
    seconds = requests["latency_ms"].to_numpy() / 1000
    p50, p99 = np.percentile(seconds, (50, 99)).tolist() if len(seconds) else (0.0, 0.0)
    answers = rows.filter(pc.equal(rows["status"], "ok")).sort_by(
        [("time", "ascending"), ("id", "ascending")]
    )
    step = max(1, math.ceil(answers.num_rows / MAX_POINTS))
    answers = answers.take(np.arange(0, answers.num_rows, step))
    if project.classes:
        by_text = {str(value): value for value in project.classes}
        labels = [by_text.get(text, text) for text in answers["predicted"].to_pylist()]
    else:
        labels = answers["prediction"].to_pylist()
    return Observed(
        version=version,
        requests=requests.num_rows,
        errors=pc.sum(pc.not_equal(requests["status"], "ok")).as_py() or 0,
        p50_seconds=p50,
        p99_seconds=p99,
        predictions=tuple(labels),
        ids=tuple(answers["id"].to_pylist()),
    )


def open_log(
    settings: Settings,
    project_name: str,
    columns: Sequence[str] | None,
    condition: pc.Expression | None = None,
    since: float | None = None,
    until: float | None = None,
) -> Iterator[pa.Table]:
    """Rows of the log, those of some files at a time and in no order; the smoke test's as well.

    A file is held against its digest before any of it is parsed. Only files whose day and times can
    hold such rows are opened.

    Args:
        columns: which ones, in this order; by default those that every log has, and those of the
            files.
        condition: on the rows.
        since: of no row before it; Unix seconds.
        until: of no row from then on.

    Raises:
        BackendError: the log cannot be read, or is damaged.
        DataError: the log has no such column.
    """
    uri = table_uri(settings, project_name, TABLE)
    try:
        table = DeltaTable(uri)
        files = [file for file in inventory(uri, table) if _may_hold(file, since, until)]
        declared = pa.schema(table.schema().to_arrow())
    except TableNotFoundError:
        return
    except (DeltaError, OSError) as error:
        raise BackendError(
            f"{uri}: cannot read: {first_line(error)}; if damage is the cause, {BEGIN_ANEW}"
        ) from None
    conditions = [] if condition is None else [condition]
    conditions += [] if since is None else [pc.field("time") >= _scalar(since)]
    conditions += [] if until is None else [pc.field("time") < _scalar(until)]
    filter_expression = reduce(and_, conditions) if conditions else None
    for group in _groups(files):
        yield _rows(uri, group, declared, columns, filter_expression)


def _groups(files: Sequence[DataFile]) -> Iterator[list[DataFile]]:
    """Files that are read together, of a bounded number and size; one group at least."""
    group: list[DataFile] = []
    for file in files:
        size = sum(other.size for other in group)
        if group and (len(group) == OPEN_FILES or size + file.size > OPEN_BYTES):
            yield group
            group = []
        group.append(file)
    yield group


def _rows(
    uri: str,
    files: Sequence[DataFile],
    declared: pa.Schema,
    columns: Sequence[str] | None,
    condition: pc.Expression | None,
) -> pa.Table:
    """Rows of files.

    Args:
        declared: the columns as Delta's log has them: nothing holds it against them, so that it
            only counts for those that the files lack.
    """
    with ExitStack() as stack, ThreadPoolExecutor(OPENERS) as pool:
        sources = list(pool.map(lambda file: stack.enter_context(open_file(uri, file)), files))
        try:
            own = [
                pa.schema(Schema.from_arrow(read_schema(source)).to_arrow()) for source in sources
            ]
            schema = pa.unify_schemas([SCHEMA, *own])
            for name in columns or ():
                if name not in schema.names and name in declared.names:
                    schema = schema.append(declared.field(name))
            if unknown := [name for name in columns or () if name not in schema.names]:
                names = [*schema.names, *(n for n in declared.names if n not in schema.names)]
                raise DataError(
                    f"{uri} has no column {', '.join(unknown)}; it has {', '.join(names)}"
                )
            kind = ds.ParquetFileFormat()
            fragments = [
                kind.make_fragment(source, partition_expression=pc.field(DAY) == _day(file))
                for source, file in zip(sources, files, strict=True)
            ]
            dataset = ds.FileSystemDataset(fragments, schema, kind)
            return dataset.to_table(
                columns=None if columns is None else list(columns), filter=condition
            )
        except (pa.ArrowException, OSError) as error:
            raise BackendError(f"{uri}: cannot read: {first_line(error)}") from None


def _read(
    settings: Settings,
    project_name: str,
    since: float,
    until: float | None,
    columns: list[str] | None,
    version: int | None,
) -> pa.Table:
    """The rows of clients."""
    names = None if columns is None else list(dict.fromkeys([*columns, KEY]))
    condition = None if version is None else pc.field("version") == version
    tables = list(open_log(settings, project_name, names, condition, since, until))
    if not tables:
        return SCHEMA.empty_table().select(columns or SCHEMA.names)
    table = pa.concat_tables(tables, promote_options="default")
    table = client_rows(table)
    return table if columns is None else table.select(columns)


def client_rows(rows: pa.Table) -> pa.Table:
    """Rows of the log that clients asked for: without those of the smoke test.

    Args:
        rows: with the column `key`.
    """
    return rows.filter(pc.invert(pc.starts_with(rows[KEY].fill_null(""), INTERNAL_KEY)))


def _may_hold(file: DataFile, since: float | None, until: float | None) -> bool:
    """Whether a row of a file can be of such a time; one without times in its name by its day."""
    if file.span is not None:
        first, last = file.span
        return (since is None or last >= _scalar(since).value) and (
            until is None or first < _scalar(until).value
        )
    day = _day(file).as_py()
    return (since is None or day >= _time(since).date()) and (
        until is None or day <= _time(until).date()
    )


def _day(file: DataFile) -> pa.Scalar:
    return pa.scalar(partition_of(file.path).get(DAY)).cast(pa.date32())


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _scalar(seconds: float) -> pa.Scalar:
    return pa.scalar(_time(seconds), pa.timestamp("us", "UTC"))
