"""Training of a model with chosen parameters, from the parts of a split to a bundle."""

import logging
import math
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from lifecycle.errors import LifecycleError, TrainingError, ray_reason
from lifecycle.features.encode import (
    FeatureSchema,
    Floats,
    build_features,
    encode,
    hook_digest,
    labels,
    load_hook,
    view_uses,
)
from lifecycle.lake.read import read_version
from lifecycle.project import CostsSpec, DecisionSpec, Project, Scalar
from lifecycle.records import Bundle, DatasetVersion, Evaluated, Identity, Noise, Split, Tuned
from lifecycle.runtime.ray_internals import free_cpus
from lifecycle.runtime.traces import below
from lifecycle.settings import Settings
from lifecycle.training.bundle import BundleSchema, load_model, write_bundle
from lifecycle.training.calibration import Calibration, calibrate
from lifecycle.training.evaluation.assess import answer, score
from lifecycle.training.matrix import open_matrices, pool
from lifecycle.training.parameters import DEFAULTS, threads_of
from lifecycle.training.trainers.protocol import Curve, Matrix, Model, ModelKind
from lifecycle.training.trainers.registry import open_refitter, open_trainer

# The decision threshold of a binary model: declared, from the costs of errors, or from a rate.

logger = logging.getLogger(__name__)

DEFAULT = 0.5
"""The threshold of a project that declares no decision."""


def decision_threshold(
    spec: DecisionSpec | None, probability: Floats, truth: Floats, calibrated: bool = False
) -> float:
    """Return the probability from which a row counts as positive: 0 to 1, or just above for no row.

    Args:
        probability: (n,), the model's answers for the validation part.
        truth: (n,), 0 or 1.
        calibrated: whether `training.calibration` has made the probabilities.

    Raises:
        TrainingError: a threshold has to be found, and there are no rows to find it on.
    """
    if spec is None:
        return DEFAULT
    if spec.threshold is not None:
        return spec.threshold
    if not len(probability):
        raise TrainingError(
            "decision: the validation part has no row with a target to find the threshold on; "
            "make split.validation larger, or give decision.threshold"
        )
    if spec.rate is not None:
        return threshold_of_rate(probability, spec.rate)
    assert spec.costs is not None  # noqa: S101 - exactly one of the three is given
    cheapest = cheapest_probability(spec.costs)
    return cheapest if calibrated else _on_model_scale(cheapest, probability, truth)


def cheapest_probability(costs: CostsSpec) -> float:
    """Return the true probability from which predicting positive costs less than negative.

    Elkan (2001), "The foundations of cost-sensitive learning", equation 2, right answers free.
    """
    return costs.false_positive / (costs.false_positive + costs.false_negative)


def threshold_of_rate(probability: Floats, rate: float) -> float:
    """Return the threshold that predicts a share of rows positive, as near to `rate` as ties allow.

    It lies midway between two predictions, so that no row changes sides by a float's last digit.
    """
    falling = -np.sort(-probability)
    counts = np.r_[0, np.flatnonzero(np.diff(falling)) + 1, len(falling)]
    count = int(counts[np.abs(counts / len(falling) - rate).argmin()])
    above = float(falling[count - 1]) if count else math.nextafter(1, 2)
    below = float(falling[count]) if count < len(falling) else 0.0
    middle = (above + below) / 2
    return middle if middle > below else above  # neighbouring floats have none between them


def _on_model_scale(target: float, probability: Floats, truth: Floats) -> float:
    """Map a true probability to the one that the model gives for it.

    The map is Platt's sigmoid on the validation part, because class weights and some learners
    shift probabilities. Probabilities of 0 and 1 are clipped as far as the number of rows can
    tell them apart (Laplace's rule).
    """
    bound = 1 / (len(truth) + 2)
    try:
        sigmoid = calibrate("sigmoid", probability.clip(bound, 1 - bound), truth)
    except TrainingError:  # one class only, or ranked upside down
        logger.warning(
            "decision.costs: the validation part cannot tell whether probabilities are right; "
            "the threshold takes them as they are"
        )
        return target
    slope, intercept = sigmoid.values
    log_odds = (math.log(target) - math.log1p(-target) - intercept) / slope
    return 0.5 * (1 + math.tanh(0.5 * log_odds))


# Fit of the final model: in this process, in one worker of Ray, or in several.


