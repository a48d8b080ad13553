"""Claims of the model card on fairness and on the metric's floor, held against a labelled window.

A claim is disproved where the window contradicts it beyond chance. That is one alarm per protected
attribute, and one for the floor. Where the data are broken nothing is said: the model was not
wrong.
"""

from collections.abc import Iterator, Sequence
from math import hypot
from statistics import NormalDist

import numpy as np

from lifecycle.monitoring.scored import OpenWindow
from lifecycle.project import Project, greater_is_better
from lifecycle.quality.card import fairness_limit
from lifecycle.quality.gates import is_worse
from lifecycle.records import Alarm, Evaluation, Gap, Window
from lifecycle.training.evaluation.fairness import fairness_gaps
from lifecycle.training.evaluation.slices import RowGroup
from lifecycle.training.own_metrics import own_metrics

SHARE = 0.1
"""Of the false alarms that the measured quality may raise, how many all claims together add."""
ALL = "all"


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
    count = len(claimed) + (project.gate.floor is not None)
    if not count:
        return []
    normal = NormalDist()
    widened = normal.inv_cdf(1 - SHARE * alpha / count) / normal.inv_cdf(0.975)
    alarms = list(_floor(project, window, measured, widened))
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
    return Alarm(
        window=window,
        comparison="release",
        cause="quality",
        severity="high",
        column=gap.attribute,
        columns=(gap.attribute,),
        slice=ALL,
        metric=gap.measure,
        value=gap.value,
        limit=limit,
        evidence=f"the model card claims a {gap.measure} of {words}, and here it is "
        f"{gap.value:.4g}, lowest for {gap.lowest}, highest for {gap.highest}",
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
        yield Alarm(
            window=window,
            comparison="release",
            cause="quality",
            severity="high",
            column=metric,
            columns=(metric,),
            slice=ALL,
            metric=metric,
            value=now.value,
            limit=limit,
            evidence=f"the model card claims a {metric} no worse than {floor:.4g}, and here it is "
            f"{now.value:.4g}",
        )
