"""Labels that came after an answer was given, joined to it: what the canary's quality is made of.

The rule: a row of the tables `accepted` or `current` is the truth of an answer if it has the same
entity and the same inputs, is in a version that was written after the rollout began, and was not in
the version before. So nobody has learned from it, and it is that very row and not another visit of
the same person. Inputs that the log leaves out or hashes take no part; without an entity that the
log keeps, nothing is joined.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lifecycle.data.privacy import plain_text
from lifecycle.errors import TargetError
from lifecycle.features.encode import labels
from lifecycle.lake import history, read_version, table_uri
from lifecycle.lake.logged_predictions import read_log
from lifecycle.lake.prediction_log import INPUT
from lifecycle.project import Project
from lifecycle.quality.canary_gate import Labelled
from lifecycle.records import DatasetVersion, Estimate
from lifecycle.settings import Settings
from lifecycle.training.evaluation.evaluate import estimate
from lifecycle.training.evaluation.metrics import own_metrics

TABLES = ("accepted", "current")
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
        self._known: tuple[DatasetVersion, ...] = ()
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
        if not self._truth:
            return None
        answers = read_log(self._settings, self._project.name, self._since)
        found: list[tuple[Estimate, int]] = []
        for version, role in sides:
            mine = answers[(answers["version"] == version) & (answers["role"] == role)]
            truth, prediction = self._joined(mine[mine["status"] == "ok"])
            if len(truth) < least:
                return None
            try:
                estimated = self._estimate(truth, prediction, self._thresholds.get(version))
                found.append((estimated, len(truth)))
            except TargetError:  # labels of one class only, so far
                return None
        (champion, theirs), (candidate, ours) = found
        return Labelled(self._project.metric, champion, candidate, (theirs, ours))

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
            project.task,
            project.split.seed,
            None,
            own,
            threshold,
        )

    def _joined(self, answers: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Truth (n,) and prediction (n,), multiclass (n, k), of the answers with a label."""
        columns = [f"{INPUT}{name}" for name in self._inputs()]
        if missing := [name for name in columns if name not in answers]:
            answers = answers.assign(**dict.fromkeys(missing))
        keys = _keys(answers["entity"], answers[columns])
        truth = np.array([self._truth.get(key, np.nan) for key in keys], dtype=np.float64)
        known = np.flatnonzero(~np.isnan(truth))
        kind = "probabilities" if self._project.classes else "prediction"
        values = answers[kind].to_numpy()[known]
        return truth[known], np.array([np.asarray(v, dtype=np.float64) for v in values])

    def _refresh(self) -> None:
        """Read the newest versions of the tables, if they are others than before."""
        if self._project.entity is None:
            return
        pairs = [pair for table in TABLES for pair in self._versions(table)]
        known = tuple(newest for newest, _ in pairs)
        if known == self._known:
            return
        truth: dict[Key, float] = {}
        for newest, before in pairs:
            old = set() if before is None else set(self._rows(before))
            truth |= {key: y for key, y in self._rows(newest).items() if key not in old}
        self._known, self._truth = known, truth

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
