"""How good the predictions of a window were, once labels have arrived."""

import logging

import numpy as np

from lifecycle.errors import TargetError
from lifecycle.monitoring.windows import Seen
from lifecycle.project import Project
from lifecycle.records import Evaluation, Scored
from lifecycle.training.evaluation.evaluate import evaluate
from lifecycle.training.evaluation.metrics import own_metrics

log = logging.getLogger(__name__)


def quality(
    seen: Seen, scored: Scored, project: Project, threshold: float | None = None
) -> Evaluation | None:
    """Every metric that the labelled rows define; None where there are none.

    Labels of one class define a log loss and no area under a curve, which is left out then. Whole
    entities are resampled for the intervals, as they are at release.

    Args:
        threshold: binary: the model's, `Evaluation.threshold` at its release.
    """
    labelled = ~np.isnan(seen.truth)
    if not labelled.any():
        return None
    model = scored.model
    try:
        return evaluate(
            seen.truth[labelled],
            seen.prediction[labelled],
            project.task,
            scored.dataset.digest,
            f"{model.name} v{model.version} in window {scored.window}",
            project.split.seed,
            None if seen.entity is None else seen.entity[labelled],
            own_metrics(project),
            threshold,
            partial=True,
        )
    except TargetError as error:
        log.warning("Window %s: quality is not measured: %s", scored.window, error)
        return None
