"""What differs between two versions of a table."""

from pydantic import Field

from lifecycle.records.base import Record
from lifecycle.records.data import DatasetVersion


class SchemaDiff(Record):
    """Columns by name and type; the order of columns does not count."""

    added: dict[str, str]
    removed: dict[str, str]
    changed: dict[str, tuple[str, str]]
    """Column → type before and after; `?` behind a type says that values may be missing."""


class RowsDiff(Record):
    """Rows of the former version against those of the present one."""

    key: tuple[str, ...]
    """Columns that say which rows are the same; empty: rows are equal or they are not."""
    same: int
    added: int
    removed: int
    changed: int | None
    """Rows whose key stayed and whose content did not; None without a key."""
    changed_in: dict[str, int] = Field(default_factory=dict)
    """Column → how many of the changed rows it changed in, most first."""
    examples: dict[str, tuple[int, ...]] = Field(default_factory=dict)
    """`added` and `changed`: numbers of some rows in the present version; `removed`: in the
    former."""
    note: str = ""
    """What the comparison could not do."""


class Moments(Record):
    """One column of one version."""

    missing: int
    mean: float | None = None
    deviation: float | None = None
    """Sample standard deviation."""
    minimum: float | str | None = None
    """Of times ISO 8601 text; none of personal data."""
    maximum: float | str | None = None


class ColumnDiff(Record):
    """How one column's distribution moved."""

    column: str
    test: str | None
    """`kolmogorov_smirnov` for numbers and times, `cramers_v` for categories; None for text of so
    many values that it is no category."""
    statistic: float | None
    """0: the same distribution, 1: nothing in common; missing is a value of its own."""
    former: Moments
    present: Moments
    new_levels: tuple[str, ...] = ()
    """Categories that only the present version has, most frequent first; none of personal data."""
    gone_levels: tuple[str, ...] = ()


class VersionDiff(Record):
    """Two versions of a table, or of two tables."""

    former: DatasetVersion
    present: DatasetVersion
    columns_diff: SchemaDiff
    rows: RowsDiff
    columns: tuple[ColumnDiff, ...]
    """The columns both have, in the order of the former version."""
