"""Model cards in MLflow, beside the version they are about: written, verified, given a status.

`card.json` is written when the version is registered, and its SHA-256 is in the audit trail of
cards. `model_card.md` and `model_card.html` are made of it, and made anew when its status changes
or somebody writes a note. The order makes it safe to be killed anywhere: first the line of the
trail, then the files that show it, last the tag with the status. A file that any line of its
version has is intact.
"""

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from lifecycle.audit.card_trail import (
    CardAction,
    CardChange,
    Status,
    append_line,
    card_chain,
    card_line,
    status_of,
)
from lifecycle.audit.model_trail import CROWNING, history
from lifecycle.errors import RegistryError
from lifecycle.lake.manifest import read_commit
from lifecycle.lake.read import PART_OF
from lifecycle.lake.table import erased_rows, note_of, relocated, rows_left
from lifecycle.project import Project
from lifecycle.quality.card import (
    FalseClaim,
    ModelCard,
    declared_claims,
    false_claims,
    make_card,
    measured_claims,
)
from lifecycle.quality.card_page import CARD_HTML, CARD_MARKDOWN, card_page, markdown
from lifecycle.records import (
    Change,
    DatasetVersion,
    Identity,
    ModelVersion,
    Split,
    Trained,
    one_line,
)
from lifecycle.release.artifacts import bundle_path, logged_record
from lifecycle.release.mlflow_run import gap_name, logged_estimates
from lifecycle.release.mlflow_store import backend_errors, connect
from lifecycle.release.registry import (
    CHAMPION,
    COMPLETE,
    IDENTITY,
    as_record,
    by_alias,
    erased_rows_of,
    versions_of,
)
from lifecycle.runtime.html import write_page
from lifecycle.settings import Settings
from lifecycle.training.bundle import load_bundle

if TYPE_CHECKING:
    from mlflow.entities import Run

CARD = "card.json"
STATUS = "lifecycle.card"
"""Tag of a version: the status of its card."""
MODELS_TRAIL = "the audit trail of model cards"
MAX_CLAIMS_SHOWN = 5
"""False claims that a message names."""
MOST_TABLES = 3
"""Between a part and what was ingested: the part, a table with joined views, the ingested one."""
SHORT = 12


# Written.


def write_card(project: Project, trained: Trained, settings: Settings) -> ModelCard:
    """Log the card of a registered version as a draft; again is the same as once.

    Raises:
        BackendError: MLflow, the lake or the trail cannot be read or written.
        BundleError: the bundle is not what its digest says.
    """
    model = trained.model
    card = draft_card(project, trained, settings)
    text, lines = card_text(card), card_lines(settings, model)
    digest = _sha256(text)
    if not lines:
        _publish(settings, card, card_line("draft", model, digest, ("Registered.",)))
    elif lines[-1].card != digest:
        line = card_line(_status(lines), model, digest, ("Registered again, with other claims.",))
        _publish(settings, card, line)
    with backend_errors(settings):
        connect(settings).log_text(model.run_id, text, CARD)
    return card


def ensure_card(project: Project, trained: Trained, settings: Settings) -> None:
    """Give a version its card that was registered before versions had one.

    Raises:
        BackendError, BundleError: see `write_card`.
    """
    if not card_lines(settings, trained.model):
        write_card(project, trained, settings)


def draft_card(project: Project, trained: Trained, settings: Settings) -> ModelCard:
    """The card of a version that is about to be registered.

    Raises:
        BackendError: the lake cannot be read.
        BundleError: the bundle is not what its digest says.
    """
    path = settings.folder("bundles", project.name) / trained.model.digest
    if not path.is_dir():
        path = bundle_path(trained.model, settings)
    rounds = load_bundle(path, trained.model.digest).manifest.rounds
    return make_card(project, trained, rounds, _contract_of(trained.split))


def card_text(card: ModelCard) -> str:
    """A card as its file has it."""
    return card.model_dump_json(indent=1)


def add_note(model: ModelVersion, text: str, settings: Settings) -> CardChange:
    """Note something of a version: in the audit trail, on its card and on its page.

    Args:
        text: in words; never a personal value.

    Raises:
        RegistryError: the note is empty, or the version has no card.
        BackendError: a store cannot be read or written.
    """
    words = one_line(" ".join(text.split()))
    if not words:
        raise RegistryError(f"{model.uri}: a note needs words")
    card, lines = read_card(model, settings), card_lines(settings, model)
    if card is None or not lines:
        raise RegistryError(
            f"{model.uri}: it has no model card, since a former release registered it; its next "
            "release writes one"
        )
    return _publish(settings, card, card_line("note", model, lines[-1].card, (words,)))


