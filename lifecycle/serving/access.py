"""Reports of each request: a log line, and a span where traces are on.

Neither is there by default in `dev`: then a request does not pass through here.
"""

import logging
from contextlib import ExitStack
from functools import lru_cache
from typing import Any

from lifecycle.records import ModelVersion
from lifecycle.redaction import redact
from lifecycle.runtime.logs import ACCESS, FIELDS
from lifecycle.runtime.traces import PARENT, RESPONSE, VALID, are_on, incoming, outgoing, span
from lifecycle.settings import Settings

log = logging.getLogger(ACCESS)

HeaderPairs = tuple[tuple[bytes, bytes], ...]
LONGEST_PATH = 200
"""Characters of a path that are logged."""
NANOSECONDS = 1e9
FAILED = 500
"""Status from which the server is to blame."""


class Outcome:
    """Outcome of a request, for its line, its span and the metrics."""

    __slots__ = ("bytes", "id", "key", "route", "rows", "status", "version")

    def __init__(self, version: int, name: str, status: int) -> None:
        self.route, self.rows, self.status, self.version = "other", 0, status, version
        self.id, self.key, self.bytes = name, "", 0


class RequestReports:
    """Says of the requests of one replica what the settings want said."""

    def __init__(self, settings: Settings, model: ModelVersion) -> None:
        self._logs = settings.has_access_log
        self._model = model

    @classmethod
    def of(cls, settings: Settings, model: ModelVersion) -> "RequestReports | None":
        """None where nothing is to be said."""
        return cls(settings, model) if settings.has_access_log or are_on() else None

    def begin(self, scope: Any) -> "Visit":
        """Begin a request's span; `Visit.end` follows in any case."""
        return Visit(self, scope)

    def line(self, visit: "Visit", outcome: Outcome, seconds: float) -> None:
        """Log the request."""
        if not self._logs:
            return
        method, path = visit.method, visit.path
        fields: dict[str, Any] = {
            "event.kind": "event",
            "event.category": ["web"],
            "event.type": ["access"],
            "event.outcome": "failure" if outcome.status >= FAILED else "success",
            "event.duration": int(seconds * NANOSECONDS),
            "http.request.method": method,
            "http.request.id": outcome.id,
            "http.response.status_code": outcome.status,
            "http.response.body.bytes": outcome.bytes,
            "url.path": path,
            "labels": {
                "route": outcome.route,
                "rows": str(outcome.rows),
                "model": self._model.name,
                "model_version": str(outcome.version),
            },
            **visit.ids,
        }
        if outcome.key:
            fields["user.name"] = _redacted(outcome.key)
        log.info("%s %s %d", method, path, outcome.status, extra={FIELDS: fields})


class Visit:
    """One request under way."""

    def __init__(self, access: RequestReports, scope: Any) -> None:
        self._access, self._stack, self._span = access, ExitStack(), None
        self.method, self.path = str(scope["method"]), _redacted(scope["path"])
        parent = incoming(scope["headers"])
        self.ids: dict[str, str] = {}
        self.headers: HeaderPairs = ()
        if are_on():
            about = {"http.request.method": self.method, "url.path": self.path}
            around = span(self.method, about, server=True, parent=parent)
            self._span = self._stack.enter_context(around)
            own = outgoing().get(PARENT, "")
            self.headers = ((RESPONSE.encode(), own.encode()),)
            self._identify(own)
        elif parent:  # the log finds the trace that others keep
            self._identify(parent[PARENT])

    def _identify(self, traceparent: str) -> None:
        if match := VALID.fullmatch(traceparent):
            self.ids = {"trace.id": match[1], "span.id": match[2]}

    def end(self, outcome: Outcome, seconds: float) -> None:
        """End the span and log the line."""
        if self._span is not None:
            self._span.update_name(f"{self.method} {outcome.route}")
            self._span.set_attributes(
                {
                    "http.route": outcome.route,
                    "http.response.status_code": outcome.status,
                    "lifecycle.model.name": self._access._model.name,
                    "lifecycle.model.version": outcome.version,
                    "lifecycle.prediction.id": outcome.id,
                    "lifecycle.rows": outcome.rows,
                }
            )
            if outcome.status >= FAILED:
                from opentelemetry.trace import StatusCode

                self._span.set_status(StatusCode.ERROR)
        self._stack.close()
        self._access.line(self, outcome, seconds)


@lru_cache(maxsize=1024)
def _redacted(text: str) -> str:
    """A text of a client's as it is logged."""
    return redact(text)[:LONGEST_PATH]
