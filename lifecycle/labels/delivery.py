"""Labels on their way into the ledger: read by the contract, refused in words, each taken once."""

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import ValidationError

from lifecycle.audit.data_trail import record_data
from lifecycle.data.contract.column_checks import ColumnPromises, coerced_cells
from lifecycle.data.privacy import erased_hashes, erased_mask, pii_key, plain_text, pseudonym
from lifecycle.data.sources.base import Source
from lifecycle.data.sources.open import open_source
from lifecycle.errors import DataError, ProjectError
from lifecycle.labels.ledger import KEY, MOMENT, SCHEMA, TABLE, Ledger, content_digest, moment
from lifecycle.labels.truth import NEVER, NUMPY_TYPES, entity_is_stored
from lifecycle.lake.column_types import coerce
from lifecycle.project import ColumnSpec, Project, SourceSpec
from lifecycle.project.data import format_of
from lifecycle.records import Record
from lifecycle.settings import Settings

PREDICTION_ID = "prediction_id"
"""Column or field with the id of a prediction, as the endpoint answered it."""
KNOWN_AT = "known_at"
"""Column or field that says when a label was known; without it, that is when it arrives."""
ID = re.compile(r"(?P<request>[0-9a-f]{28})(?P<row>-[0-9]{1,9})?")
"""A request's id, and the row in it."""
AHEAD = timedelta(minutes=5)
"""How far the clock of another machine may be ahead."""
PROBLEMS_SHOWN = 5


class Delivery(Record):
    """Result of a delivery of labels."""

    delivered: int
    """Rows with a label."""
    new: int
    """Labels that the ledger did not have; the corrections are among them."""
    corrections: int
    """New labels for what had another one."""
    unlabelled: int
    """Rows without a label, as of those who have none yet."""
    erased: int
    """Rows about entities that were erased: they are left out."""
    labels: int
    """What the ledger has now."""
    digest: str
    """Of its content."""

    @property
    def text(self) -> str:
        """The record in words."""
        repeats = self.delivered - self.new - self.erased
        parts = [f"{self.new:,} new labels, {self.corrections:,} of them corrections"]
        parts += [f"{repeats:,} known already"] if repeats else []
        parts += [f"{self.unlabelled:,} rows without a label"] if self.unlabelled else []
        parts += [f"{self.erased:,} rows of erased entities left out"] if self.erased else []
        return "; ".join(parts)


class LabelRows(NamedTuple):
    """Delivered rows, as the ledger has them."""

    table: pa.Table
    """Of `SCHEMA`."""
    stamped: NDArray[np.bool_]
    """(rows,): whose time of knowing is that of their arrival."""
    unlabelled: int
    problems: list[str]
    """What is wrong, with row and column; a delivery with any is refused."""


def read_labels(
    raw: pd.DataFrame, project: Project, settings: Settings, arrived: datetime, first: int = 1
) -> LabelRows:
    """Read delivered cells as the contract reads them; columns that are no part of a label are
    left aside.

    Args:
        raw: rows with the target's column and, to say what they are about, `prediction_id` or the
            project's entity and time.
        arrived: when they were known, where `known_at` does not say it.
        first: number of the first row, for messages.

    Raises:
        DataError: a column is missing.
        SettingsError: the key of hashed entities cannot be read or made.
    """
    keys, complete = _key_columns(raw, project)
    columns = project.columns
    problems = _Problems(first)
    target = columns[project.target].model_copy(update={"nullable": True})
    cells = problems.read(raw, project.target, target)
    present = cells.is_valid().to_numpy(zero_copy_only=False)
    ids = _ids(raw, problems) if PREDICTION_ID in raw else pa.nulls(len(raw), pa.string())
    by_row = present & ~ids.is_valid().to_numpy(zero_copy_only=False)
    entities, times = pa.nulls(len(raw), pa.string()), pa.nulls(len(raw), MOMENT)
    for name in keys:
        spec = columns[name].model_copy(update={"nullable": True})
        values = problems.read(raw, name, spec)
        absent = by_row & values.is_null().to_numpy(zero_copy_only=False)
        if complete:
            problems.add(name, f"missing, and so is {PREDICTION_ID}", absent)
        if name == project.entity:
            texts = [plain_text(value) for value in values.to_pylist()]
            hashed = columns[name].pii == "hash"
            entities = pa.array(
                pseudonym(texts, pii_key(settings)) if hashed else texts, pa.string()
            )
        else:
            times = values.cast(pa.timestamp("us")).cast(MOMENT)
    if not complete:
        problems.add(PREDICTION_ID, "missing", by_row)
    moments, stamped = _moments_known(raw, arrived, problems)
    is_number = target.value_type in NUMPY_TYPES
    empty = pa.nulls(len(raw), SCHEMA.field("value" if is_number else "number").type)
    table = pa.table(
        {
            "id": ids,
            "entity": entities,
            "time": times,
            "known_at": moments,
            "value": empty if is_number else cells.cast(pa.string()),
            "number": cells.cast(pa.float64()) if is_number else empty,
        },
        schema=SCHEMA,
    )
    return LabelRows(
        table.filter(pa.array(present)),
        stamped[present],
        int((~present).sum()) - problems.count(project.target),
        problems.texts,
    )


