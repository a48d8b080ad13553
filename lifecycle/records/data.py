"""Results of the stages that prepare data."""

from typing import Literal

from pydantic import Field

from lifecycle.records.base import Link, Record, Window, counted

EXAMPLES_SHOWN = 2


class DatasetVersion(Record):
    """One version of a Delta table."""

    uri: str
    """The table, without the version."""
    version: int
    digest: str
    """SHA-256 of the content: column names, types and values, in row order."""
    rows: int


class Split(Record):
    """The three parts of a dataset version; `withheld` rows are in none of them."""

    train: DatasetVersion
    validation: DatasetVersion
    holdout: DatasetVersion
    withheld: int
    """Rows left out to keep entities and times apart; the four add up to the dataset's rows."""
    rule: str
    """The rule in words, as it was applied."""

    @property
    def rows(self) -> int:
        """Rows of the dataset."""
        return self.train.rows + self.validation.rows + self.holdout.rows + self.withheld


class Violation(Record):
    """One promise of the contract that rows, or the data as a whole, do not keep."""

    column: str
    """The column, the rule's name, or `rows`."""
    problem: str
    """Such as `below 0` or `mean 3.2 is above 2`."""
    severity: Literal["error", "warning"]
    rows: int
    """How many rows; 0 if it is about the data as a whole."""
    examples: tuple[str, ...] = ()
    """Some offending values as text with their row numbers; personal data are masked."""

    @property
    def such_as(self) -> str:
        """The first examples, as part of a sentence."""
        return "; ".join(self.examples[:EXAMPLES_SHOWN])

    def __str__(self) -> str:
        text = f"{self.column}: {self.problem}"
        if self.rows:
            text += f", {counted(self.rows, 'row')}"
        if self.examples:
            text += f" ({'; '.join(self.examples)})"
        return text if self.severity == "error" else f"{text}: only a warning"


class Ingested(Record):
    """A dataset version, and what became of every row of the source."""

    dataset: DatasetVersion
    window: Window
    rows_in: int
    """Rows of the source inside the window: accepted + rejected."""
    rejected: DatasetVersion | None
    """Quarantined rows with their reasons; None if every row was accepted."""
    source_digest: str
    """SHA-256 of what the source held."""
    violations: tuple[Violation, ...] = ()
    """Everything found, worst first; rows with errors are in `rejected`."""
    rows_new: int | None = None
    """Incremental: rows that were not in the version before, or not like this; None otherwise."""

    @property
    def rows_rejected(self) -> int:
        return self.rejected.rows if self.rejected else 0


class Prepared(Record):
    """Result of `prepare`, the input of `train`."""

    ingested: Ingested
    split: Split


DataAction = Literal["ingest", "contract", "erase", "proof", "retention", "labels", "acknowledge"]
"""What is done to a project's data."""


class DataChange(Link):
    """One line of the data's audit trail: who did what to which table, and why."""

    run: str
    """Name of the flow run; empty outside a flow."""
    action: DataAction
    table: str
    """Name of the table, or of the store outside the lake."""
    version: int | None
    """Of the table; None where the change concerns no single one."""
    digest: str

    def __str__(self) -> str:
        # lines of old have -1 for none
        version = "" if self.version is None or self.version < 0 else f" v{self.version}"
        return f"{self.action} {self.table}{version}"


# Difference between two versions of a table.


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
    """Change in the distribution of one column."""

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
