"""Causes of alarms: broken data told from a changed world, and one alarm per cause.

1. Signs of broken data are looked for in each column that alarms and in the rows
   (`monitoring.symptoms`, `monitoring.feed`).
2. What has moved because of these is set aside: columns made of the broken one, and columns that
   have not moved in the other rows.
3. What is left has moved in the world (`monitoring.world`).
4. Of each, the segment that has nearly all of it and the first bad time are found
   (`monitoring.locate`).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from lifecycle.monitoring.feed import row_symptoms
from lifecycle.monitoring.locate import ALL, Mask, Sides
from lifecycle.monitoring.novelty import Novelty
from lifecycle.monitoring.results import Comparison
from lifecycle.monitoring.scored import OpenWindow, feature_sources
from lifecycle.monitoring.symptoms import (
    MIN_ADDED,
    Symptom,
    merged,
    one_value,
    renamed_level,
)
from lifecycle.monitoring.units import changed_unit
from lifecycle.monitoring.world import MIN_LABELS, MIN_REST_ROWS, World, distance
from lifecycle.project import DriftSpec, Project
from lifecycle.records import Alarm, Cause, ColumnDrift, ConditionalDrift, DriftReport

MAX_ROWS = 20_000
"""Rows of either window that are looked at: more of them say nothing new."""
OF_TRUTH = ("label shift", "concept shift")
"""Causes that quality falls by."""
ROWS = "rows"
"""What stands for the column of a cause that is in all of them."""


def find_causes(
    reference: OpenWindow,
    current: OpenWindow,
    report: DriftReport,
    categorical: Sequence[str],
    spec: DriftSpec,
    sources: Mapping[str, frozenset[str]],
    *,
    is_worse: bool = False,
) -> list[Cause]:
    """Find why a window alarms, the surest cause first; none if nothing alarms.

    Args:
        report: the window's drift from the reference.
        sources: columns of the data that each feature is made of (`scored.feature_sources`).
        is_worse: whether measured quality alarms.
    """
    sides = Sides(_sampled(reference), _sampled(current), categorical, sources)
    moved = {drift.column: drift for drift in report.moved}
    signs = row_symptoms(reference, current, sides, report.window)
    novelty = Novelty(sides)
    new = [drift for drift in report.features if novelty.has(drift.column)]
    broken, others = _broken(sides, signs, moved, new, spec, novelty)
    good = ~np.logical_or.reduce([np.zeros(sides.rows[1], dtype=bool), *_duplicate_rows(signs)])
    world = World(sides, report, others, spec, is_worse, good)
    return [*broken, *world.causes(broken)]


def _duplicate_rows(signs: Sequence[Symptom]) -> list[Mask]:
    return [sign.bad for sign in signs if sign.kind == "duplicated batch"]


def _sampled(window: OpenWindow) -> OpenWindow:
    """An even choice of the rows."""
    rows = len(window.features)
    if rows <= MAX_ROWS:
        return window
    at = np.linspace(0, rows - 1, MAX_ROWS).astype(np.intp)
    return replace(
        window,
        features=window.features.iloc[at],
        prediction=window.prediction[at],
        truth=window.truth[at],
        entity=None if window.entity is None else window.entity[at],
        time=None if window.time is None else window.time[at],
        attributes={name: levels[at] for name, levels in window.attributes.items()},
    )


# Broken data.


def _broken(
    sides: Sides,
    rows: Sequence[Symptom],
    moved: dict[str, ColumnDrift],
    unseen_in: Sequence[ColumnDrift],
    spec: DriftSpec,
    novelty: Novelty,
) -> tuple[list[Cause], dict[str, ColumnDrift]]:
    """The causes in the data, and the columns that moved without them.

    Args:
        rows: signs of rows that are there twice, or not yet.
        unseen_in: columns with what the reference never had, moved or not.
    """
    ranked: list[tuple[float, Symptom]] = []
    for drift in unseen_in:
        symptom = novelty.stuck(drift.column) or _column_symptom(sides, drift.column, 0.0)
        if symptom is not None:
            ranked.append((drift.statistic / drift.alarm_limit, symptom))
    names = {symptom.columns[0] for _, symptom in ranked}
    for name, drift in moved.items():
        if name not in names and (symptom := _column_symptom(sides, name, drift.chance)):
            ranked.append((drift.statistic / drift.alarm_limit, symptom))
    ranked.sort(key=lambda pair: (len(sides.sources(pair[1].columns[0])), -pair[0]))
    symptoms = _roots(sides, _confined(sides, [symptom for _, symptom in ranked], moved))
    broken = {symptom.columns[0] for symptom in symptoms}
    rows = [sign for sign in rows if _is_late(sides, sign, broken, moved)]
    causes = [_cause(symptom) for symptom in rows]
    others = dict(moved)
    for group in merged(symptoms, sides.rows[1]):
        signs = [symptoms[at] for at in group]
        own = [sign.columns[0] for sign in signs]
        roots = frozenset().union(*(sides.sources(name) for name in own))
        dependent = [name for name in others if name not in own and sides.sources(name) & roots]
        causes.append(_cause(signs[0], (*own, *dependent)))
        others = {name: drift for name, drift in others.items() if name not in (*own, *dependent)}
    if rows and not symptoms:
        late = any(sign.kind == "late feed" for sign in rows)
        others = {} if late else _still_moved(sides, [rows[0].bad], others, spec)
        if late:
            causes = [
                cause.model_copy(update={"columns": tuple(moved)})
                if cause.kind == "late feed"
                else cause
                for cause in causes
            ]
    if symptoms and others:
        others = _still_moved(sides, [symptom.bad for symptom in symptoms], others, spec)
    order = sorted(causes, key=lambda cause: -cause.value)
    return order, others


def _column_symptom(sides: Sides, name: str, chance: float) -> Symptom | None:
    """Look for what is broken in a column; None if nothing is.

    Args:
        chance: what the column's distance is by chance alone.
    """
    least = max(MIN_ADDED, chance / 2)
    if name in sides.categorical:
        return renamed_level(sides, name, least) or one_value(sides, name, least)
    return changed_unit(sides, name, least) or one_value(sides, name, least)


def _confined(
    sides: Sides, symptoms: Sequence[Symptom], moved: Mapping[str, ColumnDrift]
) -> list[Symptom]:
    """Leave out signs that are none if other columns have moved, too.

    A month that the reference lacks is one value in all rows, and no stuck one.
    """
    sure = [symptom for symptom in symptoms if symptom.is_sure]
    roots = frozenset().union(*(sides.sources(symptom.columns[0]) for symptom in sure))
    unexplained = [sides.sources(name) for name in moved if not sides.sources(name) & roots]
    return [
        symptom
        for symptom in symptoms
        if symptom.is_sure
        or all(columns & sides.sources(symptom.columns[0]) for columns in unexplained)
    ]


def _is_late(
    sides: Sides, sign: Symptom, broken: Collection[str], moved: Mapping[str, ColumnDrift]
) -> bool:
    """Judge whether rows of a segment are late, and neither renamed nor those of a season past."""
    if sign.place.segment == ALL:
        return True
    column = sign.place.segment.partition("=")[0]
    own = sides.sources(column)
    return column not in broken and all(sides.sources(name) & own for name in moved)


def _roots(sides: Sides, symptoms: list[Symptom]) -> list[Symptom]:
    """Leave out what is made of a column with a sign of its own."""
    roots_only: list[Symptom] = []
    for symptom in symptoms:
        of = sides.sources(symptom.columns[0])
        if not any(of & sides.sources(other.columns[0]) for other in roots_only):
            roots_only.append(symptom)
    return roots_only


def _cause(symptom: Symptom, columns: tuple[str, ...] = ()) -> Cause:
    is_of_rows = symptom.kind in ("duplicated batch", "late feed")
    metrics = {"duplicated batch": "duplicated rows", "late feed": "time without rows"}
    return Cause(
        kind=symptom.kind,
        columns=columns or symptom.columns,
        segment=symptom.place.segment,
        since=symptom.place.since,
        evidence=symptom.evidence,
        metric=metrics.get(symptom.kind, ""),
        value=symptom.share,
        limit=symptom.limit if is_of_rows else 0.0,
    )


def _still_moved(
    sides: Sides, bad: list[Mask], moved: dict[str, ColumnDrift], spec: DriftSpec
) -> dict[str, ColumnDrift]:
    """Columns that have moved in the rows without a sign of broken data, too."""
    good = ~np.logical_or.reduce(bad)
    if good.sum() < MIN_REST_ROWS:
        return moved
    return {
        name: drift
        for name, drift in moved.items()
        if isinstance(drift, ConditionalDrift)
        or distance(sides, name, spec, after=good) > drift.alarm_limit
    }


# One alarm per cause.


def name_causes(
    project: Project,
    categorical: Sequence[str],
    windows: tuple[OpenWindow, OpenWindow | None, OpenWindow],
    reports: tuple[DriftReport, DriftReport | None],
    alarms: Sequence[Alarm],
) -> list[Alarm]:
    """Put one alarm per cause in the place of what moved in a window.

    What has moved from the reference is looked into; only where nothing has, what moved since the
    window before. Rows that are there twice, or not yet, alarm by themselves.

    Args:
        categorical: features that are categories.
        windows: reference, window before, and the window itself.
        reports: drift from the reference and from the window before.
        alarms: what moved, and whether quality is worse.

    Raises:
        FeatureError: the features hook fails.
    """
    (reference, previous, current), (drift, change) = windows, reports
    if drift.current_rows < project.monitoring.min_rows:
        return []
    comparison: Comparison = "reference"
    if alarms and all(alarm.comparison == "window before" for alarm in alarms):
        comparison = "window before"
    report, base = drift, reference
    if comparison == "window before" and change is not None and previous is not None:
        report, base = change, previous
    find = partial(
        find_causes,
        base,
        current,
        report,
        categorical,
        project.monitoring.drift,
        is_worse=any(alarm.cause == "quality" for alarm in alarms),
    )
    causes = [] if alarms else find(sources={})
    if alarms or causes:  # what features are made of takes a while to find out
        sample = reference.sample
        causes = find(sources={} if sample is None else feature_sources(sample, project))
    positive = [alarm for alarm in alarms if alarm.comparison in (comparison, "release")]
    alarms_by_cause = alarms_of(causes, report, positive, comparison)
    if not alarms_by_cause or any(cause.broken or cause.kind in OF_TRUTH for cause in causes):
        return alarms_by_cause or positive
    labels = min(int(np.isfinite(window.truth).sum()) for window in (base, current))
    if labels < MIN_LABELS:  # nobody can tell whether the features explain it
        alarms_by_cause += [alarm for alarm in positive if alarm.cause == "quality"]
    return alarms_by_cause


def alarms_of(
    causes: Sequence[Cause], report: DriftReport, alarms: Sequence[Alarm], comparison: Comparison
) -> list[Alarm]:
    """Put one alarm per cause in the place of one per group of columns.

    Args:
        causes: of the window, the surest first.
        report: with the distances of its columns.
        alarms: what moved.
    """
    drifts: dict[str, ColumnDrift] = {
        drift.column: drift for drift in (*report.features, *report.moved)
    }
    if report.labels is not None:
        drifts[report.labels.column] = report.labels
    return [_alarm(cause, report, drifts, alarms, comparison) for cause in causes]


def _alarm(
    cause: Cause,
    report: DriftReport,
    drifts: Mapping[str, ColumnDrift],
    alarms: Sequence[Alarm],
    comparison: Comparison,
) -> Alarm:
    common: dict[str, Any] = {
        "window": report.window,
        "cause": cause.kind,
        "columns": cause.columns,
        "slice": cause.segment,
        "since": cause.since,
        "evidence": cause.evidence,
    }
    if cause.metric:
        return Alarm(
            comparison=comparison,
            severity="high",
            column=cause.columns[0] if cause.columns else ROWS,
            metric=cause.metric,
            value=cause.value,
            limit=cause.limit,
            **common,
        )
    beyond = [drifts[name] for name in cause.columns if name in drifts and drifts[name].alarms]
    qualities = [alarm for alarm in alarms if alarm.cause == "quality"]
    if beyond and not (cause.kind == "concept shift" and qualities):
        first = beyond[0]
        is_high = cause.broken or any(drift.drifted for drift in beyond)
        return Alarm(
            comparison=comparison,
            severity="high" if is_high else "low",
            column=first.column,
            metric=first.test,
            value=first.statistic,
            limit=first.alarm_limit,
            **common,
        )
    if cause.broken:  # too few rows for a distance
        return Alarm(
            comparison=comparison,
            severity="high",
            column=cause.columns[0],
            metric="share of rows",
            value=cause.value,
            limit=MIN_ADDED,
            **common,
        )
    base = (qualities or [*alarms])[0]
    roots_only = {"comparison", "severity", "column", "metric", "value", "limit"}
    return Alarm(**base.model_dump(include=roots_only), **common)
