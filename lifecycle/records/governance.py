"""Results of erasure and retention. They contain no personal data."""

from lifecycle.records.base import Record
from lifecycle.records.training import ModelVersion


class Learner(Record):
    """A model version that had rows of the erased in its data."""

    model: ModelVersion
    aliases: tuple[str, ...]
    learned: int
    """Rows of training and validation that belonged to the persons."""
    measured: int
    """Rows of the holdout that were."""

    @property
    def needs_retraining(self) -> bool:
        """Return whether the model is the champion and was trained on erased rows."""
        return self.learned > 0 and "champion" in self.aliases


class Searched(Record):
    """Result of a search of all stores of rows."""

    left: tuple[str, ...]
    """Places that still contain the person."""
    elsewhere: tuple[str, ...]
    """Places of other projects that contain the person."""
    unsearched: tuple[str, ...]
    """Places that could not be searched, and how to make them searchable."""
    unknown: tuple[str, ...]
    """Columns of which no table has the plain values, so that none was searched for."""
    files: int
    megabytes: float

    @property
    def clean(self) -> bool:
        return not self.left and not self.unsearched


class Erasure(Record):
    """Result of an erasure request."""

    request: str
    persons: int
    tables: dict[str, dict[int, int]]
    """Table → dataset version → rows erased from it; tables without versions have the one -1."""
    changed: tuple[str, ...]
    """Files and database tables that were deleted, replaced or changed."""
    kept: tuple[str, ...] = ()
    """Pages of the learners that hold nothing of the erased."""
    learners: tuple[Learner, ...]
    searched: Searched

    @property
    def rows(self) -> int:
        return sum(sum(versions.values()) for versions in self.tables.values())


class Retained(Record):
    """Result of retention: what was deleted, or in a dry run would be."""

    days: float | None
    """None: the contract declares no retention, so nothing expires."""
    dry_run: bool
    versions: dict[str, tuple[int, ...]]
    """Table → expired versions that nothing needs."""
    kept: dict[str, str]
    """Expired `table version` → the model that needs it."""
    log_rows: int
    """Logged predictions."""
    packed: dict[str, int]
    """Table → small files of its newest version that were put together."""


class TableSize(Record):
    """Size of a table of the lake, and what of it is needed."""

    table: str
    versions: int
    """That can be read."""
    rows: int
    """Of the newest version; 0 if none can be read."""
    files: int
    """Data files, each counted once however many versions have it."""
    bytes: int
    """Of the data files."""
    log_bytes: int
    """Of Delta's log."""
    expired: tuple[int, ...]
    """Versions that `lifecycle retention` would delete."""
    freed_bytes: int
    """Of the data files that only those have."""
    needed: dict[int, str]
    """Version → the model that was made from it."""
    packable_files: int
    """Small files of the newest version that `lifecycle retention` would put together."""
