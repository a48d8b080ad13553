"""One look at the prediction log: windows that are over are cut, and compared with the reference.

A window is monitored again while its labels come: the rows that `operations` wrote about it say how
many labels it had, and what their mean was.
"""

import time
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from lifecycle.labels.ledger import Ledger
from lifecycle.lake.read import read_version, stored_schema
from lifecycle.lake.rows import read_rows
from lifecycle.lake.table import table_uri
from lifecycle.monitoring.labels import with_ledger
from lifecycle.monitoring.live import (
    MAX_DUE,
    LiveWindow,
    cut,
    due_stretches,
    label_rows,
    live_windows,
    operations,
)
from lifecycle.monitoring.monitor import monitor_windows
from lifecycle.monitoring.results import METRICS, write_results
from lifecycle.monitoring.scored import PREDICTION_ID, OpenWindow
from lifecycle.project import Project
from lifecycle.records import Evaluation, ModelVersion, Monitored, Scored
from lifecycle.settings import Settings

LABEL_METRICS = ("labels", "label_mean")


class LabelState(NamedTuple):
    """Labels of a window at a moment: if it differs, the window is monitored again."""

    labels: float
    mean: float | None


def monitor_log(
    project: Project,
    settings: Settings,
    reference: Scored,
    released: Evaluation,
    now: float | None = None,
) -> list[Monitored]:
    """Monitor the windows of the prediction log that are over, and those whose labels changed.

    Killed anywhere and run again, it leaves the same rows: a window counts as done when its rows of
    `operations` are written, which is last.

    Args:
        reference: the holdout that the champion was released on, scored by it.
        released: the champion's evaluation at release.
        now: Unix seconds; by default the present.

    Returns:
        Findings in each window that was monitored, oldest first; none without `monitoring.live`.

    Raises:
        BackendError: the log, the ledger or a table cannot be read, or the results not written.
        FeatureError: the features hook fails.
    """
    model = reference.model
    for stretch in due_stretches(project, settings, model, time.time() if now is None else now):
        cut(project, settings, model, stretch)
    if project.monitoring.live is None:
        return []
    windows = live_windows(project, settings, model, MAX_DUE)
    ledger = Ledger(settings, project.name).rows(None)
    states = _label_states(project, settings, model)
    reports = []
    for at, window in enumerate(windows):
        rows = label_rows(_truth(window, project, ledger), project.target)
        state = LabelState(rows[0].value or 0.0, rows[1].value)
        if states.get(str(window.scored.window)) == state:
            continue
        since = max(0, at - project.monitoring.windows)
        scored = [each.scored for each in windows[since : at + 1]]
        reports.append(
            monitor_windows(project, settings, reference, scored, released, source="live")
        )
        rows = [*operations(project, settings, window.stretch), *rows]
        write_results(project, settings, model, window.scored.window, rows, (), "operations")
    return reports


def _truth(window: LiveWindow, project: Project, ledger: pa.Table) -> np.ndarray:
    """Labels of a window's rows (rows,), without its features being read."""
    dataset = window.scored.dataset
    time_column = project.time.column if project.time else ""
    names = [PREDICTION_ID, project.entity or "", time_column]
    stored = stored_schema(dataset).names
    frame = read_version(dataset, columns=[name for name in names if name in stored])
    entity = frame.get(project.entity) if project.entity else None
    keys = OpenWindow(
        features=pd.DataFrame(index=frame.index),
        prediction=np.empty(0),
        truth=np.full(len(frame), np.nan),
        entity=None if entity is None or entity.isna().any() else entity.to_numpy(dtype=object),
        task=project.task,
        target=project.target,
        time=frame[time_column].to_numpy() if time_column in frame.columns else None,
        ids=frame[PREDICTION_ID].to_numpy(dtype=object),
    )
    return with_ledger(keys, window.scored, project, ledger).truth


def _label_states(
    project: Project, settings: Settings, model: ModelVersion
) -> dict[str, LabelState]:
    """Window → its labels when it was monitored last."""
    names = ["window", "model", "version", "source", "metric", "value"]
    table = read_rows(table_uri(settings, project.name, METRICS), names)
    own = [
        row
        for row in (() if table is None else table.to_pylist())
        if (row["source"], row["model"], row["version"])
        == ("operations", model.name, model.version)
    ]
    counts, means = (
        {row["window"]: row["value"] for row in own if row["metric"] == metric}
        for metric in LABEL_METRICS
    )
    return {window: LabelState(count, means.get(window)) for window, count in counts.items()}
