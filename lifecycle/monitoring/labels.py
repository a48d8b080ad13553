"""Labels of the ledger for scored windows, whose own rows may have none, or older ones."""

import logging
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa

from lifecycle.labels.truth import entity_is_stored, truth_by_id, truth_by_row
from lifecycle.monitoring.scored import OpenWindow
from lifecycle.project import Project
from lifecycle.records import Scored

logger = logging.getLogger(__name__)


def with_ledger(window: OpenWindow, scored: Scored, project: Project, rows: pa.Table) -> OpenWindow:
    """The window with what the ledger knows of its rows; where that is nothing, their own labels.

    Labels that contradict each other are none.

    Args:
        rows: of the ledger, as known at the moment that the window is looked at.
    """
    if window.ids is not None and rows.num_rows:
        by_id = truth_by_id(rows, project, pa.array(window.ids, pa.string()))
        if by_id.contradicted.any():
            logger.warning(
                "window %s: %d predictions have labels that contradict each other: they are not "
                "counted",
                scored.window,
                by_id.contradicted.sum(),
            )
        window = _by_row(window, scored, project, rows)
        return replace(window, truth=np.where(by_id.touched, by_id.values, window.truth))
    return _by_row(window, scored, project, rows)


def _by_row(window: OpenWindow, scored: Scored, project: Project, rows: pa.Table) -> OpenWindow:
    """The window with labels that name an entity, a time or, where the project has them, both."""
    has_entity = entity_is_stored(project) and window.entity is not None
    is_whole = has_entity or not entity_is_stored(project)
    has_time = window.time is not None or project.time is None
    if not rows.num_rows or not (has_entity or window.time is not None):
        return window
    if window.ids is not None and not (is_whole and has_time):
        return window  # a part of what tells rows apart tells nothing
    times = None if window.time is None else pd.Series(window.time)
    if times is not None and not pd.api.types.is_datetime64_any_dtype(times.dtype):
        return window
    truth = truth_by_row(rows, project, window.entity if has_entity else None, times)
    if truth.contradicted.any() or truth.ambiguous:
        logger.warning(
            "window %s: %d rows have labels that contradict each other, %d have labels of an "
            "entity and time that other rows share: they are not counted",
            scored.window,
            truth.contradicted.sum(),
            truth.ambiguous,
        )
    return replace(window, truth=np.where(truth.touched, truth.values, window.truth))
