"""The sections on data: source, time, split, feature views."""

import re
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from lifecycle.project.base import Scalar, Section, Share, TimeValue, meant
from lifecycle.project.contract import ColumnSpec

# Notation of cells: the values of the keys `decimal`, `missing`, `dates` and others.

Decimal = Literal[".", ","]
Thousands = Literal["", ",", ".", " ", "'"]
Negative = Literal["sign", "parentheses", "trailing"]
EPOCHS: dict[str, int] = {
    "seconds": 1,
    "milliseconds": 1_000,
    "microseconds": 1_000_000,
    "nanoseconds": 1_000_000_000,
}
"""What a column of times may count since 1970-01-01 in UTC, and how many of them make a second."""
DIRECTIVE = re.compile(r"%(.)", re.DOTALL)
KNOWN_DIRECTIVES = set("aAbBdfHIjmMpSyYzZ%")
YEAR, MONTH = ("Y", "y"), ("m", "b", "B", "j")
SAMPLE = datetime(2024, 12, 31, 17, 5, 9)
QUOTES = 'put quotes around it, as in "null"'


def _words(value: Any) -> Any:
    """Numbers among words are words; what YAML made of `null`, `yes` or `no` is not known any more.

    Raises:
        ValueError: a word is no text, or blank.
    """
    if not isinstance(value, list | tuple):
        return value
    texts = []
    for word in value:
        if word is None or isinstance(word, bool):
            raise ValueError(f"YAML reads {word!r} for a word without quotes: {QUOTES}")
        text = str(word) if isinstance(word, int | float) else word
        if isinstance(text, str) and not text.strip():
            raise ValueError("a blank word: an empty cell is missing anyway; omit it")
        texts.append(text)
    return texts


