"""Promotion of a version between environments: the same bundle, judged and released anew.

What keeps a promotion that is killed anywhere safe is the order: (1) the bundle is copied and held
against its digest on both sides; (2) it is judged on this environment's data; (3) the approval, if
any, is in the trail; (4) the claim, an `import` line that of several promotions exactly one gets;
(5) the version is registered and becomes challenger; (6) it is released as the project says; (7)
the other environment's trail gets its `export` line. Up to 4 nothing is changed. Running again
takes up what is there: the same bundle is not registered twice, and an approval holds.
"""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from lifecycle.audit.model_trail import Trail
from lifecycle.errors import LifecycleError, RegistryError, SettingsError
from lifecycle.features.encode import hook_digest
from lifecycle.project import Project
from lifecycle.records import (
    Action,
    Bundle,
    DatasetVersion,
    Judgement,
    ModelVersion,
    Offer,
    Trained,
    counted,
)
from lifecycle.release import hooks, registry
from lifecycle.release.artifacts import keep_bundle, record_of
from lifecycle.release.offer import (
    BUNDLE,
    HOOK,
    ROWS,
    Note,
    OfferRequest,
    Overlap,
    ask,
    registry_id,
    row_hashes,
)
from lifecycle.release.register import register, unregistered
from lifecycle.settings import Settings
from lifecycle.training.bundle import load_bundle


def take_offer(project: Project, settings: Settings, env: str, version: int | None = None) -> Offer:
    """The version another environment offers; its bundle and hook are kept here.

    Args:
        env: the other environment.
        version: in its registry; by default its champion.

    Raises:
        BackendError: registry, store or trail of either environment cannot be reached.
        BundleError: the bundle is not what its digest says, there or here.
        RegistryError: there is no such version, or it predicts something else.
        SettingsError: both environments have one registry.
    """
    with TemporaryDirectory(prefix="lifecycle-offer-") as scratch:
        folder = Path(scratch)
        offer = ask(OfferRequest(project_name=project.name, version=version), env, folder).offer
        if offer is None:
            raise RegistryError(f"{env}: made no offer")
        if offer.registry == registry_id(settings):
            raise SettingsError(
                f"--from: {env} and {settings.env} have one registry, so there is nothing to "
                f"promote; see that deployments/{env}.env and deployments/{settings.env}.env name "
                "different ones"
            )
        path = keep_bundle(folder / BUNDLE, offer.model, settings)
        schema = load_bundle(path, offer.model.digest).schema
        if (schema.task, schema.target) != (project.task, project.target):
            raise RegistryError(
                f"{offer}: predicts {schema.target!r} (task {schema.task}), and this project "
                f"{project.target!r} (task {project.task})"
            )
        if schema.hook:
            copy = folder / HOOK / hooks.module_of(schema.hook)
            if copy.is_file():
                hooks.keep_hook(copy, project.name, schema.hook, schema.hook_digest, settings)
        return offer


def note(project: Project, offer: Offer, action: Action, who: str, *reasons: str) -> None:
    """Write a line into the trail of the environment that made the offer.

    Raises:
        BackendError: that trail cannot be written.
    """
    line = Note.model_validate(
        {"who": who, "action": action, "model": offer.model, "reasons": reasons}
    )
    with TemporaryDirectory(prefix="lifecycle-offer-") as scratch:
        ask(OfferRequest(project_name=project.name, note=line), offer.env, Path(scratch))