def update_statuses(project_name: str, settings: Settings) -> list[CardChange]:
    """Bring the status of every card in line with the audit trail of the versions.

    Returns:
        The lines of the cards whose status was changed.

    Raises:
        BackendError: a store cannot be read or written.
    """
    lines_by_version: dict[int, list[CardChange]] = {}
    for line in card_chain(settings, project_name).lines():
        lines_by_version.setdefault(line.version, []).append(line)
    if not lines_by_version:
        return []
    changes = history(settings, project_name)
    holder = by_alias(project_name, CHAMPION, settings)
    champion = None if holder is None else holder.version
    results = []
    for registered in versions_of(connect(settings), project_name, None, settings):
        lines = lines_by_version.get(int(registered.version))
        if COMPLETE not in registered.tags or lines is None:
            continue
        model = as_record(registered)
        status = status_of(model.version, changes, champion)
        if registered.tags.get(STATUS) == status:
            continue
        card = read_card(model, settings)
        if card is None:
            continue
        line = lines[-1]
        if line.action != status:  # else a process was killed after its line
            reasons = _reason(status, model, changes)
            line = card_line(status, model, line.card, reasons)
        results.append(_publish(settings, card, line))
    return results


def _reason(status: Status, model: ModelVersion, changes: Sequence[Change]) -> tuple[str, ...]:
    """Who made the version champion, or which one came after it."""
    for change in reversed(changes):
        if change.action not in CROWNING:
            continue
        if status == "approved" and change.version == model.version:
            return (f"{change.action} by {change.who}.", *change.reasons[:1])
        if status == "archived" and change.version != model.version:
            return (f"v{change.version} is champion since, {change.action} by {change.who}.",)
    return ("By hand.",) if status == "approved" else ()


def _publish(settings: Settings, card: ModelCard, line: CardChange) -> CardChange:
    """Write a line, the documents that show it, and the tag.

    A line that says what the last one of the version says is that one: its writer was killed.
    """
    model = card.model
    lines = card_lines(settings, model)
    if lines and _content(lines[-1]) == _content(line):
        line = lines[-1]
        documents = _documents(settings, card, lines)
        if line.pages != _pages_digest(documents):  # they are worded otherwise by now
            line = card_line(line.action, model, line.card, (*line.reasons, "Written again."))
    if not line.hash:
        lines = [*lines, line]
        documents = _documents(settings, card, lines)
        line = append_line(settings, line.model_copy(update={"pages": _pages_digest(documents)}))
    with backend_errors(settings):
        client = connect(settings)
        for name, text in documents.items():
            client.log_text(model.run_id, text, name)
        client.set_model_version_tag(model.name, str(model.version), STATUS, _status(lines))
    folder = settings.folder("reports", model.name) / model.digest[:SHORT]
    write_page(documents[CARD_HTML], folder / CARD_HTML)
    return line


def _content(line: CardChange) -> tuple[object, ...]:
    return line.action, line.card, line.reasons


def _documents(settings: Settings, card: ModelCard, lines: Sequence[CardChange]) -> dict[str, str]:
    """Markdown and page of a card as of the newest of these lines; the same at any later time."""
    words = _history(settings, card.model, lines, lines[-1].time)
    status = _status(lines)
    return {
        CARD_MARKDOWN: markdown(card, status, words),
        CARD_HTML: card_page(card, status, words),
    }


def _pages_digest(documents: dict[str, str]) -> str:
    return " ".join(_sha256(documents[name]) for name in (CARD_MARKDOWN, CARD_HTML))


def _status(lines: Sequence[CardChange]) -> Status:
    """The status after the newest of these lines."""
    actions = [line.action for line in lines if line.action != "note"]
    status: CardAction = actions[-1] if actions else "draft"
    return "draft" if status == "note" else status


# Read.


