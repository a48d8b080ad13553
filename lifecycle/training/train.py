"""The final model: XGBoost on Ray Train V2, stopped early by the validation part."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ray
import ray.train
import xgboost
from ray.train.v2.api.exceptions import TrainingFailedError
from ray.train.xgboost import XGBoostTrainer

from lifecycle.data.features import FeatureSchema
from lifecycle.errors import LifecycleError, TrainingError
from lifecycle.project import Project
from lifecycle.records import DatasetVersion
from lifecycle.settings import Settings
from lifecycle.specs import Scalar
from lifecycle.training.matrix import Matrices, as_dmatrix, open_matrices
from lifecycle.training.parameters import STOPPING, check_parameters, plain, xgboost_parameters


@dataclass(frozen=True)
class TrainedBooster:
    """A booster cut to the rounds that early stopping kept, and the schema of its matrix."""

    booster: xgboost.Booster
    features: FeatureSchema
    rounds: int


@dataclass(frozen=True)
class Job:
    """What every worker is told; each opens the data itself."""

    project: Project
    train: DatasetVersion
    validation: DatasetVersion
    parameters: dict[str, Scalar]


def train_booster(
    project: Project,
    train: DatasetVersion,
    validation: DatasetVersion,
    parameters: Mapping[str, Scalar],
    settings: Settings,
) -> TrainedBooster:
    """Train on Ray, with `training.num_workers` workers; Ray is connected already.

    Args:
        parameters: XGBoost's parameters, as the project or the search chose them.

    Raises:
        ProjectError: XGBoost cannot use a parameter.
        TrainingError: a worker failed.
    """
    check_parameters(project)
    job = Job(project, train, validation, dict(parameters))
    _check_workers(job)
    with tempfile.TemporaryDirectory(prefix="train-", dir=settings.folder("ray")) as storage:
        result = _run(job, storage, alone=settings.local_ray and project.training.num_workers == 1)
    booster = xgboost.Booster()
    booster.load_model(bytearray(result["model"]))
    return TrainedBooster(booster, result["features"], booster.num_boosted_rounds())


def fit_booster(
    project: Project, data: Matrices, parameters: Mapping[str, Scalar], rank: int = 0, of: int = 1
) -> xgboost.Booster:
    """Train in this process on every `of`-th row; the rounds after the best one are cut off.

    Every worker sees the whole validation part, so each measures the metric exactly and all stop
    at the same round.

    Raises:
        xgboost.core.XGBoostError: XGBoost cannot train with these parameters.
    """
    given = xgboost_parameters(project, parameters)
    threads = int(given["nthread"])
    share = slice(rank, None, of)
    validation = as_dmatrix(data.validation, data.validation_labels, data.schema, threads)
    stopping = xgboost.callback.EarlyStopping(
        rounds=project.training.early_stopping_rounds,
        metric_name=STOPPING[project.metric],
        data_name="validation",
        maximize=STOPPING[project.metric] in ("auc", "aucpr"),
        save_best=True,
    )
    booster: xgboost.Booster = xgboost.train(
        given,
        as_dmatrix(data.train[share], data.train_labels[share], data.schema, threads),
        num_boost_round=project.training.rounds,
        evals=[(validation, "validation")],
        callbacks=[stopping],
        verbose_eval=False,
    )
    return booster


def _check_workers(job: Job) -> None:
    """Refuse what would wait for ever: workers without rows, or more CPUs than there are."""
    workers = job.project.training.num_workers
    threads = int(xgboost_parameters(job.project, job.parameters)["nthread"])
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]  # Ray's
    cpus = int(resources.get("CPU", 0))
    if workers > job.train.rows:
        raise TrainingError(
            f"training.num_workers: {workers} workers for {job.train.rows} rows; ask for fewer"
        )
    if workers * threads > cpus:
        raise TrainingError(
            f"training.num_workers: {workers} workers with {threads} threads each, and Ray has "
            f"{cpus} CPUs; ask for fewer workers, or give Ray more with LIFECYCLE_RAY_CPUS"
        )


def _run(job: Job, storage: str, alone: bool) -> dict[str, Any]:
    """What rank 0 returned; nothing is reported, since a report waits for the controller's poll.

    One worker on the machine that asks is Ray Train's local mode: controller and worker processes
    would take 10 s to start for what takes one.
    """
    threads = xgboost_parameters(job.project, job.parameters)["nthread"]
    worker: Any = _worker  # Ray's annotation forbids a return value, its documentation has one
    trainer = XGBoostTrainer(
        worker,
        train_loop_config={"job": job},
        scaling_config=ray.train.ScalingConfig(
            num_workers=0 if alone else job.project.training.num_workers,
            resources_per_worker={"CPU": threads},
        ),
        run_config=ray.train.RunConfig(storage_path=storage, name=job.project.name),
    )
    try:
        result: Any = trainer.fit()
    except TrainingFailedError as error:
        raise _plain(error) from error
    except xgboost.core.XGBoostError as error:
        raise TrainingError(f"XGBoost could not train: {plain(error)}") from error
    returned: dict[str, Any] = result.return_value
    return returned


def _worker(config: dict[str, Any]) -> dict[str, Any]:
    """Runs in each Ray Train worker."""
    job: Job = config["job"]
    context = ray.train.get_context()
    data = open_matrices(job.project, job.train, job.validation)
    rank, of = context.get_world_rank(), context.get_world_size()
    booster = fit_booster(job.project, data, job.parameters, rank, of)
    return {"model": bytes(booster.save_raw("ubj")), "features": data.schema}


def _plain(error: TrainingFailedError) -> LifecycleError:
    """The cause on a worker, if it is one of ours or XGBoost's; otherwise Ray's own words."""
    failures = getattr(error, "worker_failures", {})
    for rank, failure in sorted(failures.items()):
        cause = getattr(failure, "_base_exc", failure)
        if isinstance(cause, LifecycleError):
            return cause
        if isinstance(cause, xgboost.core.XGBoostError):
            return TrainingError(f"XGBoost could not train on worker {rank}: {plain(cause)}")
    return TrainingError(f"training on Ray failed: {str(error).strip().splitlines()[-1]}")
