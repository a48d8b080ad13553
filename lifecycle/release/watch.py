"""What champion and challenger do during a rollout, read from the prediction log."""

import numpy as np

from lifecycle.lake.logged_predictions import observe, read_log
from lifecycle.project import Project
from lifecycle.quality.canary_gate import Agreement
from lifecycle.records import ModelVersion, Observed
from lifecycle.release.labels import Labels
from lifecycle.release.registered import threshold_of
from lifecycle.release.rollout import Sight
from lifecycle.settings import Settings

HALF = 0.5
"""Probability from which a binary decision is the other one, where a version declares none."""


class LogWatch:
    """Looks at the log; `Handover.watch` of a real release.

    Args:
        began: when the rollout began, Unix seconds.
    """

    def __init__(
        self,
        project: Project,
        settings: Settings,
        challenger: ModelVersion,
        champion: ModelVersion,
        began: float,
    ) -> None:
        self._project, self._settings = project, settings
        self._champion, self._challenger = champion.version, challenger.version
        spec = project.serving.rollout
        self._role = "shadow" if spec.policy == "shadow" else "candidate"
        self._least = spec.min_requests
        self._before = began - spec.bake_seconds
        thresholds = {}
        if project.task == "binary" and project.metric == "accuracy":  # others need no classes
            thresholds = {m.version: threshold_of(m, settings) for m in (champion, challenger)}
        self._labels = Labels(project, settings, began, thresholds)

    def __call__(self, since: float) -> Sight:
        """What both did since a moment.

        Where the champion has fewer than `min_requests` answers since (at 100 % it has none), all
        of its answers count from one bake time before the rollout on.

        Raises:
            BackendError: log or tables cannot be read.
        """
        seen = observe(self._settings, self._project, since)
        candidate = seen.get((self._challenger, self._role), _nothing(self._challenger))
        champion = seen.get((self._champion, "champion"), _nothing(self._champion))
        if champion.requests < self._least:
            earlier = observe(self._settings, self._project, self._before)
            champion = earlier.get((self._champion, "champion"), champion)
        sides = [(self._champion, "champion"), (self._challenger, self._role)]
        return Sight(
            champion,
            candidate,
            self._labels.measure(sides, self._least),
            self._agreement(since) if self._role == "shadow" else None,
        )

    def _agreement(self, since: float) -> Agreement:
        """Both answers to one request bear one prediction id."""
        columns = ["id", "version", "role", "status", "prediction", "predicted"]
        log = read_log(self._settings, self._project.name, since, columns=columns)
        log = log[log["status"] == "ok"].set_index("id")
        theirs = log[(log["role"] == "champion") & (log["version"] == self._champion)]
        ours = log[(log["role"] == self._role) & (log["version"] == self._challenger)]
        both = theirs.join(ours.add_suffix("_ours"), how="inner")
        if both.empty:
            return Agreement(0, 0.0, None)
        if self._project.classes:
            return Agreement(len(both), 0.0, float((both.predicted != both.predicted_ours).mean()))
        a, b = (both[name].to_numpy(dtype=np.float64) for name in ("prediction", "prediction_ours"))
        changed = None
        if both.predicted.notna().all() and both.predicted_ours.notna().all():
            changed = float((both.predicted != both.predicted_ours).mean())
        elif self._project.task == "binary":
            changed = float(((a >= HALF) != (b >= HALF)).mean())
        return Agreement(len(both), float(np.abs(a - b).mean()), changed)


def _nothing(version: int) -> Observed:
    return Observed(
        version=version,
        requests=0,
        errors=0,
        p50_seconds=0.0,
        p99_seconds=0.0,
        predictions=(),
        ids=(),
    )
