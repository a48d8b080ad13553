"""One stage: from the parts of a split and chosen parameters to a bundle on disk."""

from collections.abc import Mapping
from pathlib import Path

from lifecycle.features.encode import FeatureSchema, hook_digest
from lifecycle.features.view_use import view_uses
from lifecycle.lake import read_version
from lifecycle.project import Project, Scalar
from lifecycle.records import Bundle, DatasetVersion, Identity, Split, Tuned
from lifecycle.settings import Settings
from lifecycle.training.bundle import write_bundle
from lifecycle.training.calibration import Calibration
from lifecycle.training.parameters import DEFAULTS
from lifecycle.training.schema import BundleSchema
from lifecycle.training.threshold import DEFAULT
from lifecycle.training.train import train_model
from lifecycle.training.trainers.protocol import ModelKind

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
    """A warning if so few rounds were kept that the answers hardly left the constant they start at.

    Each round goes the learning rate's share of the way that is left to what trees can say, so
    (1 - rate)^rounds of it is left (shrinkage, Friedman, 2001).
    """
    eta = float(parameters.get("eta", parameters.get("learning_rate", DEFAULTS["eta"])))
    left = max(0.0, 1 - eta) ** rounds
    if rounds >= FEW_ROUNDS or left <= LITTLE_LEFT:
        return ()
    if rounds == project.training.rounds:
        why, advice = "training.rounds allows no more", "raise it"
    else:
        why = f"{project.training_metric} on the validation part was best there"
        advice = (
            "try a smaller learning rate (training.parameters, tuning.space), a larger "
            "split.validation, or look for columns that say more"
        )
    return (
        f"Only {rounds} boosting round{'s' if rounds > 1 else ''} with a learning rate of {eta:g}, "
        f"which leaves {left:.0%} of what trees could say unsaid: {why}; {advice}.",
    )


def bundle_schema(
    project: Project,
    features: FeatureSchema,
    model: ModelKind = "xgboost",
    calibration: Calibration | None = None,
) -> BundleSchema:
    """What a model of this project takes and gives, without its `decision`."""
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
