"""The sections on data: source, contract, split."""

import re
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from lifecycle.specs.base import ColumnType, Scalar, Section, Share, TimeValue

Format = Literal["csv", "parquet", "jsonl", "excel", "delta", "sql", "python"]
Compression = Literal["infer", "none", "gzip", "bz2", "xz", "zstd"]
Secret = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")]
"""Name of an environment variable; Prefect flows look for a Secret block of that name, too."""
PASSWORD = re.compile(r"://[^/@\s]*:[^/@\s]+@")


class IncrementalSpec(Section):
    """How a run takes in only what is new; what it has taken before stays in the version."""

    by: Literal["files", "watermark"]
    """`files`: those not seen before, by their content. `watermark`: rows later than the last."""
    column: str | None = None
    """Watermark: the contract's column that grows, a whole number or a datetime."""
    lateness: float = Field(default=0.0, ge=0)
    """Watermark: how far below the highest value a run looks again for late and changed rows, in
    the column's unit, or days."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.by == "watermark") != (self.column is not None):
            raise ValueError("column: name it with by: watermark, and only then")
        if self.lateness and self.by != "watermark":
            raise ValueError("lateness: it belongs to by: watermark")
        return self


class SourceSpec(Section):
    """Where the raw data are, in which form."""

    path: str = ""
    """A file, a glob or a folder: relative to the project file, absolute, `package://name/inside`,
    `https://…`, `s3://…`, `gs://…`, `az://…`, or a file tracked by DVC (`data.csv.dvc`). Delta: the
    table. SQL: a SQLAlchemy URL without a password, unless `credentials` has the URL."""
    format: Format = "csv"
    separator: str = Field(default=",", min_length=1, max_length=1)
    """Field separator of a CSV file."""
    encoding: str = "utf-8"
    """Text encoding of a CSV or JSON lines file."""
    sheet: str | int = 0
    """Excel: the sheet, by name or place."""
    compression: Compression = "infer"
    """CSV and JSON lines; by default what the file's name ends with says it."""
    partitions: bool = False
    """Whether folders called `name=value` below `path` are columns."""
    table: str | None = None
    """SQL: the table or view, with its schema if it needs one."""
    query: str | None = None
    """SQL: a query instead of a table."""
    version: int | None = Field(default=None, ge=0)
    """Delta: the version to read; by default the newest."""
    function: str | None = Field(default=None, pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    """Python: `module:function` without arguments that returns a frame, an Arrow table, or an
    iterator of either."""
    credentials: Secret | None = None
    """What holds the credentials. SQL: the whole URL. HTTP: the `Authorization` header. Object
    storage: JSON with fsspec's options; without it the provider's own variables count."""
    options: dict[str, Scalar] = Field(default_factory=dict)
    """Further options for fsspec or SQLAlchemy's engine; nothing secret."""
    incremental: IncrementalSpec | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        sql = self.format == "sql"
        if sql and (self.table is None) == (self.query is None):
            raise ValueError("format: sql takes exactly one of table and query")
        if not sql and (self.table or self.query):
            raise ValueError("table and query belong to format: sql")
        if (self.format == "python") != (self.function is not None):
            raise ValueError("function: name it with format: python, and only then")
        if not self.path and self.format != "python" and not (sql and self.credentials):
            raise ValueError("path: say where the data are")
        if PASSWORD.search(self.path):
            raise ValueError(
                "path: it holds a password: put the URL into an environment variable or a Prefect "
                "Secret block, and name that under credentials"
            )
        if self.version is not None and self.format != "delta":
            raise ValueError("version: it belongs to format: delta")
        return self


class TimeSpec(Section):
    """The column that orders rows in time, and how time is cut into periods."""

    column: str
    period: Literal["value", "day", "week", "month"] = "value"
    """What one period is: each distinct value, or a calendar period of a datetime column."""
    arrives_from: TimeValue | None = None
    """Rows from here on arrive later, period by period: scored, monitored, then learned from."""


Bounds = tuple[float | None, float | None]
"""Least and most, both included; None is open."""


class ExpectSpec(Section):
    """Bounds on a column's statistics over a whole ingestion; missing values count in the first."""

    missing_share: Bounds | None = None
    distinct: Bounds | None = None
    mean: Bounds | None = None
    deviation: Bounds | None = None
    """Sample standard deviation."""
    median: Bounds | None = None
    severity: Literal["error", "warning"] = "error"


class ColumnSpec(Section):
    """What the contract promises of one column."""

    type: ColumnType
    nullable: bool = False
    unique: bool = False
    minimum: float | None = None
    maximum: float | None = None
    categories: tuple[Scalar, ...] | None = None
    """Allowed values; a `category` column without them takes the values seen in training."""
    unit: str = ""
    """Such as `kg`, `EUR` or `1/s`; a request in another one cannot be told from a wrong value."""
    pattern: str | None = None
    """Text: a regular expression (RE2) that the whole value matches."""
    pii: Literal["keep", "hash", "drop"] | None = None
    """Personal data, and what stores make of it: kept, a keyed hash, or left out. Dataset versions
    keep what the model reads (inputs, target, time, protected) as it is; everything else that
    holds rows (prediction log, quarantine, messages, reports) follows this."""
    pii_class: Literal["direct", "indirect", "sensitive"] | None = None
    """Personal data: whether it names a person, helps to find one, or is of a special category
    (GDPR, article 9)."""
    severity: Literal["error", "warning"] = "error"
    """Whether a row that breaks this column's promises goes to quarantine or is only counted."""
    expect: ExpectSpec | None = None
    """What the column as a whole must look like."""
    description: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.categories is not None and not self.categories:
            raise ValueError("categories is empty: name the allowed values or leave it out")
        if self.categories is not None and len({isinstance(v, str) for v in self.categories}) > 1:
            raise ValueError("categories: texts and numbers are mixed: put quotes around all")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"minimum is above maximum: got {self.minimum=} {self.maximum=}")
        if self.type not in ("integer", "number") and (self.minimum, self.maximum) != (None, None):
            raise ValueError(f"minimum and maximum are for numbers: got {self.type=}")
        if self.pattern is not None and self.type not in ("string", "category"):
            raise ValueError(f"pattern is for text: got {self.type=}")
        if self.pii_class is not None and self.pii is None:
            raise ValueError("pii_class: say under pii what stores make of it")
        return self


