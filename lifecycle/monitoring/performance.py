"""How good the predictions of a window were, once labels have arrived."""

import logging

import numpy as np

from lifecycle.errors import FeatureError, TargetError
from lifecycle.monitoring.windows import Seen
from lifecycle.project import Project
from lifecycle.records import Evaluation, Scored
from lifecycle.training.evaluation.evaluate import evaluate
from lifecycle.training.evaluation.own_metrics import own_metrics

log = logging.getLogger(__name__)


def quality(
    seen: Seen, scored: Scored, project: Project, threshold: float | None = None
) -> Evaluation | None:
    """Every metric on the labelled rows; None where there are none, or too few to measure.

    Whole entities are resampled for the intervals, as they are at release.

    Args:
        threshold: binary: the model's, `Evaluation.threshold` at its release.
    """
    labelled = ~np.isnan(seen.truth)
    if not labelled.any():
        return None
    model, own = scored.model, own_metrics(project)
    try:
        return evaluate(
            seen.truth[labelled],
            seen.prediction[labelled],
            project.task,
            scored.dataset.digest,
            f"{model.name} v{model.version} in window {scored.window}",
            project.split.seed,
            None if seen.entity is None else seen.entity[labelled],
            own,
            threshold,
        )
    except (TargetError, FeatureError) as error:  # few labels so far, all of one class
        log.warning("Window %s: quality is not measured: %s", scored.window, error)
        return None
