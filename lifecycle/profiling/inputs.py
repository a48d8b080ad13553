"""Inputs of a profile: a project, a version in the lake, a frame, a file."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from lifecycle.data.contract import Checker, contract_of, stage_terms
from lifecycle.data.contract.quarantine import RECORD
from lifecycle.data.contract.quarantine import SCHEMA as QUARANTINE
from lifecycle.data.contract.quarantine import TABLE as REJECTED
from lifecycle.data.sources import open_source
from lifecycle.data.sources.base import BATCH
from lifecycle.data.sources.files import Files
from lifecycle.errors import DataError
from lifecycle.features.encode import Floats
from lifecycle.features.store import VIEW
from lifecycle.lake.column_types import is_number, to_arrow
from lifecycle.lake.read import open_version
from lifecycle.lake.table import history, numbered_version, table_uri
from lifecycle.profiling.record import Kind
from lifecycle.profiling.schema import ProfileSchema, guessed, known_of, known_of_view
from lifecycle.project import ContractSpec, Project, SourceSpec
from lifecycle.project.data import format_of
from lifecycle.project.loader import load_project
from lifecycle.records import DatasetVersion
from lifecycle.scaffold.generate import read_columns
from lifecycle.settings import Settings

Codes = NDArray[np.int64]

YAML = (".yaml", ".yml")
Profiled: TypeAlias = pd.DataFrame | pa.Table | Project | DatasetVersion | str | Path


@dataclass
class ProfileInput:
    """Input of a profile: batches to read once, and their schema."""

    title: str
    place: str
    batches: Iterable[pa.RecordBatch]
    schema: ProfileSchema
    rejected: int = 0
    """Known once the batches were read."""


def open_frame(
    frame: pd.DataFrame, target: str | None, title: str = "frame", place: str = ""
) -> ProfileInput:
    """A frame as it is.

    Raises:
        DataError: two columns have one name, or the target is none of them.
    """
    frame = frame.rename(columns=str)
    if repeated := frame.columns[frame.columns.duplicated()].tolist():
        raise DataError(f"{title}: several columns are called {repeated[0]!r}: rename all but one")
    schema = guessed(frame, target)
    try:
        table = to_arrow(frame)
    except pa.ArrowException:  # objects of several types: said as text
        mixed = [str(name) for name in frame if frame[name].dtype == object]
        texts = {
            name: frame[name].where(frame[name].isna(), frame[name].map(str)) for name in mixed
        }
        table = to_arrow(frame.assign(**texts))
    return ProfileInput(title, place or "a frame in memory", _batches(table), schema)


def open_file(path: str | Path, target: str | None) -> ProfileInput:
    """A data file; it is in memory whole. Parquet says its types, others are typed as
    `lifecycle init` does.

    Raises:
        SourceError: the file is missing, unreadable or empty.
        DataError: the target is none of its columns.
    """
    if format_of(str(path)) == "parquet":
        source = Files(SourceSpec(path=str(path), format="parquet"), Path())
        frame = pa.Table.from_batches(source.batches({})).to_pandas()
        misfits = {}
    else:
        columns = read_columns(str(path))
        frame = pd.DataFrame({name: column.values for name, column in columns.items()})
        misfits = {name: len(column.misfits) for name, column in columns.items()}
    title = str(path).replace("\\", "/").rpartition("/")[2]
    profile_input = open_frame(frame, target, title, str(path))
    profile_input.schema = replace(profile_input.schema, misfits=misfits)
    return profile_input


def open_table(
    project: Project, settings: Settings, table: str = "accepted", version: int | None = None
) -> ProfileInput | None:
    """A version of a project's table, by default the newest; None if the table has none yet.

    Raises:
        DataError: there is no such version.
        BackendError: the table cannot be read.
    """
    uri = table_uri(settings, project.name, table)
    if version is None:
        versions = history(uri)["version"]
        if versions.empty:
            return None
        version = int(versions.iloc[-1])
    return open_ref(numbered_version(uri, version), project)


def open_ref(ref: DatasetVersion, project: Project | None = None) -> ProfileInput:
    """A version; without its project, what the contract says of its columns is known.

    Raises:
        BackendError: the table cannot be read.
    """
    folder, name, table = ref.uri.rstrip("/").rsplit("/", 2)
    place = f"{table}@{ref.version}, digest {ref.digest[:12]}"
    if table == REJECTED:  # a record has values of all columns in one, personal ones among them
        columns = [name for name in QUARANTINE.names if name != RECORD]
        batches = open_version(ref, columns)
        title = project.name if project else name
        return ProfileInput(title, f"{place}, without {RECORD}", batches, ProfileSchema(period=""))
    if table.startswith(VIEW):
        views = project.feature_views if project else {}
        schema = known_of_view(views.get(table.removeprefix(VIEW)))
    elif project:
        schema = known_of(project)
    else:
        contract = _contract(ref, f"{folder}/{name}/accepted")
        schema = ProfileSchema(specs=contract.columns if contract else {}, period="")
    return ProfileInput(project.name if project else name, place, open_version(ref), schema)


def open_declared(project: Project) -> ProfileInput:
    """The source as the contract reads it: the rows that ingestion would accept.

    Raises:
        SourceError: the source cannot be read.
    """
    source = open_source(project)
    terms = stage_terms(project, "accepted")
    profile_input = ProfileInput(project.name, source.place, (), known_of(project))

    def accepted() -> Iterator[pa.RecordBatch]:
        now = datetime.now(UTC).replace(tzinfo=None)
        checker = Checker(
            terms.contract, now=now, time=terms.time, latest=terms.latest, at=source.at
        )
        yield pa.RecordBatch.from_pylist([], schema=checker.schema)
        first = 0
        for batch in source.batches(terms.contract.columns):
            checked = checker.check(terms.complete(batch, source.at(first + 1).place), first)
            first += batch.num_rows
            profile_input.rejected += checked.rejected.num_rows
            yield checked.accepted

    profile_input.batches = accepted()
    return profile_input


def open_any(
    data: Profiled,
    *,
    target: str | None = None,
    table: str = "accepted",
    version: int | None = None,
    settings: Settings | None = None,
) -> ProfileInput:
    """Open any kind of input. A path is a project file if it ends like YAML, else a data file.

    Raises:
        LifecycleError: the input cannot be read, or has no such table, version or target.
    """
    if isinstance(data, pa.Table):
        data = data.to_pandas()
    declared = isinstance(data, Project) or str(data).endswith(YAML)
    if not declared and version is not None:
        raise DataError("version: only a project's tables have versions: name a project file")
    if isinstance(data, pd.DataFrame):
        return open_frame(data, target)
    if isinstance(data, str | Path) and not declared:
        return open_file(data, target)
    if target is not None:
        raise DataError("target: the project file or the version's project says what it is")
    if isinstance(data, DatasetVersion):
        return open_ref(data)
    settings = settings or Settings.load()
    project = data if isinstance(data, Project) else load_project(data, settings.env)
    profile_input = open_table(project, settings, table, version)
    if profile_input is None and table != "accepted":
        raise DataError(f"{project.name}: there is no version of {table} yet: prepare the data")
    return profile_input or open_declared(project)


def open_against(
    data: Profiled,
    against: Profiled | int,
    *,
    target: str | None = None,
    table: str = "accepted",
    settings: Settings | None = None,
) -> ProfileInput:
    """Open the input with which `data` is compared; a number is a version of the same table.

    Raises:
        LifecycleError: the input cannot be read, or there is no such version.
    """
    if not isinstance(against, int):
        return open_any(against, target=target, table=table, settings=settings)
    if isinstance(data, DatasetVersion):
        return open_ref(numbered_version(data.uri, against))
    if isinstance(data, Project) or str(data).endswith(YAML):
        return open_any(data, table=table, version=against, settings=settings)
    raise DataError("against: a frame or a file has no versions: name another frame or file")


def _contract(ref: DatasetVersion, ingested: str) -> ContractSpec | None:
    """The contract a version was made under: it says which columns are personal."""
    commits = history(ref.uri)
    own = commits["note"][commits["version"] == ref.version]
    contracts = (contract_of(note) for note in [*own, *history(ingested)["note"][-1:]])
    return next((contract for contract in contracts if contract), None)


def _batches(table: pa.Table) -> Iterator[pa.RecordBatch]:
    yield pa.RecordBatch.from_arrays(
        [pa.array([], field.type) for field in table.schema], schema=table.schema
    )
    yield from table.to_batches(BATCH)


# The sample, column by column, as measures need it: floats, or codes of levels.

FEW = 50
"""Up to so many different texts are always levels."""
REPEATED = 10
"""More texts are levels if each is there so many times on average."""


@dataclass(frozen=True)
class Levels:
    """A column of categories."""

    codes: Codes
    """(rows,): the level's place; -1 is missing."""
    names: tuple[str, ...]
    """The most frequent first."""

    @property
    def counts(self) -> Codes:
        """Rows of each level."""
        return np.bincount(self.codes[self.codes >= 0], minlength=len(self.names))