def label_fields(project: Project) -> tuple[str, ...]:
    """The columns or fields that a label has, or may have."""
    entity = [project.entity] if project.entity and entity_is_stored(project) else []
    time = [project.time.column] if project.time else []
    return (PREDICTION_ID, *entity, *time, project.target, KNOWN_AT)


def label_source(project: Project, place: str | None = None) -> Source:
    """Source of labels: a file, URL, folder or pattern, or what `monitoring.labels` declares.

    Args:
        place: relative to the working folder.

    Raises:
        ProjectError: none is named and none declared, or it is no source.
    """
    if place is None:
        if project.monitoring.labels is None:
            raise ProjectError(
                f"{project.file}: monitoring.labels: say where labels come from, or name a file: "
                "lifecycle labels project.yaml outcomes.csv"
            )
        return open_source(project, project.monitoring.labels)
    path = place if "://" in place else str(Path(place).absolute())
    try:
        spec = SourceSpec(path=path, format=format_of(path) or "csv")
    except ValidationError as error:
        problem = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ProjectError(f"{place}: {problem}") from None
    return open_source(project, spec)


def deliver(project: Project, settings: Settings, source: Source) -> Delivery:
    """Take the labels of a source into the ledger: all in one commit, or none.

    Delivered once more, a label changes nothing; killed anywhere and run again, the ledger is that
    of one run. Rows about entities that were erased are left out.

    Raises:
        DataError: a column is missing or a cell is none of the contract's; nothing was taken.
        SourceError: the source cannot be read.
        BackendError: a server does not answer, or the ledger cannot be read or written.
    """
    arrived = datetime.now(UTC)
    parts = list(_parts(project, settings, source, arrived))
    table = pa.concat_tables([part.table for part in parts])
    stamped = np.concatenate([part.stamped for part in parts])
    allowed = not_erased(table, project, settings)
    ledger = Ledger(settings, project.name)
    before = ledger.rows()
    new, corrections = _news(table.filter(pa.array(allowed)), stamped[allowed], before)
    if ledger.append(new):
        ledger.tidy()
    rows = ledger.rows() if new.num_rows else before
    digest = content_digest(rows)
    delivery = Delivery(
        delivered=table.num_rows,
        new=new.num_rows,
        corrections=corrections,
        unlabelled=sum(part.unlabelled for part in parts),
        erased=int((~allowed).sum()),
        labels=rows.num_rows,
        digest=digest,
    )
    if new.num_rows:
        reason = f"{new.num_rows:,} labels from {source.place}, {corrections:,} of them corrections"
        record_data(settings, project.name, "labels", TABLE, None, digest, (reason,))
    return delivery


def _parts(
    project: Project, settings: Settings, source: Source, arrived: datetime
) -> Iterator[LabelRows]:
    """The rows of a source, batch by batch.

    Raises:
        DataError: a column is missing, or a cell is none of the contract's.
    """
    columns = project.contract.columns
    times = {PREDICTION_ID: ColumnSpec(type="string"), KNOWN_AT: ColumnSpec(type="datetime")}
    problems: list[str] = []
    rows = 0
    for batch in source.batches({**times, **columns}):
        part = read_labels(batch.to_pandas(), project, settings, arrived, rows + 1)
        rows += batch.num_rows
        problems += part.problems
        yield part
    if problems:
        listed = "; ".join(problems[:PROBLEMS_SHOWN])
        more = (
            f"; and {len(problems) - PROBLEMS_SHOWN} more" if len(problems) > PROBLEMS_SHOWN else ""
        )
        raise DataError(f"{source.place}: no label was taken: {listed}{more}")


def not_erased(labels: pa.Table, project: Project, settings: Settings) -> NDArray[np.bool_]:
    """Mask of the labels that are about no erased entity.

    Raises:
        BackendError: the list of erased entities cannot be read.
    """
    hashes = erased_hashes(settings, project) if project.entity else frozenset()
    mask = erased_mask(labels["entity"], hashes, settings)
    return ~np.asarray(mask.to_numpy(zero_copy_only=False), dtype=bool)


def _news(table: pa.Table, stamped: NDArray[np.bool_], before: pa.Table) -> tuple[pa.Table, int]:
    """The labels that say anything new, and how many of them are corrections.

    One whose time of knowing is that of its arrival says nothing new if it is what is known anyway.
    """
    frame, exists = _frame(table), _frame(before)
    frame["stamped"] = stamped
    frame = frame[~frame.duplicated(SCHEMA.names)]
    merged = frame.merge(exists.drop_duplicates(), how="left", on=SCHEMA.names, indicator=True)
    repeated = (merged["_merge"] == "both").to_numpy()
    newest = exists.sort_values("known_at", kind="stable").drop_duplicates(KEY, keep="last")
    newest = newest.rename(columns={"value": "value_before", "number": "number_before"})
    pairs = frame.merge(newest.drop(columns="known_at").assign(exists=True), how="left", on=KEY)
    same = _equal(pairs, "value") & _equal(pairs, "number")
    is_known = pairs["exists"].eq(True).to_numpy(dtype=bool)
    new = ~repeated & ~(is_known & same & frame["stamped"].to_numpy())
    return table.take(pa.array(frame.index[new])), int((new & is_known & ~same).sum())


