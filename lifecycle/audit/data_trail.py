"""The audit trail of a project's data: who did what to which table, and why.

A chain of its own, next to that of the model versions (`lifecycle.audit.model_trail`): a release
that is under way ends when somebody else changes a version, and must not when somebody ingests.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

import pyarrow as pa

from lifecycle.audit.chain import LINE, Chain
from lifecycle.lake.table import table_uri
from lifecycle.records import DataAction, DataChange
from lifecycle.runtime.run import current_run
from lifecycle.settings import Settings

TABLE = "data_audit"
SCHEMA = pa.schema(
    {
        LINE: pa.int64(),
        "time": pa.string(),
        "who": pa.string(),
        "run": pa.string(),
        "action": pa.string(),
        "table": pa.string(),
        "version": pa.int64(),
        "digest": pa.string(),
        "reasons": pa.list_(pa.string()),
        "previous": pa.string(),
        "hash": pa.string(),
    }
)


def data_chain(settings: Settings, project_name: str) -> Chain[DataChange]:
    """The lines on a project's data."""
    uri = table_uri(settings, project_name, TABLE)
    return Chain(uri, DataChange, SCHEMA, lambda line: (line.table,))


def record_data(
    settings: Settings,
    project_name: str,
    action: DataAction,
    table: str,
    version: int | None,
    digest: str = "",
    reasons: Sequence[str] = (),
) -> DataChange:
    """Append a line in the name of whoever runs this; what was said already is not said twice.

    It was if the newest line on the table has the same action, version, digest and reasons, so
    that a step that was killed behind this and runs again leaves one line.

    Args:
        version: of the table; None where the change concerns no single one.
        reasons: what was done and why, in words; never a personal value.

    Raises:
        BackendError: the trail cannot be read or written.
    """
    run = current_run()
    line = DataChange(
        time=datetime.now(UTC).isoformat(timespec="milliseconds"),
        who=run.who,
        run=run.name,
        action=action,
        table=table,
        version=version,
        digest=digest,
        reasons=tuple(reasons),
    )

    return data_chain(settings, project_name).append(
        line, lambda last: _content(last) == _content(line)
    )


def record_owed(
    settings: Settings,
    project_name: str,
    action: DataAction,
    table: str,
    version: int,
    digest: str,
    reasons: Sequence[str],
) -> None:
    """Append the line of a change that a run has made, unless the trail has one of it.

    For a change that is found done: whoever made it may have been killed before its line.

    Raises:
        BackendError: the trail cannot be read or written.
    """
    lines = data_chain(settings, project_name).lines()
    change = (action, table, version)
    if not any((line.action, line.table, line.version) == change for line in lines):
        record_data(settings, project_name, action, table, version, digest, reasons)


def _content(line: DataChange) -> tuple[object, ...]:
    return line.action, line.version, line.digest, line.reasons
