"""Feature views in a replica: what is known by now of whom a request is about."""

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from lifecycle.data.privacy import pii_key, pseudonym
from lifecycle.errors import LifecycleError, RequestError
from lifecycle.features.asof import AsOf
from lifecycle.features.encode import ViewUse
from lifecycle.features.store import made_like, open_view
from lifecycle.lake.column_types import constraints_of
from lifecycle.lake.column_types import to_frame as arrow_to_frame
from lifecycle.lake.prediction_log import ARROW
from lifecycle.lake.read import is_nullable
from lifecycle.project import ColumnSpec, Project
from lifecycle.records import DatasetVersion
from lifecycle.serving.records import Column, PredictionRequest, to_frame
from lifecycle.settings import Settings
from lifecycle.training.bundle import BundleSchema

logger = logging.getLogger(__name__)

REFRESH_SECONDS = 60.0
"""How often a replica looks for newer features."""
LARGEST = 2**63


class OpenView(NamedTuple):
    """A view in memory: of each entity its newest fact, and those that are still to come."""

    version: DatasetVersion
    facts: AsOf


class ServedViews:
    """The views of one model, looked up by the entity of a request.

    A project whose time is a datetime is answered as of the moment; one whose time is a whole
    number as of the period after the view's newest fact.

    Args:
        uses: of the bundle.

    Raises:
        BackendError: a view's table cannot be read, or has no features made as at training.
    """

    def __init__(self, uses: Mapping[str, ViewUse], project: Project, settings: Settings) -> None:
        if project.entity is None:
            raise ValueError("views are looked up by the project's entity")
        self._uses, self._project, self._settings = uses, project, settings
        self._entity = project.entity
        self._spec = project.contract.columns[project.entity]
        self._kind = self._spec.value_type
        self._columns = frozenset(name for use in uses.values() for name in use.columns)
        # a value of this type is right whatever it is; all others are looked at one by one
        kinds: dict[str, type] = {"integer": int, "string": str}
        self._plain = None if constraints_of(self._spec) else kinds.get(self._kind)
        self._key = pii_key(settings) if self._spec.pii == "hash" else None
        self._open_views: dict[str, OpenView] = {}
        self._ended = threading.Event()
        self.refresh()

    @property
    def entity(self) -> dict[str, ColumnSpec]:
        """The field that a request must have for the views: its name and its column spec."""
        return {self._entity: self._spec}

    @property
    def versions(self) -> dict[str, DatasetVersion]:
        """The version of each view that is looked up, by the name of the view."""
        return {name: view.version for name, view in self._open_views.items()}

    def refresh(self) -> None:
        """Take the newest features of each view; requests go on meanwhile.

        Raises:
            BackendError: as at the start; what is there stays.
        """
        open_views = {}
        for name, use in self._uses.items():
            version = made_like(self._settings, self._project.name, name, use)
            before = self._open_views.get(name)
            if before is not None and before.version == version:
                open_views[name] = before
                continue
            facts = open_view(version, use)
            open_views[name] = OpenView(version, facts.since(_now(facts)))
        self._open_views = open_views

    def follow(self) -> None:
        """Refresh now and then, on a thread of its own, until `close`."""
        threading.Thread(target=self._follow, name="views", daemon=True).start()

    def close(self) -> None:
        """Look for newer features no longer."""
        self._ended.set()

    def join(self, request: PredictionRequest) -> PredictionRequest:
        """The request with the features of its entities; missing ones of those nobody knows.

        Raises:
            RequestError: a row says no entity or one that cannot be, or brings a view's feature.
        """
        raw_records: Sequence[Mapping[str, Any]] = request.records or [request.columns or {}]
        ignore = self._project.serving.unknown_fields == "ignore"
        for row, fields in () if ignore else enumerate(raw_records):
            if own := self._columns & fields.keys():
                raise RequestError(f"row {row}: {min(own)}: unknown field")
        entities = self._entities(request)
        joined_columns: dict[str, list[Any]] = {}
        for name, facts, rows in self._facts_of(entities):
            joined_columns |= dict(zip(self._uses[name].columns, facts.values(rows), strict=True))
        if request.records is None:
            columns = {**(request.columns or {}), **joined_columns}
            return request._replace(columns=columns, matrix=None, joined=True)
        records = [
            record | dict(zip(joined_columns, values, strict=True))
            for record, *values in zip(request.records, *joined_columns.values(), strict=True)
        ]
        return request._replace(records=records, body=b"", joined=True)

    def frame(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Rows of requests with their features, as training saw both.

        Args:
            rows: with the project's entity.
        """
        entities = pa.array(rows[self._entity], ARROW[self._kind], from_pandas=True)
        columns: dict[str, pa.Array] = {}
        for name, facts, places in self._facts_of(self._as_stored(entities)):
            columns |= dict(zip(self._uses[name].columns, facts.take(places), strict=True))
        features = pa.table(columns)
        return pd.concat(
            [rows.reset_index(drop=True), arrow_to_frame(features, is_nullable)], axis=1
        )

    def _facts_of(self, entities: pa.Array) -> Iterator[tuple[str, AsOf, NDArray[np.int64]]]:
        """Yield each view's name, its facts, and per row the index of the current fact (rows,)."""
        for name, (_, view) in self._open_views.items():
            now = np.full(len(entities), _now(view), dtype=np.int64)
            yield name, view, view.lookup(entities, now)

    def _entities(self, request: PredictionRequest) -> pa.Array:
        """Return the entity of each row as the lake stores it (rows,)."""
        name = self._entity
        if request.records is not None:
            values: list[Any] = [record.get(name) for record in request.records]
        else:
            values = _values((request.columns or {}).get(name, ()))
        plain = len(values) == request.rows and set(map(type, values)) <= {self._plain}
        if not plain or (self._plain is int and not all(-LARGEST <= v < LARGEST for v in values)):
            values = self._checked(request, values)
        return self._as_stored(pa.array(values, ARROW[self._kind]))

    def _checked(self, request: PredictionRequest, values: list[Any]) -> list[Any]:
        """The same by the contract, which words what is wrong."""
        name = self._entity
        if request.records is not None:
            records = [{name: record[name]} if name in record else {} for record in request.records]
        elif len(values) == request.rows:
            records = [{name: value} for value in values]
        else:
            records = [{} for _ in range(request.rows)]
        return _values(to_frame(records, {name: self._spec})[name])

    def _as_stored(self, entities: pa.Array) -> pa.Array:
        if self._key is None:
            return entities
        return pa.array(pseudonym(entities.to_pylist(), self._key), pa.string())

    def _follow(self) -> None:
        while not self._ended.wait(REFRESH_SECONDS):
            try:
                self.refresh()
            except LifecycleError as error:  # what is there goes on being served
                logger.warning("the features of views could not be refreshed: %s", error)


def as_requests(rows: pd.DataFrame, schema: BundleSchema, project: Project) -> pd.DataFrame:
    """Rows of a dataset version as a client would send them.

    Where the contract has the entity hashed, nobody knows any more whom a row is about, and the
    request is about nobody.
    """
    records_frame = rows[list(schema.own_inputs)].reset_index(drop=True)
    if schema.views and project.entity is not None:
        records_frame.insert(0, project.entity, rows[project.entity].to_numpy())
        spec = project.contract.columns[project.entity]
        if spec.pii == "hash":
            text = spec.value_type == "string"
            placeholder = "nobody" if text else int(spec.minimum or 0)
            records_frame[project.entity] = spec.categories[0] if spec.categories else placeholder
    return records_frame


def _now(facts: AsOf) -> int:
    if facts.dates:
        return time.time_ns() // 1000
    return 0 if facts.newest is None else facts.newest + 1


def _values(column: "Column | pd.Series[Any]") -> list[Any]:
    return list(column) if isinstance(column, list | tuple) else np.asarray(column).tolist()
