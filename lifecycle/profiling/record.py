"""Content of a profile, as frozen values. Page, terminal and `to_dict` read nothing else."""

from typing import Literal

from lifecycle.project import TaskKind
from lifecycle.records.base import Record

Kind = Literal["number", "category", "time", "text"]
"""`text`: values that hardly repeat; they are counted, never shown."""
Role = Literal["input", "target", "entity", "time", "leakage", "protected", "ignored", ""]
Tone = Literal["bad", "warn", "plain"]
Measure = Literal["Spearman", "Cramér's V", "correlation ratio"]


class Bar(Record):
    """A level, or an interval of numbers or times, and the rows in it."""

    label: str
    rows: int
    """Of the sample."""


class Bin(Record):
    """Rows and target of one level or interval of a column."""

    label: str
    rows: int
    target: tuple[float, ...]
    """Binary: the share of positive rows; numbers: the mean; multiclass: the share per class."""


class Relation(Record):
    """Strength of the association between a column and the target."""

    strength: float
    """-1 to 1 for Spearman, 0 to 1 for the other measures."""
    measure: Measure
    bins: tuple[Bin, ...] = ()
    """Empty for a column whose values are not shown."""


class Drift(Record):
    """Distance between two versions of a column."""

    statistic: float
    """0: the same distribution, 1: nothing in common; missing is a value of its own."""
    test: Literal["Kolmogorov-Smirnov", "Cramér's V"]
    drifted: bool
    missing_then: float
    """Share."""
    mean_then: float | None = None
    new_levels: tuple[str, ...] = ()
    gone_levels: tuple[str, ...] = ()


class ColumnProfile(Record):
    """One column. Counts, minimum, maximum, mean and deviation are of all rows."""

    name: str
    kind: Kind
    type: str
    """As the contract says, else as Arrow does."""
    role: Role
    unit: str = ""
    description: str = ""
    promises: tuple[str, ...] = ()
    """What the contract promises of it, in words."""
    pii: str = ""
    """`hash`, `drop` or `keep`, with its class; empty: no personal data."""
    hidden: bool
    """Whether no value of it is shown: personal data, what identifies, and text."""
    missing: int
    missing_share: float
    infinite: int = 0
    misfits: int = 0
    """Cells of a file that are not of the type that nearly all others have; they are missing."""
    distinct: int
    distinct_exact: bool
    minimum: float | str | None = None
    """Of times ISO 8601 text; none of a hidden column, nor are mean, quartiles and bars."""
    maximum: float | str | None = None
    mean: float | None = None
    deviation: float | None = None
    quartiles: tuple[float, float, float] | tuple[str, str, str] | None = None
    """A quarter, a half, three quarters of the sample's values are up to these."""
    outliers: float | None = None
    """Share of the sample beyond Tukey's outer fences, three interquartile ranges off."""
    bars: tuple[Bar, ...] = ()
    """The distribution: intervals of equal width, single values, or the most frequent levels."""
    others: int = 0
    """Rows of the sample in levels that have no bar."""
    relation: Relation | None = None
    drift: Drift | None = None

    @property
    def constant(self) -> bool:
        """Return whether the column has at most one value, and no missing ones next to it."""
        return self.distinct == 0 or (self.distinct == 1 and not self.missing)


class Pair(Record):
    """Strength of the association between two columns."""

    first: str
    second: str
    value: float
    measure: Measure


class MissingTogether(Record):
    """Two columns that are missing in the same rows."""

    first: str
    second: str
    rows: int
    share: float
    """Rows that lack both, of the rows that lack at least one."""


class Coverage(Record):
    """Number of rows per stretch of time."""

    column: str
    period: str
    bars: tuple[Bar, ...]
    """Counts of all rows; empty periods between the first and the last have 0."""


class Finding(Record):
    """Something worth knowing first."""

    tone: Tone
    text: str


class Summary(Record):
    """The whole profile."""

    title: str
    place: str
    """Where the rows come from."""
    rows: int
    rejected: int
    """Rows of the source that break the contract; they are not in the profile."""
    sampled: int
    """Rows of the seeded random sample that distributions and associations are about."""
    duplicates: int
    """Rows that repeat an earlier row in every column."""
    rows_with_missing: int
    target: str = ""
    task: TaskKind | None = None
    classes: tuple[str, ...] = ()
    """Multiclass: what the target's shares are of, in order; binary: the positive value."""
    base: tuple[float, ...] = ()
    """What `Bin.target` is over all rows of the sample."""
    entity: str = ""
    entities: int = 0
    against: str = ""
    columns: tuple[ColumnProfile, ...]
    pairs: tuple[Pair, ...]
    """Every pair that was measured, the closest first."""
    together: tuple[MissingTogether, ...]
    suspects: dict[str, str]
    """Column → why it looks like a consequence of the target."""
    periods: Coverage | None = None
    findings: tuple[Finding, ...] = ()
