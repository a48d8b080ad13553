"""XGBoost on several workers of Ray Train: each has its own rows, and all grow the same trees.

Every `training.checkpoint_rounds` rounds the first worker leaves a checkpoint where all nodes
reach it. When a worker or its node dies, Ray Train starts the workers again and they go on from
there. A run is named by what it is made from, so the next run after a killed one goes on too.
"""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
import ray.train
import xgboost
from ray.train.v2.api.exceptions import TrainingFailedError
from ray.train.v2.api.report_config import CheckpointConsistencyMode
from xgboost import collective

from lifecycle.errors import LifecycleError, SettingsError, TrainingError
from lifecycle.features.encode import FeatureSchema
from lifecycle.project import Project, Scalar
from lifecycle.records import DatasetVersion
from lifecycle.runtime.identity import code_digest, lock_digest, project_digest, sha256
from lifecycle.runtime.plugins import plugs_digest
from lifecycle.runtime.ray_internals import lean_trainer
from lifecycle.runtime.remote_driver import is_remote, on_cluster
from lifecycle.runtime.traces import below
from lifecycle.settings import Settings
from lifecycle.training.matrix import Matrices, row_weights
from lifecycle.training.parameters import constrained, plain, threads_of
from lifecycle.training.shards import Plan, plan, read_shard
from lifecycle.training.trainers.booster import load_booster
from lifecycle.training.trainers.protocol import Fitted
from lifecycle.training.trainers.xgb import (
    BoosterMetric,
    Checkpoints,
    Progress,
    boost,
    booster_metric,
    check_device,
    parts_of,
)

MODEL, CURVE = "model.ubj", "curve.json"


@dataclass(frozen=True)
class Job:
    """Arguments of every worker. Each worker reads its rows itself."""

    project: Project
    train: DatasetVersion
    validation: DatasetVersion
    parameters: dict[str, Scalar]
    threads: int
    plan: Plan


class _AgreedError(Exception):
    """A worker's own error that all have been told of: they end together, and are not retried."""

    def __init__(self, error: LifecycleError) -> None:
        super().__init__(str(error))
        self.error = error


def fit_on_workers(
    project: Project,
    train: DatasetVersion,
    validation: DatasetVersion,
    parameters: Mapping[str, Scalar],
    settings: Settings,
    cpus: int,
) -> tuple[Fitted, FeatureSchema]:
    """Train with `training.num_workers` workers; Ray is connected already.

    Equal arguments give equal models, also after failures. What one worker gives differs a little:
    the histograms' bins come from sketches that are merged, sums are added in another order.

    Args:
        cpus: those that each worker asks Ray for.

    Raises:
        TrainingError: a worker failed more often than `training.max_failures` allows.
        SettingsError: nodes do not reach the place of the checkpoints.
        BackendError, FeatureError, TargetError: as `shards.plan` and `shards.read_shard` raise.
    """
    storage = settings.ray_storage or str(settings.folder("ray"))
    if is_remote() and "://" not in storage:
        raise SettingsError(
            "LIFECYCLE_RAY_STORAGE: the Ray cluster has no folder of this machine, and several "
            "workers leave checkpoints: name object storage (s3://…)"
        )
    arguments = project, train, validation, dict(parameters), threads_of(project, settings)
    answer, schema = _run(arguments, storage, cpus)
    return Fitted(load_booster(answer["model"]), answer["curve"]), schema


@on_cluster
def _run(
    arguments: tuple[Project, DatasetVersion, DatasetVersion, dict[str, Scalar], int],
    storage: str,
    cpus: int,
) -> tuple[dict[str, Any], FeatureSchema]:
    """Return what the first worker returned, and the schema of the matrices.

    Args:
        arguments: those of `Job`, but for the plan.
        storage: where checkpoints are left.
    """
    project, train, validation, _, _ = arguments
    job = Job(*arguments, plan(project, train, validation, project.training.num_workers))
    trainer = _trainer(job, cpus, storage)
    try:
        result: Any = trainer.fit()
    except TrainingFailedError as error:
        raise _plain(error) from None
    except BaseException:  # cancelled: with the controller its workers end
        if trainer.controller is not None:
            ray.kill(trainer.controller)
        raise
    result.filesystem.delete_dir(result.path)  # its checkpoints are of no more use
    answer: dict[str, Any] = result.return_value
    if "error" in answer:
        raise answer["error"]
    return answer, job.plan.schema


def _trainer(job: Job, cpus: int, storage: str) -> Any:
    training = job.project.training
    # Ray's annotation forbids a return value, its documentation has one
    worker: Any = below(_worker, "train in a worker")
    return lean_trainer()(
        worker,
        train_loop_config={"job": job},
        scaling_config=ray.train.ScalingConfig(
            num_workers=training.num_workers, resources_per_worker={"CPU": cpus}
        ),
        run_config=ray.train.RunConfig(
            name=_name(job),
            storage_path=storage,
            failure_config=ray.train.FailureConfig(max_failures=training.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=1),
        ),
    )


