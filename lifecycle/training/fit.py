"""One stage: from the parts of a split and chosen parameters to a bundle on disk."""

from pathlib import Path

import numpy as np

from lifecycle.data.features import (
    FeatureSchema,
    build_features,
    encode,
    hook_digest,
    labels,
    load_hook,
)
from lifecycle.data.lake import read_version
from lifecycle.data.views.use import view_uses
from lifecycle.project import Project
from lifecycle.records import Bundle, DatasetVersion, Identity, Split, Tuned
from lifecycle.settings import Settings
from lifecycle.training.bundle import write_bundle
from lifecycle.training.calibration import Calibration, calibrate
from lifecycle.training.schema import BundleSchema
from lifecycle.training.train import Trained, train_model
from lifecycle.training.trainers.protocol import ModelKind

THRESHOLD = 0.5
"""Probability from which a row counts as positive, as `accuracy` counts it."""


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
    calibration = _calibration(project, trained, split.validation)
    schema = bundle_schema(project, trained.features, trained.model.kind, calibration)
    folder = folder or settings.folder("bundles", project.name)
    return write_bundle(trained.model, schema, identity.digest, folder, trained.curve)


def bundle_schema(
    project: Project,
    features: FeatureSchema,
    model: ModelKind = "xgboost",
    calibration: Calibration | None = None,
) -> BundleSchema:
    """What a model of this project takes and gives."""
    binary = project.task == "binary"
    return BundleSchema(
        project=project.name,
        model=model,
        task=project.task,
        target=project.target,
        positive=(1 if project.positive is None else project.positive) if binary else None,
        threshold=THRESHOLD if binary else None,
        classes=project.classes,
        inputs={name: project.columns[name] for name in project.input_columns},
        features=features,
        hook=project.features,
        hook_digest=hook_digest(project),
        views=view_uses(project),
        calibration=calibration,
    )


def _calibration(
    project: Project, trained: Trained, validation: DatasetVersion
) -> Calibration | None:
    """Fitted on the rows of the validation part whose target is known."""
    method = project.training.calibration
    if method == "none":
        return None
    frame = read_version(validation)
    truth = labels(frame, project)
    known = np.isfinite(truth)
    features = build_features(frame[known], project, load_hook(project))
    probability = trained.model.predict(encode(features, trained.features))
    return calibrate(method, probability, truth[known])
