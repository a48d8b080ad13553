"""Watches champion and challenger during a rollout, through the prediction log."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from lifecycle.data.contract.terms import TABLES
from lifecycle.data.privacy import plain_text
from lifecycle.errors import TargetError
from lifecycle.features.encode import labels
from lifecycle.labels.ledger import Ledger
from lifecycle.labels.truth import truth_by_id
from lifecycle.lake.logged_predictions import observe, read_log
from lifecycle.lake.prediction_log import INPUT
from lifecycle.lake.read import read_version
from lifecycle.lake.table import history, table_uri
from lifecycle.project import Project
from lifecycle.quality.canary_gate import Agreement, Labelled
from lifecycle.records import DatasetVersion, Estimate, ModelVersion, Observed
from lifecycle.release.artifacts import threshold_of
from lifecycle.release.rollout import Sight
from lifecycle.settings import Settings
from lifecycle.training.evaluation.evaluate import Measurement, estimate
from lifecycle.training.own_metrics import own_metrics

# Labels that arrived after an answer, joined to it, for the quality of a canary.
#
# The rule: what the ledger says of an answer's id is its truth. Where it says nothing, a row of the
# tables `accepted` or `current` is, if it has the same entity and the same inputs, is in a version
# that was written after the rollout began, and was not in the version before. So nobody has learned
# from it, and it is that very row and not another visit of the same person. Inputs that the log
# leaves out or hashes take no part; without an entity that the log keeps, no row is joined.

Key = tuple[str | None, ...]
"""Entity and inputs of a row, as text."""


class Labels:
    """The labels of one rollout; read again only when a table has a new version.

    Args:
        since: when the rollout began, Unix seconds.
        thresholds: binary: version → the probability from which it counts a row as positive,
            where that is not 0.5.
    """

    def __init__(
        self,
        project: Project,
        settings: Settings,
        since: float,
        thresholds: Mapping[int, float | None] | None = None,
    ) -> None:
        self._thresholds = thresholds or {}
        self._project, self._settings = project, settings
        self._since = since
        self._label_versions: tuple[DatasetVersion, ...] = ()
        self._truth: dict[Key, float] = {}

    def measure(self, sides: Sequence[tuple[int, str]], least: int) -> Labelled | None:
        """The gate's metric of champion and candidate; None with too few labels to measure it.

        Args:
            sides: version and role of the champion, then of the candidate.
            least: labelled answers that each needs.

        Raises:
            BackendError: log or tables cannot be read.
            FeatureError: an own metric fails.
        """
        self._refresh()
        ledger = Ledger(self._settings, self._project.name).rows()
        if not self._truth and not ledger.num_rows:
            return None
        answers = read_log(self._settings, self._project.name, self._since)
        estimates: list[tuple[Estimate, int]] = []
        for version, role in sides:
            own_answers = answers[(answers["version"] == version) & (answers["role"] == role)]
            truth, prediction = self._joined(own_answers[own_answers["status"] == "ok"], ledger)
            if len(truth) < least:
                return None
            try:
                estimated = self._estimate(truth, prediction, self._thresholds.get(version))
                estimates.append((estimated, len(truth)))
            except TargetError:  # labels of one class only, so far
                return None
        (champion, champion_rows), (candidate, candidate_rows) = estimates
        return Labelled(self._project.metric, champion, candidate, (champion_rows, candidate_rows))

    def _estimate(
        self,
        truth: NDArray[np.float64],
        prediction: NDArray[np.float64],
        threshold: float | None,
    ) -> Estimate:
        project = self._project
        own = own_metrics(project)
        return estimate(
            project.metric,
            truth,
            prediction,
            Measurement(project.task, project.split.seed, own=own, threshold=threshold),
        )

    def _joined(
        self, answers: pd.DataFrame, ledger: pa.Table
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Truth (n,) and prediction (n,), multiclass (n, k), of the answers with a label."""
        columns = [f"{INPUT}{name}" for name in self._inputs()]
        if missing := [name for name in columns if name not in answers]:
            answers = answers.assign(**dict.fromkeys(missing))
        keys = _keys(answers["entity"], answers[columns])
        truth = np.array([self._truth.get(key, np.nan) for key in keys], dtype=np.float64)
        ledger_truth = truth_by_id(ledger, self._project, pa.array(answers["id"], pa.string()))
        truth = np.where(ledger_truth.touched, ledger_truth.values, truth)
        rows = np.flatnonzero(~np.isnan(truth))
        kind = "probabilities" if self._project.classes else "prediction"
        values = answers[kind].to_numpy()[rows]
        return truth[rows], np.array([np.asarray(v, dtype=np.float64) for v in values])

    def _refresh(self) -> None:
        """Read the newest versions of the tables, if they are others than before."""
        if self._project.entity is None:
            return
        pairs = [pair for table in TABLES for pair in self._versions(table)]
        versions = tuple(newest for newest, _ in pairs)
        if versions == self._label_versions:
            return
        truth: dict[Key, float] = {}
        for newest, before in pairs:
            old = set() if before is None else set(self._rows(before))
            truth |= {key: y for key, y in self._rows(newest).items() if key not in old}
        self._label_versions, self._truth = versions, truth

    def _versions(self, table: str) -> Iterable[tuple[DatasetVersion, DatasetVersion | None]]:
        """The newest version of a table, if the rollout is older, and the last one before that."""
        uri = table_uri(self._settings, self._project.name, table)
        past = history(uri)
        late = past["time"] > pd.Timestamp(self._since, unit="s")
        if not late.any():
            return

        def reference(row: "pd.Series") -> DatasetVersion:
            return DatasetVersion(
                uri=uri, version=row["version"], digest=row["digest"], rows=row["rows"]
            )

        earlier = past[~late]
        before = reference(earlier.iloc[-1]) if len(earlier) else None
        yield reference(past.iloc[-1]), before

    def _rows(self, version: DatasetVersion) -> dict[Key, float]:
        """Entity and inputs → label, of the rows that have one."""
        project = self._project
        frame = read_version(version)
        assert project.entity  # noqa: S101 - `_refresh` has looked
        if frame.empty or not {project.target, project.entity, *self._inputs()} <= set(frame):
            return {}
        # ingestion has hashed a `pii: hash` entity, as the log has
        keys = _keys(frame[project.entity], frame[self._inputs()])
        truth = labels(frame, project)
        return {key: y for key, y in zip(keys, truth, strict=True) if not np.isnan(y)}

    def _inputs(self) -> list[str]:
        """Inputs that the log keeps as they are."""
        columns = self._project.contract.columns
        return [n for n in self._project.source_inputs if columns[n].pii in (None, "keep")]


