"""`sklearn:<dotted estimator>`: which class that is, and whether it can be used with this project.

Only what scikit-learn says about itself is read here; `scikit.py` fits.
"""

import importlib
from collections.abc import Mapping
from typing import Any

from skl2onnx._supported_operators import sklearn_operator_name_map
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils._param_validation import InvalidParameterError
from sklearn.utils.validation import has_fit_parameter

from lifecycle.errors import ProjectError
from lifecycle.project import Project, Scalar
from lifecycle.project.base import meant
from lifecycle.project.loader import error_at
from lifecycle.training.parameters import declared

RESERVED = {
    "random_state": "training.seed is the seed",
    "n_jobs": "training.threads is their number",
    "class_weight": "training.class_weight has the weights",
    "verbose": "training is silent",
}


def estimator_class(project: Project) -> type[Any]:
    """The class that `training.trainer` names.

    Raises:
        ProjectError: scikit-learn has no such estimator, it is of another kind than the task
            needs, or no ONNX graph can be made of it.
    """
    dotted = project.training.trainer.removeprefix("sklearn:")
    module, _, name = dotted.rpartition(".")
    try:
        found = getattr(importlib.import_module(f"sklearn.{module}" if module else "sklearn"), name)
    except (ImportError, AttributeError):
        found = None
    if not (isinstance(found, type) and issubclass(found, BaseEstimator)):
        raise ProjectError(
            f"training.trainer: scikit-learn has no estimator {dotted!r}; write it as in "
            "sklearn:ensemble.HistGradientBoostingClassifier"
        )
    classes = project.task in ("binary", "multiclass")
    if not issubclass(found, ClassifierMixin if classes else RegressorMixin):
        raise ProjectError(
            f"training.trainer: {dotted} is no {'classifier' if classes else 'regressor'}, "
            f"which task {project.task!r} needs"
        )
    if found not in sklearn_operator_name_map:
        raise ProjectError(
            f"training.trainer: {dotted} cannot be written as an ONNX graph, which is what a "
            "bundle holds: choose another, or make the graph yourself in a trainer of your own"
        )
    return found


def check_estimator(project: Project) -> None:
    """Try every parameter and both ends of every range of the search space.

    Raises:
        ProjectError: as `estimator_class`; or a parameter is unknown or refused, or the estimator
            cannot weigh rows or give probabilities where it has to. Names the key.
    """
    chosen = estimator_class(project)
    _instance(project, chosen, "training.trainer", {})
    known = sorted(chosen().get_params())
    for key, name, value in declared(project):
        if name in RESERVED:
            raise error_at(project, f"{key}.{name}", f"leave this out: {RESERVED[name]}")
        if name not in known:
            message = f"{chosen.__name__} has no such parameter{meant(name, known)}"
            raise error_at(project, f"{key}.{name}", message)
        _instance(project, chosen, f"{key}.{name}", {name: value})
    fixed = {**project.training.parameters}
    made = _instance(project, chosen, "training.parameters", fixed)
    if project.task in ("binary", "multiclass") and not hasattr(made, "predict_proba"):
        raise ProjectError(
            f"training.trainer: {chosen.__name__} gives no probabilities"
            + (" with these training.parameters" if fixed else "")
            + ", which a classification needs; choose another"
        )
    if project.training.class_weight and not has_fit_parameter(chosen, "sample_weight"):
        raise ProjectError(
            f"training.class_weight: {chosen.__name__} cannot weigh rows; leave it out, or choose "
            "another trainer"
        )


def make_estimator(project: Project, parameters: Mapping[str, Scalar], threads: int) -> Any:
    """An estimator with these parameters, the project's seed and that many threads.

    Raises:
        ProjectError: as `estimator_class`; or a parameter is refused.
    """
    chosen = estimator_class(project)
    made = _instance(project, chosen, "training.parameters", parameters)
    implied = {"random_state": project.training.seed, "n_jobs": threads}
    known = made.get_params()
    made.set_params(**{name: value for name, value in implied.items() if name in known})
    return made


def _instance(
    project: Project, chosen: type[Any], key: str, parameters: Mapping[str, Scalar]
) -> Any:
    try:
        made = chosen(**parameters)
        made._validate_params()
    except InvalidParameterError as error:
        raise error_at(project, key, f"scikit-learn refuses it: {error}") from None
    except TypeError as error:
        why = f"{project.training.trainer} cannot be made from a project file ({error})"
        raise error_at(project, key, why) from None
    return made
