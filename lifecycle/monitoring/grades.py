"""Estimates of quality held against the labels that came: coverage, bias, and withdrawal.

The rule of withdrawal: an estimate says nothing any more while the newest two labelled windows both
lie outside their 95 % intervals, which happens by chance once in 400 times, or the newest one lies
further than `FAR` half-widths from the middle of its interval. A model that is released begins
anew.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

import numpy as np
import pandas as pd
import pyarrow as pa

from lifecycle.errors import TargetError
from lifecycle.labels.ledger import moment
from lifecycle.lake.manifest import read_commit
from lifecycle.lake.table import history, rows_left, table_uri
from lifecycle.monitoring.estimate import FeatureCodes, Reference, estimate_quality, reference_of
from lifecycle.monitoring.labels import with_ledger
from lifecycle.monitoring.results import PREDICTIONS
from lifecycle.monitoring.scored import OpenWindow, categorical_features, open_window
from lifecycle.project import Project
from lifecycle.records import (
    DatasetVersion,
    Estimate,
    EstimatedQuality,
    Evaluation,
    Grade,
    Scored,
    Window,
)
from lifecycle.settings import Settings
from lifecycle.training.evaluation.evaluate import metric_value
from lifecycle.training.evaluation.metrics import FAMILIES

MISSES = 2
"""Labelled windows outside their intervals, one after another, that withdraw an estimate."""
FAR = 2.0
"""Half-widths of the interval from which one window is enough."""
GRADED = 12
"""Labelled windows that a grade looks at, the newest."""


class Estimator:
    """Estimates the gate's metric of one model's windows.

    Args:
        reference: the model's holdout, scored by it.
        released: the model's evaluation at release.
    """

    def __init__(
        self,
        project: Project,
        reference: OpenWindow,
        released: Evaluation,
        categorical: Sequence[str],
    ) -> None:
        self._project, self.threshold = project, released.threshold
        self._levels = FeatureCodes(reference.features, categorical)
        self._reference: Reference = reference_of(reference, self._levels)

    @property
    def possible(self) -> bool:
        """Tell whether the metric is built in and the reference has labels enough."""
        names = {name for family in FAMILIES[self._project.task] for name in family.names}
        return (
            self._project.metric in names
            and len(self._reference.truth) >= self._project.monitoring.min_rows
        )

    def estimate(self, window: OpenWindow, labelled_only: bool = False) -> Estimate:
        """Estimate the metric from no label.

        Args:
            labelled_only: for the rows whose labels have come, to be held against them.
        """
        rows = ~np.isnan(window.truth) if labelled_only else slice(None)
        return estimate_quality(
            self._reference,
            self._levels.matrix(window.features)[rows],
            window.prediction[rows],
            self._project.metric,
            self._project.task,
            threshold=self.threshold,
            seed=self._project.split.seed,
        )


def grade(pairs: Sequence[tuple[Estimate, float]]) -> Grade:
    """Hold estimates against what was measured.

    Args:
        pairs: of each labelled window, the oldest first: the estimate for its labelled rows, and
            the metric measured on them.
    """
    misses = [not estimate.low <= measured <= estimate.high for estimate, measured in pairs]
    reason = ""
    if len(pairs) >= MISSES and all(misses[-MISSES:]):
        reason = f"the newest {MISSES} labelled windows lie outside their intervals"
    elif pairs:
        estimate, measured = pairs[-1]
        middle = (estimate.low + estimate.high) / 2  # the value lies to one side of it
        half = max((estimate.high - estimate.low) / 2, 1e-12)
        if abs(measured - middle) > FAR * half:
            reason = f"the newest labelled window lies {FAR:g} half-widths outside and further"
    return Grade(
        windows=len(pairs),
        covered=len(pairs) - sum(misses),
        bias=float(np.mean([e.value - measured for e, measured in pairs])) if pairs else 0.0,
        withdrawn=reason,
    )


def estimated_qualities(
    estimator: Estimator,
    project: Project,
    former: Iterable[tuple[Scored, OpenWindow]],
    windows: Sequence[tuple[Scored, OpenWindow]],
) -> tuple[EstimatedQuality | None, ...]:
    """Estimates of windows, each with its grade by the labelled windows up to it.

    Args:
        former: windows that the model scored before, the oldest first.
        windows: those that are looked at; None comes of each that has too few rows.

    Raises:
        BackendError: a table cannot be read.
    """
    pairs = [pair for _, window in former if (pair := _pair(estimator, project, window))]
    estimates: list[EstimatedQuality | None] = []
    for _, window in windows:
        if pair := _pair(estimator, project, window):
            pairs.append(pair)
        if len(window.features) < project.monitoring.min_rows:
            estimates.append(None)
            continue
        estimates.append(
            EstimatedQuality(
                metric=project.metric,
                estimate=estimator.estimate(window),
                grade=grade(pairs[-GRADED:]),
            )
        )
    return tuple(estimates)


def estimate_windows(
    project: Project,
    settings: Settings,
    reference: tuple[Scored, OpenWindow],
    windows: Sequence[tuple[Scored, OpenWindow]],
    released: Evaluation,
    ledger: pa.Table,
    as_of: datetime | None = None,
    table: str = PREDICTIONS,
) -> tuple[EstimatedQuality | None, ...]:
    """Estimate the gate's metric of windows; former windows of the model grade the estimates.

    Args:
        reference: the model's holdout, scored by it.
        released: the model's evaluation at release.
        ledger: labels as known at the moment that is looked at.
        as_of: that moment; None for now.
        table: which has the predictions of former windows.

    Raises:
        BackendError: a table cannot be read.
        FeatureError: the features hook fails.
    """
    scored, frame = reference
    categorical = categorical_features(frame.features, project)
    estimator = Estimator(project, frame, released, categorical)
    if not estimator.possible:
        return tuple(None for _ in windows)
    current = {str(window.window) for window, _ in windows}
    earlier = scored_windows(project, settings, scored, as_of, table)
    former = (  # one at a time in memory
        (each, with_ledger(open_window(each, project, settings), each, project, ledger))
        for each in earlier
        if str(each.window) not in current
    )
    return estimated_qualities(estimator, project, former, windows)


def _pair(
    estimator: Estimator, project: Project, window: OpenWindow
) -> tuple[Estimate, float] | None:
    """Estimate and measured value of a window's labelled rows; None of too few."""
    labelled = ~np.isnan(window.truth)
    if labelled.sum() < project.monitoring.min_rows:
        return None
    try:
        measured = metric_value(
            project.metric,
            window.truth[labelled],
            window.prediction[labelled],
            project.task,
            threshold=estimator.threshold,
        )
    except TargetError:  # labels of one class only
        return None
    return estimator.estimate(window, labelled_only=True), measured


