"""Claims of the model card on fairness, slices and the metric's floor, held against a labelled
window.

A claim is disproved where the window contradicts it beyond chance. That is one alarm per protected
attribute, one for the floor, and one for the slices: the one that fell furthest. Slices alarm only
where the quality of all rows does not, of which they are a part. Where the data are broken nothing
is said: the model was not wrong.
"""

import re
from collections.abc import Iterator, Sequence
from math import hypot
from statistics import NormalDist

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lifecycle.errors import FeatureError, TargetError
from lifecycle.monitoring.scored import OpenWindow
from lifecycle.project import Project, greater_is_better
from lifecycle.quality.card import fairness_limit
from lifecycle.quality.gates import is_worse, quality_limit
from lifecycle.records import Alarm, Estimate, Evaluation, Gap, Slice, Window
from lifecycle.training.evaluation.evaluate import metric_value
from lifecycle.training.evaluation.fairness import fairness_gaps
from lifecycle.training.evaluation.slices import MISSING, SEGMENT, RowGroup, measure_slices
from lifecycle.training.own_metrics import own_metrics

SHARE = 0.1
"""Of the false alarms that the measured quality may raise, how many all claims together add."""
ALL = "all"
RANGE = re.compile(r"(?:up|over (\S+)) to (\S+)")
"""A quarter of a column of numbers, as `training.evaluation.slices` names it."""
UNKNOWN = ("nan", "None", "<NA>", "NaT")
"""Texts of a missing value."""


def claim_alarms(
    project: Project,
    current: OpenWindow,
    window: Window,
    measured: Evaluation | None,
    released: Evaluation,
    alpha: float,
) -> list[Alarm]:
    """The claims that a window disproves; none without enough labels.

    Args:
        measured: quality of the window, if there are labels.
        released: the model's evaluation at release, which its card claims.
        alpha: in how many windows without a change the measured quality may alarm.

    Raises:
        FeatureError: a metric of the project's own cannot be loaded.
    """
    if measured is None or measured.rows < project.monitoring.min_rows:
        return []
    claimed = {(gap.attribute, gap.measure): gap for gap in released.gaps}
    slices = [(part, part.estimate) for part in released.slices if part.estimate]
    count = len(claimed) + len(slices) + (project.gate.floor is not None)
    if not count:
        return []
    normal, chance = NormalDist(), SHARE * alpha / count
    widened = normal.inv_cdf(1 - chance) / normal.inv_cdf(0.975)
    alarms = list(_floor(project, window, measured, widened))
    limit = quality_limit(measured, released, project.monitoring, project.metric, alpha)
    if limit is None or not is_worse(measured.metrics[project.metric].value, limit, project.metric):
        alarms += _slices(project, current, window, (measured, released), slices, chance)
    broken: dict[str, tuple[Gap, float, str]] = {}
    for gap in _gaps(project, current, released) if claimed else ():
        then = claimed.get((gap.attribute, gap.measure))
        if then is None or gap.low is None or then.high is None:
            continue
        limit, words = _limit(project, gap, then, widened)
        if gap.value > limit and (
            gap.attribute not in broken or gap.value / limit > _excess(broken[gap.attribute])
        ):
            broken[gap.attribute] = (gap, limit, words)
    return alarms + [_gap_alarm(window, *excess) for excess in broken.values()]


def _gaps(project: Project, current: OpenWindow, released: Evaluation) -> Sequence[Gap]:
    """The gaps of a window, between the groups that the claims are about."""
    labelled = ~np.isnan(current.truth)
    levels = {
        attribute: {
            end for gap in released.gaps if gap.attribute == attribute for end in _ends(gap)
        }
        for attribute in project.protected
    }
    parts = [
        RowGroup(attribute, str(level), current.attributes[attribute][labelled] == level)
        for attribute in project.protected
        if attribute in current.attributes
        for level in np.unique(current.attributes[attribute][labelled].astype(str))
    ]
    comparable = {
        attribute for attribute in levels if levels[attribute] <= _values(parts, attribute)
    }
    return fairness_gaps(
        [part for part in parts if part.by in comparable],
        current.truth[labelled],
        current.prediction[labelled],
        None if current.entity is None else current.entity[labelled],
        project,
        own_metrics(project),
        released.threshold,
    )


def _ends(gap: Gap) -> tuple[str, str]:
    return gap.lowest, gap.highest


def _values(parts: Sequence[RowGroup], attribute: str) -> set[str]:
    return {part.value for part in parts if part.by == attribute}


def _limit(project: Project, gap: Gap, then: Gap, widened: float) -> tuple[float, str]:
    """Gap of the window from which a claim is disproved, and the claim in words.

    A declared limit is exact. Without one the claim is an estimate itself, and the limit that of a
    difference of two independent estimates (Zou and Donner, Statistics in Medicine 27, 2008).
    """
    reach = widened * (gap.value - (gap.low or 0.0))
    declared = fairness_limit(project.gate.max_fairness_gap, project.metric, gap)
    if declared is not None:
        return declared + reach, f"at most {declared:.4g}"
    assert then.high is not None  # noqa: S101 - seen by the caller
    spread = hypot(reach, widened * (then.high - then.value))
    return then.value + spread, f"{then.value:.4g} ({then.low:.4g} to {then.high:.4g})"


def _excess(excess: tuple[Gap, float, str]) -> float:
    gap, limit, _ = excess
    return gap.value / limit


