"""Requests for erasure, kept in `home` from the moment they are made until nothing is left.

A flow is told a request's name, never a person's: what Prefect is told stays in its database. A
request also keeps what was found before anything was erased, so that one that was killed goes on
where it was. Its file is its owner's alone, is encrypted with a key made from that of personal
data, and is deleted with the last trace: no name is in clear but while the request is carried out.
"""

import base64
import hmac
import json
import secrets
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken
from pydantic import ValidationError

from lifecycle.data.privacy import pii_key
from lifecycle.errors import ProjectError
from lifecycle.project import Project
from lifecycle.records import Learner, Record
from lifecycle.runtime.files import write_atomic
from lifecycle.runtime.run import current_run
from lifecycle.settings import Settings

FOLDER = "erasures"
PURPOSE = b"request for erasure"
"""What the key of the requests is made for, so that no other purpose shares it."""


class Findings(Record):
    """Findings about the persons, from before anything was erased."""

    tables: Mapping[str, Mapping[int, int]]
    """Table → dataset version → rows; -1 for a table without versions."""
    prints: Mapping[str, tuple[str, ...]]
    """Column → values that only their rows have."""
    examples: tuple[str, ...]
    """Their rows as JSON."""
    predictions: tuple[str, ...] = ()
    """Ids of the predictions about them."""
    learners: tuple[Learner, ...]


class ErasureRequest(Record):
    """Persons to erase."""

    id: str
    project: str
    entities: tuple[str, ...]
    """Values of the project's entity, as text."""
    values: tuple[str, ...] = ()
    """Further values of the persons, such as an email address."""
    reason: str
    who: str
    time: str
    found: Findings | None = None


def file_request(
    project: Project,
    settings: Settings,
    entities: Iterable[str],
    reason: str = "",
    values: Iterable[str] = (),
) -> ErasureRequest:
    """Keep a request; the same persons asked for again are the same request.

    Raises:
        ProjectError: no entity is named.
    """
    stripped_entities, stripped_values = _stripped(entities), _stripped(values)
    if not stripped_entities:
        raise ProjectError("--entity: name at least one person, or a file of them")
    for pending_request in pending(project, settings):
        if (pending_request.entities, pending_request.values) == (
            stripped_entities,
            stripped_values,
        ):
            return pending_request
    request = ErasureRequest(
        id=secrets.token_hex(4),
        project=project.name,
        entities=stripped_entities,
        values=stripped_values,
        reason=reason,
        who=current_run().who,
        time=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    save(settings, request)
    return request


def save(settings: Settings, request: ErasureRequest) -> None:
    """Write it encrypted, in one step, readable by its owner alone."""
    sealed = _cipher(settings).encrypt(request.model_dump_json().encode())
    text = json.dumps({"project": request.project, "request": sealed.decode()})
    write_atomic(_file(settings, request.id), text, 0o600)


def close(settings: Settings, request: ErasureRequest) -> None:
    """Delete a request, after nothing of its persons is left."""
    _file(settings, request.id).unlink(missing_ok=True)


def pending(project: Project, settings: Settings) -> list[ErasureRequest]:
    """Requests of a project that are not done, oldest first.

    Raises:
        ProjectError: a request cannot be read.
    """
    requests = []
    for path in settings.folder(FOLDER).glob("*.json"):
        try:
            content = json.loads(path.read_text())
            if content["project"] != project.name:
                continue
            text = _cipher(settings).decrypt(content["request"].encode())
            requests.append(ErasureRequest.model_validate_json(text))
        except InvalidToken:
            raise ProjectError(
                f"{path}: this request for erasure was changed, or filed under another key of "
                "personal data (LIFECYCLE_PII_KEY); delete it and file it again"
            ) from None
        except (ValueError, KeyError, TypeError, AttributeError, ValidationError, OSError):
            raise ProjectError(f"{path}: is not a request for erasure; delete it") from None
    return sorted(requests, key=lambda request: request.time)


def _cipher(settings: Settings) -> Fernet:
    key = hmac.new(pii_key(settings), PURPOSE, "sha256").digest()
    return Fernet(base64.urlsafe_b64encode(key))


def _stripped(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({text.strip() for text in texts if text.strip()}))


def _file(settings: Settings, name: str) -> Path:
    return settings.folder(FOLDER) / f"{name}.json"