def read_card(model: ModelVersion, settings: Settings) -> ModelCard | None:
    """The card of a version as it was registered; None if it has none.

    Raises:
        BackendError: MLflow cannot be reached.
        RegistryError: the card cannot be read.
    """
    text = _load(model, CARD, settings)
    if text is None:
        return None
    try:
        return ModelCard.model_validate_json(text)
    except ValidationError as error:
        raise RegistryError(
            f"{model.uri}: its {CARD} is no model card ({error.error_count()} problems)"
        ) from None


def card_lines(settings: Settings, model: ModelVersion) -> list[CardChange]:
    """The lines of the trail on the card of a version, the oldest first.

    Raises:
        BackendError: the trail cannot be read.
    """
    lines = card_chain(settings, model.name).lines()
    return [line for line in lines if line.version == model.version]


def _history(
    settings: Settings, model: ModelVersion, lines: Sequence[CardChange], end: str
) -> tuple[str, ...]:
    """Decisions and notes on a version, a sentence each.

    Args:
        end: moment after which lines of the trail of the versions are left out.

    Raises:
        BackendError: the trail of the versions cannot be read.
    """
    events = [(line.time, f"{line.action} by {line.who}", " ".join(line.reasons)) for line in lines]
    events += [
        (change.time, f"{change.action} by {change.who}", " ".join(change.reasons[:1]))
        for change in history(settings, model.name)
        if change.time <= end
        and (change.version or model.version) == model.version  # an offer has no version yet
        and change.digest == model.digest
    ]
    return tuple(
        f"{time[:16].replace('T', ' ')} {event}{f': {reason}' if reason else ''}"
        for time, event, reason in sorted(events)
    )


def status_and_history(model: ModelVersion, settings: Settings) -> tuple[Status, tuple[str, ...]]:
    """The status of a version's card now, and the decisions and notes on it.

    Raises:
        BackendError: a trail cannot be read.
    """
    lines = card_lines(settings, model)
    return _status(lines), _history(settings, model, lines, datetime.now(UTC).isoformat())


# Verified.


def verify_card(
    model: ModelVersion, settings: Settings, project: Project | None = None
) -> list[FalseClaim]:
    """Every claim of a version's card that the store says otherwise; none of a version without.

    Measured claims are compared with the run, the bundle and the lake, and so is the record of the
    training, which gates read. What the project declares may have changed since: it is compared
    where the file of the card is not the registered one, to name what was changed in it.

    Args:
        project: the project of the version.

    Raises:
        BackendError: a store cannot be read.
        BundleError: the registered bundle is not what its digest says.
        RegistryError: the version has no readable record.
    """
    lines = card_lines(settings, model)
    text = _load(model, CARD, settings)
    if text is None:
        return [_changed(CARD, "nothing", lines[-1].card)] if lines else []
    digest, sealed = _sha256(text), lines[-1].card if lines else "no line"
    try:
        card = ModelCard.model_validate_json(text)
    except ValidationError:
        return [_changed(CARD, digest, sealed)]
    record = relocated(logged_record(model, settings), settings)
    problems = _false_measures(card, model, record, settings)
    problems += false_claims(card.model, model, "model")
    if digest not in [line.card for line in lines]:
        if project is not None:
            problems += false_claims(card.declared, declared_claims(project), "declared")
        if not problems:
            problems.append(_changed(CARD, digest, sealed))
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
        digest = _sha256(_load(model, name, settings) or "")
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
    return stored, loaded.manifest.rounds, _contract_of(split)


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


def _contract_of(split: Split) -> str:
    """Version of the contract under which the rows of a split were ingested; empty if unknown."""
    uri, version = split.holdout.uri, split.holdout.version
    for _ in range(MOST_TABLES):
        note = note_of(uri, version)
        if "contract" in note:
            return note["contract"]
        if PART_OF in note:
            place = json.loads(note[PART_OF])
            table, version = place["table"], int(place["version"])
        elif "@" in note.get("table", ""):
            table, _, number = note["table"].rpartition("@")
            version = int(number)
        else:
            break
        uri = f"{uri.rstrip('/').rpartition('/')[0]}/{table}"
    return ""


# Files and tags of MLflow.


def _load(model: ModelVersion, name: str, settings: Settings) -> str | None:
    """A text of the run of a version; None if it has none of this name."""
    client = connect(settings)
    import mlflow

    with backend_errors(settings):
        if not any(file.path == name for file in client.list_artifacts(model.run_id)):
            return None
        text: str = mlflow.artifacts.load_text(f"runs:/{model.run_id}/{name}")
        return text


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
