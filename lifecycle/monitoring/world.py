"""A changed world: what has moved where no sign of broken data says why.

Where labels have come, three explanations are held against the joint counts of prediction (or
feature) and label: p(y | x) as before and x moved, *covariate shift*; p(x | y) as before and y
moved, *label shift* (Storkey, When Training and Test Sets Are Different, 2009); x as before and
p(y | x) moved, *concept shift*. The one that leaves least of a G-test over is taken.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lifecycle.monitoring.conditional import residuals
from lifecycle.monitoring.locate import ALL, Floats, Mask, RowSegment, Sides, locate, order_of
from lifecycle.monitoring.scored import OpenWindow
from lifecycle.monitoring.sketch import shares_of, sketch_levels, sketch_numbers
from lifecycle.project import DriftSpec
from lifecycle.records import Cause, ColumnDrift, ConditionalDrift, DriftReport

BINS = 10
MIN_REST_ROWS = 200
"""Rows without a sign of broken data, from which a column's distance is measured anew."""
MIN_LABELS = 100
SURE = 6.0
"""Standard deviations from which a truth that changed beside the features is a second cause."""
COLUMNS = 3
"""Features that label shift is held against, the furthest moved."""
DOUBTFUL = 3.0
"""Standard deviations from which a covariate shift is said to be more than that."""
DOUBT = (
    "for the same prediction the truth is another now, as where a column is measured differently"
)
CLEAR = 2.0
"""Standard deviations from which the truth given the prediction has changed."""
NEAR = 0.8
"""Divergence of the labels, as a part of the furthest, from which the shift is theirs."""
RUNS = 50
"""Runs of rows in time that a reference without entities is cut into."""
GROWN = 1.5
"""A segment whose share grew less is not what joined."""
Explanation = Literal["covariate shift", "label shift", "concept shift"]


def distance(
    sides: Sides,
    name: str,
    spec: DriftSpec,
    before: Mask | None = None,
    after: Mask | None = None,
) -> float:
    """Distance of a feature between rows of both windows.

    Args:
        before: reference rows (m,); all by default.
        after: current rows (n,); all by default.
    """
    codes, bins, sketch = _codes(sides, name, spec)
    first = codes[0] if before is None else codes[0][before]
    second = codes[1] if after is None else codes[1][after]
    return float(sketch.distances(shares_of(first, bins), shares_of(second, bins)))


def _codes(sides: Sides, name: str, spec: DriftSpec) -> tuple[tuple[Any, Any], int, Any]:
    cached = sides.sketches.get(name)
    if cached is not None:
        return cached
    sketch: Any
    if name in sides.categorical:
        windows = sides.reference, sides.current
        columns = [window.features[name] for window in windows]
        sketch = sketch_levels(columns[0], spec.categorical_test)
        codes = sketch.codes(columns[0]), sketch.codes(columns[1])
    else:
        numbers = sides.numbers(name)
        sketch = sketch_numbers(numbers[0], spec.numeric_test)
        codes = sketch.codes(numbers[0]), sketch.codes(numbers[1])
    sides.sketches[name] = codes, sketch.bins, sketch
    return sides.sketches[name]


