"""Tuning a project: the search over its space; the holdout is not even an argument."""

from pathlib import Path

from lifecycle.project import Project
from lifecycle.records import DatasetVersion, Tuned
from lifecycle.training.trainers.open import open_trainer
from lifecycle.training.tuning.objective import ValidationMetric
from lifecycle.training.tuning.search import OnTrial, search


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