class RuleSpec(Section):
    """A rule about several columns of a row."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    expression: str
    """A condition every row meets, as `DataFrame.eval` takes it, such as `start <= end`; a row with
    a missing value in it is let through."""
    severity: Literal["error", "warning"] = "error"
    description: str = ""


class RowsSpec(Section):
    """How many rows an ingestion must bring."""

    minimum: int | None = Field(default=None, ge=0)
    maximum: int | None = Field(default=None, ge=1)
    severity: Literal["error", "warning"] = "error"


class RetentionSpec(Section):
    """How long rows are kept."""

    days: float = Field(gt=0)
    """Old versions, quarantined rows and logged predictions older than this are deleted by
    `lifecycle retention`."""


class FreshnessSpec(Section):
    """How new the newest row must be; exactly one of the two."""

    max_age_days: float | None = Field(default=None, gt=0)
    """For a datetime time column: the newest row is at most this old, in days."""
    at_least: int | None = None
    """For an integer time column: the newest value is at least this."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.max_age_days is None) == (self.at_least is None):
            raise ValueError("give exactly one of max_age_days and at_least")
        return self


class ContractSpec(Section):
    """The data contract: what every row of the source must keep."""

    version: str = Field(default="1.0.0", pattern=r"^\d+\.\d+\.\d+$")
    """Semantic version: what breaks consumers needs a new major one, as ingestion checks."""
    owner: str = ""
    """Who answers for the data: a person, team or address."""
    description: str = ""
    columns: dict[str, ColumnSpec] = Field(min_length=1)
    key: tuple[str, ...] = ()
    """Columns that identify a row: present, and unique together. Incremental ingestion replaces
    rows by it."""
    unique_together: tuple[tuple[str, ...], ...] = ()
    """Column groups whose combination identifies a row."""
    rules: tuple[RuleSpec, ...] = ()
    rows: RowsSpec | None = None
    retention: RetentionSpec | None = None
    freshness: FreshnessSpec | None = None
    max_rejected_share: float = Field(default=0.0, ge=0, lt=1)
    """Share of rows that may go to quarantine before the whole batch is refused."""
    extra_columns: Literal["refuse", "drop"] = "drop"
    """What to do with columns of the source that the contract does not name."""

    @model_validator(mode="after")
    def _storable(self) -> Self:
        seen: dict[str, str] = {}
        for name in self.columns:
            if name.startswith("__"):
                raise ValueError(f"columns: names with two leading underscores are ours: {name!r}")
            if other := seen.get(name.lower()):
                raise ValueError(
                    f"columns: {other!r} and {name!r} differ only in case, which Delta tables "
                    "cannot keep apart: rename one in the source"
                )
            seen[name.lower()] = name
        return self


class SplitSpec(Section):
    """How rows are divided: the holdout is never seen by tuning or training.

    With an entity, whole entities are held out (by a seeded hash, so an entity keeps its part for
    ever). With time, the holdout is the newest part. With both, it is the newest periods of the
    held-out entities, and training takes the earlier periods of the others.
    """

    holdout: Share = 0.2
    """Share of entities (or, without an entity, of rows) held out."""
    validation: Share = 0.15
    """Share of entities (or rows) for early stopping and tuning."""
    holdout_periods: int | None = Field(default=None, ge=1)
    """With time: how many of the newest periods are the holdout; without it the share decides."""
    seed: int = 17


class FeatureViewSpec(Section):
    """Facts from another source, joined to each row as they were known at the row's time."""

    source: SourceSpec
    columns: dict[str, ColumnSpec] = Field(min_length=1)
    """The contract of the source."""
    key: str
    """Its column that holds the project's entity."""
    time: str
    """Its column that says since when a fact was known; of the type of the project's time."""
    function: str = Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    """`module:function`: the facts of entities, ordered by time → one row of features a fact, same
    index; each row may use earlier facts of its entity only."""
    max_age: float | None = Field(default=None, gt=0)
    """Facts older than this are not used; in the time's unit, or days."""