@dataclass
class World:
    """Columns, answers and truth that have moved without a sign of broken data."""

    sides: Sides
    report: DriftReport
    moved: dict[str, ColumnDrift]
    spec: DriftSpec
    is_worse: bool
    good: Mask
    """(n,): current rows that are not there a second time."""

    def causes(self, broken: Sequence[Cause]) -> list[Cause]:
        """The causes in the world, the most important first.

        Args:
            broken: those in the data: what the model makes of them is no cause of its own.
        """
        labels_moved = self._labels_moved
        if (labels_moved or self.is_worse) and not (broken and not labels_moved):
            return self._with_labels(bool(broken))
        if self.moved or (not broken and self._answers_moved):
            misfits = explanations(self.sides, self._furthest, bool(self.moved), self.spec)
            is_label = misfits is not None and (
                misfits["covariate shift"] > CLEAR
                and misfits["label shift"] < misfits["covariate shift"] / 2
            )
            if is_label:
                return [self._truth("label shift")]
            cause = self._features()
            if misfits is None or misfits["covariate shift"] < DOUBTFUL:
                return [cause]
            doubt = f"{cause.evidence}; {DOUBT} ({misfits['covariate shift']:.1f} σ)"
            return [cause.model_copy(update={"evidence": doubt})]
        return []

    @property
    def _labels_moved(self) -> bool:
        """Whether the target alarms, without the rows that are there twice, too."""
        labels = self.report.labels
        if labels is None or not labels.alarms:
            return False
        if self.good.all():
            return True
        before, after = self.sides.reference.label, self.sides.current.label
        is_category = self.sides.current.task in ("binary", "multiclass")
        labels_present = before.dropna(), after[self.good].dropna()
        sketch = (
            sketch_levels(labels_present[0], self.spec.categorical_test)
            if is_category
            else sketch_numbers(labels_present[0].to_numpy(dtype=float), self.spec.numeric_test)
        )
        shares = [shares_of(sketch.codes(side), sketch.bins) for side in labels_present]
        return float(sketch.distances(*shares)) > labels.alarm_limit

    @property
    def _answers_moved(self) -> bool:
        return self.report.predictions.alarms or any(s.alarms for s in self.report.slices)

    def _with_labels(self, is_broken: bool) -> list[Cause]:
        if not (is_broken or self._labels_moved or self.moved):
            return [self._truth("concept shift")]  # quality alone
        misfits = explanations(self.sides, self._furthest, bool(self.moved), self.spec)
        if misfits is None or is_broken:
            misfits = {"label shift" if self._labels_moved else "covariate shift": 0.0}
        kind = min(misfits, key=lambda name: misfits[name])
        gap = abs(misfits.get("label shift", 0.0) - misfits.get("covariate shift", 0.0))
        if len(misfits) > 1 and kind != "concept shift" and gap < CLEAR and self._labels_moved:
            kind = origin(self.sides, self._furthest, self.spec)
        if kind == "covariate shift":
            causes = [self._features()] if self.moved or self._answers_moved else []
            if not causes or (self.is_worse and misfits[kind] > SURE):
                causes.append(self._truth("concept shift"))
            return causes
        cause = self._truth(kind)
        if kind == "concept shift" and self.moved:
            return [cause, self._features()]
        return [cause]

    @property
    def _furthest(self) -> list[str]:
        """Features that moved, the furthest first; without any, those nearest to their limits."""
        drifts = list(self.moved.values()) or list(self.report.features)
        ordered = sorted(drifts, key=lambda drift: -drift.statistic / drift.alarm_limit)
        return [drift.column for drift in ordered]

    def _features(self) -> Cause:
        """Covariate shift, or the segment that it is in."""
        names = self._furthest if self.moved else self._furthest[:COLUMNS]
        furthest = self.moved.get(names[0])
        if isinstance(furthest, ConditionalDrift):
            return self._given_others(names, furthest)
        joined = self._joined(names)
        if joined is not None:
            return joined
        top = names[0]
        inside = self._inside(top)
        avoid = frozenset().union(*(self.sides.sources(name) for name in names))
        scores = self._scores(top)
        if inside is not None:
            scores = (
                np.where(inside.before, scores[0], np.nan),
                np.where(inside.after, scores[1], np.nan),
            )
        place = locate(self.sides, *scores, avoid)
        drift = self.moved.get(top)
        if inside is not None:
            values = [
                distance(self.sides, top, self.spec, inside.before, inside.after),
                distance(self.sides, top, self.spec, ~inside.before, ~inside.after),
            ]
            evidence = f"{top} moved by {values[0]:.2g} there, by {values[1]:.2g} elsewhere"
            return Cause(
                kind="segment",
                columns=tuple(names),
                segment=inside.name,
                since=place.since,
                evidence=evidence,
            )
        evidence = f"{len(names)} of {len(self.report.features)} features moved"
        if drift is None:
            evidence = "the predictions moved, no feature by itself"
        return Cause(
            kind="covariate shift", columns=tuple(names), since=place.since, evidence=evidence
        )

    def _given_others(self, names: Sequence[str], drift: ConditionalDrift) -> Cause:
        """A shift that the other columns hide."""
        sides = self.sides
        every = residuals(sides.reference, sides.current, sides.categorical)
        pairs = [(each.before, each.after) for each in every if each.name == drift.column]
        scores = pairs[0] if pairs else self._scores(drift.column)  # too few of a sample
        return Cause(
            kind="covariate shift",
            columns=tuple(names),
            since=locate(sides, *scores, sides.sources(drift.column)).since,
            evidence=f"it moved by {drift.statistic:.2g} σ given the other columns, none by itself",
        )

    def _scores(self, name: str) -> tuple[Floats, Floats]:
        """A score of each row that is higher or lower where the column moved."""
        codes, bins, _ = _codes(self.sides, name, self.spec)
        if name not in self.sides.categorical:
            return codes[0].astype(float), codes[1].astype(float)
        shares = [shares_of(side, bins) for side in codes]
        gained = (shares[1] > shares[0]).astype(float)
        return gained[codes[0]], gained[codes[1]]

    def _joined(self, names: Sequence[str]) -> Cause | None:
        """A level that grew, or is new, and without which nothing has moved."""
        sides = self.sides
        for name in (n for n in sides.candidates if n in self.moved or n not in sides.categorical):
            levels = sides.levels(name)
            if levels is None:
                continue
            before, after, texts = levels
            shares = [np.bincount(side, minlength=len(texts)) / len(side) for side in levels[:2]]
            gained = shares[1] - shares[0]
            at = int(np.argmax(np.abs(gained)))
            if gained[at] < self._least(name) or shares[1][at] < GROWN * shares[0][at]:
                continue
            parts = [np.delete(side, at) for side in shares]
            if min(side.sum() for side in parts) <= 0:
                continue
            others = 0.5 * np.abs(parts[0] / parts[0].sum() - parts[1] / parts[1].sum()).sum()
            if others > max(0.5 * gained[at], 0.02):
                continue
            if self._explains(before != at, after != at, names, name):
                masks = before == at, after == at
                place = locate(
                    sides, masks[0].astype(float), masks[1].astype(float), sides.sources(name)
                )
                return Cause(
                    kind="segment",
                    columns=(name, *(other for other in names if other != name)),
                    segment=f"{name}={texts[at]}",
                    since=place.since,
                    evidence=f"its share grew from {shares[0][at]:.1%} to {shares[1][at]:.1%}, "
                    "the other rows are as before",
                )
        return None

    def _least(self, name: str) -> float:
        drift = next((d for d in self.report.features if d.column == name), None)
        return max(0.03, 0.0 if drift is None else drift.chance / 2)

    def _explains(self, before: Mask, after: Mask, names: Sequence[str], name: str) -> bool:
        """Judge whether the other rows are as before: no column is beyond its limit in them."""
        if min(before.sum(), after.sum()) < MIN_REST_ROWS:
            return False
        limits = {drift.column: drift.alarm_limit for drift in self.report.features}
        return all(
            distance(self.sides, other, self.spec, before, after) <= limits[other]
            for other in names
            if other != name
        )

    def _inside(self, name: str) -> RowSegment | None:
        """The segment in which alone a column has moved."""
        drift = self.moved.get(name)
        if drift is None:
            return None
        best: tuple[float, RowSegment] | None = None
        for segment in self.sides.segments:
            if self.sides.sources(segment.column) & self.sides.sources(name):
                continue
            if min((~segment.before).sum(), (~segment.after).sum()) < MIN_REST_ROWS / 2:
                continue
            near = distance(self.sides, name, self.spec, segment.before, segment.after)
            far = distance(self.sides, name, self.spec, ~segment.before, ~segment.after)
            limit = max(drift.alarm_limit, drift.chance)
            if far > min(limit, near / 3) or near <= drift.statistic:
                continue
            contrast = near * float(segment.after.mean()) - far
            if best is None or contrast > best[0]:
                best = contrast, segment
        return None if best is None else best[1]

    def _truth(self, kind: Explanation) -> Cause:
        """Label or concept shift, with its segment and first bad time."""
        sides = self.sides
        scores = _surprise(sides) if kind == "concept shift" else _labels(sides)
        avoid = frozenset([sides.current.target])
        place = locate(sides, *scores, avoid)
        means = [float(np.nanmean(side)) for side in scores]
        columns = (
            (sides.current.target, *self.moved)
            if kind == "label shift"
            else (sides.current.target,)
        )
        if kind == "label shift":
            evidence = "the target moved, the features of each of its values are as before"
        else:
            is_number = sides.current.task in ("regression", "count")
            error = "mean squared error" if is_number else "mean Brier score"
            evidence = (
                f"the truth changed for the same features, {error} {means[0]:.3g}, "
                f"now {means[1]:.3g}"
            )
        is_segment = kind == "concept shift" and place.segment != ALL
        return Cause(
            kind=kind,
            columns=columns,
            segment=place.segment if is_segment else ALL,
            since=place.since,
            evidence=evidence,
        )


