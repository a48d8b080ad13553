"""XGBoost's parameters: what the project says, what its task and metric imply, what is wrong."""

import json
import re
import warnings
from collections.abc import Iterator, Mapping
from difflib import get_close_matches

import numpy as np
import xgboost

from lifecycle.errors import ProjectError, first_line
from lifecycle.features.encode import FeatureSchema
from lifecycle.project import Choice, Metric, Project, Range, Scalar, TaskKind
from lifecycle.project.base import meant
from lifecycle.project.loader import error_at
from lifecycle.settings import Settings

STOPPING: dict[Metric, str] = {
    "roc_auc": "auc",
    "average_precision": "aucpr",
    "log_loss": "logloss",
    "brier": "rmse",  # of probabilities: its square is the Brier score
    "accuracy": "error",
    "rmse": "rmse",
    "mae": "mae",
    "r2": "rmse",  # on the same rows both order models alike
    "poisson_deviance": "poisson-nloglik",  # differ by what the model cannot change
    "f1_macro": "merror",
}
FALLBACK: dict[TaskKind, str] = {
    "binary": "logloss",
    "multiclass": "mlogloss",
    "regression": "rmse",
    "count": "poisson-nloglik",
}
"""What XGBoost measures itself where a metric of the project's own stops training early."""

DEFAULTS: dict[str, Scalar] = {
    "eta": 0.3,
    "learning_rate": 0.3,
    "max_depth": 6,
    "min_child_weight": 1.0,
    "subsample": 1.0,
    "colsample_bytree": 1.0,
    "colsample_bylevel": 1.0,
    "colsample_bynode": 1.0,
    "lambda": 1.0,
    "reg_lambda": 1.0,
    "alpha": 0.0,
    "reg_alpha": 0.0,
    "gamma": 0.0,
    "min_split_loss": 0.0,
    "max_delta_step": 0.0,
    "max_leaves": 0,
    "max_bin": 256,
    "scale_pos_weight": 1.0,
    "grow_policy": "depthwise",
}
"""XGBoost's documented defaults of the parameters people search over."""

KNOWN_PARAMETERS = (
    *DEFAULTS,
    "objective",
    "tree_method",
    "sampling_method",
    "num_parallel_tree",
    "base_score",
    "max_cat_to_onehot",
    "max_cat_threshold",
    "refresh_leaf",
    "process_type",
    "tweedie_variance_power",
    "huber_slope",
    "quantile_alpha",
    "interaction_constraints",
)
"""Parameters whose name may have been meant."""

RESERVED = {
    "booster": "a bundle holds trees",
    "eval_metric": "training.metric decides it",
    "num_class": "the task decides it",
    "device": "training.device is the device",
    "monotone_constraints": "training.monotone has the constraints",
    "nthread": "training.threads is their number",
    "n_jobs": "training.threads is their number",
    "random_state": "training.seed is the seed",
    "seed_per_iteration": "resuming depends on it",
    "seed": "training.seed is the seed",
    "validate_parameters": "parameters are always validated",
    "verbosity": "training is silent",
}
ALIASES = {
    "eta": "learning_rate",
    "lambda": "reg_lambda",
    "alpha": "reg_alpha",
    "gamma": "min_split_loss",
}
OBJECTIVES: dict[TaskKind, tuple[str, ...]] = {
    "binary": ("binary:logistic",),
    "multiclass": ("multi:softprob",),
    "regression": ("reg:squarederror", "reg:", "count:"),
    "count": ("count:poisson", "count:", "reg:tweedie"),
}
"""The default, and how others that the task allows begin."""


