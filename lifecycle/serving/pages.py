"""What the endpoint tells about itself: health, the model, OpenAPI, docs, metrics."""

from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import orjson

from lifecycle.errors import NotServedError, RequestError
from lifecycle.serving import invocations, oip_info
from lifecycle.serving.lanes import Lanes, NoAnswerError
from lifecycle.serving.meters import Meters
from lifecycle.serving.predictor import ServedModel
from lifecycle.serving.wire import identity

JSON = b"application/json"
TEXT = b"text/plain; charset=utf-8"
METRICS = b"text/plain; version=0.0.4; charset=utf-8"
HTML = b"text/html; charset=utf-8"
READ = ("GET", "HEAD")
PREDICT, INVOCATIONS = POSTS = ("/predict", "/invocations")


class Reply(NamedTuple):
    """An HTTP answer; its length is added by whoever sends it."""

    status: int
    kind: bytes
    content: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()


class MethodError(RequestError):
    """The path is there, for other methods."""

    status = 405
    allow = b"GET, HEAD"


class PostOnlyError(MethodError):
    """The path takes a body only."""

    allow = b"POST"


class Pages:
    """Everything a replica answers without predicting.

    Args:
        secured: whether the endpoint asks for API keys, for the OpenAPI document.
    """

    def __init__(self, model: ServedModel, lanes: Lanes, meters: Meters, secured: bool) -> None:
        self._model, self._lanes, self._secured = model, lanes, secured
        self._pages: dict[str, Callable[[], Reply]] = {
            "/health": self._health,
            "/ping": lambda: Reply(200, TEXT, invocations.ping()),
            "/version": lambda: Reply(200, TEXT, invocations.mlflow_version()),
            "/model": lambda: Reply(200, JSON, orjson.dumps(model.describe())),
            "/docs": self._docs,
            "/metrics": lambda: Reply(200, METRICS, meters.render()),
        }

    async def reply(self, method: str, path: str) -> tuple[Reply, str]:
        """The answer of a path, and its name for the metrics.

        Raises:
            NotServedError: there is no such path.
            MethodError: there is, and it takes other methods.
        """
        page = self._pages.get(path)
        if page is not None:
            _reads(method)
            return page(), path
        if path == "/openapi.json":
            _reads(method)
            return await self._openapi(), path
        if path in POSTS:
            raise PostOnlyError("this path takes POST")
        if path == "/v2" or path.startswith("/v2/"):
            if path.endswith("/infer"):
                raise PostOnlyError("this path takes POST")
            _reads(method)
            return Reply(200, JSON, await self._oip(path)), "/v2"
        if path.startswith("/docs/static/"):
            _reads(method)
            return self._static(path.removeprefix("/docs/static/")), "/docs/static"
        name = self._model.project.name
        raise NotServedError(f"there is no such path; /{name}/docs lists what there is")

    def _health(self) -> Reply:
        content = {"status": "ok", "model": identity(self._model.model)}
        return Reply(200, JSON, orjson.dumps(content))

    async def _oip(self, path: str) -> bytes:
        champion, candidate = self._model.model, self._lanes.candidate
        if candidate is None:
            return oip_info.page(path, champion, self._model.schema)
        versions = (champion.version, candidate.version)
        if not oip_info.names_version(path, candidate.version):
            return oip_info.page(path, champion, self._model.schema, versions=versions)
        schema = await self._lanes.candidate_schema()
        return oip_info.page(path, candidate, schema, versions=versions)

    async def _openapi(self) -> Reply:
        from lifecycle.serving.openapi import document  # seldom asked for: no part of the start

        project, candidate, beside = self._model.project, self._lanes.candidate, None
        if candidate is not None:
            with suppress(NoAnswerError):
                beside = candidate, await self._lanes.candidate_schema()
        entity = project.contract.columns[project.entity] if project.entity else None
        made = document(
            self._model.model,
            self._model.schema,
            project.serving.max_rows,
            secured=self._secured,
            entity=(project.entity, entity) if project.entity and entity else None,
            candidate=beside,
            ignore=project.serving.unknown_fields == "ignore",
        )
        return Reply(200, JSON, orjson.dumps(made))

    def _docs(self) -> Reply:
        from lifecycle.serving.docs_page import page

        return Reply(200, HTML, page(self._model.schema.project))

    def _static(self, name: str) -> Reply:
        from lifecycle.serving.docs_page import static

        kind, content = static(name)
        return Reply(200, kind, content)


def _reads(method: str) -> None:
    if method not in READ:
        raise MethodError(f"this path takes {' and '.join(READ)}")
