"""The final model, fitted where Ray has room: in this process, in one worker, or in several."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import ray
from ray.exceptions import RayError as AnyRayError

from lifecycle.errors import LifecycleError, TrainingError, reason
from lifecycle.features.encode import FeatureSchema, build_features, encode, labels, load_hook
from lifecycle.lake import read_version
from lifecycle.project import Project, Scalar
from lifecycle.records import DatasetVersion
from lifecycle.settings import Settings
from lifecycle.training.calibration import Calibration, calibrate
from lifecycle.training.matrix import open_matrices, pool
from lifecycle.training.parameters import threads_of
from lifecycle.training.threshold import decision_threshold
from lifecycle.training.trainers.load import load_model
from lifecycle.training.trainers.open import open_refitter, open_trainer
from lifecycle.training.trainers.protocol import Curve, Floats, Matrix, Model, ModelKind


class Trained(NamedTuple):
    """A fitted model, and the schema of its matrix."""

    model: Model
    features: FeatureSchema
    curve: Curve
    """Of the fit that was stopped by the validation part."""
    calibration: Calibration | None
    """Of that fit's probabilities for the validation part, which it did not learn from."""
    threshold: float | None
    """Binary: from which probability on a row counts as positive, found in the same way."""


class _Sent(NamedTuple):
    """A fitted model on its way from a worker."""

    kind: ModelKind
    model: bytes
    features: FeatureSchema
    curve: Curve
    calibration: Calibration | None
    threshold: float | None


def train_model(
    project: Project,
    train: DatasetVersion,
    validation: DatasetVersion,
    parameters: Mapping[str, Scalar],
    settings: Settings,
) -> Trained:
    """Fit with the chosen parameters, in `training.num_workers` workers; Ray is connected already.

    The validation part decides when to stop, and calibrates. Where `training.refits` says so, the
    model handed out is then fitted on both parts, with the rounds found.

    One worker needs no collective: on a Ray of this machine it is this process, on a cluster it is
    one task. Equal arguments give equal models wherever they are fitted.

    Raises:
        ProjectError: the trainer cannot use a parameter.
        TrainingError: the cluster has no room for the workers, or a worker failed.
        BackendError, FeatureError, TargetError: as `open_matrices` raises.
    """
    open_trainer(project).check(project)
    workers, threads = project.training.num_workers, threads_of(project, settings)
    if workers == 1 and settings.local_ray:
        return _fit(project, train, validation, parameters, threads)
    check_workers(project, train.rows, threads)
    if workers == 1:
        return _fit_in_task(project, train, validation, parameters, threads)
    from lifecycle.training.distributed import fit_on_workers  # Ray Train takes a second to import

    fitted, schema = fit_on_workers(project, train, validation, parameters, settings)
    calibration, threshold = _calibrated_on_part(project, fitted.model, schema, validation)
    return Trained(fitted.model, schema, fitted.curve, calibration, threshold)


def check_workers(project: Project, rows: int, threads: int) -> None:
    """Refuse what would fail late or wait for ever.

    Raises:
        TrainingError: more workers than rows, or than the cluster's nodes have CPUs for.
    """
    workers = project.training.num_workers
    if workers > rows:
        raise TrainingError(
            f"training.num_workers: {workers} workers for {rows} rows; ask for fewer"
        )
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]  # Ray's
    cpus = [int(node["Resources"].get("CPU", 0)) for node in nodes if node["Alive"]]
    if sum(count // threads for count in cpus) < workers:
        has = " + ".join(
            f"{many} × {count}" if many > 1 else f"{count}"
            for count, many in sorted(Counter(cpus).items(), reverse=True)
        )
        raise TrainingError(
            f"training.num_workers: {workers} workers with {threads} threads each, and Ray's nodes "
            f"have {has} CPUs; ask for fewer workers or training.threads, or give Ray more "
            "(LIFECYCLE_RAY_CPUS for a local one)"
        )


def _fit(
    project: Project,
    train: DatasetVersion,
    validation: DatasetVersion,
    parameters: Mapping[str, Scalar],
    threads: int,
) -> Trained:
    data = open_matrices(project, train, validation)
    fitted = open_trainer(project).fit(project, data, parameters, threads)
    model = fitted.model
    calibration, threshold = calibrated(project, model, data.validation, data.validation_labels)
    if project.training.refits:
        both = pool(project, data)
        model = open_refitter(project).refit(project, both, parameters, threads, model.rounds)
    return Trained(model, data.schema, fitted.curve, calibration, threshold)


def calibrated(
    project: Project, model: Model, matrix: Matrix, truth: Floats
) -> tuple[Calibration | None, float | None]:
    """Calibration and decision threshold of a binary model, on rows it did not learn from.

    Raises:
        TrainingError: as `calibrate` and `decision_threshold` raise.
    """
    method = project.training.calibration
    if not _asks_validation(project):
        return None, None
    probability = model.predict(matrix)
    calibration = None if method == "none" else calibrate(method, probability, truth)
    if calibration is not None:
        probability = calibration.apply(probability)
    threshold = decision_threshold(
        project.decision, probability, truth, calibrated=calibration is not None
    )
    return calibration, threshold


def _asks_validation(project: Project) -> bool:
    return project.training.calibration != "none" or project.decision is not None


def _calibrated_on_part(
    project: Project, model: Model, schema: FeatureSchema, validation: DatasetVersion
) -> tuple[Calibration | None, float | None]:
    """The same, where no process here holds the validation part."""
    if not _asks_validation(project):
        return None, None
    frame = read_version(validation)
    truth = labels(frame, project)
    known = np.isfinite(truth)
    features = build_features(frame[known], project, load_hook(project))
    return calibrated(project, model, encode(features, schema), truth[known])


def _fit_in_task(project: Project, *arguments: Any) -> Trained:
    """The same in one worker of the cluster; Ray starts it again if its node dies."""
    remote: Any = ray.remote(num_cpus=arguments[-1], max_retries=project.training.max_failures)
    running = remote(_send).remote(project, *arguments)
    try:
        sent: _Sent | LifecycleError = ray.get(running)
    except AnyRayError as error:
        raise TrainingError(f"training on Ray failed: {reason(error)}; run again") from None
    except BaseException:  # cancelled
        ray.cancel(running, force=True)
        raise
    if isinstance(sent, LifecycleError):
        raise sent
    model = load_model(sent.kind, sent.model, Path("the worker's answer"))
    return Trained(model, sent.features, sent.curve, sent.calibration, sent.threshold)


def _send(project: Project, *arguments: Any) -> _Sent | LifecycleError:
    """Runs in the worker. An error of ours is returned: raised, Ray would print it."""
    try:
        trained = _fit(project, *arguments)
    except LifecycleError as error:
        return error
    kind, content = trained.model.kind, trained.model.save()
    return _Sent(kind, content, *trained[1:])
