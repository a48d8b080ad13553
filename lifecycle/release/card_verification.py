"""The claims of a model card, each held against the store that can prove or disprove it.

What was measured is compared with run, bundle and lake, what the project declares with the project
file that MLflow has with the run.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from lifecycle.audit.card_trail import CardChange
from lifecycle.errors import ProjectError
from lifecycle.lake.manifest import read_commit
from lifecycle.lake.table import erased_rows, relocated, rows_left
from lifecycle.project import Project
from lifecycle.project.loader import load_project
from lifecycle.quality.card import (
    FalseClaim,
    ModelCard,
    declared_claims,
    false_claims,
    measured_claims,
)
from lifecycle.quality.card_page import CARD_HTML, CARD_MARKDOWN
from lifecycle.records import DatasetVersion, Identity, ModelVersion, Trained
from lifecycle.release import cards
from lifecycle.release.artifacts import bundle_path, logged_record
from lifecycle.release.lifetime import MADE_PREFIX
from lifecycle.release.mlflow_run import gap_name, logged_estimates
from lifecycle.release.mlflow_store import backend_errors, connect
from lifecycle.release.registry import IDENTITY, erased_rows_of
from lifecycle.runtime.run import provenance
from lifecycle.settings import Settings
from lifecycle.training.bundle import load_bundle

if TYPE_CHECKING:
    from mlflow.entities import Run

MODELS_TRAIL = "the audit trail of model cards"
MAX_CLAIMS_SHOWN = 5
"""False claims that a message names."""
SENTENCES = ("predicts", "learned_from", "limits")
"""Declared claims that this package words: another release may word them otherwise."""


def verify_card(
    model: ModelVersion, settings: Settings, project: Project | None = None
) -> list[FalseClaim]:
    """Every claim of a version's card that the store says otherwise; none of a version without.

    Measured claims are compared with the run, the bundle and the lake, and so is the record of the
    training, which gates read. Declared ones are compared with the project file that MLflow has
    with the run; the project file of now may have changed since. It is looked at where the card is
    not the registered one, to name what was changed in it.

    Args:
        project: the project of the version.

    Raises:
        BackendError: a store cannot be read.
        BundleError: the registered bundle is not what its digest says.
        RegistryError: the version has no readable record.
    """
    lines = cards.card_lines(settings, model)
    text = cards.load_document(model, cards.CARD, settings)
    if text is None:
        return [_changed(cards.CARD, "nothing", lines[-1].card)] if lines else []
    digest, sealed = cards.text_digest(text), lines[-1].card if lines else "no line"
    try:
        card = ModelCard.model_validate_json(text)
    except ValidationError:
        return [_changed(cards.CARD, digest, sealed)]
    record = relocated(logged_record(model, settings), settings)
    problems = _false_measures(card, model, record, settings)
    problems += _false_declarations(card, model, settings)
    problems += false_claims(card.model, model, "model")
    if digest not in [line.card for line in lines]:
        if project is not None:
            names = {problem.claim for problem in problems}
            declared = false_claims(card.declared, declared_claims(project), "declared")
            problems += [claim for claim in declared if claim.claim not in names]
        if not problems:
            problems.append(_changed(cards.CARD, digest, sealed))
    return problems + _changed_documents(model, lines, settings)


def claims_in_words(problems: Sequence[FalseClaim]) -> tuple[str, ...]:
    """False claims as reasons of a decision: the first ones, and how many there are."""
    reasons = [f"False claim: {claim}." for claim in problems[:MAX_CLAIMS_SHOWN]]
    if more := len(problems) - len(reasons):
        reasons.append(f"{more} more claims of the model card are not so.")
    return tuple(reasons)


def _changed(file: str, digest: str, sealed: str) -> FalseClaim:
    return FalseClaim(claim=file, claimed=digest, actual=sealed, place=MODELS_TRAIL)


def _changed_documents(
    model: ModelVersion, lines: Sequence[CardChange], settings: Settings
) -> list[FalseClaim]:
    """Documents that are not as the trail has them; an erasure replaces pages."""
    problems = []
    for at, name in enumerate((CARD_MARKDOWN, CARD_HTML)):
        sealed = [line.pages.split(" ")[at] for line in lines if " " in line.pages]
        digest = cards.text_digest(cards.load_document(model, name, settings) or "")
        erased = name == CARD_HTML and erased_rows_of(model, settings)
        if sealed and digest not in sealed and not erased:
            problems.append(_changed(name, digest, sealed[-1]))
    return problems


def _false_measures(
    card: ModelCard, model: ModelVersion, record: Trained, settings: Settings
) -> list[FalseClaim]:
    """Claims of the card, and of the record, that run, bundle and lake say otherwise."""
    stored, rounds, contract = _stored(model, record, settings)
    contract = contract or card.measured.contract  # where the lake has no such rows any more
    actual = measured_claims(stored, rounds, contract)
    problems = false_claims(card.measured, actual, "measured")
    names = {claim.claim for claim in problems}
    recorded = measured_claims(record, rounds, contract)
    for claim in false_claims(recorded, actual, "measured"):
        if claim.claim not in names:
            place = f"{claim.place}, and not the record of the training,"
            problems.append(claim.model_copy(update={"place": place}))
    return problems


def _false_declarations(
    card: ModelCard, model: ModelVersion, settings: Settings
) -> list[FalseClaim]:
    """Declared claims that the project file of the run says otherwise; none without that file.

    The licence lies beside that file and is not in MLflow: the trail alone holds it.
    """
    with backend_errors(settings):
        tags = connect(settings).get_run(model.run_id).data.tags
    project = project_of(model, settings)
    if project is None:
        return []
    declared, unknown = card.declared, ["licence"]
    if tags.get(f"{MADE_PREFIX}code") != provenance()["code"]:
        unknown += SENTENCES
    own = {name: getattr(declared, name) for name in unknown}
    actual = declared_claims(project).model_copy(update=own)
    return false_claims(declared, actual, "declared")


def project_of(model: ModelVersion, settings: Settings) -> Project | None:
    """The project of a version as its run has the file; None if this release reads none.

    Raises:
        BackendError: MLflow cannot be reached.
    """
    name = cards.project_file(model, settings)
    text = cards.load_document(model, name, settings) if name else None
    if name is None or text is None:
        return None
    with tempfile.TemporaryDirectory(prefix="lifecycle-card-") as folder:
        file = Path(folder) / name
        file.write_text(text, encoding="utf-8")
        try:
            return load_project(file, settings.env)
        except ProjectError:
            return None


def _stored(model: ModelVersion, record: Trained, settings: Settings) -> tuple[Trained, int, str]:
    """The record with what run, bundle and lake say in place of its own; rounds and contract."""
    with backend_errors(settings):
        run = connect(settings).get_run(model.run_id)
    loaded = load_bundle(bundle_path(model, settings), model.digest)
    numbers = run.data.metrics
    evaluation = record.evaluation
    gaps = tuple(
        gap.model_copy(update={"value": numbers.get(gap_name(gap), gap.value)})
        for gap in evaluation.gaps
    )
    measured: dict[str, Any] = {
        "metrics": logged_estimates(run, "holdout"),
        "threshold": numbers.get("threshold"),
        "calibration_error": numbers.get("holdout/calibration_error"),
        "gaps": gaps,
    }
    baseline = record.baseline.model_copy(update={"metrics": logged_estimates(run, "baseline")})
    split = record.split
    parts = {name: _in_lake(part) for name, part in split if isinstance(part, DatasetVersion)}
    stored = record.model_copy(
        update={
            "model": model.model_copy(update={"digest": loaded.digest}),
            "evaluation": evaluation.model_copy(update=measured),
            "baseline": baseline,
            "split": split.model_copy(update=parts),
            "identity": _identity(run, record.identity),
        }
    )
    return stored, loaded.manifest.rounds, cards.contract_of(split)


def _identity(run: "Run", recorded: Identity) -> Identity:
    """The identity as the tags of a run have it; of a run without them, as recorded."""
    tags = run.data.tags
    parts = {
        name: tags[f"{IDENTITY}.{name}"]
        for name in Identity.model_fields
        if f"{IDENTITY}.{name}" in tags
    }
    content = recorded.model_dump() | parts | {"digest": tags.get(IDENTITY, recorded.digest)}
    return Identity.model_validate(content)


def _in_lake(part: DatasetVersion) -> DatasetVersion:
    """A part with the rows and the digest that the lake has; as recorded where it is gone."""
    info = read_commit(part.uri, part.version) or {}
    if "digest" not in info:  # another environment's, or deleted by retention
        return part
    rows = rows_left(part.uri, part.version) + erased_rows(part.uri, part.version)
    return part.model_copy(update={"digest": str(info["digest"]), "rows": rows})
