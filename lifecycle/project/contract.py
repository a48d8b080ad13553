"""The section on the data contract: what every row, and the data as a whole, must keep."""

from collections.abc import Collection, Iterator
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from lifecycle.project.base import ColumnType, Scalar, Section, meant
from lifecycle.project.expression import columns_of, try_out

Severity = Literal["error", "warning"]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Bounds = tuple[Finite | None, Finite | None]
"""Least and most, both included; None is open."""
NUMBERS = ("integer", "number")
OF_NUMBERS = ("mean", "deviation", "median")


class ExpectSpec(Section):
    """Bounds on a column's statistics over the accepted rows of an ingestion."""

    missing_share: Bounds | None = None
    distinct: Bounds | None = None
    """How many values differ; above 65,536 an estimate, within 1.2 % 99.7 times in 100."""
    mean: Bounds | None = None
    deviation: Bounds | None = None
    """Sample standard deviation."""
    median: Bounds | None = None
    """Above 65,536 values that of a sample: a quantile between 0.4925 and 0.5075, 99.9 times in
    100."""
    severity: Severity = "error"

    @model_validator(mode="after")
    def _possible(self) -> Self:
        for name, bounds in self.statistics():
            low, high = bounds
            if (low, high) == (None, None):
                raise ValueError(f"{name}: both bounds are open: omit it")
            if low is not None and high is not None and low > high:
                raise ValueError(
                    f"{name}: the lower bound is above the upper one: got {[low, high]}"
                )
            share = name == "missing_share"
            if share and not (0 <= (low or 0) <= 1 and 0 <= (1 if high is None else high) <= 1):
                raise ValueError(f"{name}: a share is between 0 and 1: got {[low, high]}")
            if name in ("distinct", "deviation") and high is not None and high < 0:
                raise ValueError(f"{name}: it is never below 0: got {[low, high]}")
        return self

    def statistics(self) -> Iterator[tuple[str, Bounds]]:
        """The statistics that have bounds, in the order declared here."""
        for name in ("missing_share", "distinct", *OF_NUMBERS):
            bounds = getattr(self, name)
            if bounds is not None:
                yield name, bounds


class ColumnSpec(Section):
    """Contract of one column."""

    type: ColumnType
    nullable: bool = False
    unique: bool = False
    minimum: Finite | None = None
    maximum: Finite | None = None
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
    severity: Severity = "error"
    """Whether a row that breaks this column's ranges, categories, pattern or uniqueness goes to
    quarantine or is only counted. A cell of another type, or missing where none may be, cannot be
    stored as promised and is always an error."""
    expect: ExpectSpec | None = None
    """What the column as a whole must look like."""
    description: str = ""

    @property
    def value_type(self) -> ColumnType:
        """The type the values have; a category has that of its allowed values, else text."""
        if self.type != "category":
            return self.type
        kinds = {type(value) for value in self.categories or ("",)}
        if kinds <= {bool}:
            return "boolean"
        if kinds <= {int}:
            return "integer"
        return "number" if kinds <= {int, float} else "string"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"minimum is above maximum: got {self.minimum=} {self.maximum=}")
        if self.type not in NUMBERS and (self.minimum, self.maximum) != (None, None):
            raise ValueError(f"minimum and maximum are for numbers: got {self.type=}")
        if self.pii_class is not None and self.pii is None:
            raise ValueError("pii_class: set pii as well, which says how the column is stored")
        for name, _ in self.expect.statistics() if self.expect else ():
            if name in OF_NUMBERS and self.type not in NUMBERS:
                raise ValueError(f"expect.{name}: it is for numbers: got {self.type=}")
        return self

    @model_validator(mode="after")
    def _categories_fit(self) -> Self:
        if self.categories is None:
            return self
        if not self.categories:
            raise ValueError("categories is empty: list the allowed values or omit it")
        texts = {isinstance(value, str) for value in self.categories}
        if len(texts) > 1:
            raise ValueError("categories: texts and numbers are mixed: put quotes around all")
        if len(set(self.categories)) < len(self.categories):
            raise ValueError("categories: a value is given twice")
        if self.type == "datetime":
            raise ValueError("categories: they are for texts, numbers and booleans")
        if self.type == "string" and texts == {False}:
            raise ValueError("categories: values of text need quotes, or make the type category")
        if self.type in (*NUMBERS, "boolean") and texts == {True}:
            raise ValueError(f"categories: texts for a column of another type: got {self.type=}")
        return self

    @model_validator(mode="after")
    def _pattern_compiles(self) -> Self:
        if self.pattern is None:
            return self
        if self.value_type != "string":
            raise ValueError(f"pattern is for text: got {self.type=}")
        import pyarrow as pa  # only a contract with patterns needs it here
        import pyarrow.compute as pc

        try:
            pc.match_substring_regex(pa.array([""]), self.pattern)
        except pa.ArrowInvalid as error:
            message = str(error).removeprefix("Invalid regular expression: ")
            raise ValueError(
                f"pattern: {self.pattern!r} is not a valid RE2 expression: {message}"
            ) from None
        return self


