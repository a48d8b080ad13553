"""Tuning a project: the search over its space; the holdout is not even an argument."""

from collections.abc import Mapping
from pathlib import Path

from lifecycle.project import Project, Scalar
from lifecycle.records import DatasetVersion, Tuned
from lifecycle.training.evaluation.evaluate import metric_value
from lifecycle.training.evaluation.metrics import own_metrics
from lifecycle.training.matrix import Matrices, loss_weights, open_matrices
from lifecycle.training.trainers.protocol import OnRound
from lifecycle.training.trainers.registry import open_trainer
from lifecycle.training.tuning.search import OnTrial, search

# What a trial of a project is: fit on the train part, measure on the validation part.


class ValidationMetric:
    """`training_metric` on the validation part; the data are opened by the first trial."""

    def __init__(self, project: Project, train: DatasetVersion, validation: DatasetVersion) -> None:
        self._project, self._train, self._validation = project, train, validation
        self._data: Matrices | None = None

    def __call__(self, parameters: Mapping[str, Scalar], on_round: OnRound) -> float | None:
        """The value of a trial; None if `on_round` stopped it.

        Raises:
            LifecycleError: the data cannot be opened, or nothing can be fitted or measured.
        """
        project = self._project
        if self._data is None:
            self._data = open_matrices(project, self._train, self._validation)
        data = self._data
        fitted = open_trainer(project).fit(project, data, parameters, 1, on_round)
        if fitted.pruned:
            return None
        truth, predicted = data.validation_labels, fitted.model.predict(data.validation)
        return metric_value(
            project.training_metric,
            truth,
            predicted,
            project.task,
            own_metrics(project),
            loss_weights(project, data.validation_weights),
        )


def tune(
    project: Project,
    train: DatasetVersion,
    validation: DatasetVersion,
    study_dir: Path,
    on_trial: OnTrial,
) -> Tuned:
    """Search for the parameters that do best on the validation part, on Ray where it is connected.

    The first trial is `training.parameters` as they stand, and is never pruned, so tuning never
    ends worse than them. The validation part respects time and entities because the split does.

    Args:
        study_dir: folder of this identity's study; finished trials in it are not run again.

    Raises:
        ProjectError: the trainer cannot use a parameter or an end of a range.
        TrainingError: a trial or a worker failed.
        RayError: no CPU became free for a worker.
    """
    open_trainer(project).check(project)
    if not project.tuning.space:
        return Tuned(parameters=dict(project.training.parameters), value=None, trials=0)
    return search(project, ValidationMetric(project, train, validation), study_dir, on_trial)