def _labels(sides: Sides) -> tuple[Floats, Floats]:
    return sides.reference.truth, sides.current.truth


def _surprise(sides: Sides) -> tuple[Floats, Floats]:
    """Squared error of each prediction, NaN without a label."""
    return _squared(sides.reference), _squared(sides.current)


def _squared(window: OpenWindow) -> Floats:
    if window.prediction.ndim == 1:
        squares: Floats = (window.prediction - window.truth) ** 2
        return squares
    present = ~np.isnan(window.truth)
    chosen = np.where(present, window.truth, 0).astype(np.intp)
    own = window.prediction[np.arange(len(chosen)), chosen]
    surprise: Floats = np.where(present, (1 - own) ** 2, np.nan)
    return surprise


def explanations(
    sides: Sides, names: Sequence[str], is_moved: bool, spec: DriftSpec
) -> dict[Explanation, float] | None:
    """Measure what each explanation leaves over, in standard deviations; None with too few labels.

    Args:
        names: features, the furthest moved first.
        is_moved: whether any of them has moved.
    """
    counted = [~np.isnan(window.truth) for window in (sides.reference, sides.current)]
    if min(int(mask.sum()) for mask in counted) < MIN_LABELS:
        return None
    blocks = _blocks(sides.reference)[counted[0]]
    truth = _binned(sides.reference.truth, sides.current.truth, counted, sides.current.task)
    answers = _binned(_first(sides.reference), _first(sides.current), counted, "", 2 * BINS)
    columns = [answers]
    for name in names[: COLUMNS if is_moved else 0]:
        codes = _codes(sides, name, spec)[0]
        columns.append(_binned(codes[0].astype(float), codes[1].astype(float), counted, "", BINS))
    no_level = np.zeros_like(truth[0]), np.zeros_like(truth[1])
    given_label = [_misfit(truth, column, blocks) for column in columns]
    apart = [_misfit(no_level, column, blocks) for column in columns]
    return {
        "covariate shift": _misfit(answers, truth, blocks),
        "label shift": float(np.mean(given_label)),
        "concept shift": float(np.max(apart)),
    }