def _formats(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _shortest(formats: tuple[str, ...]) -> str | list[str]:
    return formats[0] if len(formats) == 1 else list(formats)


TEXT, NUMBER = {"type": "string"}, {"type": "number"}
Words = Annotated[
    tuple[str, ...],
    BeforeValidator(_words),
    WithJsonSchema({"type": "array", "items": {"anyOf": [TEXT, NUMBER]}}),
]
Formats = Annotated[
    tuple[str, ...],
    BeforeValidator(_formats),
    PlainSerializer(_shortest),
    WithJsonSchema({"anyOf": [TEXT, {"type": "array", "items": TEXT}]}),
]


def check_formats(dates: Mapping[str, tuple[str, ...]]) -> None:
    """See that every format can be read with.

    Raises:
        ValueError: a format has no year or month, or a directive that is unknown or comes twice.
    """
    for name, formats in dates.items():
        if not formats:
            raise ValueError(f"dates.{name}: name a format, such as '%d/%m/%Y'")
        for text in formats:
            if text not in EPOCHS and (reason := _wrong(text)):
                units = ", ".join(EPOCHS)
                raise ValueError(
                    f"dates.{name}: {text!r} {reason}; write a format such as '%d/%m/%Y' (Python's "
                    f"strptime), or one of {units}, counted since 1970"
                )


def _wrong(text: str) -> str:
    counts = Counter(DIRECTIVE.findall(text))
    for letter, times in counts.items():
        if letter not in KNOWN_DIRECTIVES:
            return f"has %{letter}, which is unknown"
        if times > 1 and letter != "%":
            return f"has %{letter} twice"
    if not any(letter in counts for letter in YEAR):
        return "has no year (%Y, or %y for two digits)"
    if not any(letter in counts for letter in MONTH):
        return "has no month (%m, or %b for its name)"
    try:
        datetime.strptime(SAMPLE.strftime(text), text)
    except ValueError as error:
        return f"cannot be read with ({error})"
    return ""


def check_spellings(spellings: Mapping[str, Mapping[str, tuple[str, ...]]]) -> None:
    """See that every spelling of a column means one thing.

    Raises:
        ValueError: a spelling is that of two values.
    """
    for name, values in spellings.items():
        meant: dict[str, str] = {}
        for value, texts in values.items():
            for text in texts:
                if meant.setdefault(text, value) != value:
                    raise ValueError(
                        f"spellings.{name}: {text!r} is read as {meant[text]!r} and as {value!r}: "
                        "remove it from one of them"
                    )


Format = Literal["csv", "parquet", "jsonl", "excel", "delta", "sql", "python"]
Compression = Literal["infer", "none", "gzip", "bz2", "xz", "zstd", "zip"]
Secret = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")]
"""Name of an environment variable; Prefect flows look for a Secret block of that name, too."""
FeatureName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
PASSWORD = re.compile(r"://[^/@\s]*:[^/@\s]+@")


class IncrementalSpec(Section):
    """Incremental ingestion: a run reads only what is new and keeps the rows it has."""

    by: Literal["files", "watermark"]
    """`files`: those not seen before, by their content. `watermark`: rows later than the last."""
    column: str | None = None
    """Watermark: the contract's column that grows, a whole number or a datetime."""
    lateness: float = Field(default=0.0, ge=0)
    """Watermark: how far below the highest value a run looks again for late and changed rows, in
    the column's unit, or days."""

    @model_validator(mode="after")
    def _check_options(self) -> Self:
        if (self.by == "watermark") != (self.column is not None):
            raise ValueError("column: must be set with by: watermark, and only then")
        if self.lateness and self.by != "watermark":
            raise ValueError("lateness: only by: watermark has it")
        return self


FILES: tuple[Format, ...] = ("csv", "parquet", "jsonl", "excel")
ONLY_FOR: dict[str, tuple[Format, ...]] = {
    "separator": ("csv",),
    "encoding": ("csv", "jsonl"),
    "sheet": ("excel",),
    "skip": ("csv", "excel"),
    "compression": ("csv", "jsonl"),
    "partitions": FILES,
    "table": ("sql",),
    "query": ("sql",),
    "version": ("delta",),
    "function": ("python",),
    "path": (*FILES, "delta", "sql"),
    "credentials": (*FILES, "delta", "sql"),
    "options": (*FILES, "delta", "sql"),
}
"""Keys of a source that some formats have no use for, and the formats that have."""


PLACE = ("path", "table", "query", "function")
"""Keys of a source that say where the rows are."""
EnvironmentName = Annotated[str, Field(pattern=r"^\w[\w.-]*$")]


class SourceKeys(Section):
    """Place and format of the raw data; in one environment, what differs there."""

    path: str = ""
    """A file, a glob or a folder: relative to the project file, absolute, `package://name/inside`,
    `https://…`, `s3://…`, `gs://…`, `az://…`, or a file or folder tracked by DVC
    (`data.csv.dvc`). Delta: the table. SQL: a SQLAlchemy URL without a password, unless
    `credentials` has the URL."""
    format: Format = "csv"
    separator: str = Field(default=",", min_length=1, max_length=1)
    """Field separator of a CSV file."""
    encoding: str = "utf-8"
    """Text encoding of a CSV or JSON lines file."""
    decimal: Decimal = "."
    """What stands before the decimals of a number: `1234.5`, or `1234,5`."""
    thousands: Thousands = ""
    """What stands between thousands, if anything does: `1.234,5` has a point. A space stands for
    the narrow and the fixed one as well, an apostrophe for the curved one."""
    negative: Negative = "sign"
    """How numbers below zero are written besides `-5`: `(5)` (parentheses) or `5-` (trailing)."""
    plain: tuple[str, ...] = ()
    """Columns whose numbers have a decimal point and no thousands, whatever the others have."""
    missing: Words = ()
    """Cells that are missing, besides those that are empty, such as `?` or `#N/A`. They are in
    every column, but for a word that the contract lists among the column's categories. `inf` and
    `-inf` make infinite numbers missing."""
    dates: dict[str, Formats] = Field(default_factory=dict)
    """Columns of times that are not written as ISO 8601 has it: the format (Python's strptime, such
    as `%d/%m/%Y`), several of them, or `seconds`, `milliseconds`, `microseconds` or `nanoseconds`
    since 1970. A cell that fits none, and is not as ISO 8601 has it, is no time."""
    spellings: dict[str, dict[str, tuple[str, ...]]] = Field(default_factory=dict)
    """Other spellings of a column's values: column → value → the cells that mean it."""
    sheet: str | int = 0
    """Excel: the sheet, by name or place."""
    skip: int = Field(default=0, ge=0)
    """CSV: lines above the one that names the columns, such as a title; Excel: rows. Blank ones
    and a first line `sep=;` are skipped without it."""
    compression: Compression = "infer"
    """CSV and JSON lines; by default what the file's name ends with says it. A zip archive holds
    one file."""
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


class SourceSpec(SourceKeys):
    """Place and format of the raw data, which may differ between environments."""

    environments: dict[EnvironmentName, SourceKeys] = Field(default_factory=dict, exclude=True)
    """Environment → what differs there. An environment without an entry takes the keys above. With
    another `format` only the notation of cells and `incremental` are kept of them."""

    def in_environment(self, name: str) -> "SourceSpec":
        """The source of one environment.

        Raises:
            ValueError: neither its entry nor the keys above say where the rows are.
        """
        if not self.environments:
            return self
        shared = self.model_dump(exclude_unset=True)
        own = self.environments.get(name, SourceKeys()).model_dump(exclude_unset=True)
        if own.get("format", self.format) != self.format:
            shared = {key: value for key, value in shared.items() if key not in ONLY_FOR}
        if _server(str(own.get("path", self.path))) != _server(self.path):
            shared.pop("credentials", None)
        if own.get("table") or own.get("query"):
            shared = {key: value for key, value in shared.items() if key not in ("table", "query")}
        return SourceSpec.model_validate(shared | own)

    @property
    def place(self) -> str:
        """Return the place of the rows for messages, without secrets; for a database the query key.

        If only the credentials have the URL, the name of their variable stands for it.
        """
        if self.format == "python":
            return f"source.function {self.function}"
        if self.format != "sql":
            return without_secrets(self.path)
        database = without_secrets(self.path) or f"the database of {self.credentials}"
        return f"{database}, {self.query_key}"

    @property
    def query_key(self) -> str:
        """SQL: what is asked of the database, by its key."""
        return f"source.table {self.table}" if self.table else "source.query"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.environments or any(getattr(self, key) for key in PLACE):
            self._check_place()
        self._check_notation()
        for name in self.environments:
            try:
                self.in_environment(name)
            except ValidationError as error:
                problem = error.errors()[0]["msg"].removeprefix("Value error, ")
                raise ValueError(f"environments.{name}.{problem}") from None
        return self

    def _check_notation(self) -> None:
        if self.thousands == self.decimal:
            raise ValueError(
                f"thousands: {self.thousands!r} stands before the decimals; set decimal as well"
            )
        check_formats(self.dates)
        check_spellings(self.spellings)

    def _check_place(self) -> None:
        for key, formats in ONLY_FOR.items():
            unused = getattr(self, key) != type(self).model_fields[key].get_default(
                call_default_factory=True
            )
            if unused and self.format not in formats:
                raise ValueError(
                    f"{key}: it has no meaning for format: {self.format}, only for "
                    f"{', '.join(formats)}; remove it, or change format"
                )
        sql = self.format == "sql"
        if sql and (self.table is None) == (self.query is None):
            raise ValueError("format: sql takes exactly one of table and query")
        if self.format == "python" and self.function is None:
            raise ValueError("function: format: python needs its name, as module:function")
        if not self.path and self.format != "python" and not (sql and self.credentials):
            raise ValueError("path: name the file, folder or URL of the data")
        if PASSWORD.search(self.path):
            raise ValueError(
                "path: it holds a password: put the URL into an environment variable or a Prefect "
                "Secret block, and name that under credentials"
            )


def without_secrets(url: str) -> str:
    """A path or URL without what may be secret in it: user, password and query."""
    if "://" not in url:
        return url
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


class TimeSpec(Section):
    """The column that orders rows in time, and how time is cut into periods."""

    column: str
    period: Literal["value", "day", "week", "month"] = "value"
    """What one period is: each distinct value, or a calendar period of a datetime column."""
    arrives_from: TimeValue | None = None
    """Rows from here on arrive later, period by period: scored, monitored, then learned from."""
    future: Literal["refuse", "allow"] = "refuse"
    """A row whose datetime is more than a day ahead of now: a mistake, which goes to quarantine, or
    a time to come, such as that of a booking."""


class SplitSpec(Section):
    """Split of the rows. Tuning and training never see the holdout.

    With an entity, whole entities are held out, by a seeded hash, so that an entity never changes
    its part. With time, the holdout is the newest part. With both, it is the newest periods of the
    held-out entities, and training takes the earlier periods of the other entities.
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
    """The contract of the source: every fact keeps it."""
    key: str
    """Its column that holds the project's entity."""
    time: str
    """Its column that says since when a fact was known; of the type of the project's time."""
    function: str = Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    """`module:function`: the facts of entities, ordered by entity and time → one row of features a
    fact, same index; each row may use the facts of its entity up to its own only."""
    features: dict[FeatureName, ColumnSpec] = Field(min_length=1)
    """What the function returns; a row without a fact has none of them, so all may be missing."""
    max_age: float | None = Field(default=None, gt=0)
    """Facts older than this are not used; in the time's unit, or days."""
    same_instant: bool = False
    """Whether a row may use facts of its own time, too; by default only earlier ones."""

    @model_validator(mode="after")
    def _check_view(self) -> Self:
        for key, name in (("key", self.key), ("time", self.time)):
            if name not in self.columns:
                hint = meant(name, self.columns)
                raise ValueError(f"{key}: names {name!r}, which columns does not have{hint}")
            if self.columns[name].nullable:
                raise ValueError(f"{key}: {name!r} is nullable: it must not be")
        sources = (self.source, *self.source.environments.values())
        if any(source.incremental is not None for source in sources):
            raise ValueError("source.incremental: a view is always made from all of its facts")
        for name, spec in self.features.items():
            if spec.type in ("string", "datetime"):
                raise ValueError(
                    f"features.{name}.type: {spec.type} cannot be a feature: make it number, "
                    "integer, boolean or category"
                )
        return self


# Format of a file by its name.

EXTENSIONS: dict[Format, tuple[str, ...]] = {
    "csv": (".csv", ".tsv", ".tab", ".txt", ".data"),
    "parquet": (".parquet", ".pq"),
    "jsonl": (".jsonl", ".ndjson", ".json"),
    "excel": (".xlsx", ".xlsm", ".xls", ".ods"),
}
"""Of formats that are files; the first of each is what a folder is searched for by name."""
COMPRESSIONS: dict[str, Compression] = {
    ".gz": "gzip",
    ".bz2": "bz2",
    ".xz": "xz",
    ".zst": "zstd",
    ".zip": "zip",
}
VAGUE = (".txt", ".data")
"""They say that a file may be CSV, not that it is."""


def format_of(path: str) -> Format | None:
    """The format that a path's or URL's ending names, or None; a Delta table is a folder."""
    if "://" not in path and Path(path, "_delta_log").is_dir():
        return "delta"
    suffix = suffix_of(path)
    if suffix in VAGUE:
        return None
    return next((extension for extension, ends in EXTENSIONS.items() if suffix in ends), None)


def suffix_of(path: str) -> str:
    """The ending that names the format: before that of a compression and `.dvc`, lower case."""
    name = Path(_plain(path).lower())
    return Path(name.stem).suffix if name.suffix in COMPRESSIONS else name.suffix


def compression_of(path: str) -> Compression:
    """The compression that a path's or URL's ending names."""
    return COMPRESSIONS.get(Path(_plain(path)).suffix.lower(), "none")


def elsewhere(source: SourceSpec, path: str) -> SourceSpec:
    """The same kind of source in another place, or a file of the format its ending names.

    Credentials go along to the same server only.

    Raises:
        ValidationError: the path holds a password, or is none for this kind of source.
    """
    fields = source.model_dump(exclude_unset=True) | {"path": path}
    file_format = format_of(path) or ("csv" if source.format == "python" else source.format)
    if file_format != source.format:
        for key, formats in ONLY_FOR.items():
            if file_format not in formats:
                fields.pop(key, None)
        fields.pop("compression", None)
    if _server(path) != _server(source.path):
        fields.pop("credentials", None)
    return SourceSpec.model_validate(fields | {"format": file_format})


def _server(path: str) -> tuple[str, str]:
    parts = urlsplit(path if "://" in path else "")
    return parts.scheme, parts.netloc.rpartition("@")[2]


def _plain(path: str) -> str:
    return (urlsplit(path).path if "://" in path else path).removesuffix(".dvc")
