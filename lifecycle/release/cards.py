"""Model cards in MLflow, beside the version they are about: written, read, given a status.

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
from typing import TYPE_CHECKING

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
from lifecycle.errors import LifecycleError, RegistryError
from lifecycle.lake.read import PART_OF
from lifecycle.lake.table import note_of
from lifecycle.project import Project
from lifecycle.project.loader import load_project
from lifecycle.quality.card import (
    ModelCard,
    declared_claims,
    make_card,
)
from lifecycle.quality.card_page import CARD_HTML, CARD_MARKDOWN, card_page, markdown
from lifecycle.records import (
    Change,
    ModelVersion,
    Split,
    Trained,
    one_line,
)
from lifecycle.release.artifacts import bundle_path
from lifecycle.release.mlflow_store import backend_errors, connect
from lifecycle.release.registry import (
    CHAMPION,
    COMPLETE,
    as_record,
    by_alias,
    versions_of,
)
from lifecycle.runtime.html import write_page
from lifecycle.settings import Settings
from lifecycle.training.bundle import load_bundle

if TYPE_CHECKING:
    pass

CARD = "card.json"
STATUS = "lifecycle.card"
"""Tag of a version: the status of its card."""
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
    digest = text_digest(text)
    if not lines:
        _publish(settings, card, card_line("draft", model, digest, ("Registered.",)))
    elif lines[-1].card != digest:
        line = card_line(_status(lines), model, digest, ("Registered again, with other claims.",))
        _publish(settings, card, line)
    _log_project(project, card, settings)
    with backend_errors(settings):
        connect(settings).log_text(model.run_id, text, CARD)
    return card


def _log_project(project: Project, card: ModelCard, settings: Settings) -> None:
    """Leave the project file with the run, if it has what the card declares.

    The run has it from the begin of the training, unless it was promoted. Of another training with
    the same identity it may be older: a purpose may be edited without making another model.
    """
    try:
        text = project.file.read_text(encoding="utf-8")
        declared = declared_claims(load_project(project.file, settings.env))
    except (OSError, LifecycleError):  # made in code, or edited meanwhile
        return
    if declared == card.declared:
        name = project_file(card.model, settings) or project.file.name
        with backend_errors(settings):
            connect(settings).log_text(card.model.run_id, text, name)


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
    return make_card(project, trained, rounds, contract_of(trained.split))


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
    card, lines = require_card(model, settings), card_lines(settings, model)
    if not lines:
        raise _no_card(model)
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
    return " ".join(text_digest(documents[name]) for name in (CARD_MARKDOWN, CARD_HTML))


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
    text = load_document(model, CARD, settings)
    if text is None:
        return None
    try:
        return ModelCard.model_validate_json(text)
    except ValidationError as error:
        raise RegistryError(
            f"{model.uri}: its {CARD} is no model card ({error.error_count()} problems)"
        ) from None


def require_card(model: ModelVersion, settings: Settings) -> ModelCard:
    """The card of a version that must have one.

    Raises:
        BackendError: MLflow cannot be reached.
        RegistryError: there is none, or it cannot be read.
    """
    card = read_card(model, settings)
    if card is None:
        raise _no_card(model)
    return card


def _no_card(model: ModelVersion) -> RegistryError:
    return RegistryError(
        f"{model.uri}: it has no model card: it was registered before versions had one; its next "
        "release writes one"
    )


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


def contract_of(split: Split) -> str:
    """Version of the contract under which the rows of a split were ingested; empty if unknown.

    Raises:
        BackendError: the lake cannot be read.
    """
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


def load_document(model: ModelVersion, name: str, settings: Settings) -> str | None:
    """A text of the run of a version; None if it has none of this name.

    Raises:
        BackendError: MLflow cannot be reached.
    """
    client = connect(settings)
    import mlflow

    with backend_errors(settings):
        if not any(file.path == name for file in client.list_artifacts(model.run_id)):
            return None
        text: str = mlflow.artifacts.load_text(f"runs:/{model.run_id}/{name}")
        return text


def project_file(model: ModelVersion, settings: Settings) -> str | None:
    """Name of the project file that the run of a version has; None if it has none, or several.

    Raises:
        BackendError: MLflow cannot be reached.
    """
    client = connect(settings)
    with backend_errors(settings):
        names = [file.path for file in client.list_artifacts(model.run_id) if not file.is_dir]
    files = [name for name in names if name.endswith((".yaml", ".yml"))]
    return files[0] if len(files) == 1 else None


def text_digest(text: str) -> str:
    """SHA-256 of a document."""
    return hashlib.sha256(text.encode()).hexdigest()