def origin(
    sides: Sides, names: Sequence[str], spec: DriftSpec
) -> Literal["covariate shift", "label shift"]:
    """Tell where a shift began that both explain: where it is the furthest.

    What a shift makes of anything that depends on its origin is never further than at the origin
    (the data-processing inequality; Cover and Thomas, Elements of Information Theory, 2.8).

    Args:
        names: features, the furthest moved first.
    """
    counted = [~np.isnan(window.truth) for window in (sides.reference, sides.current)]
    blocks = _blocks(sides.reference)[counted[0]]
    truth = _binned(sides.reference.truth, sides.current.truth, counted, sides.current.task)
    inputs = [_binned(_first(sides.reference), _first(sides.current), counted, "", BINS)]
    for name in names[:COLUMNS]:
        codes = _codes(sides, name, spec)[0]
        inputs.append(_binned(codes[0].astype(float), codes[1].astype(float), counted, "", BINS))
    furthest = max(_information(column, blocks) for column in inputs)
    is_label = _information(truth, blocks) >= NEAR * furthest
    return "label shift" if is_label else "covariate shift"


def _information(
    value: tuple[NDArray[np.intp], NDArray[np.intp]], blocks: NDArray[np.intp]
) -> float:
    """Divergence of both windows' bins as a G-test sees it, less what it is by chance."""
    bins = int(max(side.max() for side in value)) + 1
    tables = [np.bincount(side, minlength=bins).reshape(1, bins).astype(float) for side in value]
    degrees = int((tables[0] + tables[1] > 0).sum()) - 1
    before = value[0].astype(np.float64)
    return _likelihood_ratio(tables) - _design(before - before.mean(), blocks) * degrees


