"""One stage: from the parts of a split and chosen parameters to a bundle on disk."""

from lifecycle.data.features import FeatureSchema, hook_digest
from lifecycle.project import Project
from lifecycle.records import Bundle, Identity, Split, Tuned
from lifecycle.settings import Settings
from lifecycle.training.bundle import BundleSchema, write_bundle
from lifecycle.training.train import train_booster

THRESHOLD = 0.5
"""Probability from which a row counts as positive, as `accuracy` counts it."""


def fit(
    project: Project, split: Split, tuned: Tuned, settings: Settings, identity: Identity
) -> Bundle:
    """Train with the chosen parameters and write the bundle; Ray is connected already.

    Equal arguments give a bundle with the same digest.

    Raises:
        ProjectError, TrainingError, FeatureError, TargetError: training could not be done.
        BundleError: the bundle cannot be written.
    """
    trained = train_booster(project, split.train, split.validation, tuned.parameters, settings)
    folder = settings.folder("bundles", project.name)
    schema = bundle_schema(project, trained.features)
    return write_bundle(trained.booster, schema, identity.digest, folder)


def bundle_schema(project: Project, features: FeatureSchema) -> BundleSchema:
    """What a model of this project takes and gives."""
    binary = project.task == "binary"
    return BundleSchema(
        project=project.name,
        task=project.task,
        target=project.target,
        positive=(1 if project.positive is None else project.positive) if binary else None,
        threshold=THRESHOLD if binary else None,
        inputs={name: project.contract.columns[name] for name in project.input_columns},
        features=features,
        hook=project.features,
        hook_digest=hook_digest(project),
    )