class RuleSpec(Section):
    """A rule about several columns of a row."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    expression: str
    """A condition every row meets, as `DataFrame.eval` takes it, such as `start <= end`; a row with
    a missing value in it is let through."""
    severity: Severity = "error"
    description: str = ""


class RowsSpec(Section):
    """Bounds on the number of rows of an ingestion, including quarantined rows."""

    minimum: int | None = Field(default=None, ge=0)
    maximum: int | None = Field(default=None, ge=1)
    severity: Severity = "error"

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"minimum is above maximum: got {self.minimum=} {self.maximum=}")
        return self


class RetentionSpec(Section):
    """Retention period of rows."""

    days: float = Field(gt=0)
    """Old versions, quarantined rows and logged predictions older than this are deleted by
    `lifecycle retention`."""


class FreshnessSpec(Section):
    """Bound on the age of the newest row; exactly one of the two bounds must be given."""

    max_age_days: float | None = Field(default=None, gt=0)
    """For a datetime time column: the newest row is at most this old, in days."""
    at_least: int | None = None
    """For an integer time column: the newest value is at least this."""
    severity: Severity = "error"

    @model_validator(mode="after")
    def _check_limits(self) -> Self:
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
        names: dict[str, str] = {}
        for name in self.columns:
            if name.startswith("__"):
                raise ValueError(
                    f"columns: names with two leading underscores are reserved: {name!r}"
                )
            if other := names.get(name.lower()):
                raise ValueError(
                    f"columns: {other!r} and {name!r} differ only in case, which Delta tables "
                    "cannot keep apart: rename one in the source"
                )
            names[name.lower()] = name
        return self

    @model_validator(mode="after")
    def _keys_exist(self) -> Self:
        _distinct("key", self.key, self.columns)
        for at, group in enumerate(self.unique_together):
            if not group:
                raise ValueError(f"unique_together.{at}: it names no column")
            _distinct(f"unique_together.{at}", group, self.columns)
        for name in self.key:
            if self.columns[name].nullable:
                raise ValueError(
                    f"key: {name!r} is nullable: a column that identifies a row must not be"
                )
        return self

    @model_validator(mode="after")
    def _rules_hold_water(self) -> Self:
        names = [rule.name for rule in self.rules]
        for at, rule in enumerate(self.rules):
            if rule.name in names[:at]:
                raise ValueError(f"rules.{at}.name: {rule.name!r} is given twice")
            if rule.name in self.columns or rule.name == "rows":
                raise ValueError(f"rules.{at}.name: {rule.name!r} is taken: choose another")
            try:
                about = columns_of(rule.expression, self.columns)
                try_out(rule.expression, {name: self.columns[name].value_type for name in about})
            except ValueError as error:
                raise ValueError(f"rules.{at}.expression: {error}") from None
        return self


def _distinct(where: str, names: tuple[str, ...], columns: Collection[str]) -> None:
    for name in names:
        if name not in columns:
            hint = meant(name, columns)
            raise ValueError(f"{where}: names {name!r}, which the columns do not have{hint}")
    if len(set(names)) < len(names):
        raise ValueError(f"{where}: a column is named twice")