class FittedModel(NamedTuple):
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
) -> FittedModel:
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
    cpus = cpus_to_claim(workers, threads)
    if workers == 1:
        return _fit_in_task(project, cpus, train, validation, parameters, threads)
    from lifecycle.training.distributed import fit_on_workers  # Ray Train takes a second to import

    fitted, schema = fit_on_workers(project, train, validation, parameters, settings, cpus)
    calibration, threshold = _calibrated_on_part(project, fitted.model, schema, validation)
    return FittedModel(fitted.model, schema, fitted.curve, calibration, threshold)


def check_workers(project: Project, rows: int, threads: int) -> None:
    """Check that the workers can start; otherwise training would fail late or wait for ever.

    Raises:
        TrainingError: more workers than rows, or than the cluster's nodes have CPUs for.
    """
    workers = project.training.num_workers
    if workers > rows:
        raise TrainingError(
            f"training.num_workers: {workers} workers for {rows} rows; ask for fewer"
        )
    import ray

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


def cpus_to_claim(workers: int, threads: int) -> int:
    """CPUs that each worker asks Ray for: its threads, or as many as fit beside what runs.

    Replicas of Serve hold CPUs for as long as they answer. A worker that asked for all of a node
    would wait for them for ever; the share that it has too many threads for is theirs anyway.
    The number of threads stays: it is part of the model's identity.
    """
    free = free_cpus()
    for count in range(threads, 0, -1):
        if sum(int(cpus // count) for cpus in free) >= workers:
            return count
    logger.warning(
        "waiting for a free CPU of Ray per worker (%d of them, free are %s): what else runs there, "
        "such as replicas of Serve, holds the others",
        workers,
        " + ".join(f"{cpus:g}" for cpus in free) or "none",
    )
    return 1


def _fit(
    project: Project,
    train: DatasetVersion,
    validation: DatasetVersion,
    parameters: Mapping[str, Scalar],
    threads: int,
) -> FittedModel:
    data = open_matrices(project, train, validation)
    fitted = open_trainer(project).fit(project, data, parameters, threads)
    model = fitted.model
    calibration, threshold = calibrated(project, model, data.validation, data.validation_labels)
    if project.training.refits:
        pooled = pool(project, data)
        model = open_refitter(project).refit(project, pooled, parameters, threads, model.rounds)
    return FittedModel(model, data.schema, fitted.curve, calibration, threshold)


def calibrated(
    project: Project, model: Model, matrix: Matrix, truth: Floats
) -> tuple[Calibration | None, float | None]:
    """Fit calibration and decision threshold of a binary model, on rows not used for training.

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
    has_truth = np.isfinite(truth)
    features = build_features(frame[has_truth], project, load_hook(project))
    return calibrated(project, model, encode(features, schema), truth[has_truth])


def _fit_in_task(project: Project, cpus: int, *arguments: Any) -> FittedModel:
    """The same in one worker of the cluster; Ray starts it again if its node dies."""
    import ray  # half a second, which a script without a cluster does without
    from ray.exceptions import RayError as AnyRayError

    remote: Any = ray.remote(num_cpus=cpus, max_retries=project.training.max_failures)
    running = remote(below(_send, "fit in a worker")).remote(project, *arguments)
    try:
        sent: _Sent | LifecycleError = ray.get(running)
    except AnyRayError as error:
        raise TrainingError(f"training on Ray failed: {ray_reason(error)}; run again") from None
    except BaseException:  # cancelled
        ray.cancel(running, force=True)
        raise
    if isinstance(sent, LifecycleError):
        raise sent
    model = load_model(sent.kind, sent.model, Path("the worker's answer"))
    return FittedModel(model, sent.features, sent.curve, sent.calibration, sent.threshold)


def _send(project: Project, *arguments: Any) -> _Sent | LifecycleError:
    """Runs in the worker. An error of ours is returned: raised, Ray would print it."""
    try:
        trained = _fit(project, *arguments)
    except LifecycleError as error:
        return error
    kind, content = trained.model.kind, trained.model.save()
    return _Sent(kind, content, *trained[1:])


FEW_ROUNDS = 10
"""Fewer boosting rounds than these are worth a warning."""
LITTLE_LEFT = 0.01
"""Unless they leave so little unsaid, as the one round of a forest with a learning rate of 1."""


def fit(
    project: Project,
    split: Split,
    tuned: Tuned,
    settings: Settings,
    identity: Identity,
    folder: Path | None = None,
) -> Bundle:
    """Train with the chosen parameters and write the bundle; Ray is connected already.

    Equal arguments give a bundle with the same digest.

    Args:
        folder: where the bundle goes; by default where the project's bundles are.

    Raises:
        ProjectError, TrainingError, FeatureError, TargetError: training could not be done.
        BundleError: the bundle cannot be written.
    """
    trained = train_model(project, split.train, split.validation, tuned.parameters, settings)
    schema = bundle_schema(project, trained.features, trained.model.kind, trained.calibration)
    if project.decision is not None:
        values = target_values(project, split.train)
        schema = schema.model_copy(update={"threshold": trained.threshold, "labels": values})
    folder = folder or settings.folder("bundles", project.name)
    bundle = write_bundle(trained.model, schema, identity.digest, folder, trained.curve)
    if not trained.curve:
        return bundle
    warning = few_rounds(project, tuned.parameters, bundle.rounds)
    return bundle.model_copy(update={"warnings": warning})


def few_rounds(project: Project, parameters: Mapping[str, Scalar], rounds: int) -> tuple[str, ...]:
    """Return a warning if so few rounds were kept that predictions hardly left their start value.

    Each round goes the learning rate's share of the way that is left to what trees can say, so
    (1 - rate)^rounds of it is left (shrinkage, Friedman, 2001).
    """
    eta = float(parameters.get("eta", parameters.get("learning_rate", DEFAULTS["eta"])))
    share_left = max(0.0, 1 - eta) ** rounds
    if rounds >= FEW_ROUNDS or share_left <= LITTLE_LEFT:
        return ()
    if rounds == project.training.rounds:
        reason, advice = "training.rounds allows no more", "raise it"
    else:
        reason = f"{project.training_metric} on the validation part was best there"
        advice = (
            "try a smaller learning rate (training.parameters, tuning.space), a larger "
            "split.validation, or look for columns that say more"
        )
    return (
        f"Only {rounds} boosting round{'s' if rounds > 1 else ''} with a learning rate of {eta:g}, "
        f"which leaves {share_left:.0%} of what trees could say unsaid: {reason}; {advice}.",
    )


def bundle_schema(
    project: Project,
    features: FeatureSchema,
    model: ModelKind = "xgboost",
    calibration: Calibration | None = None,
) -> BundleSchema:
    """Build the schema of a model's requests and answers, without its `decision`."""
    binary = project.task == "binary"
    return BundleSchema(
        project=project.name,
        model=model,
        task=project.task,
        target=project.target,
        positive=(1 if project.positive is None else project.positive) if binary else None,
        threshold=DEFAULT if binary else None,
        classes=project.classes,
        inputs={name: project.columns[name] for name in project.input_columns},
        features=features,
        hook=project.features,
        hook_digest=hook_digest(project),
        views=view_uses(project),
        calibration=calibration,
    )


def target_values(project: Project, train: DatasetVersion) -> tuple[Scalar, ...]:
    """Binary: the negative value of the target, and the positive one, as the data have them."""
    target = read_version(train, columns=[project.target])[project.target].dropna()
    positive = target == (1 if project.positive is None else project.positive)
    return tuple(target[mask].head(1).tolist()[0] for mask in (~positive, positive))


# Noise: variation of the deciding metric when only the training seed changes.

OnSeed = Callable[[int, float], None]
"""Seed, metric on the holdout."""


def noise_over_seeds(
    project: Project,
    settings: Settings,
    split: Split,
    tuned: Tuned,
    identity: Identity,
    evaluated: Evaluated,
    seeds: int,
    on_seed: OnSeed,
) -> Noise:
    """Train with the next `seeds` - 1 seeds, same data and parameters, and measure each.

    Without randomness in training (`subsample`, `colsample_*`) all are equal and the noise is 0.

    Raises:
        TrainingError, FeatureError: training could not be done.
    """
    own = project.training.seed
    values = {own: evaluated.candidate.metrics[project.metric].value}
    for seed in range(own + 1, own + seeds):
        training = project.training.model_copy(update={"seed": seed})
        other = project.model_copy(update={"training": training})
        with TemporaryDirectory(dir=settings.folder("bundles"), prefix=".seed-") as folder:
            bundle = fit(other, split, tuned, settings, identity, Path(folder))
            answers = answer(other, split.holdout, bundle.path, bundle.digest)
        values[seed] = score(other, answers)
        on_seed(seed, values[seed])
    return Noise(metric=project.metric, values=values)
