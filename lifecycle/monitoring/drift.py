"""Drift between two windows, column by column: distances, not p-values.

With many rows a p-value calls every small difference drift; a distance stays what it is. With few
rows chance alone makes large distances: each limit is the project's threshold or what chance
exceeds, whichever is more. Chance is reckoned for all columns and slices together, by resampling
the reference at the size of the window (`monitoring.limits`).
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lifecycle.errors import DataError
from lifecycle.monitoring.blocks import (
    ResamplingCells,
    block_length,
    cells_of_entities,
    cells_of_rows,
)
from lifecycle.monitoring.conditional import residuals, shift_threshold
from lifecycle.monitoring.limits import Draws, Measure
from lifecycle.monitoring.scored import OpenWindow
from lifecycle.monitoring.sketch import (
    Codes,
    Floats,
    Sketch,
    as_floats,
    shares_of,
    sketch_levels,
    sketch_numbers,
)
from lifecycle.project import DriftSpec
from lifecycle.records import (
    CONDITIONAL,
    ColumnDrift,
    ConditionalDrift,
    DriftReport,
    LabelDrift,
    SliceDrift,
    Window,
)

PREDICTION = "prediction"
"""What the predictions are called among the columns."""
ALPHA = 0.01
"""In how many windows without drift anything may be beyond its limit by chance."""
SEED = 17
TOGETHER = 0.5
"""Correlation above which two columns' drift is one cause."""
MIN_SLICE_ROWS = 100
"""A slice with fewer rows in the reference is not compared by itself."""
MAX_SLICE_LEVELS = 12
"""An attribute with more levels has no slices."""

MIN_TIMES = 20
"""With fewer distinct times the rows have no order in time."""


