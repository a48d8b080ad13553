"""The audit trail of model cards: what a card said when, and what people noted of a version.

A chain of its own, next to that of the model versions: a release that is under way ends when
somebody else changes a version, and must not when somebody writes a note.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

import pyarrow as pa

from lifecycle.audit.chain import LINE, Chain
from lifecycle.audit.model_trail import CROWNING
from lifecycle.lake.table import table_uri
from lifecycle.records import Change, ModelVersion
from lifecycle.records.base import Link
from lifecycle.runtime.run import current_run
from lifecycle.settings import Settings

TABLE = "card_audit"
SCHEMA = pa.schema(
    {
        LINE: pa.int64(),
        "time": pa.string(),
        "who": pa.string(),
        "action": pa.string(),
        "model": pa.string(),
        "version": pa.int64(),
        "card": pa.string(),
        "pages": pa.string(),
        "reasons": pa.list_(pa.string()),
        "previous": pa.string(),
        "hash": pa.string(),
    }
)
Status = Literal["draft", "approved", "archived"]
CardAction = Literal["draft", "approved", "archived", "note"]


class CardChange(Link):
    """One line: a card got a status, or a version a note."""

    action: CardAction
    model: str
    version: int
    card: str
    """SHA-256 of the card, as the registry has its file."""
    pages: str = ""
    """SHA-256 of Markdown and page that were made with this line, a blank between them."""

    def __str__(self) -> str:
        return f"{self.action} v{self.version}"


def card_chain(settings: Settings, project_name: str) -> Chain[CardChange]:
    """The lines on a project's model cards."""
    uri = table_uri(settings, project_name, TABLE)
    return Chain(uri, CardChange, SCHEMA, lambda line: (line.action,))


def card_line(
    action: CardAction, model: ModelVersion, card: str, reasons: Sequence[str] = ()
) -> CardChange:
    """A line in the name of whoever runs this, not yet in the trail.

    Args:
        card: SHA-256 of the card's file.
    """
    return CardChange(
        time=datetime.now(UTC).isoformat(timespec="milliseconds"),
        who=current_run().who,
        action=action,
        model=model.name,
        version=model.version,
        card=card,
        reasons=tuple(reasons),
    )


def append_line(settings: Settings, line: CardChange) -> CardChange:
    """Append a line.

    Raises:
        BackendError: the trail cannot be read or written.
    """
    return card_chain(settings, line.model).append(line, lambda _: False)


def status_of(version: int, changes: Sequence[Change], champion: int | None) -> Status:
    """The status of a version's card: approved while it is the champion, archived after that.

    Args:
        changes: the trail of the model versions, oldest first.
        champion: the version with the alias, if there is one.
    """
    if version == champion:
        return "approved"
    crowned = any(change.action in CROWNING and change.version == version for change in changes)
    return "archived" if crowned else "draft"