def _blocks(window: OpenWindow) -> NDArray[np.intp]:
    """Blocks of rows that may be alike: those of an entity, or a run of rows in time."""
    if window.entity is not None:
        return np.asarray(pd.factorize(window.entity)[0], dtype=np.intp)
    rows = len(window.features)
    order = order_of(window)
    if order is None:
        return np.arange(rows)
    blocks = np.empty(rows, dtype=np.intp)
    blocks[order] = np.arange(rows) * RUNS // rows
    return blocks


def _first(window: OpenWindow) -> Floats:
    if window.prediction.ndim == 1:
        return window.prediction
    answers: Floats = window.prediction.argmax(axis=1).astype(float)
    return answers


def _binned(
    before: Floats, after: Floats, counted: list[Mask], task: str, bins: int = BINS
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Bins of labelled rows: classes as they are, numbers by quantiles of the reference."""
    sides = before[counted[0]], after[counted[1]]
    if task in ("binary", "multiclass"):
        return sides[0].astype(np.intp), sides[1].astype(np.intp)
    cuts = np.unique(np.quantile(sides[0], np.linspace(0, 1, bins + 1)[1:-1]))
    codes = [np.searchsorted(cuts, side, side="right") for side in sides]
    return codes[0], codes[1]


def _misfit(
    condition: tuple[NDArray[np.intp], NDArray[np.intp]],
    value: tuple[NDArray[np.intp], NDArray[np.intp]],
    blocks: NDArray[np.intp],
) -> float:
    """G-test of both windows' distributions of `value` in each level of `given`, standardised."""
    rows = int(max(side.max() for side in condition)) + 1
    bins = int(max(side.max() for side in value)) + 1
    tables = [
        np.bincount(g * bins + v, minlength=rows * bins).reshape(rows, bins).astype(float)
        for g, v in zip(condition, value, strict=True)
    ]
    totals = [table.sum(axis=1, keepdims=True) for table in tables]
    pooled = tables[0] + tables[1]
    g = _likelihood_ratio(tables)
    both = (totals[0] > 0) & (totals[1] > 0)
    degrees = int(((pooled > 0) & both).sum() - both.sum())
    means = tables[0] @ np.arange(bins) / np.maximum(totals[0][:, 0], 1)
    residuals = value[0] - means[condition[0]]
    design = _design(residuals, blocks)
    excess = (g / design - degrees) / float(np.sqrt(2 * max(degrees, 1)))
    after = value[1] - means[condition[1]]
    spread = float(residuals.std()) * np.sqrt(design * (1 / len(residuals) + 1 / len(after)))
    shift = abs(float(after[both[condition[1], 0]].mean())) / max(float(spread), 1e-12)
    return max(excess, shift - 2)


def _likelihood_ratio(tables: Sequence[Floats]) -> float:
    """G of two windows' counts (levels, bins), summed over the levels."""
    totals = [table.sum(axis=1, keepdims=True) for table in tables]
    pooled = (tables[0] + tables[1]) / np.maximum(totals[0] + totals[1], 1)
    g = 0.0
    for table, total in zip(tables, totals, strict=True):
        expected = pooled * total
        positive = table > 0
        g += 2 * float((table[positive] * np.log(table[positive] / expected[positive])).sum())
    return g


def _design(residuals: Floats, blocks: NDArray[np.intp]) -> float:
    """Variance of a mean over that of a mean of independent rows (Kish's design effect)."""
    sums = np.bincount(blocks, residuals)
    return max(1.0, float((sums**2).sum() / max((residuals**2).sum(), 1e-12)))