def _name(job: Job) -> str:
    """The same for the same training, so that Ray Train finds its checkpoints again."""
    made_from = {
        "code": [code_digest("model"), plugs_digest(job.project), lock_digest()],
        "project": project_digest(job.project),
        "data": [job.train.digest, job.validation.digest],
        "parameters": job.parameters,
        "threads": job.threads,
    }
    return f"{job.project.name}-{sha256(made_from)[:16]}"


def _worker(config: dict[str, Any]) -> dict[str, Any]:
    """Runs in each worker; what the first one returns is the result."""
    try:
        return _train(config["job"])
    except _AgreedError as agreed:
        return {"error": agreed.error}


def _train(job: Job) -> dict[str, Any]:
    project, schema = job.project, job.plan.schema
    parts: dict[str, xgboost.DMatrix] = {}
    problem = None
    try:
        check_device(project)
        parameters = constrained(project, job.parameters, schema)
        parts = parts_of(project, _matrices(job), job.threads)
    except LifecycleError as error:
        problem = error
    _agree(problem)
    boosted = boost(
        project,
        parts,
        parameters,
        job.threads,
        metric=_averaged(booster_metric(project)),
        checkpoints=Checkpoints(_keep, project.training.checkpoint_rounds, _last_progress()),
    )
    curve = {"train": boosted.curve["sample"], "validation": boosted.curve["validation"]}
    return {"model": bytes(boosted.booster.save_raw("ubj")), "curve": curve}


def _matrices(job: Job) -> Matrices:
    """Read this worker's rows of both parts."""
    rank = ray.train.get_context().get_world_rank()
    project, schema = job.project, job.plan.schema
    train = read_shard(project, job.train, job.plan.train, rank, schema)
    validation = read_shard(project, job.validation, job.plan.validation, rank, schema)
    return Matrices(
        schema=schema,
        train=train.matrix,
        train_labels=train.labels,
        validation=validation.matrix,
        validation_labels=validation.labels,
        train_weights=row_weights(project, train.labels, job.plan.counts),
        validation_weights=row_weights(project, validation.labels, job.plan.counts),
    )


def _agree(problem: LifecycleError | None) -> None:
    """Go on together, or end together with the error of the first worker that has one."""
    rank, workers = collective.get_rank(), collective.get_world_size()
    vote = np.array([workers if problem is None else rank], dtype=np.int32)
    first = int(collective.allreduce(vote, collective.Op.MIN)[0])
    if first < workers:
        answer: Any = collective.broadcast(problem, first)
        raise _AgreedError(answer)


def _averaged(metric: BoosterMetric | None) -> BoosterMetric | None:
    """The project's own metric over all workers: the mean of theirs, weighted by rows.

    XGBoost adds up its own metrics over the workers, but not this one, and workers that saw
    different values would stop at different rounds.
    """
    if metric is None:
        return None

    def measure(predicted: Any, rows: xgboost.DMatrix) -> tuple[str, float]:
        problem, name, value = None, "", 0.0
        try:
            name, value = metric(predicted, rows)
        except LifecycleError as error:
            problem = error
        _agree(problem)
        sums = np.array([value * rows.num_row(), rows.num_row()], dtype=np.float64)
        total, count = collective.allreduce(sums, collective.Op.SUM)
        return name, float(total / count)

    return measure


def _keep(progress: Progress) -> None:
    """Leave a checkpoint that Ray Train knows of before the next round begins."""
    if ray.train.get_context().get_world_rank() > 0:
        ray.train.report({})
        return
    with tempfile.TemporaryDirectory() as folder:
        progress.booster.save_model(Path(folder, MODEL))
        Path(folder, CURVE).write_text(json.dumps(progress.curve))
        ray.train.report({}, checkpoint=ray.train.Checkpoint.from_directory(folder))
    # a report returns before the controller knows of it; the others wait for this worker anyway
    ray.train.get_all_reported_checkpoints(CheckpointConsistencyMode.COMMITTED)


def _last_progress() -> Progress | None:
    """The last checkpoint, if there is one."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return None
    with checkpoint.as_directory() as folder:
        booster = xgboost.Booster(model_file=Path(folder, MODEL))
        return Progress(booster, json.loads(Path(folder, CURVE).read_text()))


def _plain(error: TrainingFailedError) -> LifecycleError:
    """The cause on a worker, if it is one of ours or XGBoost's; otherwise Ray's own words."""
    causes = getattr(error, "worker_failures", {})
    for rank, cause in sorted(causes.items()):
        if isinstance(cause, LifecycleError):
            return cause
        if isinstance(cause, xgboost.core.XGBoostError):
            return TrainingError(f"XGBoost could not train on worker {rank}: {plain(cause)}")
    return TrainingError(f"training on Ray failed: {str(error).strip().splitlines()[-1]}")