@dataclass
class Sample:
    """The sampled rows."""

    rows: int
    kinds: dict[str, Kind]
    numbers: dict[str, Floats] = field(default_factory=dict)
    """Of numbers and times (in seconds since 1970); missing is NaN."""
    levels: dict[str, Levels] = field(default_factory=dict)
    """Of categories and text."""
    integers: set[str] = field(default_factory=set)
    """Columns of whole numbers."""


def sampled(table: pa.Table, schema: ProfileSchema) -> Sample:
    """A sample, typed by the contract where there is one, else by what the values look like."""
    sample = Sample(table.num_rows, {})
    for name, column in zip(table.column_names, table.columns, strict=True):
        spec = schema.specs.get(name)
        kind = column.type
        labelled = (spec is not None and spec.type == "category") or (
            name == schema.target and schema.task in ("binary", "multiclass")
        )
        if pa.types.is_timestamp(kind):
            sample.kinds[name] = "time"
            seconds = column.cast(pa.int64()).cast(pa.float64(), safe=False)
            sample.numbers[name] = _floats(seconds) / 1e6
        elif is_number(kind) and not labelled:
            sample.kinds[name] = "number"
            sample.numbers[name] = _floats(column.cast(pa.float64(), safe=False))
            if pa.types.is_integer(kind):
                sample.integers.add(name)
        else:
            levels = _levels(column)
            repeated = len(levels.names) <= max(FEW, table.num_rows // REPEATED)
            short = table.num_rows > FEW and len(levels.names) > table.num_rows // 2
            label = labelled or pa.types.is_boolean(kind) or (repeated and not short)
            sample.kinds[name] = "category" if label else "text"
            sample.levels[name] = levels
    return sample


def _floats(column: pa.ChunkedArray) -> Floats:
    values: Floats = column.to_numpy().astype(np.float64, copy=False)
    return values


def _levels(column: pa.ChunkedArray) -> Levels:
    values: pd.Series[Any] = column.to_pandas()
    codes, levels = pd.factorize(values)
    counts = np.bincount(codes[codes >= 0], minlength=len(levels))
    order = np.argsort(-counts, kind="stable")
    places = np.empty(len(levels) + 1, np.int64)
    places[order], places[-1] = np.arange(len(levels)), -1
    return Levels(places[codes], tuple(level_name(levels[at]) for at in order))


def level_name(value: object) -> str:
    """A level as text; a whole number without its point, whatever its type."""
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