@dataclass(frozen=True)
class _BinnedColumn:
    """A column of both windows in the reference's bins; -1 where a row does not count."""

    name: str
    sketch: Sketch
    threshold: float
    before: Codes
    after: Codes
    values: Floats | None = None
    overshoot: float = 0.0
    slice: str = ""
    is_target: bool = False
    is_conditional: bool = False
    means: tuple[float, float] | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Name and slice of the column, as `_key` has them."""
        kind = "target" if self.is_target else "conditional" if self.is_conditional else self.slice
        return self.name, kind

    @property
    def rows(self) -> tuple[int, int]:
        """Number of rows of both windows that count."""
        return int((self.before >= 0).sum()), int((self.after >= 0).sum())


def drift_report(
    reference: OpenWindow,
    current: OpenWindow,
    spec: DriftSpec,
    window: Window,
    categorical: Collection[str],
    *,
    alpha: float = ALPHA,
    with_visible: bool = True,
    like: DriftReport | None = None,
) -> DriftReport:
    """Compare every feature, the predictions and the labels of a window with the reference.

    A missing value is a value of its own: a column that suddenly lacks half its values has drifted.
    Rows of one entity, or next to each other in time, are resampled together.

    Args:
        categorical: features that are categories; the others are numbers or times.
        alpha: in how many windows without drift anything may be beyond its limit.
        with_visible: also find out which shift of each column the window would have shown.
        like: the report of another window of about this size, whose limits by chance are taken.

    Raises:
        DataError: a window has no rows, or the current one lacks a feature of the reference.
    """
    before, after = reference.features, current.features
    for name, frame in (("reference window", before), (f"window {window}", after)):
        if not len(frame):
            raise DataError(f"{name}: no rows to measure drift on")
    if missing := [name for name in before.columns if name not in after.columns]:
        raise DataError(f"window {window}: has no features {', '.join(missing)}")
    columns = [
        *_columns(reference, current, spec, categorical),
        *_conditional(reference, current, spec, categorical),
    ]
    if like is None:
        drifts, drawn = _calibrated(reference, current, columns, spec, alpha, with_visible)
    else:
        chances = {_key(drift): drift.chance for drift in like.columns}
        columns = [column for column in columns if column.key in chances]
        drifts = [_drift(column, chances[column.key], spec) for column in columns]
        drawn = like.drawn
    features = tuple(drifts[: len(before.columns)])
    predictions, *others = drifts[len(before.columns) :]
    return DriftReport(
        window=window,
        reference_rows=len(before),
        current_rows=len(after),
        features=features,
        predictions=predictions,
        labels=next((drift for drift in others if isinstance(drift, LabelDrift)), None),
        slices=tuple(drift for drift in others if isinstance(drift, SliceDrift)),
        conditional=tuple(drift for drift in others if isinstance(drift, ConditionalDrift)),
        groups=_groups(columns[: len(features)], features),
        drawn=drawn,
        alpha=alpha,
    )


def _calibrated(
    reference: OpenWindow,
    current: OpenWindow,
    columns: Sequence[_BinnedColumn],
    spec: DriftSpec,
    alpha: float,
    with_visible: bool,
) -> tuple[list[ColumnDrift], str]:
    """The distances with their limits by chance, and what was resampled for these."""
    rng = np.random.default_rng(SEED)
    cells = _cells(reference, current, columns, rng)
    draws = Draws(cells, (len(reference.features), len(current.features)), alpha, rng)
    measures = [
        Measure(
            column.sketch,
            column.before[cells.rows],
            *column.rows,
            values=None if column.values is None else column.values[cells.rows],
        )
        for column in columns
    ]
    limits = draws.limits(measures)
    drifts = [
        _drift(column, float(chance), spec) for column, chance in zip(columns, limits, strict=True)
    ]
    if with_visible:
        shifts = draws.visible(measures, [drift.alarm_limit for drift in drifts])
        drifts = [
            drift.model_copy(update={"visible": shift})
            for drift, shift in zip(drifts, shifts, strict=True)
        ]
    return drifts, cells.words


def _groups(
    columns: Sequence[_BinnedColumn], features: Sequence[ColumnDrift]
) -> tuple[tuple[str, ...], ...]:
    """Put features that alarm and move together into groups, the furthest moved first in each.

    Two move together if their bins' correlation in the reference is above `TOGETHER`.
    """
    moved = sorted(
        (
            (drift.statistic / drift.alarm_limit, column)
            for drift, column in zip(features, columns, strict=True)
            if drift.alarms
        ),
        key=lambda pair: -pair[0],
    )
    series = [column.before.astype(np.float64) for _, column in moved]
    deviations = [codes.std() for codes in series]
    centred = [codes - codes.mean() for codes in series]
    groups: list[list[int]] = []
    for at in range(len(moved)):
        near = [
            group
            for group in groups
            if any(
                abs((centred[at] * centred[other]).mean())
                > TOGETHER * deviations[at] * deviations[other]
                for other in group
            )
        ]
        groups = [group for group in groups if group not in near]
        groups.append(sorted([*(index for group in near for index in group), at]))
    return tuple(tuple(moved[at][1].name for at in group) for group in sorted(groups))


def _key(drift: ColumnDrift) -> tuple[str, str]:
    """What a distance is about, in any report of the same project."""
    kind = drift.slice if isinstance(drift, SliceDrift) else ""
    kind = "conditional" if isinstance(drift, ConditionalDrift) else kind
    return drift.column, "target" if isinstance(drift, LabelDrift) else kind


def _columns(
    reference: OpenWindow, current: OpenWindow, spec: DriftSpec, categorical: Collection[str]
) -> Iterator[_BinnedColumn]:
    """Yield the features, the predictions, the target where it is known, and the slices."""
    for name in reference.features.columns:
        sides = reference.features[name], current.features[name]
        yield _column(str(name), *sides, spec, category=name in categorical)
    answers = _column(
        PREDICTION, reference.answer, current.answer, spec, category=bool(reference.classes)
    )
    answers = replace(answers, threshold=spec.prediction_threshold)
    yield answers
    label_masks = [~np.isnan(window.truth) for window in (reference, current)]
    if all(mask.any() for mask in label_masks):
        category = reference.task in ("binary", "multiclass")
        target = _column(
            reference.target,
            reference.label,
            current.label,
            spec,
            category=category,
            label_masks=label_masks,
        )
        labels = [
            window.label[mask]
            for window, mask in zip((reference, current), label_masks, strict=True)
        ]
        means = None if reference.classes else (float(labels[0].mean()), float(labels[1].mean()))
        yield replace(target, is_target=True, means=means)
    for name, masks in _slices(reference, current):
        before, after = (
            np.where(mask, codes, -1).astype(np.int16)
            for mask, codes in zip(masks, (answers.before, answers.after), strict=True)
        )
        yield replace(answers, slice=name, before=before, after=after, values=None)


def _conditional(
    reference: OpenWindow, current: OpenWindow, spec: DriftSpec, categorical: Collection[str]
) -> Iterator[_BinnedColumn]:
    """Yield what is left of each number given the others, by the distance that has its unit."""
    for name, before, after in residuals(reference, current, categorical):
        sketch = replace(sketch_numbers(before, "wasserstein"), scale=1.0)
        yield _BinnedColumn(
            name,
            sketch,
            shift_threshold(spec),
            sketch.codes(before),
            sketch.codes(after),
            before,
            sketch.overshoot(after),
            is_conditional=True,
        )


def _slices(
    reference: OpenWindow, current: OpenWindow
) -> Iterator[tuple[str, list[NDArray[np.bool_]]]]:
    """Yield the slices that both windows have, and which rows of either are theirs."""
    for attribute, before in reference.attributes.items():
        after = current.attributes.get(attribute)
        levels, counts = np.unique(before, return_counts=True)
        if after is None or not 2 <= len(levels) <= MAX_SLICE_LEVELS:
            continue
        for level in levels[counts >= MIN_SLICE_ROWS]:
            masks = [before == level, after == level]
            if masks[1].any():
                yield f"{attribute}={level}", masks


def _column(
    name: str,
    before: "pd.Series[Any]",
    after: "pd.Series[Any]",
    spec: DriftSpec,
    *,
    category: bool,
    label_masks: list[NDArray[np.bool_]] | None = None,
) -> _BinnedColumn:
    """Count a column of both windows into bins of the reference.

    Args:
        label_masks: the rows of either window that count; None for all.
    """
    masks = label_masks or [np.ones(len(side), dtype=bool) for side in (before, after)]
    if category:
        levels = sketch_levels(before[masks[0]], spec.categorical_test)
        codes = [levels.codes(side) for side in (before, after)]
        bins = _where(masks[0], codes[0]), _where(masks[1], codes[1])
        return _BinnedColumn(name, levels, spec.categorical_threshold, *bins)
    numbers = [as_floats(side) for side in (before, after)]
    sketch = sketch_numbers(numbers[0][masks[0]], spec.numeric_test)
    codes = [sketch.codes(values) for values in numbers]
    bins = _where(masks[0], codes[0]), _where(masks[1], codes[1])
    overshoot = sketch.overshoot(numbers[1][masks[1]])
    return _BinnedColumn(name, sketch, spec.numeric_threshold, *bins, numbers[0], overshoot)


def _where(mask: NDArray[np.bool_], codes: Codes) -> Codes:
    return codes if mask.all() else np.where(mask, codes, -1).astype(np.int16)


def _drift(column: _BinnedColumn, chance: float, spec: DriftSpec) -> ColumnDrift:
    """The distance of a column with its limits."""
    bins = column.sketch.bins
    sides = [shares_of(codes[codes >= 0], bins) for codes in (column.before, column.after)]
    statistic = float(column.sketch.distances(*sides))
    drift = ColumnDrift(
        column=column.name,
        test=column.sketch.test,
        statistic=max(statistic, column.overshoot),
        threshold=column.threshold,
        chance=chance,
        alarm_from=spec.alarm_from,
    )
    if column.slice:
        return SliceDrift(**drift.model_dump(), slice=column.slice, rows=column.rows[1])
    if column.is_conditional:
        return ConditionalDrift(**drift.model_dump() | {"test": f"{CONDITIONAL}{drift.test}"})
    if column.is_target:
        return LabelDrift(**drift.model_dump(), rows=column.rows[1], means=column.means)
    return drift


def _cells(
    reference: OpenWindow,
    current: OpenWindow,
    columns: Sequence[_BinnedColumn],
    rng: np.random.Generator,
) -> ResamplingCells:
    """Choose what is drawn: whole entities, or runs of rows in time, or single rows."""
    if reference.entity is not None and current.entity is not None:
        return cells_of_entities(reference.entity, current.entity, rng)
    rows = (len(reference.features), len(current.features))
    times = reference.time
    if times is None or pd.isna(times).any() or len(pd.unique(times)) < MIN_TIMES:
        return cells_of_rows(*rows, 1, None, rng)
    order = np.argsort(times, kind="stable")
    features = [column for column in columns if not (column.slice or column.is_conditional)]
    series = np.stack([column.before[order] for column in features], axis=1).astype(np.float64)
    return cells_of_rows(*rows, block_length(series), order, rng)


def shares(reference: pd.Series, current: pd.Series) -> pd.DataFrame:
    """Share of each level, columns `reference` and `current`; missing is a level of its own."""
    counted = {
        name: column.astype(object)
        .where(column.notna(), "(missing)")
        .map(str)
        .value_counts(normalize=True)
        for name, column in (("reference", reference), ("current", current))
    }
    return pd.DataFrame(counted).fillna(0.0).sort_index()