def _frame(rows: pa.Table) -> pd.DataFrame:
    """Rows of the ledger, times as numbers."""
    times = {name: rows[name].cast(pa.int64()).fill_null(NEVER) for name in ("time", "known_at")}
    for name, numbers in times.items():
        rows = rows.set_column(rows.schema.get_field_index(name), name, numbers)
    frame: pd.DataFrame = rows.to_pandas()
    return frame


def _equal(pairs: pd.DataFrame, name: str) -> NDArray[np.bool_]:
    now, before = pairs[name], pairs[f"{name}_before"]
    return (now.eq(before) | (now.isna() & before.isna())).to_numpy(dtype=bool)


def _key_columns(raw: pd.DataFrame, project: Project) -> tuple[list[str], bool]:
    """Columns that say which row a label is about, and whether they do without a prediction's id.

    Raises:
        DataError: nothing says it, or the target is missing.
    """
    names = [*label_fields(project)[1:-2]]
    if project.target not in raw:
        raise DataError(f"labels need the column {project.target}; got {_listed(raw)}")
    complete = bool(names) and all(name in raw for name in names)
    if not complete and PREDICTION_ID not in raw:
        either = f", or {' and '.join(names)}" if names else ""
        raise DataError(f"labels need the column {PREDICTION_ID}{either}; got {_listed(raw)}")
    return [name for name in names if name in raw], complete


def _listed(raw: pd.DataFrame) -> str:
    return ", ".join(map(str, list(raw)[:20])) or "none"


def _ids(raw: pd.DataFrame, problems: "_Problems") -> pa.Array:
    """Ids of predictions; a request's own id is that of its first row."""
    cells = coerce(raw[PREDICTION_ID].reset_index(drop=True), "string").values
    texts = [None if pd.isna(cell) or not cell else str(cell).strip() for cell in cells]
    matches = [None if text is None else ID.fullmatch(text) for text in texts]
    wrong = [text is not None and match is None for text, match in zip(texts, matches, strict=True)]
    problems.add(PREDICTION_ID, "not the id of a prediction", np.array(wrong, dtype=bool))
    return pa.array([m and m["request"] + (m["row"] or "-0") for m in matches], pa.string())


def _moments_known(
    raw: pd.DataFrame, arrived: datetime, problems: "_Problems"
) -> tuple[pa.Array, NDArray[np.bool_]]:
    """When each label was known, and whether that is when it arrived."""
    now = pa.scalar(moment(arrived), MOMENT)
    if KNOWN_AT not in raw:
        return pa.repeat(now, len(raw)), np.ones(len(raw), dtype=bool)
    times = problems.read(raw, KNOWN_AT, ColumnSpec(type="datetime", nullable=True)).cast(MOMENT)
    stamped = times.is_null().to_numpy(zero_copy_only=False)
    limit = pa.scalar(moment(arrived) + AHEAD, MOMENT)
    later = pc.greater(times, limit).fill_null(False).to_numpy(zero_copy_only=False)
    problems.add(KNOWN_AT, "in the future", later)
    return times.fill_null(now), stamped


class _Problems:
    """What is wrong with a delivery."""

    def __init__(self, first: int) -> None:
        self.texts: list[str] = []
        self._first = first
        self._counts: dict[str, int] = {}

    def read(self, raw: pd.DataFrame, name: str, spec: ColumnSpec) -> pa.Array:
        """A column in its type; what breaks the contract is noted."""
        series = raw[name].reset_index(drop=True)
        coerced = coerce(series, spec.value_type)
        cells = coerced_cells(coerced, spec.value_type)
        for violation in ColumnPromises(name, spec.model_copy(update={"unique": False})).broken(
            cells
        ):
            if violation.severity == "error":
                self.add(name, violation.problem, violation.rows)
        return cells.values

    def add(self, name: str, problem: str, rows: Iterable[bool] | NDArray[np.bool_]) -> None:
        """Note a problem of some rows."""
        numbers = np.flatnonzero(np.asarray(rows, dtype=bool))
        if not len(numbers):
            return
        self._counts[name] = self._counts.get(name, 0) + len(numbers)
        more = f" and {len(numbers) - 1:,} more rows" if len(numbers) > 1 else ""
        self.texts.append(f"row {self._first + int(numbers[0])}{more}: {name}: {problem}")

    def count(self, name: str) -> int:
        """Rows with a problem in a column."""
        return self._counts.get(name, 0)
