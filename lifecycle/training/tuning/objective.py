"""What a trial of a project is: fit on the train part, measure on the validation part."""

from collections.abc import Mapping

from lifecycle.project import Project, Scalar
from lifecycle.records import DatasetVersion
from lifecycle.training.evaluation.evaluate import metric_value
from lifecycle.training.evaluation.own_metrics import own_metrics
from lifecycle.training.matrix import Matrices, open_matrices
from lifecycle.training.trainers.open import open_trainer
from lifecycle.training.trainers.protocol import OnRound
from lifecycle.training.weights import loss_weights


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