def overlap_warning(project: Project, offer: Offer, holdout: DatasetVersion) -> tuple[str, ...]:
    """A warning if rows of the holdout equal rows that the offered version learned from.

    Rows are compared by the inputs and the target; hashed columns are left out, since each
    environment has a key of its own.

    Raises:
        BackendError: the holdout cannot be read.
    """
    contract = project.contract.columns
    names = (*project.source_inputs, project.target)
    columns = tuple(name for name in names if contract[name].pii in (None, "keep"))
    overlap = Overlap(split=offer.origin.split, columns=columns)
    with TemporaryDirectory(prefix="lifecycle-offer-") as scratch:
        folder = Path(scratch)
        np.save(folder / ROWS, row_hashes(holdout, columns), allow_pickle=False)
        request = OfferRequest(project_name=project.name, overlap=overlap)
        try:
            rows = ask(request, offer.origin.env, folder).rows
        except LifecycleError as error:  # its data were deleted, or are not for us to read
            return (f"Whether it learned from rows of this holdout is not known: {error}.",)
    if not rows:
        return ()
    return (
        f"{counted(rows, 'row')} of {holdout.rows:,} in this holdout ({rows / holdout.rows:.0%}) "
        f"equal rows that it learned from in {offer.origin.env}: its numbers may be too good. "
        "Where both environments have the same people, name `entity`: the split goes by it.",
    )


def as_offered(project: Project, settings: Settings, offer: Offer) -> Project:
    """The project with the features hook of the offered version, if that is another one now.

    Raises:
        BundleError: that hook is nowhere any more.
        FeatureError: the project's hook cannot be read.
    """
    bundle = bundle_of(offer, settings)
    schema = load_bundle(bundle.path, bundle.digest).schema
    if schema.hook is None and project.features is None:
        return project
    if schema.hook == project.features and schema.hook_digest == hook_digest(project):
        return project
    return hooks.as_trained(project, offer.model, settings)


def bundle_of(offer: Offer, settings: Settings) -> Bundle:
    """The bundle of an offer as it is kept here.

    Raises:
        BundleError: it is incomplete or was changed.
    """
    digest = offer.model.digest
    path = settings.folder("bundles", offer.model.name) / digest
    return Bundle(
        path=path,
        digest=digest,
        rounds=load_bundle(path, digest).manifest.rounds,
        curve=offer.curve,
        warnings=tuple(f"In {offer.env}: {text}" for text in offer.trained.evaluation.warnings),
    )


def registered(project: Project, settings: Settings, offer: Offer) -> ModelVersion | None:
    """The version here that has the bundle of an offer, whole; None without one.

    Raises:
        BackendError: the registry cannot be reached.
    """
    model = registry.find_by_identity(project, settings, offer.model.identity)
    return model if model is not None and model.digest == offer.model.digest else None


def as_unregistered(project: Project, settings: Settings, offer: Offer) -> ModelVersion:
    """Name what is offered in this environment's trail, before it has a version here."""
    return unregistered(project, offer.trained.identity, bundle_of(offer, settings))


def accept(
    project: Project,
    settings: Settings,
    offer: Offer,
    judgement: Judgement,
) -> Trained:
    """Register an offer as challenger; a version that is here already is taken.

    Raises:
        BackendError: MLflow cannot be reached or written.
        BundleError: the bundle is not what its digest says.
    """
    if (model := registered(project, settings, offer)) is not None:
        registry.set_alias(model, registry.CHALLENGER, settings)
        return record_of(model, settings)
    trained = Trained(
        model=as_unregistered(project, settings, offer),
        evaluation=judgement.evaluated.candidate,
        baseline=judgement.evaluated.baseline,
        checks=judgement.checks,
        decision=judgement.decision,
        split=judgement.split,
        tuned=offer.trained.tuned.model_copy(update={"history": ()}),  # its trials are there
        identity=offer.trained.identity,
        noise=offer.trained.noise,
        origin=offer.origin,
    )
    return register(
        project,
        settings,
        bundle=bundle_of(offer, settings),
        trained=trained,
        plots=judgement.evaluated.plots,
        report=judgement.evaluated.report,
    )


def claim(
    trail: Trail, offer: Offer, model: ModelVersion, base: str, notes: Mapping[str, str]
) -> None:
    """Claim the environment for this promotion.

    Args:
        model: `as_unregistered`.
        base: `model_trail.standing` when the promotion began.
        notes: what is said besides, by its key; empty texts are left out.

    Raises:
        OvertakenError: somebody has changed the project's versions since.
        BackendError: the trail cannot be read or written.
    """
    words = (f"{key}: {text}" for key, text in notes.items() if text)
    trail.claim(model, (f"From {offer}.", *words), base)
