"""The deciding metric on parts of the holdout: columns' values, segments, protected attributes."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lifecycle.errors import FeatureError, ProjectError, TargetError
from lifecycle.features.encode import Floats
from lifecycle.project import Project
from lifecycle.project.expression import holds
from lifecycle.records import Slice
from lifecycle.training.evaluation.evaluate import Measurement, Own, estimate

QUARTERS = 4
MOST_VALUES = 20
"""Values of a column that are slices of their own; rarer ones are taken together."""
SEGMENT, MISSING = "segment", "missing"

Mask = NDArray[np.bool_]


class RowGroup(NamedTuple):
    """Some rows, and what they are."""

    by: str
    value: str
    mask: Mask
    """(n,)"""


def parts_of(frame: pd.DataFrame, project: Project) -> list[RowGroup]:
    """Every slice of the project: protected attributes, `evaluation.slices`, then the segments.

    Raises:
        ProjectError: the condition of a segment cannot be evaluated.
    """
    columns = dict.fromkeys((*project.protected, *project.evaluation.slices))
    parts = [
        RowGroup(name, value, mask)
        for name in columns
        for value, mask in _values(frame[name], project)
    ]
    for name, condition in project.evaluation.segments.items():
        parts.append(RowGroup(SEGMENT, name, _segment(frame, name, condition)))
    return parts


def measure_slices(
    parts: list[RowGroup],
    truth: Floats,
    prediction: Floats,
    entity: NDArray[Any] | None,
    project: Project,
    own: Own,
) -> tuple[Slice, ...]:
    """The deciding metric with its interval on each part that has `evaluation.min_rows` rows."""

    def measured(part: RowGroup) -> Slice:
        by, value, mask = part
        rows, estimated, note = int(mask.sum()), None, ""
        if rows < project.evaluation.min_rows:
            note = f"fewer than {project.evaluation.min_rows} rows"
        else:
            groups = None if entity is None else entity[mask]
            measurement = Measurement(project.task, project.split.seed, groups, own)
            try:
                estimated = estimate(project.metric, truth[mask], prediction[mask], measurement)
            except TargetError:  # the whole holdout was measured: only the classes can be missing
                note = "one class only"
            except FeatureError:
                note = f"{project.metric} fails on these rows"
        return Slice(by=by, value=value, rows=rows, estimate=estimated, note=note)

    return tuple(measured(part) for part in parts)


def _values(column: "pd.Series[Any]", project: Project) -> Iterator[tuple[str, Mask]]:
    """A column's quartiles (numbers and times) or values, each with its rows; missing ones last."""
    kind = project.contract.columns[str(column.name)].type
    if kind in ("integer", "number", "datetime") and column.nunique() > QUARTERS:
        cut = pd.qcut(column, QUARTERS, duplicates="drop")
        for at, interval in enumerate(cut.cat.categories):
            low, high = _text(interval.left), _text(interval.right)
            label = f"over {low} to {high}" if at else f"up to {high}"
            yield label, (cut.cat.codes == at).to_numpy()
    else:
        counted = column.value_counts()
        frequent = counted.index[:MOST_VALUES]
        for value in sorted(frequent, key=lambda v: (isinstance(v, str), v)):
            yield _text(value), (column == value).fillna(False).to_numpy(dtype=bool)
        if rare_count := len(counted) - len(frequent):
            rare = column.notna() & ~column.isin(frequent)
            yield f"{rare_count} rarer values", rare.to_numpy(dtype=bool)
    missing = column.isna().to_numpy()
    if missing.any():
        yield MISSING, missing


def _text(value: object) -> str:
    if isinstance(value, pd.Timestamp):
        return str(value.date() if value == value.normalize() else value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _segment(frame: pd.DataFrame, name: str, condition: str) -> Mask:
    try:
        return holds(condition, frame)
    except ValueError as error:
        raise ProjectError(
            f"evaluation.segments.{name}: {error}; write a condition on the columns of a row, such "
            "as `age >= 65`"
        ) from None
