"""`POST /labels`: what came true for predictions, taken into the ledger before it is answered.

Labels about erased entities are left out, and counted in the answer like the others: it tells
nobody who was erased.
"""

import asyncio
import logging
import subprocess
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

from lifecycle.errors import BackendError, DataError, RequestError
from lifecycle.lake.prediction_log import start_tidying
from lifecycle.project import Project
from lifecycle.serving.body import check_records, load_object
from lifecycle.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa

    from lifecycle.labels.ledger import Ledger
    from lifecycle.training.bundle import BundleSchema

logger = logging.getLogger(__name__)

LABELS = "/labels"
FIELD = "labels"
SHAPE = '{"labels": [{"prediction_id": …, target: …}, …]}'


class LedgerUnavailableError(RequestError):
    """The ledger cannot be written; the labels may be sent again, which does no harm."""

    status = 503


class LabelInbox:
    """Takes labels in for one replica. Those that wait for each other become one commit.

    Nothing is imported or opened before the first request: the start of a replica does without.
    """

    def __init__(self, project: Project, settings: Settings) -> None:
        self._project, self._settings = project, settings
        self._max_rows = project.serving.max_rows
        self._queue: deque[tuple[pa.Table, Future[None]]] = deque()
        self._thread = ThreadPoolExecutor(1, "labels")
        self._ledger: Ledger | None = None
        self._tidying: subprocess.Popen[bytes] | None = None

    async def take(self, body: bytes) -> bytes:
        """Take the labels of a body: they are in the ledger once this returns.

        Returns:
            The answer as JSON: how many there were.

        Raises:
            RequestError: the body is not JSON or has another shape, or a label is none of the
                contract's; nothing of it is taken.
            LedgerUnavailableError: the ledger cannot be written.
        """
        content = load_object(body, SHAPE)
        if content.keys() != {FIELD}:
            raise RequestError(f"the body must be {SHAPE}")
        records = check_records(content[FIELD], self._max_rows, FIELD)
        rows, future = await asyncio.to_thread(self._read_and_queue, records)
        await asyncio.wrap_future(future)
        return orjson.dumps({FIELD: rows})

    def _read_and_queue(self, records: Sequence[dict[str, Any]]) -> tuple[int, "Future[None]"]:
        rows = self._read(records)
        future: Future[None] = Future()
        self._queue.append((rows, future))
        self._thread.submit(self._commit)
        return rows.num_rows, future

    def _read(self, records: Sequence[dict[str, Any]]) -> "pa.Table":
        import pandas as pd

        from lifecycle.labels.delivery import PROBLEMS_SHOWN, label_fields, read_labels

        fields = label_fields(self._project)
        for number, record in enumerate(records):
            if unknown := record.keys() - fields:
                raise RequestError(
                    f"{FIELD}: row {number} has {min(unknown)!r}, which is no part of a label; "
                    f"its parts are {', '.join(fields)}"
                )
            if record.get(self._project.target) is None:
                raise RequestError(f"{FIELD}: row {number}: {self._project.target}: missing")
            if empty := [name for name, value in record.items() if value in (None, "")]:
                raise RequestError(f"{FIELD}: row {number}: {empty[0]}: is empty; leave it out")
        names = [name for name in fields if any(name in record for record in records)]
        raw = pd.DataFrame(
            {
                name: pd.Series([_plain(r.get(name)) for r in records], dtype=object)
                for name in names
            }
        )
        try:
            read = read_labels(raw, self._project, self._settings, datetime.now(UTC), first=0)
        except DataError as error:
            raise RequestError(str(error)) from None
        if read.problems:
            raise RequestError(f"{FIELD}: {'; '.join(read.problems[:PROBLEMS_SHOWN])}")
        return read.table

    def _commit(self) -> None:
        """Append all that waits in one commit; the only thread that does."""
        import pyarrow as pa

        from lifecycle.labels.delivery import not_erased
        from lifecycle.labels.ledger import Ledger

        waiting = [self._queue.popleft() for _ in range(len(self._queue))]
        if not waiting:
            return
        try:
            if self._ledger is None:
                self._ledger = Ledger(self._settings, self._project.name)
            rows = pa.concat_tables(rows for rows, _ in waiting)
            allowed = not_erased(rows, self._project, self._settings)
            if self._ledger.append(rows.filter(pa.array(allowed))):
                self._tidy(self._ledger.uri)
        except Exception as error:
            reason = error if isinstance(error, BackendError) else "the server's log has the cause"
            logger.warning("labels are not taken: %s", error)
            for _, future in waiting:
                message = f"the labels could not be written: {reason}; send them again"
                future.set_exception(LedgerUnavailableError(message))
            return
        for _, future in waiting:
            future.set_result(None)

    def _tidy(self, uri: str) -> None:
        if self._tidying is None or self._tidying.poll() is not None:
            self._tidying = start_tidying(uri, sweep=True)


def _plain(value: Any) -> Any:
    """The value; 7.0 as 7, which are one number in JSON."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def label_schema(project: Project, model: "BundleSchema") -> tuple[dict[str, Any], dict[str, Any]]:
    """JSON schema of a label, and an example: what it is about, by the id of a prediction or by
    entity and time, and its value."""
    from lifecycle.labels.delivery import ID, KNOWN_AT, PREDICTION_ID
    from lifecycle.labels.truth import entity_is_stored
    from lifecycle.serving.openapi import field, structure, text

    key: dict[str, Any] = {}
    if project.entity and entity_is_stored(project):
        entity = project.columns[project.entity]
        key[project.entity] = field(entity.model_copy(update={"nullable": False}))
    if project.time:
        key[project.time.column] = text() | {"format": "date-time"}
    target = project.columns[project.target].model_copy(update={"nullable": False})
    pattern = ID.pattern.replace("?P<request>", "").replace("?P<row>", "")
    prediction = text("id of a prediction; row i of a request is <id>-<i>")
    properties = {
        PREDICTION_ID: prediction | {"pattern": f"^(?:{pattern})$"},
        **key,
        project.target: field(target),
        KNOWN_AT: text("when it was known; by default, now") | {"format": "date-time"},
    }
    about = [{"required": [PREDICTION_ID]}, *([{"required": [*key]}] if key else [])]
    optional = [name for name in properties if name != project.target]
    value = model.positive if model.positive is not None else 1
    example = {
        PREDICTION_ID: f"{'0' * 28}-0",
        project.target: model.classes[0] if model.classes else value,
    }
    return structure(*optional, **properties) | {"anyOf": about}, example
