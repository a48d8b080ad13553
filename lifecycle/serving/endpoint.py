"""The endpoint of one application as a plain ASGI app: access, routing and answers.

Routes are looked up in a table and bodies are bytes: a web framework's routing and models would
cost more time than the prediction itself.
"""

import asyncio
import itertools
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

import orjson

from lifecycle.errors import AccessError, RateLimitError, RequestError
from lifecycle.serving.access import HeaderPairs, Outcome, RequestReports
from lifecycle.serving.auth import Gatekeeper, is_open
from lifecycle.serving.body import Receive, read_body, unknown_fields
from lifecycle.serving.labels import LABELS, LabelInbox
from lifecycle.serving.metrics import Meters
from lifecycle.serving.pages import INVOCATIONS, JSON, PREDICT, TEXT, MethodError, Pages, Reply
from lifecycle.serving.prediction_log import PredictionLog
from lifecycle.serving.predictor import ServedModel
from lifecycle.serving.protocols import mlflow, oip, plain
from lifecycle.serving.records import Answer, Headers, PredictionRequest
from lifecycle.serving.traffic import Lanes, Role, RoutedAnswer
from lifecycle.training.bundle import BundleSchema

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

logger = logging.getLogger(__name__)

# CORS: pages of other sites that may ask the endpoint and read its answers.
#
# The protocol is that of https://fetch.spec.whatwg.org/#http-cors-protocol. A preflight brings no
# API key, so it is answered without one. Cookies are never allowed: the endpoint has none.

ANY = b"*"
VARY = (b"vary", b"origin")
"""A cache must not hand one origin's answer to another."""
READABLE = (
    b"access-control-expose-headers",
    b"x-model-version, x-prediction-id, retry-after, inference-header-content-length",
)
PREFLIGHT = (
    (b"access-control-allow-methods", b"GET, HEAD, POST"),
    (
        b"access-control-allow-headers",
        b"authorization, x-api-key, content-type, content-encoding, "
        b"inference-header-content-length",
    ),
    (b"access-control-max-age", b"600"),
)
ASKS = b"access-control-request-method"


class Origins:
    """The origins of `serving.allowed_origins`; without any, no header is added."""

    def __init__(self, allowed: Iterable[str]) -> None:
        self._allowed = frozenset(origin.encode() for origin in allowed)

    def headers(self, request: Iterable[tuple[bytes, bytes]]) -> HeaderPairs:
        """Headers of an answer to such a request, error or not."""
        if not self._allowed:
            return ()
        if ANY in self._allowed:
            return (b"access-control-allow-origin", ANY), READABLE
        origin = next((value for name, value in request if name == b"origin"), b"")
        if origin not in self._allowed:
            return (VARY,)
        return (b"access-control-allow-origin", origin), READABLE, VARY

    def preflight(self, method: str, request: Iterable[tuple[bytes, bytes]]) -> Reply | None:
        """Return the answer to a preflight request; None if the request is not one.

        An origin that is not allowed gets one, too, without the header that would let it in.
        """
        if method != "OPTIONS" or not self._allowed or all(name != ASKS for name, _ in request):
            return None
        return Reply(200, TEXT, b"", PREFLIGHT)


Scope = MutableMapping[str, Any]
RawHeaders = list[tuple[bytes, bytes]]

MANY = 64
"""Rows from which a request is worked on beside the event loop, so that others are not kept."""
CLIENT_GONE_STATUS = 499
"""Status, for the metrics alone, of a request whose client went away."""


class Request(NamedTuple):
    """Request, as a protocol sees it."""

    body: bytes
    raw_headers: RawHeaders
    query: bytes
    max_rows: int
    schema: BundleSchema
    fields: AbstractSet[str] | None = None
    """Fields that are looked at, where others are ignored; None where others are refused."""

    @property
    def headers(self) -> Headers:
        """Headers by name. Built at each access, because the plain protocol needs none."""
        return dict(self.raw_headers)


class Protocol(NamedTuple):
    """Reads the requests of one path and writes their answers."""

    route: str
    """The path as metrics label it, without names of models."""
    read: Callable[[Request], PredictionRequest]
    write: Callable[[Answer, PredictionRequest], Reply]
    version: str = ""
    """The model version in the path; empty if the path has none."""