def _gap_alarm(window: Window, gap: Gap, limit: float, words: str) -> Alarm:
    evidence = (
        f"the model card claims a {gap.measure} of {words}, and here it is "
        f"{gap.value:.4g}, lowest for {gap.lowest}, highest for {gap.highest}"
    )
    return _alarm(window, gap.attribute, gap.measure, gap.value, limit, evidence)


def _alarm(
    window: Window,
    column: str,
    metric: str,
    value: float,
    limit: float,
    evidence: str,
    place: str = ALL,
) -> Alarm:
    """An alarm on a claim that does not hold, in all rows or in a slice."""
    return Alarm(
        window=window,
        comparison="release",
        cause="quality",
        severity="high",
        column=column,
        columns=(column,),
        slice=place,
        metric=metric,
        value=value,
        limit=limit,
        evidence=evidence,
    )


def _floor(
    project: Project, window: Window, measured: Evaluation, widened: float
) -> Iterator[Alarm]:
    """An alarm if the deciding metric is below its floor, beyond chance."""
    floor, metric = project.gate.floor, project.metric
    if floor is None or metric not in measured.metrics:
        return
    now = measured.metrics[metric]
    upward = greater_is_better(metric)
    reach = widened * ((now.high - now.value) if upward else (now.value - now.low))
    limit = floor - reach if upward else floor + reach
    if is_worse(now.value, limit, metric):
        evidence = (
            f"the model card claims a {metric} no worse than {floor:.4g}, and here it is "
            f"{now.value:.4g}"
        )
        yield _alarm(window, metric, metric, now.value, limit, evidence)


# Slices.


def _slices(
    project: Project,
    current: OpenWindow,
    window: Window,
    of_all: tuple[Evaluation, Evaluation],
    claims: Sequence[tuple[Slice, Estimate]],
    chance: float,
) -> list[Alarm]:
    """An alarm on the slice that is furthest below its claim; none if all claims hold.

    Args:
        of_all: quality of all rows, in the window and at release.
        chance: in how many windows without a change one slice may alarm.
    """
    metric, own = project.metric, own_metrics(project)

    def limit_of(now: Estimate, then: Estimate) -> float:
        """Value from which a slice is worse than claimed, as it is for all rows."""
        here, released = (
            quality.model_copy(update={"metrics": {metric: estimate}})
            for quality, estimate in zip(of_all, (now, then), strict=True)
        )
        limit = quality_limit(here, released, project.monitoring, metric, chance)
        return then.value if limit is None else limit

    labelled = ~np.isnan(current.truth)
    truth, prediction = current.truth[labelled], current.prediction[labelled]
    entity = None if current.entity is None else current.entity[labelled]
    furthest: tuple[float, Alarm] | None = None
    for claim, then in claims:
        mask = slice_mask(claim, current, project)
        rows = None if mask is None else mask[labelled]
        if rows is None or rows.sum() < project.evaluation.min_rows:
            continue
        try:
            value = metric_value(metric, truth[rows], prediction[rows], project.task, own)
        except (TargetError, FeatureError):  # one class only, or a metric that fails on them
            continue
        # the limit is at least as far as by the claim's own interval: most slices end here
        certain = Estimate(value=value, low=value, high=value)
        least = limit_of(certain, then)
        if not is_worse(value, least, metric):
            continue
        part = RowGroup(claim.by, claim.value, rows)
        [measured] = measure_slices([part], truth, prediction, entity, project, own)
        now = measured.estimate
        if now is None:
            continue
        limit = limit_of(now, then)
        excess = abs(now.value - then.value) / max(abs(limit - then.value), 1e-12)
        if is_worse(now.value, limit, metric) and (furthest is None or excess > furthest[0]):
            furthest = excess, _slice_alarm(window, metric, claim, then, now, limit)
    return [furthest[1]] if furthest else []


def slice_mask(claim: Slice, current: OpenWindow, project: Project) -> NDArray[np.bool_] | None:
    """The rows of a window that a slice of a card is about (n,); None if they cannot be told.

    That is so for a segment or column whose values the window does not have, and for what a
    holdout took together as its rarer values.
    """
    if claim.by == SEGMENT:
        return current.segments.get(claim.value)
    if claim.by not in current.attributes:
        return None
    levels = current.attributes[claim.by]
    mask: NDArray[np.bool_]
    if claim.value == MISSING:
        mask = np.logical_or.reduce([levels == text for text in UNKNOWN])
        return mask
    mask = levels == claim.value
    ends = RANGE.fullmatch(claim.value)
    if mask.any() or ends is None or project.columns[claim.by].type not in ("integer", "number"):
        return mask
    numbers = pd.to_numeric(levels, errors="coerce")
    low = -np.inf if ends[1] is None else float(ends[1])
    mask = (numbers > low) & (numbers <= float(ends[2]))
    return mask


def _slice_alarm(
    window: Window, metric: str, claim: Slice, then: Estimate, now: Estimate, limit: float
) -> Alarm:
    place = f"{claim.by} = {claim.value}"
    evidence = (
        f"the model card claims a {metric} of {then.value:.4g} ({then.low:.4g} to "
        f"{then.high:.4g}) where {place}, and here it is {now.value:.4g}"
    )
    return _alarm(window, metric, metric, now.value, limit, evidence, place)
