"""Choice of a project's trainer."""

from lifecycle.project import Project
from lifecycle.training.trainers.protocol import Refitter, Trainer
from lifecycle.training.trainers.xgb import XGBoostTrainer


def open_trainer(project: Project) -> Trainer:
    """The trainer that `training.trainer` names; imports only the library it needs.

    Raises:
        FeatureError: there is no such module or class of the user.
        TrainingError: the user's class is no trainer.
    """
    name = project.training.trainer
    if name == "xgboost":
        return XGBoostTrainer()
    if name.startswith("sklearn:"):
        from lifecycle.training.trainers.scikit import SklearnTrainer

        return SklearnTrainer()
    from lifecycle.training.trainers.own import OwnTrainer

    return OwnTrainer(project)


def open_refitter(project: Project) -> Refitter:
    """The same for a project that refits, which none with a trainer of its own does."""
    if project.training.trainer == "xgboost":
        return XGBoostTrainer()
    from lifecycle.training.trainers.scikit import SklearnTrainer

    return SklearnTrainer()