def scored_windows(
    project: Project,
    settings: Settings,
    reference: Scored,
    as_of: datetime | None = None,
    table: str = PREDICTIONS,
) -> list[Scored]:
    """Windows that a model has scored, the oldest first; of one scored twice, the newest.

    Args:
        reference: the model's holdout, which is none of them.
        as_of: only those that were scored by then.
        table: which has the predictions.

    Raises:
        BackendError: the lake cannot be read.
    """
    versions = history(uri := table_uri(settings, project.name, table))
    if as_of is not None:
        versions = versions[versions["time"] <= pd.Timestamp(moment(as_of)).tz_convert(None)]
    windows: dict[str, Scored] = {}
    for version in versions.iloc[::-1].to_dict("records"):
        note = version["note"]
        if note.get("model") != reference.model.uri or note.get("window", "") in windows:
            continue
        dataset = dataset_of(project, settings, note.get("table", ""))
        if dataset is None or dataset.digest == reference.dataset.digest:
            continue
        text = note["window"]
        predictions = DatasetVersion(
            uri=uri, version=version["version"], digest=version["digest"], rows=version["rows"]
        )
        windows[text] = Scored(
            dataset=dataset,
            predictions=predictions,
            model=reference.model,
            window=Window.model_construct(first=text, last=text),
            engine="process",
        )
        if len(windows) >= GRADED + project.monitoring.windows:
            break
    return list(windows.values())[::-1]


def dataset_of(project: Project, settings: Settings, text: str) -> DatasetVersion | None:
    """The dataset version that a note names, such as `current@7`; None if it is gone.

    Raises:
        BackendError: the lake cannot be read.
    """
    table, _, number = text.rpartition("@")
    uri = table_uri(settings, project.name, table)
    commit = read_commit(uri, int(number)) if number else None
    if not commit or "digest" not in commit:
        return None
    rows = rows_left(uri, int(number))
    return DatasetVersion(uri=uri, version=int(number), digest=commit["digest"], rows=rows)
