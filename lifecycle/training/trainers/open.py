"""Which trainer a project means."""

from lifecycle.project import Project
from lifecycle.training.trainers.protocol import Trainer
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