def _keys(people: Iterable[object], inputs: pd.DataFrame) -> list[Key]:
    texts = [[plain_text(value) for value in inputs[name].astype(object)] for name in inputs]
    return list(zip(map(plain_text, people), *texts, strict=True))


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
        """Observe champion and candidate since a moment.

        If the champion has fewer than `min_requests` answers since then (at 100 % it has none), all
        its answers count from one bake time before the rollout.

        Raises:
            BackendError: log or tables cannot be read.
        """
        observed = observe(self._settings, self._project, since)
        candidate = observed.get((self._challenger, self._role), _no_requests(self._challenger))
        champion = observed.get((self._champion, "champion"), _no_requests(self._champion))
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
        champion_rows = log[(log["role"] == "champion") & (log["version"] == self._champion)]
        candidate_rows = log[(log["role"] == self._role) & (log["version"] == self._challenger)]
        pairs = champion_rows.join(candidate_rows.add_suffix("_ours"), how="inner")
        if pairs.empty:
            return Agreement(0, 0.0, None)
        if self._project.classes:
            return Agreement(
                len(pairs), 0.0, float((pairs.predicted != pairs.predicted_ours).mean())
            )
        a, b = (
            pairs[name].to_numpy(dtype=np.float64) for name in ("prediction", "prediction_ours")
        )
        changed = None
        if pairs.predicted.notna().all() and pairs.predicted_ours.notna().all():
            changed = float((pairs.predicted != pairs.predicted_ours).mean())
        elif self._project.task == "binary":
            changed = float(((a >= HALF) != (b >= HALF)).mean())
        return Agreement(len(pairs), float(np.abs(a - b).mean()), changed)


def _no_requests(version: int) -> Observed:
    return Observed(
        version=version,
        requests=0,
        errors=0,
        p50_seconds=0.0,
        p99_seconds=0.0,
        predictions=(),
        ids=(),
    )