def threads_of(project: Project, settings: Settings) -> int:
    """Threads a training worker uses: declared, or the machine's CPUs divided among the workers."""
    training = project.training
    return training.threads or max(1, settings.local_cpus // training.num_workers)


def stopping_metric(project: Project) -> tuple[str, bool]:
    """The metric of XGBoost's own that stops training early, and whether greater is better.

    A metric of the project's own is called by its own name, and is a score.
    """
    metric = project.training_metric
    if metric in project.metrics:
        return FALLBACK[project.task], True
    multiclass = {"log_loss": "mlogloss", "accuracy": "merror"}
    names = STOPPING | multiclass if project.task == "multiclass" else STOPPING
    name = names[metric]
    return name, name in ("auc", "aucpr")


def xgboost_parameters(
    project: Project, parameters: Mapping[str, Scalar], threads: int
) -> dict[str, Scalar]:
    """Complete `parameters` for `xgboost.train` with everything that the project implies.

    `seed_per_iteration` makes a round's random draws depend on its number only, so that training
    resumed from a checkpoint goes on as if it had never stopped.
    """
    classes = {"num_class": len(project.classes)} if project.classes else {}
    return {
        "objective": OBJECTIVES[project.task][0],
        "tree_method": "hist",
        **parameters,
        **classes,
        "device": project.training.device,
        "nthread": threads,
        "eval_metric": stopping_metric(project)[0],
        "seed": project.training.seed,
        "seed_per_iteration": True,
        "verbosity": 0,
    }


def constrained(
    project: Project, parameters: Mapping[str, Scalar], schema: FeatureSchema
) -> dict[str, Scalar]:
    """`parameters` with `training.monotone` as XGBoost takes it, by the features' places.

    Raises:
        ProjectError: a constraint names no feature, or a category, which has no order.
    """
    constraints = project.training.monotone
    if not constraints:
        return dict(parameters)
    for name in constraints:
        if name not in schema.names:
            hint = meant(name, schema.names)
            raise error_at(project, f"training.monotone.{name}", f"there is no such feature{hint}")
        if schema.kinds[schema.names.index(name)] == "c":
            raise error_at(
                project,
                f"training.monotone.{name}",
                "this feature is a category, and categories have no order; leave it out",
            )
    signs = ",".join(str(constraints.get(name, 0)) for name in schema.names)
    return {**parameters, "monotone_constraints": f"({signs})"}


def check_parameters(project: Project) -> None:
    """Try every parameter and both ends of every range of the search space on a few rows.

    Raises:
        ProjectError: a parameter XGBoost does not know, would not use, or refuses; names the key.
    """
    parameter_names = {*project.training.parameters, *project.tuning.space}
    for name, other in ALIASES.items():
        if {name, other} <= parameter_names:
            raise ProjectError(
                f"training.parameters, tuning.space: {name!r} and {other!r} are one parameter; "
                "use one of the names"
            )
    for key, name, value in declared(project):
        if name in RESERVED:
            raise error_at(project, f"{key}.{name}", f"leave this out: {RESERVED[name]}")
        allowed = OBJECTIVES[project.task]
        if name == "objective" and not str(value).startswith(allowed):
            raise error_at(
                project,
                f"{key}.objective",
                f"task {project.task!r} takes {' or '.join(allowed)} (got {value!r})",
            )
        _try(project, key, name, value)


def declared(project: Project) -> Iterator[tuple[str, str, Scalar]]:
    """Key, name and value of every parameter, and of both ends of every range searched."""
    for name, value in project.training.parameters.items():
        yield "training.parameters", name, value
    for name, values in project.tuning.space.items():
        for value in _ends(values):
            yield "tuning.space", name, value


def _ends(values: Range) -> tuple[Scalar, ...]:
    return values.values if isinstance(values, Choice) else (values.low, values.high)


def _try(project: Project, key: str, name: str, value: Scalar) -> None:
    rows = xgboost.DMatrix(np.arange(8.0).reshape(8, 1), label=np.arange(8) % 2, nthread=1)
    parameters = xgboost_parameters(project, project.training.parameters | {name: value}, threads=1)
    # the device is seen to where training runs, which may be another machine
    parameters |= {"verbosity": 1, "validate_parameters": True, "device": "cpu"}
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            xgboost.train(parameters, rows, num_boost_round=1)
    except xgboost.core.XGBoostError as error:
        reason = plain(error)
        raise error_at(project, f"{key}.{name}", f"XGBoost refuses {value!r}: {reason}") from None
    messages = [str(warning.message) for warning in warned]
    if any("are not used" in text and f'"{name}"' in text for text in messages):
        close = get_close_matches(name, KNOWN_PARAMETERS, n=1)
        hint = f"did you mean {close[0]!r}? C" if close else "c"
        raise error_at(
            project,
            f"{key}.{name}",
            f"XGBoost does not use this parameter for task {project.task!r}; {hint}orrect its "
            "name or leave it out",
        )


def plain(error: xgboost.core.XGBoostError) -> str:
    """Return XGBoost's message without the place in its C++ source and without the stack."""
    return re.sub(r"^\[[\d:]+\]\s*\S+:\d+:\s*", "", first_line(error)).strip()


def key_of(parameters: Mapping[str, Scalar]) -> str:
    """A text that is equal for equal parameters."""
    return json.dumps(dict(parameters), sort_keys=True)