class EndpointApp:
    """Answers HTTP requests below the application's path."""

    reports: RequestReports | None = None
    """Reports of requests, where the settings want any."""

    def __init__(
        self,
        model: ServedModel,
        lanes: Lanes,
        gate: Gatekeeper,
        log: PredictionLog | None,
        meters: Meters,
        pages: Pages,
        labels: LabelInbox,
    ) -> None:
        spec = model.project.serving
        self._labels = labels
        self._model, self._lanes, self._gate, self._log = model, lanes, gate, log
        self._meters, self._pages = meters, pages
        self._max_rows, self._max_bytes = spec.max_rows, spec.max_body_bytes
        self._origins = Origins(spec.allowed_origins)
        self._ignores = spec.unknown_fields == "ignore"
        self._ignored_before = False
        lanes.record = self.record
        self._posts = {
            PREDICT: Protocol(PREDICT, _read_plain, _write_plain),
            INVOCATIONS: Protocol(INVOCATIONS, self._read_scoring, _write_scoring),
        }
        first, count = secrets.token_hex(8), itertools.count()
        self._ids = (f"{first}{number:012x}" for number in count)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; whatever happens in here, the client gets JSON and no traceback."""
        if scope["type"] != "http":
            return
        self._meters.started()
        started = time.perf_counter()
        outcome = Outcome(self._model.model.version, next(self._ids), CLIENT_GONE_STATUS)
        visit = self.reports.begin(scope) if self.reports else None
        try:
            reply = await self._reply(scope, receive, outcome.id, outcome)
            outcome.status, outcome.bytes = reply.status, len(reply.content)
            more = self._origins.headers(scope["headers"])
            await _send(send, reply, (*more, *visit.headers) if visit else more)
        finally:  # a client that goes away has been in flight, too
            seconds = time.perf_counter() - started
            if visit:
                visit.end(outcome, seconds)
            self._meters.count_answer(
                outcome.route, outcome.status, seconds, outcome.rows, outcome.version
            )

    async def _reply(self, scope: Scope, receive: Receive, name: str, outcome: Outcome) -> Reply:
        path = scope["path"][len(scope.get("root_path", "")) :]
        path = path.rstrip("/") or path
        if preflight := self._origins.preflight(scope["method"], scope["headers"]):
            return preflight
        try:
            key = "" if is_open(path) else await self._gate.admit(scope["headers"])
            outcome.key = key
            if path == LABELS and scope["method"] == "POST":
                outcome.route = LABELS
                body = await read_body(receive, scope["headers"], self._max_bytes)
                return Reply(200, JSON, await self._labels.take(body))
            protocol = self._protocol(path) if scope["method"] == "POST" else None
            if protocol is None:
                reply, outcome.route = await self._pages.reply(scope["method"], path)
                return reply
            outcome.route = protocol.route
            headers = scope["headers"]
            body = await read_body(receive, headers, self._max_bytes)
            only, takes = self._lanes.role_of(protocol.version), self._model.schema
            if only == "candidate":
                takes = await self._lanes.candidate_schema()
            fields = self._known_fields(takes) if self._ignores else None
            request = Request(body, headers, scope["query_string"], self._max_rows, takes, fields)
            prediction_request = protocol.read(request)
            if fields is not None:
                self._count_ignored(prediction_request, fields)
            answer = await self._answer(prediction_request, name, body, key, only)
            outcome.version, outcome.rows = answer.model.version, prediction_request.rows
            return protocol.write(answer, prediction_request)
        except RequestError as error:
            if isinstance(error, RateLimitError):
                self._meters.rate_limited()
            return _refusal(error, name)
        except Exception:
            # whatever a features hook does must not reach the client as a traceback
            logger.exception("request %s failed", name)
            problem = "the model could not answer this request; the server's log has the cause"
            return Reply(500, JSON, orjson.dumps({"error": problem, "id": name}))

    async def _answer(
        self, request: PredictionRequest, name: str, body: bytes, key: str, only: Role | None
    ) -> Answer:
        """The answer, logged; a failure of the model is logged too."""
        started = time.perf_counter()
        try:
            if self._lanes.shared or only == "candidate":
                outcome = await self._lanes.answer(request, name, body, key, only)
            else:
                request, answer = (
                    self._joined_answer(request, name)
                    if request.rows <= MANY
                    else await asyncio.to_thread(self._joined_answer, request, name)
                )
                outcome = RoutedAnswer("champion", answer, time.perf_counter() - started)
        except RequestError:
            raise
        except Exception:
            failed = RoutedAnswer("champion", None, time.perf_counter() - started)
            self.record(request, name, key, self._model.model.version, failed)
            raise
        assert outcome.answer is not None  # noqa: S101 - only a candidate may have none
        self.record(request, name, key, outcome.answer.model.version, outcome)
        return outcome.answer

    def _known_fields(self, takes: BundleSchema) -> AbstractSet[str]:
        """The fields of a row: the inputs, and the entity."""
        entity = self._model.project.entity
        return takes.inputs.keys() | ({entity} if entity else set())

    def _count_ignored(self, request: PredictionRequest, names: AbstractSet[str]) -> None:
        fields, example = unknown_fields(request, names)
        if not fields:
            return
        self._meters.ignored(fields)
        if not self._ignored_before:
            self._ignored_before = True
            logger.warning(
                "requests have fields that the model does not take, such as %r; they are left out "
                "and counted as lifecycle_ignored_fields_total (told once)",
                example[:60],
            )

    def _joined_answer(
        self, request: PredictionRequest, name: str
    ) -> tuple[PredictionRequest, Answer]:
        """Add the features of views to a request and answer it. The log gets the joined request."""
        request = self._model.joined(request)
        return request, self._model.answer(request, name)

    def record(
        self, request: PredictionRequest, name: str, key: str, version: int, outcome: RoutedAnswer
    ) -> None:
        """Add an answer to the prediction log."""
        if outcome.answer is None and outcome.role != "champion":
            self._meters.candidate_failed()
        if self._log is not None:
            entities = self._model.entities(request)
            self._log.add(name, version, outcome, key, entities, self._model.joined(request))

    def _protocol(self, path: str) -> Protocol | None:
        protocol = self._posts.get(path)
        if protocol is not None or not path.startswith("/v2/"):
            return protocol
        target = oip.infer_target(path)
        if target is None:
            return None
        name, version = target
        oip.check_model(name, "", self._model.model)
        return Protocol("/v2/infer", self._read_tensors, _write_tensors, version)

    def _read_tensors(self, request: Request) -> PredictionRequest:
        entity = self._model.project.entity
        ignore = request.fields is not None
        return oip.read(
            request.body, request.headers, request.schema, request.max_rows, entity, ignore
        )

    def _read_scoring(self, request: Request) -> PredictionRequest:
        inputs = self._model.schema.inputs
        return mlflow.read(request.body, request.headers, inputs, request.max_rows, request.fields)


def _read_plain(request: Request) -> PredictionRequest:
    explain = plain.wants_explanation(request.query)
    return plain.read(request.body, request.max_rows, explain, request.fields)


def _write_plain(answer: Answer, _request: PredictionRequest) -> Reply:
    return Reply(200, JSON, plain.write(answer))


def _write_tensors(answer: Answer, request: PredictionRequest) -> Reply:
    content, headers = oip.write(answer, request.outputs)
    return Reply(200, oip.BINARY if headers else JSON, content, tuple(headers))


def _write_scoring(answer: Answer, _request: PredictionRequest) -> Reply:
    return Reply(200, JSON, mlflow.write(answer), tuple(mlflow.answer_headers(answer)))


def _refusal(error: RequestError, name: str) -> Reply:
    headers: RawHeaders = []
    if isinstance(error, AccessError):
        headers = [(b"www-authenticate", b"Bearer")]
    elif isinstance(error, MethodError):
        headers = [(b"allow", error.allow)]
    elif isinstance(error, RateLimitError):
        headers = [(b"retry-after", b"%d" % error.retry_after)]
    content = orjson.dumps({"error": str(error), "id": name}, default=str)
    return Reply(error.status, JSON, content, tuple(headers))


async def _send(send: Send, reply: Reply, more: Iterable[tuple[bytes, bytes]]) -> None:
    headers = [
        (b"content-type", reply.kind),
        (b"content-length", b"%d" % len(reply.content)),
        *reply.headers,
        *more,
    ]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.content})
